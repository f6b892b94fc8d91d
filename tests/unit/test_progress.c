/* SPDX-License-Identifier: Apache-2.0 */
/* progress: what is shown, and that it fits. */
#include "agent/pipeline/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct progress_view half = { .what = "web1",
	.done = 15ull << 30,
	.total = 30ull << 30,
	.rate = 800ull << 20,
	.eta_s = 19 };

static void
a_wide_terminal_sees_all(void **state)
{
	char out[PROGRESS_LINE_MAX];

	(void)state;
	assert_string_equal(progress_bar(&half, 80, out),
	    "web1  50% [============>            ] 15.0 GiB/30.0 GiB  "
	    "800.0 MiB/s  ETA 0:19");
}

static void
it_fits_any_width(void **state)
{
	static const char *const names[] = { "a", "web1",
		"a-namespace-of-some-length/and-a-machine-of-a-long-name" };
	char out[PROGRESS_LINE_MAX];
	struct progress_view v = half;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		for (unsigned width = 0; width < 400; width++) {
			v.what = names[i];
			v.done = v.total / 400 * width;
			progress_bar(&v, width, out);
			assert_true(strlen(out) < (width > 0 ? width : 1));
		}
}

static void
a_narrow_terminal_keeps_percent_and_rate(void **state)
{
	char out[PROGRESS_LINE_MAX];

	(void)state;
	assert_string_equal(progress_bar(&half, 60, out),
	    "web1  50%  15.0 GiB/30.0 GiB  "
	    "800.0 MiB/s  ETA 0:19");
	assert_string_equal(
	    progress_bar(&half, 45, out), "web1  50%  800.0 MiB/s  ETA 0:19");
	assert_string_equal(
	    progress_bar(&half, 30, out), "web1  50%  800.0 MiB/s");
}

static void
the_bar_is_full_only_at_the_end(void **state)
{
	char out[PROGRESS_LINE_MAX];
	struct progress_view v = half;

	(void)state;
	v.done = v.total - 1;
	assert_non_null(strstr(progress_bar(&v, 80, out), "=>]"));
	assert_non_null(strstr(out, " 99%"));
	v.done = v.total;
	assert_non_null(strstr(progress_bar(&v, 80, out), "==]"));
	assert_non_null(strstr(out, "100%"));
}

static void
nothing_to_do_is_all_done(void **state)
{
	char out[PROGRESS_LINE_MAX];
	struct progress_view v = { .what = "e", .eta_s = PROGRESS_NO_ETA };

	(void)state;
	assert_int_equal(progress_percent(0, 0), 100);
	assert_non_null(strstr(progress_bar(&v, 80, out), "ETA -"));
}

static void
times_read_like_clocks(void **state)
{
	char out[16];

	(void)state;
	assert_string_equal(progress_time(0, out), "0:00");
	assert_string_equal(progress_time(59, out), "0:59");
	assert_string_equal(progress_time(60, out), "1:00");
	assert_string_equal(progress_time(3599, out), "59:59");
	assert_string_equal(progress_time(3600, out), "1:00:00");
	assert_string_equal(progress_time(86399, out), "23:59:59");
	assert_string_equal(progress_time(86400 + 3600 * 4, out), "1d 04h");
	assert_string_equal(progress_time(UINT64_MAX / 2, out), "never");
}

static void
the_line_of_a_log_says_the_same(void **state)
{
	char out[PROGRESS_LINE_MAX];

	(void)state;
	assert_string_equal(progress_text(&half, out),
	    "web1  50%, 15.0 GiB/30.0 GiB, 800.0 MiB/s, ETA 0:19");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wide_terminal_sees_all),
		cmocka_unit_test(it_fits_any_width),
		cmocka_unit_test(a_narrow_terminal_keeps_percent_and_rate),
		cmocka_unit_test(the_bar_is_full_only_at_the_end),
		cmocka_unit_test(nothing_to_do_is_all_done),
		cmocka_unit_test(times_read_like_clocks),
		cmocka_unit_test(the_line_of_a_log_says_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
