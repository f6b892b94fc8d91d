/* SPDX-License-Identifier: Apache-2.0 */
/* What goes out to which agent, and what waits for what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "tests/unit/queue_fixture.h"

static _Thread_local struct err e;

static void
a_job_goes_to_the_agent_that_has_its_vm_and_keeps_its_number(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 2, "web1");
	struct queue_lane *b = agent_new("kvm02", 2, "db1!");
	uint64_t job = job_add("db1");
	struct queue_told t;

	(void)state;
	agent_must_not(a);
	t = agent_must_do(b, job);
	assert_string_equal(t.vm, "db1");
	agent_must_not(b);
	assert_int_equal(task_begin(&t, "kvm01"), ERR_NOENT);
	assert_int_equal(task_begin(&t, "kvm02"), 0);
	assert_int_equal(task_begin(&t, "kvm02"), ERR_INVAL);
	queue_job_ended(owner.q, job, JOB_DONE, "db1@T");
	job_must_end(job, JOB_DONE, "db1@T");
	queue_task_ended(b, t.task, true, NULL);
	assert_int_equal(task_begin(&t, "kvm02"), ERR_NOENT);
	assert_int_equal(atomic_load(&owner.noted), 0);
	queue_lane_end(a);
	queue_lane_end(b);
}

static void
the_oldest_goes_first_and_one_that_cannot_run_keeps_up_nobody(void **state)
{
	uint64_t nobody = job_add("nowhere"), away, first, second, third;
	struct queue_lane *a = agent_new("kvm01", 1, "a b c");
	struct queue_told t;

	(void)state;
	away = job_add_of(JOB_BACKUP, "a", "kvm09", NULL, 0);
	first = job_add("b");
	second = job_add("c");
	third = job_add("a");
	t = agent_must_do(a, first);
	agent_must_not(a);
	assert_string_equal(
	    job_reason(nobody), "no connected agent has nowhere");
	assert_string_equal(job_reason(away), "kvm09 is not connected");
	assert_string_equal(
	    job_reason(second), "waits for a place on kvm01 (1 of 1)");
	task_do(a, "kvm01", &t);
	t = agent_must_do(a, second);
	task_do(a, "kvm01", &t);
	t = agent_must_do(a, third);
	task_do(a, "kvm01", &t);
	agent_must_not(a);
	queue_lane_end(a);
}

static void
one_vm_has_one_job_at_a_time_and_others_pass(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "web1 web2");
	uint64_t one = job_add("web1"), two = job_add("web1"),
		 other = job_add("web2");
	struct queue_told t, u;

	(void)state;
	/* All that can run goes out at once. */
	t = agent_must_do(a, one);
	u = agent_must_do(a, other);
	agent_must_not(a);
	assert_string_equal(job_reason(two), "waits for job 1");
	assert_int_equal(task_begin(&t, "kvm01"), 0);
	queue_job_ended(owner.q, one, JOB_DONE, "");
	/* Its process is still there. */
	agent_must_not(a);
	assert_int_equal(task_begin(&t, "kvm01"), ERR_CLOSED);
	queue_task_ended(a, t.task, true, NULL);
	t = agent_must_do(a, two);
	task_do(a, "kvm01", &t);
	task_do(a, "kvm01", &u);
	queue_lane_end(a);
}

static void
restores_go_first_and_hold_the_vm_that_they_read(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 1, "web1 db1 x");
	uint64_t held = job_add("x"), slow = job_add("web1"), back, next_one;
	struct queue_told t = agent_must_do(a, held);
	uint64_t job;

	(void)state;
	back = job_add_of(JOB_RESTORE, "new1", "kvm01", "web1@latest", 0);
	next_one = job_add_of(JOB_RESTORE, "new2", "kvm01", "web1@latest", 0);
	task_do(a, "kvm01", &t);
	t = agent_must_do(a, back);
	assert_int_equal(queue_task_check(owner.q, t.task, "kvm01", JOB_BACKUP,
			     "new1", NULL, &job, &e),
	    ERR_DENIED);
	assert_int_equal(queue_task_check(owner.q, t.task, "kvm01", JOB_RESTORE,
			     "db1", "web1", &job, &e),
	    ERR_DENIED);
	assert_int_equal(queue_task_check(owner.q, t.task, "kvm01", JOB_RESTORE,
			     "new1", "web1", &job, &e),
	    0);
	assert_int_equal(job, back);
	assert_string_equal(job_reason(next_one), "waits for job 3");
	assert_string_equal(job_reason(slow), "waits for job 3");
	queue_task_ended(a, t.task, false, "the disk is not there");
	job_must_end(back, JOB_FAILED, "the disk is not there");
	t = agent_must_do(a, next_one);
	queue_task_ended(a, t.task, false, NULL);
	agent_must_do(a, slow);
	queue_lane_end(a);
}

static void
a_second_restore_onto_a_vm_is_refused_and_says_who(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 1, "web1");
	uint64_t first =
	    job_add_of(JOB_RESTORE, "web1", "kvm01", "web1@latest", 0);
	json_t *options = json_pack("{s:s}", "backup", "web1@-1");
	const struct queue_request r = { .kind = JOB_RESTORE,
		.vm = "web1",
		.agent = "kvm02",
		.options = options };
	struct queue_told t;
	uint64_t job;

	(void)state;
	assert_int_equal(queue_add(owner.q, &r, &job, &e), ERR_BUSY);
	assert_non_null(strstr(e.text, "on kvm01"));
	t = agent_must_do(a, first);
	task_do(a, "kvm01", &t);
	assert_int_equal(queue_add(owner.q, &r, &job, &e), 0);
	assert_int_equal(queue_cancel(owner.q, job, "test", &e), 0);
	json_decref(options);
	queue_lane_end(a);
}

