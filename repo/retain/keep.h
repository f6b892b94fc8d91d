/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keep: which rule of a policy keeps each backup of a VM.  Pure.
 *
 * The rules are asked in the order of enum keep_rule, KEEP_LAST first.  Each
 * of those that count takes the newest backup of each period, newest period
 * first, until it has as many as it may; a period of which an earlier rule
 * keeps a backup is passed over and not counted, and what it passes over
 * within the periods that it counts is not looked at by later ones.  Periods
 * are those of UTC, weeks begin on Mondays.
 *
 * What is protected, incomplete, or younger than min_age takes no part: it is
 * kept, counts for nothing and stands for no period.  So however many new
 * backups there are, none that is old enough goes because of them.  What is
 * locked takes part as if it were not, and is kept in any case.
 *
 * keep_within is asked last and only adds: all within that time of the newest
 * backup that takes part.  Where no rule keeps anything all are kept.
 */
#ifndef REPO_RETAIN_KEEP_H
#define REPO_RETAIN_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "repo/retain/policy.h"

enum keep_rule {
	KEEP_NOT, /* it goes */
	KEEP_LAST,
	KEEP_HOURLY,
	KEEP_DAILY,
	KEEP_WEEKLY,
	KEEP_MONTHLY,
	KEEP_YEARLY,
	KEEP_WITHIN,
	KEEP_LOCKED,
	KEEP_MIN_AGE,
	KEEP_PROTECTED,
	KEEP_INCOMPLETE,
	KEEP_ALL /* the policy has no rule that keeps */
};

struct keep_backup {
	uint64_t time;  /* by the repository's time, seconds since 1970; or the
			   own one of what was imported */
	uint64_t since; /* by which it is young: the repository's; 0: ${time} */
	uint64_t seq;   /* of two with the same time the higher is newer */
	uint64_t locked_until; /* 0: never was */
	bool is_protected;
	bool incomplete;
	enum keep_rule rule; /* set by keep_decide */
};

/** keep_decide(p, now, b, n): set the rule of each of the ${n} backups of one
 * VM, which may be in any order and stay in it. */
void keep_decide(const struct retain_policy *p, uint64_t now,
    struct keep_backup *b, size_t n);

/** keep_rule_name(r): "last", "min-age", ...; "" for KEEP_NOT. */
const char *keep_rule_name(enum keep_rule r);

/** keep_is_young(p, time, now): younger than the policy's min_age. */
bool keep_is_young(const struct retain_policy *p, uint64_t time, uint64_t now);

#endif
