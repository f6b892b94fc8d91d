/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan: when a VM is backed up, as the settings say it.  Pure, but for the zone
 * that libc knows.
 */
#ifndef REPO_DISPATCH_PLAN_H
#define REPO_DISPATCH_PLAN_H

#include "repo/dispatch/calendar.h"
#include "repo/dispatch/window.h"

enum {
	PLAN_TIMES_MAX = 16,
	PLAN_WINDOWS_MAX = 8,
	PLAN_TEXT_MAX = 500, /* of all times, of all windows */
	PLAN_RETRIES = 3,    /* where nothing is said */
	PLAN_RETRY_WAIT_S = 300,
	PLAN_RETRY_MAX_S = 4 * 3600 /* what a wait is doubled up to */
};

/* Which of the values were said for this VM. */
enum plan_set {
	PLAN_SCHEDULE = 1 << 0,
	PLAN_WINDOW = 1 << 1,
	PLAN_RETRIES_SET = 1 << 2,
	PLAN_RETRY_WAIT = 1 << 3,
	PLAN_CATCH_UP = 1 << 4,
	PLAN_PRUNE = 1 << 5
};

struct plan {
	unsigned set; /* of enum plan_set */
	unsigned ntimes;
	struct calendar time[PLAN_TIMES_MAX];
	unsigned nwindows; /* 0: at any time */
	struct window window[PLAN_WINDOWS_MAX];
	uint64_t retries;
	uint64_t retry_wait; /* seconds before the first; doubled each time */
	bool catch_up;
	bool prune;
	/* As they were said, "; " between; "never" is "". */
	char schedule[PLAN_TEXT_MAX + 1];
	char windows[PLAN_TEXT_MAX + 1];
};

/** plan_init(p): what holds where nothing is said: no times. */
void plan_init(struct plan *p);

/** plan_add_times(p, text, e): times with ';' between; "never", alone, is none
 * at all.  plan_add_windows(p, text, e).  ERR_INVAL says which is wrong and
 * why. */
int plan_add_times(struct plan *p, const char *text, struct err *e);
int plan_add_windows(struct plan *p, const char *text, struct err *e);

/** plan_next(p, after): the first time later than that; CALENDAR_NEVER.
 * plan_last(p, after, until): the last one later than ${after} and not later
 * than ${until}; CALENDAR_NEVER. */
uint64_t plan_next(const struct plan *p, uint64_t after);
uint64_t plan_last(const struct plan *p, uint64_t after, uint64_t until);

/** plan_opens(p, t): ${t} if a run may start then, or when it may. */
uint64_t plan_opens(const struct plan *p, uint64_t t);

/** plan_closes(p, t): until when a run may start, as one may at ${t};
 * CALENDAR_NEVER: there are no windows, or always one. */
uint64_t plan_closes(const struct plan *p, uint64_t t);

/** plan_wait(p, n): seconds to wait after the ${n}th failure of a run. */
uint64_t plan_wait(const struct plan *p, unsigned n);

#endif