static void
no_more_run_than_may_over_all_hosts(void **state)
{
	struct queue_lane *l[3] = { agent_new("k1", 4, "a b c d"),
		agent_new("k2", 4, "e f g h"), agent_new("k3", 4, "i") };
	const char *vms[] = { "a", "b", "c", "e", "f", "i" };
	struct queue_told t[6];
	uint64_t job[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		job[i] = job_add(vms[i]);
	for (int i = 0; i < 3; i++)
		t[i] = agent_must_do(l[0], job[i]);
	t[3] = agent_must_do(l[1], job[3]);
	agent_must_not(l[1]);
	agent_must_not(l[2]);
	assert_string_equal(
	    job_reason(job[4]), "waits for a place: 4 of 4 jobs run");
	queue_jobs(owner.q, 5);
	t[4] = agent_must_do(l[1], job[4]);
	agent_must_not(l[2]);
	task_do(l[0], "k1", &t[0]);
	t[5] = agent_must_do(l[2], job[5]);
	for (int i = 1; i < 6; i++)
		task_do(i < 3   ? l[0]
			: i < 5 ? l[1]
				: l[2],
		    i < 3       ? "k1"
			: i < 5 ? "k2"
				: "k3",
		    &t[i]);
	for (int i = 0; i < 6; i++)
		job_must_end(job[i], JOB_DONE, NULL);
	for (int i = 0; i < 3; i++)
		queue_lane_end(l[i]);
}

static void
a_vm_that_somebody_backs_up_by_hand_is_waited_for(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "by-hand");
	uint64_t job;

	(void)state;
	atomic_store(&owner.busy, 77);
	job = job_add("by-hand");
	agent_must_not(a);
	assert_string_equal(job_reason(job), "waits for job 77");
	atomic_store(&owner.busy, 0);
	queue_job_ended(owner.q, 77, JOB_DONE, "");
	agent_must_do(a, job);
	queue_lane_end(a);
}

static bool
is_db(void *arg, const char *vm)
{
	(void)arg;
	return strncmp(vm, "db", 2) == 0;
}

static void
the_queue_has_a_limit_and_so_have_options(void **state)
{
	struct queue_request r = { .kind = JOB_BACKUP, .vm = "a" };
	char *big = xmalloc(QUEUE_OPTIONS_MAX + 1);
	uint64_t job;
	json_t *list;

	(void)state;
	memset(big, 'x', QUEUE_OPTIONS_MAX);
	big[QUEUE_OPTIONS_MAX] = 0;
	r.options = json_pack("{s:s}", "x", big);
	free(big);
	assert_int_equal(queue_add(owner.q, &r, &job, &e), ERR_LIMIT);
	json_decref(r.options);
	r.options = NULL;
	r.kind = JOB_DELETE;
	assert_int_equal(queue_add(owner.q, &r, &job, &e), ERR_INVAL);
	r.kind = JOB_RESTORE;
	assert_int_equal(queue_add(owner.q, &r, &job, &e), ERR_INVAL);
	r.kind = JOB_BACKUP;
	for (int i = 0; i < QUEUE_MAX; i++)
		assert_int_equal(queue_add(owner.q, &r, &job, &e), 0);
	assert_int_equal(queue_add(owner.q, &r, &job, &e), ERR_LIMIT);
	list = json_array();
	assert_int_equal(queue_to_json(owner.q, 0, NULL, NULL, list),
	    QUEUE_MAX - QUEUE_LISTED_MAX);
	assert_int_equal(json_array_size(list), QUEUE_LISTED_MAX);
	/* Nor is told how many wait of VMs that may not be seen. */
	json_array_clear(list);
	assert_int_equal(queue_to_json(owner.q, 0, is_db, NULL, list), 0);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
}

static void
what_nobody_can_take_does_not_fill_the_queue_for_others(void **state)
{
	const struct queue_request r = { .kind = JOB_BACKUP, .vm = "gone" };
	const struct queue_request mine = { .kind = JOB_BACKUP, .vm = "mine" };
	struct queue_lane *a = agent_new("kvm01", 1, "mine busy");
	uint64_t away = job_add("away"), busy = job_add("busy"), job;

	(void)state;
	agent_must_do(a, busy);
	for (int i = 1; i < QUEUE_MAX; i++)
		assert_int_equal(queue_add(owner.q, &r, &job, &e), 0);
	assert_int_equal(queue_add(owner.q, &r, &job, &e), ERR_LIMIT);
	assert_int_equal(queue_add(owner.q, &mine, &job, &e), 0);
	job_must_end(away, JOB_FAILED,
	    "the queue is full, and no connected agent has the VM");
	assert_string_equal(
	    job_reason(job), "waits for a place on kvm01 (1 of 1)");
	queue_lane_end(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(
		    a_job_goes_to_the_agent_that_has_its_vm_and_keeps_its_number),
		QUEUE_TEST(
		    the_oldest_goes_first_and_one_that_cannot_run_keeps_up_nobody),
		QUEUE_TEST(one_vm_has_one_job_at_a_time_and_others_pass),
		QUEUE_TEST(restores_go_first_and_hold_the_vm_that_they_read),
		QUEUE_TEST(a_second_restore_onto_a_vm_is_refused_and_says_who),
		QUEUE_TEST(no_more_run_than_may_over_all_hosts),
		QUEUE_TEST(a_vm_that_somebody_backs_up_by_hand_is_waited_for),
		QUEUE_TEST(the_queue_has_a_limit_and_so_have_options),
		QUEUE_TEST(
		    what_nobody_can_take_does_not_fill_the_queue_for_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
