/* SPDX-License-Identifier: Apache-2.0 */
/* feed: how fast jobs are, out of what the daemon counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "repo/console/feed.h"
#include "repo/console/words.h"

static struct feed f;

/* An answer with one job. */
static void
take(uint64_t ms, uint64_t id, const char *state, uint64_t done, uint64_t lane,
    uint64_t moved)
{
	json_t *jobs = json_pack("[{s:I,s:s,s:I,s:I,s:I,s:[{s:I,s:I,s:I}]}]",
	    "job", (json_int_t)id, "state", state, "took_ms", (json_int_t)ms,
	    "done", (json_int_t)done, "total", (json_int_t)100000, "traffic",
	    "lane", (json_int_t)lane, "in", (json_int_t)moved, "out",
	    (json_int_t)0);

	assert_non_null(jobs);
	feed_take(&f, jobs, 1000000 + ms);
	json_decref(jobs);
}

static int
teardown(void **state)
{
	(void)state;
	feed_fini(&f);
	return 0;
}

static void
one_answer_has_the_mean_alone(void **state)
{
	(void)state;
	take(2000, 7, "running", 20000, 0, 500);
	assert_int_equal(feed_find(&f, 7)->mean, 10000);
	assert_int_equal(feed_find(&f, 7)->now, 10000);
	assert_int_equal(feed_find(&f, 7)->eta_s, 8);
	assert_int_equal(feed_find(&f, 7)->wire, 0);
	assert_null(feed_find(&f, 8));
}

static void
two_answers_have_the_rate_between_them(void **state)
{
	(void)state;
	take(1000, 7, "running", 0, 0, 500);
	take(2000, 7, "running", 4000, 0, 2500);
	assert_int_equal(feed_find(&f, 7)->now, 4000);
	assert_int_equal(feed_find(&f, 7)->mean, 2000);
	assert_int_equal(feed_find(&f, 7)->wire, 2000);
	assert_int_equal(f.wire, 2000);
	assert_int_equal(feed_find(&f, 7)->eta_s, 24);
	/* Later ones are smoothed. */
	take(3000, 7, "running", 12000, 0, 4500);
	assert_in_range(feed_find(&f, 7)->now, 4100, 7900);
}

static void
agents_tell_once_a_second_and_that_is_no_standstill(void **state)
{
	(void)state;
	take(1000, 7, "running", 0, 0, 0);
	take(2000, 7, "running", 4000, 0, 0);
	take(2250, 7, "running", 4000, 0, 0);
	take(2500, 7, "running", 4000, 0, 0);
	assert_int_equal(feed_find(&f, 7)->now, 4000);
	for (unsigned ms = 3000; ms < 60000; ms += 500)
		take(ms, 7, "running", 4000, 0, 0);
	assert_in_range(feed_find(&f, 7)->now, 0, 10);
}

static void
a_pass_that_begins_anew_has_no_negative_rate(void **state)
{
	(void)state;
	take(1000, 7, "running", 50000, 0, 100);
	take(2000, 7, "running", 60000, 0, 200);
	take(3000, 7, "running", 1000, 0, 300);
	take(4000, 7, "running", 3000, 0, 400);
	assert_in_range(feed_find(&f, 7)->now, 1900, 2100);
}

static void
a_lane_with_the_number_of_another_counts_from_nothing(void **state)
{
	(void)state;
	take(1000, 7, "running", 0, 3, 1000000);
	take(2000, 7, "running", 0, 3, 1000);
	assert_int_equal(feed_find(&f, 7)->lane[0].now, 1000);
	assert_int_equal(feed_find(&f, 7)->lane[0].number, 3);
}

static void
what_is_done_has_no_rate_but_a_mean(void **state)
{
	(void)state;
	take(1000, 7, "running", 0, 0, 0);
	take(2000, 7, "running", 4000, 0, 0);
	take(4000, 7, "done", 100000, 0, 0);
	assert_false(feed_find(&f, 7)->running);
	assert_int_equal(feed_find(&f, 7)->now, 0);
	assert_int_equal(feed_find(&f, 7)->mean, 25000);
	assert_true(feed_find(&f, 7)->eta_s == FEED_NO_ETA);
	take(5000, 8, "running", 1, 0, 0);
	assert_null(feed_find(&f, 7));
}

static void
figures_read_well(void **state)
{
	char out[WORDS_LEN];

	(void)state;
	assert_string_equal(words_time(7, out), "0:07");
	assert_string_equal(words_time(3723, out), "1:02:03");
	assert_string_equal(words_time(3 * 86400 + 4 * 3600, out), "3d 04h");
	assert_string_equal(words_time(UINT64_MAX, out), "years");
	assert_string_equal(words_eta(FEED_NO_ETA, out), "-");
	assert_string_equal(words_rate(0, out), "-");
	assert_string_equal(words_rate(5 << 20, out), "5.0 MiB/s");
	assert_string_equal(words_percent(0, 0, out), "-");
	assert_string_equal(words_percent(999999, 1000000, out), "99 %");
	assert_string_equal(words_percent(5, 5, out), "100 %");
	assert_string_equal(words_percent(0, 5, out), "0 %");
	assert_string_equal(
	    words_clock("2026-11-21T07:12:05Z", out), "07:12:05");
	assert_string_equal(words_clock("\033[2J", out), "");
}

int
main(void)
{
#define T(f) cmocka_unit_test_teardown(f, teardown)
	const struct CMUnitTest tests[] = {
		T(one_answer_has_the_mean_alone),
		T(two_answers_have_the_rate_between_them),
		T(agents_tell_once_a_second_and_that_is_no_standstill),
		T(a_pass_that_begins_anew_has_no_negative_rate),
		T(a_lane_with_the_number_of_another_counts_from_nothing),
		T(what_is_done_has_no_rate_but_a_mean),
		T(figures_read_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
