/* SPDX-License-Identifier: Apache-2.0 */
/* Times that come again, and windows; see also test_calendar_systemd.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "repo/dispatch/window.h"

static void
zone(const char *name)
{
	setenv("TZ", name, 1);
	tzset();
}

/* "2026-03-28 12:00:00", as clocks in UTC show it. */
static uint64_t
utc(const char *text)
{
	struct tm tm = { 0 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
	return (uint64_t)timegm(&tm);
}

static uint64_t
next(const char *text, const char *after)
{
	struct err e = { 0 };
	struct calendar c;

	if (calendar_parse(text, &c, &e) != 0)
		fail_msg("%s: %s", text, e.text);
	return calendar_next(&c, utc(after));
}

static void
expect(const char *text, const char *after, const char *want)
{
	uint64_t t = next(text, after);

	if (t != utc(want))
		fail_msg("%s after %s: %llu, not %llu", text, after,
		    (unsigned long long)t, (unsigned long long)utc(want));
}

static void
refuse(const char *text, const char *why)
{
	struct err e = { 0 };
	struct calendar c;

	if (calendar_parse(text, &c, &e) != ERR_INVAL ||
	    strstr(e.text, why) == NULL)
		fail_msg("\"%s\": \"%s\"", text, e.text);
}

static void
a_shorthand_may_have_a_time_of_day(void **state)
{
	(void)state;
	zone("UTC");
	expect("daily 02:00", "2026-11-21 12:00:00", "2026-11-22 02:00:00");
	expect("Weekly 02:30", "2026-11-21 12:00:00", "2026-11-23 02:30:00");
	expect(
	    "monthly 23:59:59", "2026-11-21 12:00:00", "2026-12-01 23:59:59");
	expect(
	    "quarterly 6:00 UTC", "2026-11-21 12:00:00", "2027-01-01 06:00:00");
	expect("yearly", "2026-11-21 12:00:00", "2027-01-01 00:00:00");
	refuse("hourly 02:00", "behind hourly");
	refuse("minutely :30", "behind minutely");
	refuse("daily 02:00 03:00", "behind daily");
	refuse("daily noon", "\"noon\" behind daily");
}

static void
what_is_wrong_is_said(void **state)
{
	(void)state;
	refuse("", "no time is said");
	refuse("  UTC ", "no days of the week");
	refuse("*:00:00.5", "write whole seconds");
	refuse("25:00", "hour 25: from 0 to 23");
	refuse("2:60", "minute 60: from 0 to 59");
	refuse("12", "Write it like daily, Mon..Fri 02:30");
	refuse("*/2:00", "for each second hour write 0/2");
	refuse("Mon..Sun..Tue 2:00", "no days of the week");
	refuse("Sat..Mon", "write Sat,Sun,Mon");
	refuse("02:00 Europe/Berlin", "Of time zones there is UTC");
	refuse("02:00 CET", "Of time zones there is UTC");
	refuse("@1800000000", "write a date and a time");
	refuse("*-*-0", "day 0: from 1 to 31");
	refuse("*-*~29", "day 29: from 1 to 28");
	refuse("*-1~2~3", "a date is YEAR-MONTH-DAY");
	refuse("1:2:3:4", "a time is HOUR:MINUTE");
	refuse("10..5:00", "ranges go upwards");
	refuse("0/0:00", "a step of 0");
	refuse("0/30:00", "leads out of the range");
	refuse("1,:00", "the hour is missing");
	refuse("99999999999999999999:00", "too large");
	refuse("02:00 02:00", "what is \"02:00\"");
	refuse("Mon x 02:00", "what is \"x\"");
}

static void
a_time_that_summer_leaves_out_is_left_out(void **state)
{
	(void)state;
	zone("Europe/Berlin");
	expect("02:30", "2026-03-28 12:00:00", "2026-03-30 00:30:00");
	expect("*:30", "2026-03-29 00:30:00", "2026-03-29 01:30:00");
	expect("03:00", "2026-03-28 12:00:00", "2026-03-29 01:00:00");
	zone("America/New_York");
	expect("02:30", "2026-03-08 05:00:00", "2026-03-09 06:30:00");
	expect("02:30 UTC", "2026-03-08 05:00:00", "2026-03-09 02:30:00");
}

static void
a_time_that_comes_twice_counts_the_first_time(void **state)
{
	(void)state;
	zone("Europe/Berlin");
	expect("02:30", "2026-10-24 12:00:00", "2026-10-25 00:30:00");
	expect("02:30", "2026-10-25 00:30:00", "2026-10-26 01:30:00");
	expect("*:0/15", "2026-10-25 00:45:00", "2026-10-25 02:00:00");
	/* In the second of the two hours. */
	expect("*:0/15", "2026-10-25 01:20:00", "2026-10-25 02:00:00");
	expect("*:*:*", "2026-10-25 01:20:00", "2026-10-25 02:00:00");
}

static void
what_never_comes_again_ends(void **state)
{
	(void)state;
	zone("Europe/Berlin");
	assert_true(
	    next("2020-01-01", "2026-01-01 00:00:00") == CALENDAR_NEVER);
	assert_true(next("*-02-30", "2026-01-01 00:00:00") == CALENDAR_NEVER);
	assert_true(
	    next("Mon 2199-12-31", "2026-01-01 00:00:00") == CALENDAR_NEVER);
	expect("*-02-29", "2096-03-01 00:00:00", "2104-02-28 23:00:00");
}

static void
every_second_is_one_later(void **state)
{
	struct err e = { 0 };
	struct calendar c;
	uint64_t t;

	(void)state;
	zone("America/New_York");
	assert_int_equal(calendar_parse("*:*:*", &c, &e), 0);
	t = utc("2026-02-28 04:00:00");
	for (int i = 0; i < 90000; i++)
		assert_true(
		    calendar_next(&c, t + (uint64_t)i) == t + (uint64_t)i + 1);
}

static void
expect_window(const char *text, const char *at, const char *want)
{
	struct err e = { 0 };
	struct window w;

	if (window_parse(text, &w, &e) != 0)
		fail_msg("%s: %s", text, e.text);
	assert_int_equal(window_is_open(&w, utc(at)), strcmp(at, want) == 0);
	if (window_next(&w, utc(at)) != utc(want))
		fail_msg("%s at %s: %llu", text, at,
		    (unsigned long long)window_next(&w, utc(at)));
}

static void
a_window_may_go_over_midnight(void **state)
{
	(void)state;
	zone("UTC");
	expect_window(
	    "22:00-06:00", "2026-11-21 21:59:59", "2026-11-21 22:00:00");
	expect_window(
	    "22:00-06:00", "2026-11-21 22:00:00", "2026-11-21 22:00:00");
	expect_window(
	    "22:00-06:00", "2026-11-22 05:59:59", "2026-11-22 05:59:59");
	expect_window(
	    "22:00-06:00", "2026-11-22 06:00:00", "2026-11-22 22:00:00");
	expect_window(
	    "01:30-04:00", "2026-11-22 04:00:00", "2026-11-23 01:30:00");
	expect_window(
	    "20:00-24:00", "2026-11-22 23:59:59", "2026-11-22 23:59:59");
	expect_window(
	    "00:00-24:00", "2026-11-22 00:00:00", "2026-11-22 00:00:00");
}

static void
a_window_belongs_to_the_day_on_which_it_begins(void **state)
{
	(void)state;
	zone("Europe/Berlin");
	/* Friday's goes on until Saturday morning; there is none on Saturday.
	 */
	expect_window("Mon..Fri 22:00-06:00", "2026-11-21 04:59:59",
	    "2026-11-21 04:59:59");
	expect_window("Mon..Fri 22:00-06:00", "2026-11-21 05:00:00",
	    "2026-11-23 21:00:00");
	expect_window("Sun 22:00-06:00 UTC", "2026-11-23 05:30:00",
	    "2026-11-23 05:30:00");
}

static void
what_is_no_window_is_refused(void **state)
{
	static const char *const bad[] = { "", "22:00", "22:00-", "-06:00",
		"22-06", "22:00-22:00", "24:00-06:00", "22:00-24:01",
		"22:60-23:00", "Mon", "*-*-1 22:00-06:00",
		"daily 22:00-06:00 x", "22:00-06:00 CET", "22:00:00-06:00",
		"Sat..Mon 1:00-2:00", "1:00 2:00-3:00" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };
		struct window w;

		if (window_parse(bad[i], &w, &e) != ERR_INVAL ||
		    strstr(e.text, "is no window") == NULL)
			fail_msg("\"%s\": \"%s\"", bad[i], e.text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_shorthand_may_have_a_time_of_day),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(a_time_that_summer_leaves_out_is_left_out),
		cmocka_unit_test(a_time_that_comes_twice_counts_the_first_time),
		cmocka_unit_test(what_never_comes_again_ends),
		cmocka_unit_test(every_second_is_one_later),
		cmocka_unit_test(a_window_may_go_over_midnight),
		cmocka_unit_test(
		    a_window_belongs_to_the_day_on_which_it_begins),
		cmocka_unit_test(what_is_no_window_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
