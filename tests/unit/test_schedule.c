/* SPDX-License-Identifier: Apache-2.0 */
/* What is due for a VM: repo/DESIGN.md 20. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "repo/dispatch/schedule_file.h"

enum { HOUR = 3600, DAY = 86400 };

/* 2026-11-21 12:00:00, a Saturday. */
static const uint64_t noon = 1795262400;

static struct plan plan;
static struct schedule_vm vm;
static struct schedule_view view;
static unsigned nruns;

static int
set_up(void **state)
{
	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	plan_init(&plan);
	memset(&vm, 0, sizeof(vm));
	snprintf(vm.vm, sizeof(vm.vm), "web1");
	nruns = 0;
	return 0;
}

static void
times(const char *text)
{
	struct err e = { 0 };

	plan.ntimes = 0;
	plan.schedule[0] = 0;
	if (plan_add_times(&plan, text, &e) != 0)
		fail_msg("%s: %s", text, e.text);
}

static void
window(const char *text)
{
	struct err e = { 0 };

	plan.nwindows = 0;
	plan.windows[0] = 0;
	if (plan_add_windows(&plan, text, &e) != 0)
		fail_msg("%s: %s", text, e.text);
}

static enum schedule_state
look(uint64_t now)
{
	view = schedule_look(&vm, &plan, now, true);
	return view.state;
}

static enum schedule_state
look_alone(uint64_t now)
{
	view = schedule_look(&vm, &plan, now, false);
	return view.state;
}

/* If it is to be run it is, and is done within that second. */
static bool
run(uint64_t now)
{
	if (look(now) != SCHEDULE_RUN)
		return false;
	schedule_began(&vm, now);
	schedule_ended(&vm, &plan, now, JOB_DONE, "web1@x");
	nruns++;
	return true;
}

static void
a_time_is_run_when_it_comes_and_once(void **state)
{
	(void)state;
	times("daily 02:00");
	assert_int_equal(look(noon), SCHEDULE_WAITS);
	assert_true(view.until == noon + 14 * HOUR);
	for (uint64_t t = noon; t < noon + 3 * DAY; t += 60)
		assert_int_equal(run(t), (t - noon) % DAY == 14 * HOUR ? 1 : 0);
	assert_int_equal(nruns, 3);
	assert_int_equal(vm.outcome, OUTCOME_DONE);
	assert_true(vm.last_due == noon + 2 * DAY + 14 * HOUR);
	assert_string_equal(vm.text, "web1@x");
}

static void
a_rule_that_is_new_makes_up_for_nothing(void **state)
{
	(void)state;
	times("daily 02:00");
	assert_int_equal(look(noon), SCHEDULE_WAITS);
	/* Half a year later, with another rule. */
	times("*:00");
	assert_int_equal(look(noon + 180 * DAY + 60), SCHEDULE_WAITS);
	assert_int_equal(look(noon + 180 * DAY + HOUR), SCHEDULE_RUN);
	times("never");
	assert_int_equal(look(noon + 180 * DAY + HOUR), SCHEDULE_NEVER);
	times("*:00");
	assert_int_equal(look(noon + 180 * DAY + HOUR + 1), SCHEDULE_WAITS);
}

static void
many_missed_times_are_made_up_for_once(void **state)
{
	(void)state;
	times("daily 02:00");
	assert_int_equal(look(noon), SCHEDULE_WAITS);
	assert_int_equal(look(noon + 10 * DAY), SCHEDULE_RUN);
	assert_true(view.missed == noon + 14 * HOUR && view.made_up);
	assert_true(vm.due == noon + 9 * DAY + 14 * HOUR);
	assert_true(run(noon + 10 * DAY));
	assert_true(view.missed == 0);
	assert_false(run(noon + 10 * DAY + 1));
	assert_true(view.until == noon + 10 * DAY + 14 * HOUR);
}

static void
without_catch_up_missed_times_are_told_and_left(void **state)
{
	(void)state;
	times("daily 02:00");
	plan.catch_up = false;
	assert_int_equal(look(noon), SCHEDULE_WAITS);
	/* A few minutes late is in time. */
	assert_true(run(noon + 14 * HOUR + SCHEDULE_LATE_S));
	assert_int_equal(
	    look(noon + DAY + 14 * HOUR + SCHEDULE_LATE_S + 1), SCHEDULE_WAITS);
	assert_true(view.missed == noon + DAY + 14 * HOUR && !view.made_up);
	assert_int_equal(vm.outcome, OUTCOME_MISSED);
	assert_true(run(noon + 2 * DAY + 14 * HOUR));
	assert_int_equal(nruns, 2);
}

