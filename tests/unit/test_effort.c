/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "agent/pipeline/effort.h"

static void
idle_processors_and_a_slow_wire_mean_more(void **state)
{
	int level = 1;

	(void)state;
	for (int i = 0; i < 20; i++)
		level = effort_next(level, 0.9, 0.8);
	assert_int_equal(level, EFFORT_MAX);
}

static void
busy_processors_or_a_fast_wire_mean_less(void **state)
{
	(void)state;
	assert_int_equal(effort_next(5, 0.9, 0.02), 4);
	assert_int_equal(effort_next(5, 0.01, 0.8), 4);
	assert_int_equal(effort_next(1, 0.01, 0.0), 1);
}

static void
in_between_it_stays(void **state)
{
	(void)state;
	assert_int_equal(effort_next(5, 0.3, 0.8), 5);
	assert_int_equal(effort_next(5, 0.9, 0.2), 5);
}

static void
a_level_that_was_asked_for_stays(void **state)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	struct effort f;

	(void)state;
	effort_init(&f, 7, 1);
	for (int i = 0; i < 3; i++) {
		struct effort_clock from = effort_begin();

		nanosleep(&pause, NULL);
		effort_end(&f, from);
	}
	assert_int_equal(effort_level(&f), 7);
	effort_fini(&f);
	effort_init(&f, 0, 1);
	assert_int_equal(effort_level(&f), 0);
	effort_fini(&f);
}

static void
waiting_counts_and_work_does_not(void **state)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	struct effort_clock from;
	struct effort f;
	volatile unsigned work = 0;

	(void)state;
	effort_init(&f, EFFORT_AUTO, 1);
	from = effort_begin();
	nanosleep(&pause, NULL);
	effort_end(&f, from);
	assert_true(atomic_load(&f.waited_ns) >= 45000000);
	atomic_store(&f.waited_ns, 0);
	from = effort_begin();
	while (work < 1000000)
		work++;
	effort_end(&f, from);
	/* However busy the host is: what was worked is not in it. */
	assert_true(
	    atomic_load(&f.waited_ns) < effort_begin().wall_ns - from.wall_ns);
	effort_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_processors_and_a_slow_wire_mean_more),
		cmocka_unit_test(busy_processors_or_a_fast_wire_mean_less),
		cmocka_unit_test(in_between_it_stays),
		cmocka_unit_test(a_level_that_was_asked_for_stays),
		cmocka_unit_test(waiting_counts_and_work_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
