/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse: a thread that looks whether the daemon is really alive, and only then
 * feeds the service manager's watchdog; and tells it what the daemon does.
 * DESIGN.md, "As a service", has the rule.
 */
#ifndef REPO_SERVE_PULSE_H
#define REPO_SERVE_PULSE_H

#include "repo/serve/listener.h"

enum {
	PULSE_SLOW_MS = 10000, /* the ledger waits longer: people hear of it */
	PULSE_STUCK_MS = 900000, /* nobody waits for a disk: it is stuck */
	PULSE_LOST_MS = 7200000  /* whatever it waits for, it will not come */
};

/* What one look found, in milliseconds. */
struct pulse_look {
	uint64_t ledger_ms;   /* how long its oldest operation waits */
	uint64_t listener_ms; /* since the accepting thread looked around */
	uint64_t disk_ms;     /* since a thread was seen to wait for a disk */
};

/** pulse_alive(look): the watchdog is to be fed. */
bool pulse_alive(const struct pulse_look *l);

/** pulse_at_disk(): a thread of this process waits for a disk right now. */
bool pulse_at_disk(void);

/** pulse_text(srv, text): what the daemon does, in a line. */
enum { PULSE_TEXT_MAX = 160 };
void pulse_text(struct serve *srv, char text[PULSE_TEXT_MAX]);

struct pulse;

/** pulse_start(srv, l, out): ${l} has started.  Where nobody asked for it
 * there is no thread, and ${out} is NULL.  pulse_stop(p): before ${l} stops;
 * NULL is fine. */
int pulse_start(struct serve *srv, struct listener *l, struct pulse **out);
void pulse_stop(struct pulse *p);

#endif