static void
while_no_host_has_the_vm_it_is_told_at_each_time(void **state)
{
	unsigned told = 0;

	(void)state;
	times("daily 02:00");
	for (uint64_t t = noon; t < noon + 5 * DAY; t += 60) {
		assert_int_equal(look_alone(t),
		    t < noon + 14 * HOUR ? SCHEDULE_WAITS : SCHEDULE_HOST);
		told += view.missed != 0;
	}
	assert_int_equal(told, 5);
	assert_true(run(noon + 5 * DAY));
	assert_false(run(noon + 5 * DAY + 1));
	/* Often due: told once an hour, not at each time. */
	times("*:0/5");
	told = 0;
	for (uint64_t t = noon + 6 * DAY; t < noon + 6 * DAY + 6 * HOUR;
	     t += 60) {
		look_alone(t);
		told += view.missed != 0;
	}
	assert_in_range(told, 4, 6);
}

static void
a_run_waits_for_its_window(void **state)
{
	(void)state;
	times("daily 12:00");
	window("22:00-06:00");
	assert_int_equal(look(noon - 60), SCHEDULE_WAITS);
	assert_int_equal(look(noon), SCHEDULE_CLOSED);
	assert_true(view.until == noon + 10 * HOUR && view.missed == 0);
	assert_int_equal(look(noon + 10 * HOUR - 1), SCHEDULE_CLOSED);
	assert_true(run(noon + 10 * HOUR));
	assert_true(view.missed == 0);
	/* One that did not begin before it closed waits for the next. */
	assert_int_equal(look(noon + DAY + 10 * HOUR), SCHEDULE_RUN);
	schedule_began(&vm, noon + DAY + 10 * HOUR);
	schedule_unbegun(&vm);
	assert_int_equal(look(noon + DAY + 18 * HOUR), SCHEDULE_CLOSED);
	assert_true(view.missed == noon + DAY);
	assert_true(view.until == noon + 2 * DAY);
	assert_int_equal(vm.tries, 0);
	assert_int_equal(look(noon + 2 * DAY), SCHEDULE_CLOSED);
	assert_true(run(noon + 2 * DAY + 10 * HOUR));
	assert_true(vm.last_due == noon + 2 * DAY);
	/* Without making up for it, the window's first minutes count. */
	plan.catch_up = false;
	assert_int_equal(look(noon + 3 * DAY + 10 * HOUR + 60), SCHEDULE_RUN);
	assert_int_equal(look(noon + 3 * DAY + 11 * HOUR), SCHEDULE_WAITS);
}

static void
a_window_closes_where_no_other_goes_on(void **state)
{
	(void)state;
	assert_true(plan_closes(&plan, noon) == CALENDAR_NEVER);
	window("22:00-06:00; 06:00-12:30");
	assert_true(plan_closes(&plan, noon) == noon + HOUR / 2);
	assert_true(
	    plan_closes(&plan, noon - DAY / 2 - HOUR) == noon + HOUR / 2);
	window("00:00-24:00");
	assert_true(plan_closes(&plan, noon) == CALENDAR_NEVER);
	window("Mon..Sat 00:00-24:00");
	assert_true(plan_closes(&plan, noon) == noon + 12 * HOUR);
}

