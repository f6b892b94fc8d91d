/* SPDX-License-Identifier: Apache-2.0 */
/* From one time to the next.  How they are written: calendar_parse.c. */
#include "repo/dispatch/calendar.h"

#include <string.h>
#include <time.h>

enum { DAY = 86400, NO_SECOND = DAY };

/* A date, and how many days after 1970-01-01 it is. */
struct date {
	int64_t number;
	unsigned year, month, day; /* from 1 on */
};

static bool
is_leap(unsigned year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned
month_length(const struct date *d)
{
	static const uint8_t len[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31,
		30, 31 };

	return d->month == 2 && is_leap(d->year) ? 29 : len[d->month - 1];
}

static void
next_year(struct date *d)
{
	static const uint16_t before[] = { 0, 31, 59, 90, 120, 151, 181, 212,
		243, 273, 304, 334 };

	d->number -= before[d->month - 1] + d->day - 1 +
	    (d->month > 2 && is_leap(d->year));
	d->number += 365 + is_leap(d->year);
	d->year++;
	d->month = d->day = 1;
}

static void
next_month(struct date *d)
{
	d->number += month_length(d) - d->day + 1;
	d->day = 1;
	if (++d->month > 12) {
		d->month = 1;
		d->year++;
	}
}

static void
next_day(struct date *d)
{
	if (d->day == month_length(d)) {
		next_month(d);
		return;
	}
	d->number++;
	d->day++;
}

/* 1970-01-01 was a Thursday. */
static unsigned
weekday_of(int64_t number)
{
	return (unsigned)((number % 7 + 10) % 7);
}

static bool
has_year(const struct calendar *c, unsigned year)
{
	unsigned bit = year - CALENDAR_YEAR_MIN;

	return (c->years[bit / 64] >> bit % 64 & 1) != 0;
}

/* The first date from ${d} on; false: there is none. */
static bool
find_date(const struct calendar *c, struct date *d)
{
	while (d->year <= CALENDAR_YEAR_MAX) {
		if (!has_year(c, d->year))
			next_year(d);
		else if ((c->months >> d->month & 1) == 0)
			next_month(d);
		else if ((c->days[month_length(d) - 28] >> d->day & 1) == 0 ||
		    (c->weekdays >> weekday_of(d->number) & 1) == 0)
			next_day(d);
		else
			return true;
	}
	return false;
}

/* The lowest bit from ${from} on; 64: none. */
static unsigned
find_bit(uint64_t bits, unsigned from)
{
	if (from >= 64 || bits >> from == 0)
		return 64;
	return from + (unsigned)__builtin_ctzll(bits >> from);
}

/* The first second of a day from ${from} on; NO_SECOND. */
static unsigned
find_second(const struct calendar *c, unsigned from)
{
	unsigned h = find_bit(c->hours, from / 3600), m, s;

	if (h == 64)
		return NO_SECOND;
	m = find_bit(c->minutes, h == from / 3600 ? from / 60 % 60 : 0);
	s = find_bit(c->seconds,
	    h == from / 3600 && m == from / 60 % 60 ? from % 60 : 0);
	/* Past the end of its minute, of its hour: the next has its first. */
	if (m < 64 && s == 64) {
		m = find_bit(c->minutes, m + 1);
		s = find_bit(c->seconds, 0);
	}
	if (m == 64) {
		h = find_bit(c->hours, h + 1);
		m = find_bit(c->minutes, 0);
		s = find_bit(c->seconds, 0);
	}
	return h == 64 ? NO_SECOND : h * 3600 + m * 60 + s;
}

/* Seconds by which clocks on the wall are ahead of UTC. */
static int64_t
offset_at(int64_t t)
{
	time_t when = (time_t)t;
	struct tm tm;

	return localtime_r(&when, &tm) != NULL ? tm.tm_gmtoff : 0;
}

/* When clocks on the wall show ${wall}, first; false: they never do. */
static bool
from_wall(int64_t wall, int64_t *out)
{
	int64_t before = offset_at(wall - DAY);
	int64_t after = offset_at(wall + DAY);

	*out = wall - before;
	if (before == after || offset_at(*out) == before)
		return true;
	*out = wall - after;
	return offset_at(*out) == after;
}

static struct date
date_of(int64_t number)
{
	time_t when = (time_t)number * DAY;
	struct tm tm;

	gmtime_r(&when, &tm);
	return (struct date){ .number = number,
		.year = (unsigned)tm.tm_year + 1900,
		.month = (unsigned)tm.tm_mon + 1,
		.day = (unsigned)tm.tm_mday };
}

uint64_t
calendar_next(const struct calendar *c, uint64_t after)
{
	int64_t t = (int64_t)after, wall, found;
	unsigned second;
	struct date d;

	/* Some days from the end of 2199: what is added below stays small. */
	if (after > (uint64_t)(CALENDAR_YEAR_MAX + 1 - 1970) * 366 * DAY)
		return CALENDAR_NEVER;
	wall = t + 1 + (c->utc ? 0 : offset_at(t + 1));
	if (wall < 0)
		wall = 0;
	d = date_of(wall / DAY);
	second = (unsigned)(wall % DAY);
	for (;;) {
		int64_t was = d.number;

		if (!find_date(c, &d))
			return CALENDAR_NEVER;
		second = find_second(c, d.number == was ? second : 0);
		if (second == NO_SECOND) {
			next_day(&d);
			second = 0;
			continue;
		}
		found = wall = d.number * DAY + second;
		/* Left out, or the second time that clocks show it. */
		if ((c->utc || from_wall(wall, &found)) && found > t)
			return (uint64_t)found;
		if (++second == DAY) {
			next_day(&d);
			second = 0;
		}
	}
}

void
calendar_local(uint64_t t, bool utc, unsigned *weekday, unsigned *second)
{
	int64_t wall = (int64_t)t + (utc ? 0 : offset_at((int64_t)t));

	if (wall < 0)
		wall = 0;
	*weekday = weekday_of(wall / DAY);
	*second = (unsigned)(wall % DAY);
}
