/* SPDX-License-Identifier: Apache-2.0 */
/* When the watchdog is fed.  That the daemon feeds it: e2e 281. */
#include "repo/serve/pulse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static bool
alive(uint64_t ledger_ms, uint64_t listener_ms, uint64_t disk_ms)
{
	struct pulse_look l = { .ledger_ms = ledger_ms,
		.listener_ms = listener_ms,
		.disk_ms = disk_ms };

	return pulse_alive(&l);
}

static void
who_has_nothing_to_do_is_alive(void **state)
{
	(void)state;
	assert_true(alive(0, 0, 0));
	/* However long ago anybody waited for a disk. */
	assert_true(alive(2000, 1000, UINT64_MAX));
}

static void
a_slow_disk_is_no_reason_to_start_anew(void **state)
{
	(void)state;
	assert_true(alive(PULSE_STUCK_MS, 0, UINT64_MAX));
	assert_true(alive(PULSE_STUCK_MS + 1, 0, 0));
	assert_true(alive(PULSE_LOST_MS, 0, PULSE_STUCK_MS));
	assert_true(alive(0, PULSE_LOST_MS, 0));
}

static void
a_ledger_that_waits_for_no_disk_is_stuck(void **state)
{
	(void)state;
	assert_false(alive(PULSE_STUCK_MS + 1, 0, PULSE_STUCK_MS + 1));
}

static void
connections_that_nobody_takes_are_stuck(void **state)
{
	(void)state;
	assert_false(alive(0, PULSE_STUCK_MS + 1, PULSE_STUCK_MS + 1));
}

static void
a_disk_that_never_answers_is_given_up(void **state)
{
	(void)state;
	assert_false(alive(PULSE_LOST_MS + 1, 0, 0));
	assert_false(alive(0, PULSE_LOST_MS + 1, 0));
}

static void
who_runs_waits_for_no_disk(void **state)
{
	(void)state;
	assert_false(pulse_at_disk());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_has_nothing_to_do_is_alive),
		cmocka_unit_test(a_slow_disk_is_no_reason_to_start_anew),
		cmocka_unit_test(a_ledger_that_waits_for_no_disk_is_stuck),
		cmocka_unit_test(connections_that_nobody_takes_are_stuck),
		cmocka_unit_test(a_disk_that_never_answers_is_given_up),
		cmocka_unit_test(who_runs_waits_for_no_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