static void
a_failed_run_is_tried_again_later_and_later(void **state)
{
	uint64_t t = noon + 14 * HOUR;

	(void)state;
	times("daily 02:00");
	look(noon);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(look(t), SCHEDULE_RUN);
		schedule_began(&vm, t);
		assert_int_equal(look(t + 5), SCHEDULE_RUNS);
		schedule_ended(&vm, &plan, t + 10, JOB_FAILED, "no space");
		t += 10 + (uint64_t)(300 << i);
		assert_int_equal(vm.outcome, OUTCOME_FAILED);
		if (i == 3)
			break;
		assert_int_equal(look(t - 1), SCHEDULE_RETRY);
		assert_true(view.until == t && view.missed == 0);
	}
	assert_int_equal(look(t), SCHEDULE_WAITS);
	assert_string_equal(vm.text, "no space");
	/* The next one has all its tries again. */
	t = noon + DAY + 14 * HOUR;
	assert_int_equal(look(t), SCHEDULE_RUN);
	schedule_began(&vm, t);
	schedule_ended(&vm, &plan, t + 1, JOB_FAILED, "no space");
	/* Until the one after is due. */
	plan.retry_wait = 7 * DAY;
	vm.again = t + 7 * DAY;
	assert_int_equal(look(t + DAY - 1), SCHEDULE_RETRY);
	assert_true(run(t + DAY));
	assert_true(vm.last_due == t + DAY);
}

static void
the_wait_is_bounded(void **state)
{
	(void)state;
	assert_int_equal(plan_wait(&plan, 1), 300);
	assert_int_equal(plan_wait(&plan, 2), 600);
	assert_int_equal(plan_wait(&plan, 7), PLAN_RETRY_MAX_S);
	assert_int_equal(plan_wait(&plan, 100), PLAN_RETRY_MAX_S);
	plan.retry_wait = DAY;
	assert_int_equal(plan_wait(&plan, 1), DAY);
	assert_int_equal(plan_wait(&plan, 5), DAY);
}

static void
a_cancelled_run_is_not_tried_again(void **state)
{
	(void)state;
	times("daily 02:00");
	look(noon);
	assert_int_equal(look(noon + 14 * HOUR), SCHEDULE_RUN);
	schedule_began(&vm, noon + 14 * HOUR);
	schedule_ended(
	    &vm, &plan, noon + 15 * HOUR, JOB_CANCELLED, "cancelled by uid 0");
	assert_int_equal(look(noon + 16 * HOUR), SCHEDULE_WAITS);
	assert_int_equal(vm.outcome, OUTCOME_CANCELLED);
}

static void
times_that_pass_while_it_waits_or_runs_are_not_run(void **state)
{
	(void)state;
	times("*:00");
	look(noon + 1);
	assert_int_equal(look(noon + HOUR), SCHEDULE_RUN);
	schedule_began(&vm, noon + HOUR);
	for (uint64_t t = noon + HOUR; t < noon + 5 * HOUR + 60; t += 60) {
		assert_int_equal(look(t), SCHEDULE_RUNS);
		assert_true(view.missed == 0);
	}
	schedule_ended(&vm, &plan, noon + 5 * HOUR + 60, JOB_DONE, "web1@x");
	assert_int_equal(look(noon + 5 * HOUR + 60), SCHEDULE_WAITS);
	assert_true(run(noon + 6 * HOUR));
}

static void
a_clock_that_goes_back_runs_nothing_twice(void **state)
{
	(void)state;
	times("daily 02:00");
	look(noon);
	assert_true(run(noon + 14 * HOUR));
	/* An hour back: the same 02:00 comes again. */
	for (uint64_t t = noon + 13 * HOUR; t < noon + 15 * HOUR; t += 60)
		assert_false(run(t));
	assert_true(run(noon + DAY + 14 * HOUR));
	/* A year back: nothing now; from its next time on as ever. */
	assert_false(run(noon - 365 * DAY));
	assert_true(view.until == noon - 365 * DAY + 14 * HOUR);
	assert_true(run(noon - 365 * DAY + 14 * HOUR));
	assert_false(run(noon - 365 * DAY + 15 * HOUR));
	assert_true(run(noon - 364 * DAY + 14 * HOUR));
}

static void
one_that_is_run_often_does_not_wait_for_a_day(void **state)
{
	(void)state;
	times("*:00");
	look(noon + 1);
	assert_true(run(noon + 8 * HOUR));
	/* By less than its hour: it waits that out. */
	assert_false(run(noon + 7 * HOUR + 60));
	assert_false(run(noon + 8 * HOUR));
	assert_true(run(noon + 9 * HOUR));
	/* By more. */
	assert_false(run(noon + 2 * HOUR + 60));
	assert_true(run(noon + 3 * HOUR));
}

