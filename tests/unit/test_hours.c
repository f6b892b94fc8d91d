/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "repo/settings/hours.h"

#define MIB ((uint64_t)1 << 20)

enum { MON, TUE, WED, THU, FRI, SAT, SUN };

static struct hours
parsed(const char *text)
{
	struct hours h;

	assert_int_equal(hours_parse(text, &h), 0);
	return h;
}

static uint64_t
at(const char *text, unsigned day, unsigned hour, unsigned minute)
{
	struct hours h = parsed(text);

	return hours_at(&h, day, hour * 60 + minute);
}

static void
a_plain_rate_counts_always(void **state)
{
	(void)state;
	assert_int_equal(at("200M", MON, 0, 0), 200 * MIB);
	assert_int_equal(at("200M", SUN, 23, 59), 200 * MIB);
	assert_int_equal(at("0", WED, 12, 0), 0);
	assert_int_equal(at(" 1K ", WED, 12, 0), 1024);
}

static void
the_last_part_that_fits_counts(void **state)
{
	const char *t = "200M, 08:00-18:00 50M, Sat-Sun 1G";

	(void)state;
	assert_int_equal(at(t, MON, 7, 59), 200 * MIB);
	assert_int_equal(at(t, MON, 8, 0), 50 * MIB);
	assert_int_equal(at(t, MON, 17, 59), 50 * MIB);
	assert_int_equal(at(t, MON, 18, 0), 200 * MIB);
	assert_int_equal(at(t, SAT, 12, 0), 1024 * MIB);
	assert_int_equal(at(t, SUN, 23, 59), 1024 * MIB);
}

static void
where_no_part_fits_there_is_no_limit(void **state)
{
	(void)state;
	assert_int_equal(at("Mon 50M", MON, 0, 0), 50 * MIB);
	assert_int_equal(at("Mon 50M", TUE, 0, 0), 0);
	assert_int_equal(at("08:00-18:00 50M", TUE, 18, 0), 0);
}

static void
hours_over_midnight_belong_to_the_day_they_begin(void **state)
{
	const char *t = "Fri 22:00-06:00 50M";

	(void)state;
	assert_int_equal(at(t, FRI, 5, 0), 0);
	assert_int_equal(at(t, FRI, 22, 0), 50 * MIB);
	assert_int_equal(at(t, SAT, 5, 59), 50 * MIB);
	assert_int_equal(at(t, SAT, 6, 0), 0);
	assert_int_equal(at(t, SAT, 22, 0), 0);
	/* The week is round. */
	assert_int_equal(at("Sun 22:00-06:00 50M", MON, 3, 0), 50 * MIB);
	assert_int_equal(at("22:00-24:00 50M", MON, 23, 59), 50 * MIB);
	assert_int_equal(at("22:00-24:00 50M", MON, 0, 0), 0);
}

static void
days_may_go_over_the_end_of_the_week(void **state)
{
	(void)state;
	assert_int_equal(at("Sat-Mon 1M", SAT, 0, 0), MIB);
	assert_int_equal(at("sat-mon 1M", SUN, 0, 0), MIB);
	assert_int_equal(at("Sat-Mon 1M", MON, 0, 0), MIB);
	assert_int_equal(at("Sat-Mon 1M", TUE, 0, 0), 0);
	assert_int_equal(at("Sat-Mon 1M", FRI, 0, 0), 0);
}

static void
what_is_printed_parses_as_the_same(void **state)
{
	static const struct {
		const char *text, *print;
	} cases[] = { { "200M", "200M" }, { "0", "0" }, { "1.5K", "1536" },
		{ "1536", "1536" }, { "1024M", "1G" },
		{ "200M,Mon-Fri  08:00-18:00  50M , Sat-Mon 0",
		    "200M, Mon-Fri 08:00-18:00 50M, Sat-Mon 0" },
		{ "00:00-24:00 5M", "5M" },
		{ "Sun 22:00-24:00 5M", "Sun 22:00-24:00 5M" },
		{ "Mon-Sun 5M", "5M" }, { "Mon..Fri 5M", "Mon-Fri 5M" },
		{ "Tue-Mon 5M", "5M" } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hours h = parsed(cases[i].text), again;
		struct buf b = { 0 };

		hours_print(&h, &b);
		assert_string_equal(buf_cstr(&b), cases[i].print);
		again = parsed(buf_cstr(&b));
		assert_true(hours_equal(&h, &again));
		buf_fini(&b);
	}
}

static void
nonsense_is_refused(void **state)
{
	static const char *const wrong[] = { "", ",", "200M,", ",200M", "fast",
		"-1", "1", "1023", "2T", "200M 50M", "08:00 50M",
		"08:00-08:00 50M", "24:00-06:00 50M", "08:00-24:01 50M",
		"08:60-09:00 50M", "8:00-18:00 50M", "08:00-18:00", "Mon",
		"Mon-Fri", "Mon-Foo 50M", "Mon.Fri 50M", "Mon... 50M", "Mo 50M",
		"Mond 50M", "-Fri 50M", "Mon- 50M", "Mon 08:00-18:00",
		"08:00-18:00 Mon 50M", "Mon Tue 50M", "Mon 08:00-18:00 50M 60M",
		"1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M,1M" };
	struct hours h = parsed("200M"), was = h;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (hours_parse(wrong[i], &h) == 0)
			fail_msg("\"%s\" was taken", wrong[i]);
		assert_true(hours_equal(&h, &was));
	}
}

static void
now_is_local_time(void **state)
{
	time_t t = time(NULL);
	struct hours h;
	struct tm tm;

	(void)state;
	/* Twelve hours off, so that no other zone passes for it. */
	setenv("TZ", "XXX-12", 1);
	tzset();
	localtime_r(&t, &tm);
	h = parsed(
	    tm.tm_hour < 12 ? "1M, 12:00-24:00 2M" : "2M, 12:00-24:00 1M");
	/* Unless noon came in between. */
	if (tm.tm_min < 59)
		assert_int_equal(hours_now(&h), MIB);
	unsetenv("TZ");
	tzset();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_rate_counts_always),
		cmocka_unit_test(the_last_part_that_fits_counts),
		cmocka_unit_test(where_no_part_fits_there_is_no_limit),
		cmocka_unit_test(
		    hours_over_midnight_belong_to_the_day_they_begin),
		cmocka_unit_test(days_may_go_over_the_end_of_the_week),
		cmocka_unit_test(what_is_printed_parses_as_the_same),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(now_is_local_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
