/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calendar: times that come again, written as systemd writes them ("Calendar
 * Events" in systemd.time(7)): "daily", "Mon..Fri 02:30", "*-*-01 00:00 UTC",
 * "*:0/15", "Sat *-*~7/1 03:00".  Pure, but for the zone that libc knows.
 *
 * As systemd has it: a local time that a change to summer leaves out is left
 * out; one that comes twice counts once, the first time.  Otherwise than with
 * systemd: "daily 02:00", "weekly 02:00" and so on may be said, too; there are
 * no fractions of a second, no @SECONDS, and no zones but UTC and the local
 * one.
 */
#ifndef REPO_DISPATCH_CALENDAR_H
#define REPO_DISPATCH_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

enum {
	CALENDAR_TEXT_MAX = 200, /* of one expression */
	CALENDAR_YEAR_MIN = 1970,
	CALENDAR_YEAR_MAX = 2199
};

#define CALENDAR_NEVER UINT64_MAX

/* What matches: a bit for each value.  Copied at will. */
struct calendar {
	uint64_t years[4]; /* from CALENDAR_YEAR_MIN */
	uint32_t days[4];  /* 1 to 31, of months with 28, 29, 30, 31 days */
	uint16_t months;   /* 1 to 12 */
	uint8_t weekdays;  /* Monday is bit 0 */
	uint32_t hours;
	uint64_t minutes;
	uint64_t seconds;
	bool utc;
};

/** calendar_parse(text, out, e): blanks around it do not count.  ERR_INVAL
 * says what is wrong, and what to write. */
int calendar_parse(const char *text, struct calendar *out, struct err *e);

/** calendar_next(c, after): the first such time that is later, in seconds
 * since 1970; CALENDAR_NEVER.  Any thread. */
uint64_t calendar_next(const struct calendar *c, uint64_t after);

/** calendar_local(t, utc, &weekday, &second): where ${t} is in its week, Monday
 * is 0, and in its day, as clocks on the wall show it. */
void calendar_local(uint64_t t, bool utc, unsigned *weekday, unsigned *second);

#endif