static void
a_clock_that_jumps_ahead_runs_once(void **state)
{
	(void)state;
	times("*:0/15");
	look(noon + 1);
	assert_true(run(noon + 3650 * DAY));
	assert_false(run(noon + 3650 * DAY + 1));
	/* And back again: goes on as if it had not been. */
	assert_false(run(noon + 60));
	assert_true(run(noon + 900));
}

static void
what_waits_for_another_try_goes_back_with_the_clock(void **state)
{
	(void)state;
	times("daily 02:00");
	look(noon);
	assert_int_equal(look(noon + 14 * HOUR), SCHEDULE_RUN);
	schedule_began(&vm, noon + 14 * HOUR);
	schedule_ended(&vm, &plan, noon + 14 * HOUR, JOB_FAILED, "x");
	assert_int_equal(look(noon - 100 * DAY), SCHEDULE_RETRY);
	assert_true(view.until == noon - 100 * DAY + 300);
	assert_true(run(noon - 100 * DAY + 300));
}

static void
what_ran_when_the_daemon_ended_is_run_again_unless_it_was_done(void **state)
{
	uint64_t t = noon + 14 * HOUR;

	(void)state;
	times("daily 02:00");
	look(noon);
	look(t);
	schedule_began(&vm, t);
	schedule_resume(&vm, &plan, t + 60, t - 5, "web1@old");
	plan.retries = 0;
	assert_int_equal(look(t + 60), SCHEDULE_RUN);
	schedule_began(&vm, t + 60);
	schedule_resume(&vm, &plan, t + 120, t + 61, "web1@new");
	assert_int_equal(look(t + 120), SCHEDULE_WAITS);
	assert_int_equal(vm.outcome, OUTCOME_DONE);
	assert_string_equal(vm.text, "web1@new");
	/* But not for ever. */
	t += DAY;
	assert_int_equal(look(t), SCHEDULE_RUN);
	for (unsigned i = 0; i < 10 && look(t) == SCHEDULE_RUN; i++) {
		schedule_began(&vm, t);
		schedule_resume(&vm, &plan, t, 0, "");
		nruns++;
	}
	assert_int_equal(nruns, SCHEDULE_CUT_SHORT_MAX + 1);
	assert_int_equal(vm.outcome, OUTCOME_FAILED);
}

static void
whatever_the_clock_does_no_jump_runs_twice(void **state)
{
	static const char *const rules[] = { "daily 02:00", "*:0/15", "weekly",
		"Mon..Fri 8..18/2:00; Sun 03:00", "monthly 01:00" };
	uint64_t seed = (uint64_t)time(NULL), x = seed;

	(void)state;
	for (unsigned r = 0; r < 200; r++) {
		uint64_t now = noon + r * 1000, steady = 0, last_due = 0;
		uint64_t last_steady = 0;
		bool far = false;

		set_up(NULL);
		times(rules[r % 5]);
		look(now);
		for (unsigned i = 0; i < 500; i++) {
			uint64_t old = now, pass;
			bool back;

			x = x * 6364136223846793005u + 1442695040888963407u;
			pass = (x >> 33) % (r % 5 == 1 ? 1200 : 8 * HOUR);
			steady += pass;
			now += pass;
			/* Now and then it jumps. */
			if ((x >> 20) % 20 == 0)
				now += (x >> 40) % (40 * DAY);
			else if ((x >> 20) % 20 == 1)
				now -= (x >> 40) %
				    ((x >> 30) % 2 ? 40 * DAY : HOUR / 4);
			back = now < old;
			far |= old > now && old - now > HOUR / 4;
			if (!run(now))
				continue;
			/* Never by a jump back alone, never the same twice
			 * unless the clock was put back far. */
			if (back && vm.last_due != now &&
			    now - vm.last_due > pass)
				fail_msg("seed %llu: run by a jump back",
				    (unsigned long long)seed);
			if (vm.last_due == last_due && !far)
				fail_msg("seed %llu: twice",
				    (unsigned long long)seed);
			assert_true(vm.last_due <= now);
			assert_false(run(now));
			last_due = vm.last_due;
			far = false;
			last_steady = steady;
		}
		/* It never stops: a month and a day without a jump bring one.
		 */
		for (unsigned i = 0; i < 34 * 24; i++) {
			steady += HOUR;
			now += HOUR;
			if (run(now))
				last_steady = steady;
		}
		assert_true(steady - last_steady <= 32 * (uint64_t)DAY);
	}
}

