/* SPDX-License-Identifier: Apache-2.0 */
/* Agents that go away, and how jobs end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "tests/unit/queue_fixture.h"

static _Thread_local struct err e;

static void
a_lost_agent_s_tasks_wait_again_in_their_old_place(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a b");
	uint64_t one = job_add("a"), two = job_add("b"), three;
	struct queue_told t = agent_must_do(a, one), u;

	(void)state;
	/* It was never told of the second. */
	three = job_add_of(JOB_BACKUP, "a", "kvm02", NULL, 0);
	queue_lane_end(a);
	assert_string_equal(job_reason(two), "no connected agent has b");
	assert_string_equal(job_reason(one), "handed to kvm01");
	/* It comes back, and knows nothing of the first either. */
	a = queue_lane_new(owner.q, "kvm01", "here", true, true);
	{
		struct agent_says s;
		json_t *q = json_pack("{s:s, s:i, s:[{s:s}, {s:s}], s:[]}",
		    "host", "kvm01", "jobs", 1, "vms", "vm", "a", "vm", "b",
		    "running");

		assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
		json_decref(q);
		assert_int_equal(queue_serve(a, &s, &e), 0);
	}
	u = agent_must_do(a, one);
	assert_memory_not_equal(t.task, u.task, TASK_LEN);
	assert_int_equal(task_begin(&t, "kvm01"), ERR_NOENT);
	task_do(a, "kvm01", &u);
	job_must_end(one, JOB_DONE, NULL);
	agent_must_do(a, two);
	assert_string_equal(job_reason(three), "kvm02 is not connected");
	queue_lane_end(a);
}

static void
an_agent_that_comes_back_with_its_task_goes_on(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 1, "a");
	uint64_t job = job_add("a");
	struct queue_told t = agent_must_do(a, job), x;

	(void)state;
	queue_lane_end(a);
	a = agent_new("kvm01", 1, "a");
	assert_int_equal(
	    queue_next(a, &t.task, 1, true, 0, NULL, NULL, &x, &e), 0);
	assert_int_equal(x.what, QUEUE_NOTHING);
	task_do(a, "kvm01", &t);
	job_must_end(job, JOB_DONE, NULL);
	queue_lane_end(a);
}

static void
after_three_times_it_fails(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 1, "a");
	uint64_t job = job_add("a");
	struct queue_told t;

	(void)state;
	/* An agent that takes it, and then has never heard of it. */
	for (int i = 0; i < QUEUE_TRIES_MAX; i++) {
		assert_int_equal(atomic_load(&owner.ended[job]), 0);
		assert_int_equal(
		    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
		assert_int_equal(t.what, QUEUE_DO);
		json_decref(t.options);
	}
	assert_int_equal(
	    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_NOTHING);
	job_must_end(job, JOB_FAILED, "3 times");
	assert_int_equal(atomic_load(&owner.noted), 1);
	queue_lane_end(a);
}

/* Until the agent is given up. */
static void
lose(struct queue_lane *l)
{
	uint64_t until = now_ms() + 10000;
	unsigned before = atomic_load(&owner.seen);

	queue_lane_end(l);
	while (atomic_load(&owner.seen) == before && now_ms() < until)
		queue_tick(owner.q);
	assert_int_equal(atomic_load(&owner.seen), before + 1);
}

static void
what_a_lost_agent_has_not_begun_goes_to_another(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a!"), *b;
	uint64_t job = job_add("a");
	struct queue_told t = agent_must_do(a, job), u, x;

	(void)state;
	b = agent_new("kvm02", 4, "a");
	agent_must_not(b);
	lose(a);
	u = agent_must_do(b, job);
	/* The first comes back, and its process tries. */
	a = queue_lane_new(owner.q, "kvm01", "here", true, true);
	assert_int_equal(agent_serves(a, "kvm01", 4, "a"), 0);
	assert_int_equal(atomic_load(&owner.seen), 101);
	assert_int_equal(
	    queue_next(a, &t.task, 1, true, 0, NULL, NULL, &x, &e), 0);
	assert_int_equal(x.what, QUEUE_STOP);
	assert_memory_equal(x.task, t.task, TASK_LEN);
	assert_int_equal(task_begin(&t, "kvm01"), ERR_NOENT);
	task_do(b, "kvm02", &u);
	job_must_end(job, JOB_DONE, NULL);
	queue_lane_end(a);
	queue_lane_end(b);
}

