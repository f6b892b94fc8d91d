/* SPDX-License-Identifier: Apache-2.0 */
/* policy: what is kept of a VM's backups, as the settings say it. */
#ifndef REPO_RETAIN_POLICY_H
#define REPO_RETAIN_POLICY_H

#include <stdint.h>

/* Which of the values were said for this VM; what was not is 0. */
enum retain_set {
	RETAIN_LAST = 1 << 0,
	RETAIN_HOURLY = 1 << 1,
	RETAIN_DAILY = 1 << 2,
	RETAIN_WEEKLY = 1 << 3,
	RETAIN_MONTHLY = 1 << 4,
	RETAIN_YEARLY = 1 << 5,
	RETAIN_WITHIN = 1 << 6,
	RETAIN_MIN_AGE = 1 << 7,
	RETAIN_LOCK = 1 << 8
};

/* Any rule that keeps a backup: without one nothing is ever let go of. */
enum {
	RETAIN_ANY = RETAIN_LAST | RETAIN_HOURLY | RETAIN_DAILY |
	    RETAIN_WEEKLY | RETAIN_MONTHLY | RETAIN_YEARLY | RETAIN_WITHIN
};

struct retain_policy {
	unsigned set; /* of enum retain_set */
	/* So many of the newest: of all, and of one an hour, a day, ... */
	unsigned keep_last;
	unsigned keep_hourly;
	unsigned keep_daily;
	unsigned keep_weekly;
	unsigned keep_monthly;
	unsigned keep_yearly;
	/* Seconds. */
	uint64_t keep_within; /* all that are younger than the newest - this */
	uint64_t min_age;     /* nothing younger goes */
	uint64_t lock;        /* from its making nothing goes for so long */
};

#endif