static void
the_file_tells_what_was_written(void **state)
{
	struct schedule_vm *back;
	const struct schedule_vm *all[2];
	struct schedule_vm other;
	struct buf b = { 0 };
	struct err e = { 0 };
	size_t n;

	(void)state;
	times("daily 02:00");
	look(noon);
	look(noon + 10 * DAY);
	schedule_began(&vm, noon + 10 * DAY);
	schedule_ended(&vm, &plan, noon + 10 * DAY + 5, JOB_FAILED, "\"why\"");
	vm.pruned = noon;
	vm.removed = 7;
	snprintf(vm.stopped, sizeof(vm.stopped), "more than half");
	memset(&other, 0, sizeof(other));
	snprintf(other.vm, sizeof(other.vm), "ns/db1");
	all[0] = &vm;
	all[1] = &other;
	schedule_file_print(all, 2, &b);
	assert_int_equal(schedule_file_parse(b.data, b.len, &back, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_memory_equal(&back[0], &vm, sizeof(vm));
	assert_memory_equal(&back[1], &other, sizeof(other));
	free(back);
	/* Each bit counts, and so does each byte that is missing. */
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] ^= 4;
		assert_int_not_equal(
		    schedule_file_parse(b.data, b.len, &back, &n, &e), 0);
		assert_null(back);
		b.data[i] ^= 4;
		assert_int_not_equal(
		    schedule_file_parse(b.data, i, &back, &n, &e), 0);
	}
	schedule_file_print(all, 0, &b);
	assert_int_equal(schedule_file_parse(b.data, b.len, &back, &n, &e), 0);
	assert_int_equal(n, 0);
	free(back);
	buf_fini(&b);
}

static void
a_plan_says_which_of_its_times_is_wrong(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(
	    plan_add_times(&plan, "daily 02:00; 25:00", &e), ERR_INVAL);
	assert_non_null(strstr(e.text, "hour 25"));
	assert_int_equal(plan_add_times(&plan, "never", &e), ERR_INVAL);
	assert_non_null(strstr(e.text, "never stands alone"));
	plan_init(&plan);
	assert_int_equal(plan_add_times(&plan, "", &e), ERR_INVAL);
	assert_int_equal(plan_add_times(&plan, "never", &e), 0);
	assert_int_equal(plan.ntimes, 0);
	assert_int_equal(
	    plan_add_times(&plan, "daily;; hourly", &e), ERR_INVAL);
	plan_init(&plan);
	assert_int_equal(plan_add_times(&plan, " daily ;hourly; ", &e), 0);
	assert_int_equal(plan.ntimes, 2);
	assert_string_equal(plan.schedule, "daily; hourly");
	for (unsigned i = 2; i < PLAN_TIMES_MAX; i++)
		assert_int_equal(plan_add_times(&plan, "*:00", &e), 0);
	assert_int_equal(plan_add_times(&plan, "*:00", &e), ERR_INVAL);
	assert_int_equal(plan_add_windows(&plan, "22:00", &e), ERR_INVAL);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(a_time_is_run_when_it_comes_and_once),
		TEST(a_rule_that_is_new_makes_up_for_nothing),
		TEST(many_missed_times_are_made_up_for_once),
		TEST(without_catch_up_missed_times_are_told_and_left),
		TEST(while_no_host_has_the_vm_it_is_told_at_each_time),
		TEST(a_run_waits_for_its_window),
		TEST(a_window_closes_where_no_other_goes_on),
		TEST(a_failed_run_is_tried_again_later_and_later),
		TEST(the_wait_is_bounded),
		TEST(a_cancelled_run_is_not_tried_again),
		TEST(times_that_pass_while_it_waits_or_runs_are_not_run),
		TEST(a_clock_that_goes_back_runs_nothing_twice),
		TEST(one_that_is_run_often_does_not_wait_for_a_day),
		TEST(a_clock_that_jumps_ahead_runs_once),
		TEST(what_waits_for_another_try_goes_back_with_the_clock),
		TEST(
		    what_ran_when_the_daemon_ended_is_run_again_unless_it_was_done),
		TEST(whatever_the_clock_does_no_jump_runs_twice),
		TEST(the_file_tells_what_was_written),
		TEST(a_plan_says_which_of_its_times_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