static void
an_agent_that_comes_back_late_takes_its_task_up_again(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a");
	uint64_t job = job_add("a");
	struct queue_told t = agent_must_do(a, job);
	struct agent_says s;
	json_t *q;
	char text[2 * TASK_LEN + 1];

	(void)state;
	lose(a);
	assert_string_equal(job_reason(job), "no connected agent has a");
	assert_int_equal(task_begin(&t, "kvm01"), ERR_NOENT);
	q = json_pack("{s:s, s:[{s:s}], s:[s]}", "host", "kvm01", "vms", "vm",
	    "a", "running", hex(t.task, TASK_LEN, text));
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
	json_decref(q);
	a = queue_lane_new(owner.q, "kvm01", "here", true, true);
	assert_int_equal(queue_serve(a, &s, &e), 0);
	agent_must_not(a);
	task_do(a, "kvm01", &t);
	job_must_end(job, JOB_DONE, NULL);
	queue_lane_end(a);
}

static void
what_leaves_on_a_lost_host_holds_up_no_other_and_is_remembered(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a!"), *b;
	uint64_t job = job_add("a"), after;
	struct queue_told t = agent_must_do(a, job), u, x;

	(void)state;
	assert_int_equal(task_begin(&t, "kvm01"), 0);
	queue_job_ended(owner.q, job, JOB_FAILED, "its lanes were lost");
	after = job_add("a");
	b = agent_new("kvm02", 4, "a");
	agent_must_not(b);
	lose(a);
	u = agent_must_do(b, after);
	task_do(b, "kvm02", &u);
	/* It is back, and its process is still at the VM. */
	a = agent_new("kvm01", 4, "a!");
	after = job_add("a");
	assert_int_equal(
	    queue_next(a, &t.task, 1, true, 0, NULL, NULL, &x, &e), 0);
	assert_int_equal(x.what, QUEUE_NOTHING);
	agent_must_not(b);
	queue_task_ended(a, t.task, false, NULL);
	agent_must_do(a, after);
	queue_lane_end(a);
	queue_lane_end(b);
}

static void
what_has_begun_outlives_the_control_lane(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 1, "a");
	uint64_t job = job_add("a");
	struct queue_told t = agent_must_do(a, job);

	(void)state;
	assert_int_equal(task_begin(&t, "kvm01"), 0);
	queue_lane_end(a);
	queue_tick(owner.q);
	assert_int_equal(atomic_load(&owner.ended[job]), 0);
	queue_job_ended(owner.q, job, JOB_FAILED, "its lane was lost");
	job_must_end(job, JOB_FAILED, "its lane was lost");
	a = agent_new("kvm01", 1, "a");
	job_add("a");
	/* Nobody has said that the process is gone. */
	agent_must_not(a);
	assert_int_equal(
	    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_DO);
	json_decref(t.options);
	queue_lane_end(a);
}

static void
the_newer_lane_of_a_key_takes_over(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 1, "a"), *b;
	uint64_t job = job_add("a");
	struct queue_told t;

	(void)state;
	b = queue_lane_new(owner.q, "kvm01", "there", true, true);
	assert_false(queue_lane_replaced(a, &e));
	assert_int_equal(agent_serves(b, "other", 1, "a"), 0);
	assert_true(queue_lane_replaced(a, &e));
	assert_int_equal(
	    queue_next(a, NULL, 0, false, 0, NULL, NULL, &t, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "other, from there"));
	assert_int_equal(agent_serves(a, "kvm01", 1, "a"), ERR_CLOSED);
	/* Its end is none of the other's. */
	queue_lane_end(a);
	t = agent_must_do(b, job);
	task_do(b, "kvm01", &t);
	queue_lane_end(b);
}

static void
tasks_that_nobody_knows_are_to_end(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a");
	uint8_t stray[2][TASK_LEN] = { { 1 }, { 2 } };
	struct queue_told t;
	uint64_t job;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
		    queue_next(a, stray, 2, true, 60000, NULL, NULL, &t, &e),
		    0);
		assert_int_equal(t.what, QUEUE_STOP);
		assert_memory_equal(t.task, stray[i], TASK_LEN);
	}
	/* Told once; it gets nothing new while they are at what they are at. */
	job = job_add("a");
	assert_int_equal(
	    queue_next(a, stray, 2, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_NOTHING);
	assert_string_equal(job_reason(job),
	    "kvm01 first ends 2 processes of an earlier connection");
	assert_int_equal(
	    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_DO);
	json_decref(t.options);
	queue_lane_end(a);
}

static void
one_that_waits_can_be_cancelled(void **state)
{
	uint64_t job = job_add("a"), other = job_add("a");

	(void)state;
	assert_int_equal(queue_cancel(owner.q, job, "uid 0", &e), 0);
	job_must_end(job, JOB_CANCELLED, "cancelled by uid 0");
	assert_string_equal(job_reason(job), "");
	assert_int_equal(atomic_load(&owner.ended[other]), 0);
	assert_int_equal(queue_cancel(owner.q, 999, "uid 0", &e), ERR_NOENT);
}

