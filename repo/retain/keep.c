/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/retain/keep.h"

#include <stdlib.h>
#include <time.h>

#include "proto/base/buf.h"

enum { HOUR = 3600, DAY = 86400 };

/* One backup on its way through the rules. */
struct turn {
	struct keep_backup *b;
	bool passed; /* an earlier rule counted its period without it */
};

static int
newest_first(const void *a, const void *b)
{
	const struct keep_backup *x = ((const struct turn *)a)->b;
	const struct keep_backup *y = ((const struct turn *)b)->b;

	if (x->time != y->time)
		return x->time > y->time ? -1 : 1;
	return x->seq > y->seq ? -1 : x->seq < y->seq;
}

/* The number of the period of that rule: the same for all in one period, and
 * no less for newer ones. */
static uint64_t
period(enum keep_rule rule, const struct turn *t, size_t at)
{
	time_t when = (time_t)t[at].b->time;
	struct tm tm;

	switch (rule) {
	case KEEP_HOURLY: return t[at].b->time / HOUR;
	case KEEP_DAILY: return t[at].b->time / DAY;
	/* 1970 began on a Thursday, three days into its week. */
	case KEEP_WEEKLY: return (t[at].b->time / DAY + 3) / 7;
	case KEEP_MONTHLY:
	case KEEP_YEARLY:
		gmtime_r(&when, &tm);
		if (rule == KEEP_YEARLY)
			return (uint64_t)tm.tm_year;
		return (uint64_t)tm.tm_year * 12 + (uint64_t)tm.tm_mon;
	default: return SIZE_MAX - at; /* each for itself */
	}
}

/*
 * Newest first, a period's backups lie together.  So whether an earlier rule
 * keeps one of it is found by a look at its stretch.
 */
static void
count(enum keep_rule rule, uint64_t most, struct turn *t, size_t n)
{
	uint64_t counted = 0;

	for (size_t i = 0, end; i < n; i = end) {
		uint64_t p = period(rule, t, i);
		bool covered = false, taken = false, any = false;

		for (end = i; end < n && period(rule, t, end) == p; end++) {
			covered |= t[end].b->rule != KEEP_NOT;
			any |= t[end].b->rule == KEEP_NOT && !t[end].passed;
		}
		if (covered || !any)
			continue;
		if (counted == most)
			return;
		counted++;
		for (size_t k = i; k < end; k++) {
			if (t[k].passed)
				continue;
			if (!taken)
				t[k].b->rule = rule;
			else
				t[k].passed = true;
			taken = true;
		}
	}
}

bool
keep_is_young(const struct retain_policy *p, uint64_t time, uint64_t now)
{
	return p->min_age > 0 && (time > now || now - time < p->min_age);
}

static bool
keeps_anything(const struct retain_policy *p)
{
	return p->keep_last > 0 || p->keep_hourly > 0 || p->keep_daily > 0 ||
	    p->keep_weekly > 0 || p->keep_monthly > 0 || p->keep_yearly > 0 ||
	    p->keep_within > 0;
}

static void
within(uint64_t span, struct turn *t, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (t[i].b->rule == KEEP_NOT &&
		    t[0].b->time - t[i].b->time < span)
			t[i].b->rule = KEEP_WITHIN;
}

void
keep_decide(const struct retain_policy *p, uint64_t now, struct keep_backup *b,
    size_t n)
{
	struct turn *t = xcalloc(n, sizeof(*t));
	size_t nt = 0;

	for (size_t i = 0; i < n; i++) {
		b[i].rule = KEEP_NOT;
		if (b[i].incomplete)
			b[i].rule = KEEP_INCOMPLETE;
		else if (b[i].is_protected)
			b[i].rule = KEEP_PROTECTED;
		else if (keep_is_young(
			     p, b[i].since != 0 ? b[i].since : b[i].time, now))
			b[i].rule = KEEP_MIN_AGE;
		else if (!keeps_anything(p))
			b[i].rule = KEEP_ALL;
		else
			t[nt++] = (struct turn){ .b = &b[i] };
	}
	if (nt > 1)
		qsort(t, nt, sizeof(*t), newest_first);
	count(KEEP_LAST, p->keep_last, t, nt);
	count(KEEP_HOURLY, p->keep_hourly, t, nt);
	count(KEEP_DAILY, p->keep_daily, t, nt);
	count(KEEP_WEEKLY, p->keep_weekly, t, nt);
	count(KEEP_MONTHLY, p->keep_monthly, t, nt);
	count(KEEP_YEARLY, p->keep_yearly, t, nt);
	within(p->keep_within, t, nt);
	for (size_t i = 0; i < nt; i++)
		if (t[i].b->rule == KEEP_NOT && t[i].b->locked_until > now)
			t[i].b->rule = KEEP_LOCKED;
	free(t);
}

const char *
keep_rule_name(enum keep_rule r)
{
	static const char *const name[] = { [KEEP_NOT] = "",
		[KEEP_LAST] = "last",
		[KEEP_HOURLY] = "hourly",
		[KEEP_DAILY] = "daily",
		[KEEP_WEEKLY] = "weekly",
		[KEEP_MONTHLY] = "monthly",
		[KEEP_YEARLY] = "yearly",
		[KEEP_WITHIN] = "within",
		[KEEP_LOCKED] = "locked",
		[KEEP_MIN_AGE] = "min-age",
		[KEEP_PROTECTED] = "protected",
		[KEEP_INCOMPLETE] = "incomplete",
		[KEEP_ALL] = "all" };

	return name[r];
}
