/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify: tell the service manager how it goes (sd_notify(3), by libsystemd).
 *
 * Nothing happens where nobody asked, that is without $NOTIFY_SOCKET.  Any
 * thread; no call waits for more than the kernel's own queue of that socket.
 */
#ifndef PROTO_BASE_NOTIFY_H
#define PROTO_BASE_NOTIFY_H

#include <stdbool.h>

/** notify_wanted(): somebody asked. */
bool notify_wanted(void);

/** notify_ready(fmt, ...): up, also again after a reload; with a line on what
 * it does.  notify_status(fmt, ...): only that line. */
void notify_ready(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** notify_reloading(): settings are read anew; notify_ready ends it. */
void notify_reloading(void);

/** notify_stopping(fmt, ...): it has begun to stop. */
void notify_stopping(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

/** notify_watchdog_ms(): how often notify_alive is to be called: half of what
 * the service manager waits before it kills; 0: it does not. */
unsigned notify_watchdog_ms(void);
void notify_alive(void);

/**
 * A start or a stop may take longer than the unit says, because a disk is slow.
 * notify_patience(limit_ms): from here on the service manager is asked, again
 * and again by a thread of its own, for more time, for ${limit_ms} at most.
 * notify_patience_end(): no longer.  Not nested; the same thread.
 */
void notify_patience(unsigned limit_ms);
void notify_patience_end(void);

#endif