static void
one_that_was_handed_over_is_cancelled_and_its_process_told(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a");
	uint64_t job = job_add("a"), after = job_add("a");
	struct queue_told t = agent_must_do(a, job), x;

	(void)state;
	assert_int_equal(queue_cancel(owner.q, job, "uid 0", &e), 0);
	job_must_end(job, JOB_CANCELLED, "uid 0");
	assert_int_equal(task_begin(&t, "kvm01"), ERR_CLOSED);
	x = agent_next(a);
	assert_int_equal(x.what, QUEUE_STOP);
	assert_memory_equal(x.task, t.task, TASK_LEN);
	agent_must_not(a);
	queue_task_ended(a, t.task, false, "killed");
	assert_int_equal(atomic_load(&owner.ended[job]), 1);
	agent_must_do(a, after);
	/* One that the agent has not heard of yet. */
	queue_cancel(owner.q, after, "uid 0", &e);
	queue_lane_end(a);
}

static void
one_that_runs_is_cancelled_and_its_process_told(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a");
	uint64_t job = job_add("a");
	struct queue_told t = agent_must_do(a, job), x;

	(void)state;
	assert_int_equal(task_begin(&t, "kvm01"), 0);
	assert_int_equal(queue_cancel(owner.q, job, "uid 0", &e), 0);
	assert_int_equal(atomic_load(&owner.cancels), 1);
	job_must_end(job, JOB_CANCELLED, NULL);
	/* Also by a lane that comes after the one that was told. */
	assert_int_equal(agent_next(a).what, QUEUE_STOP);
	queue_lane_end(a);
	a = agent_new("kvm01", 4, "a");
	x = agent_next(a);
	assert_int_equal(x.what, QUEUE_STOP);
	assert_memory_equal(x.task, t.task, TASK_LEN);
	queue_task_ended(a, t.task, false, NULL);
	agent_must_not(a);
	queue_lane_end(a);
}

static void
one_that_does_not_begin_in_time_fails(void **state)
{
	uint64_t job = job_add_of(JOB_BACKUP, "a", NULL, NULL, now_ms() + 20),
		 stays =
		     job_add_of(JOB_BACKUP, "a", NULL, NULL, now_ms() + 60000);
	uint64_t until = now_ms() + 10000;

	(void)state;
	while (atomic_load(&owner.ended[job]) == 0 && now_ms() < until)
		queue_tick(owner.q);
	job_must_end(job, JOB_FAILED,
	    "could not begin in time: no connected agent has a");
	assert_int_equal(atomic_load(&owner.ended[stays]), 0);
}

static void
a_stop_ends_what_has_not_begun_and_takes_no_more(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a b");
	uint64_t run = job_add("a"), given = job_add("b"), waits = job_add("c"),
		 no;
	struct queue_request r = { .kind = JOB_BACKUP, .vm = "d" };
	struct queue_told t = agent_must_do(a, run),
			  u = agent_must_do(a, given);

	(void)state;
	assert_int_equal(task_begin(&t, "kvm01"), 0);
	queue_close(owner.q, "the daemon is stopping");
	job_must_end(given, JOB_FAILED, NULL);
	job_must_end(waits, JOB_FAILED, NULL);
	assert_int_equal(atomic_load(&owner.ended[run]), 0);
	assert_int_equal(task_begin(&u, "kvm01"), ERR_NOENT);
	assert_int_equal(queue_add(owner.q, &r, &no, &e), ERR_CLOSED);
	assert_int_equal(
	    queue_next(a, NULL, 0, false, 60000, NULL, NULL, &t, &e),
	    ERR_CLOSED);
	queue_job_ended(owner.q, run, JOB_FAILED, "stopping");
	job_must_end(run, JOB_FAILED, NULL);
	queue_lane_end(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(a_lost_agent_s_tasks_wait_again_in_their_old_place),
		QUEUE_TEST(an_agent_that_comes_back_with_its_task_goes_on),
		QUEUE_TEST(after_three_times_it_fails),
		QUEUE_TEST(what_a_lost_agent_has_not_begun_goes_to_another),
		QUEUE_TEST(
		    an_agent_that_comes_back_late_takes_its_task_up_again),
		QUEUE_TEST(
		    what_leaves_on_a_lost_host_holds_up_no_other_and_is_remembered),
		QUEUE_TEST(what_has_begun_outlives_the_control_lane),
		QUEUE_TEST(the_newer_lane_of_a_key_takes_over),
		QUEUE_TEST(tasks_that_nobody_knows_are_to_end),
		QUEUE_TEST(one_that_waits_can_be_cancelled),
		QUEUE_TEST(
		    one_that_was_handed_over_is_cancelled_and_its_process_told),
		QUEUE_TEST(one_that_runs_is_cancelled_and_its_process_told),
		QUEUE_TEST(one_that_does_not_begin_in_time_fails),
		QUEUE_TEST(a_stop_ends_what_has_not_begun_and_takes_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
