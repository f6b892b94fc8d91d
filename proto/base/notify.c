/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/notify.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	STATUS_MAX = 256,
	EXTEND_MS = 30000,     /* asked for each time, ... */
	EXTEND_EVERY_MS = 2000 /* ... long before it is over */
};

/* Who asks for more time.  Of the thread that began it, but for what mu
 * guards. */
static struct {
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t end;
	uint64_t until_ms;
	bool running;
	bool over; /* guarded by mu */
} patience = { .mu = PTHREAD_MUTEX_INITIALIZER };

bool
notify_wanted(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

/* The service manager being deaf is no reason to stop, or to say it twice. */
static void
tell(const char *text)
{
	int rc = sd_notify(0, text);

	if (rc < 0)
		log_debug("service manager: cannot be told: %s", strerror(-rc));
}

static void __attribute__((format(printf, 2, 0)))
tell_status(const char *first, const char *fmt, va_list ap)
{
	char text[STATUS_MAX], line[STATUS_MAX + 64];

	if (!notify_wanted())
		return;
	vsnprintf(text, sizeof(text), fmt, ap);
	/* A line break would begin another field. */
	text[strcspn(text, "\r\n")] = 0;
	snprintf(line, sizeof(line), "%sSTATUS=%s", first, text);
	tell(line);
}

void
notify_ready(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell_status("READY=1\n", fmt, ap);
	va_end(ap);
}

void
notify_status(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell_status("", fmt, ap);
	va_end(ap);
}

void
notify_stopping(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tell_status("STOPPING=1\n", fmt, ap);
	va_end(ap);
}

void
notify_reloading(void)
{
	char line[64];
	struct timespec t;

	if (!notify_wanted())
		return;
	/* By it a reload is told from one that was asked for before. */
	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(line, sizeof(line), "RELOADING=1\nMONOTONIC_USEC=%lld%06ld",
	    (long long)t.tv_sec, t.tv_nsec / 1000);
	tell(line);
}

unsigned
notify_watchdog_ms(void)
{
	uint64_t us = 0;

	if (!notify_wanted() || sd_watchdog_enabled(0, &us) <= 0)
		return 0;
	us /= 2000;
	if (us == 0)
		return 1;
	return us < UINT32_MAX ? (unsigned)us : UINT32_MAX;
}

void
notify_alive(void)
{
	if (notify_wanted())
		tell("WATCHDOG=1");
}

static void *
patience_main(void *arg)
{
	char line[64];

	(void)arg;
	snprintf(line, sizeof(line), "EXTEND_TIMEOUT_USEC=%lld",
	    (long long)EXTEND_MS * 1000);
	pthread_mutex_lock(&patience.mu);
	while (!patience.over && now_ms() < patience.until_ms) {
		tell(line);
		cond_wait_until(
		    &patience.end, &patience.mu, now_ms() + EXTEND_EVERY_MS);
	}
	pthread_mutex_unlock(&patience.mu);
	return NULL;
}

void
notify_patience(unsigned limit_ms)
{
	if (!notify_wanted())
		return;
	cond_init(&patience.end);
	patience.until_ms = now_ms() + limit_ms;
	patience.over = false;
	errno = pthread_create(&patience.thread, NULL, patience_main, NULL);
	patience.running = errno == 0;
	if (!patience.running) {
		/* The unit's own time has to do. */
		log_sys("service manager: no thread");
		pthread_cond_destroy(&patience.end);
	}
}

void
notify_patience_end(void)
{
	if (!patience.running)
		return;
	pthread_mutex_lock(&patience.mu);
	patience.over = true;
	pthread_cond_signal(&patience.end);
	pthread_mutex_unlock(&patience.mu);
	pthread_join(patience.thread, NULL);
	pthread_cond_destroy(&patience.end);
	patience.running = false;
}
