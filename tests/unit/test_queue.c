/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/dispatch/queue.h"

enum { JOBS_KEPT = 4096 };

static _Thread_local struct err e;

/* What the daemon would be. */
static struct {
	struct queue *q;
	_Atomic uint64_t id;
	atomic_uint noted;
	_Atomic uint64_t busy; /* a job of somebody else's at "by-hand" */
	atomic_uint cancels;
	atomic_int ended[JOBS_KEPT]; /* how often */
	atomic_int state[JOBS_KEPT]; /* how at last */
	pthread_mutex_t mu;
	char text[ERR_TEXT_MAX]; /* of the last end; guarded by mu */
	atomic_uint seen;
} d;

static uint64_t
next_id(void *arg)
{
	(void)arg;
	return atomic_fetch_add(&d.id, 1) + 1;
}

static void
note(void *arg, const struct queue_end *end)
{
	(void)arg;
	if (end->job >= JOBS_KEPT)
		abort();
	atomic_fetch_add(&d.noted, 1);
}

static uint64_t
busy(void *arg, const char *vm)
{
	(void)arg;
	return strcmp(vm, "by-hand") == 0 ? atomic_load(&d.busy) : 0;
}

static void
seen(void *arg, const char *agent, const char *host, bool connected)
{
	(void)arg;
	(void)agent;
	(void)host;
	atomic_fetch_add(&d.seen, connected ? 100 : 1);
}

/* As the daemon: the job ends, and what it owned is let go of. */
static int
cancel(void *arg, uint64_t job, const char *who, struct err *x)
{
	(void)arg;
	(void)who;
	if (job == 999)
		return err_set(x, ERR_NOENT, "there is no job 999");
	atomic_fetch_add(&d.cancels, 1);
	queue_job_ended(d.q, job, JOB_CANCELLED, "cancelled");
	return 0;
}

static void
ended(void *arg, uint64_t job, enum job_state state, const char *text)
{
	(void)arg;
	/* It may call the queue. */
	queue_tick(d.q);
	pthread_mutex_lock(&d.mu);
	snprintf(d.text, sizeof(d.text), "%s", text);
	pthread_mutex_unlock(&d.mu);
	atomic_store(&d.state[job], (int)state);
	atomic_fetch_add(&d.ended[job], 1);
}

static int
setup(void **state)
{
	const struct queue_options o = { .jobs = 4,
		.grace_ms = 50,
		.id = next_id,
		.note = note,
		.busy = busy,
		.seen = seen,
		.cancel = cancel };

	memset(&d, 0, sizeof(d));
	pthread_mutex_init(&d.mu, NULL);
	d.q = queue_new(&o);
	*state = d.q;
	return 0;
}

static int
teardown(void **state)
{
	queue_free(*state);
	return 0;
}

static uint64_t
add_of(enum job_kind kind, const char *vm, const char *agent,
    const char *backup, uint64_t until_ms)
{
	struct queue_request r = { .kind = kind,
		.vm = vm,
		.agent = agent,
		.why = "test",
		.until_ms = until_ms,
		.ended = ended };
	uint64_t job;

	if (backup != NULL)
		r.options = json_pack("{s:s}", "backup", backup);
	assert_int_equal(queue_add(d.q, &r, &job, &e), 0);
	json_decref(r.options);
	return job;
}

static uint64_t
add(const char *vm)
{
	return add_of(JOB_BACKUP, vm, NULL, NULL, 0);
}

/* "web1 db1!": that runs. */
static int
serve(struct queue_lane *l, const char *host, unsigned jobs, const char *vms)
{
	json_t *q = json_object(), *list = json_array();
	char *copy = xstrdup(vms), *rest = copy, *vm;
	struct agent_says s;

	json_set_str(q, "host", host);
	json_set_u64(q, "jobs", jobs);
	json_object_set_new(q, "vms", list);
	while ((vm = strsep(&rest, " ")) != NULL) {
		size_t n = strlen(vm);
		bool runs = n > 0 && vm[n - 1] == '!';

		if (runs)
			vm[n - 1] = 0;
		if (n > 0)
			json_array_append_new(list,
			    json_pack("{s:s, s:s}", "vm", vm, "state",
				runs ? "running" : "off"));
	}
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
	json_decref(q);
	free(copy);
	return queue_serve(l, &s, &e);
}

static struct queue_lane *
agent(const char *key, unsigned jobs, const char *vms)
{
	struct queue_lane *l = queue_lane_new(d.q, key, "here", true, true);

	assert_int_equal(serve(l, key, jobs, vms), 0);
	return l;
}

/* What is there now. */
static struct queue_told
next(struct queue_lane *l)
{
	struct queue_told t;

	assert_int_equal(
	    queue_next(l, NULL, 0, false, 0, NULL, NULL, &t, &e), 0);
	json_decref(t.options);
	t.options = NULL;
	return t;
}

static struct queue_told
must_do(struct queue_lane *l, uint64_t job)
{
	struct queue_told t = next(l);

	assert_int_equal(t.what, QUEUE_DO);
	assert_int_equal(t.job, job);
	return t;
}

static void
must_not(struct queue_lane *l)
{
	assert_int_equal(next(l).what, QUEUE_NOTHING);
}

static void
start(void *arg)
{
	*(bool *)arg = true;
}

static int
begin(const struct queue_told *t, const char *key)
{
	bool started = false;
	uint64_t job;
	int rc =
	    queue_task_check(d.q, t->task, key, t->kind, t->vm, NULL, &job, &e);

	if (rc == 0)
		rc = queue_task_begin(
		    d.q, t->task, key, job, start, &started, &e);
	assert_int_equal(rc == 0, started);
	return rc;
}

/* Begun, and done, and its process gone. */
static void
do_it(struct queue_lane *l, const char *key, const struct queue_told *t)
{
	assert_int_equal(begin(t, key), 0);
	queue_job_ended(d.q, t->job, JOB_DONE, "web1@T");
	queue_task_ended(l, t->task, true, NULL);
}

static const char *
reason(uint64_t job)
{
	static char text[ERR_TEXT_MAX];
	json_t *list = json_array();

	queue_to_json(d.q, job, list);
	snprintf(text, sizeof(text), "%s",
	    json_array_size(list) == 0 ? ""
				       : json_string_value(json_object_get(
					     json_array_get(list, 0), "text")));
	json_decref(list);
	return text;
}

static void
must_end(uint64_t job, enum job_state state, const char *text)
{
	assert_int_equal(atomic_load(&d.ended[job]), 1);
	assert_int_equal(atomic_load(&d.state[job]), (int)state);
	if (text != NULL && strstr(d.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", d.text, text);
}

/* --- dispatch */

static void
a_job_goes_to_the_agent_that_has_its_vm_and_keeps_its_number(void **state)
{
	struct queue_lane *a = agent("kvm01", 2, "web1");
	struct queue_lane *b = agent("kvm02", 2, "db1!");
	uint64_t job = add("db1");
	struct queue_told t;

	(void)state;
	must_not(a);
	t = must_do(b, job);
	assert_string_equal(t.vm, "db1");
	must_not(b);
	assert_int_equal(begin(&t, "kvm01"), ERR_NOENT);
	assert_int_equal(begin(&t, "kvm02"), 0);
	assert_int_equal(begin(&t, "kvm02"), ERR_INVAL);
	queue_job_ended(d.q, job, JOB_DONE, "db1@T");
	must_end(job, JOB_DONE, "db1@T");
	queue_task_ended(b, t.task, true, NULL);
	assert_int_equal(begin(&t, "kvm02"), ERR_NOENT);
	assert_int_equal(atomic_load(&d.noted), 0);
	queue_lane_end(a);
	queue_lane_end(b);
}

static void
the_oldest_goes_first_and_one_that_cannot_run_keeps_up_nobody(void **state)
{
	uint64_t nobody = add("nowhere"), away, first, second, third;
	struct queue_lane *a = agent("kvm01", 1, "a b c");
	struct queue_told t;

	(void)state;
	away = add_of(JOB_BACKUP, "a", "kvm09", NULL, 0);
	first = add("b");
	second = add("c");
	third = add("a");
	t = must_do(a, first);
	must_not(a);
	assert_string_equal(reason(nobody), "no connected agent has nowhere");
	assert_string_equal(reason(away), "kvm09 is not connected");
	assert_string_equal(
	    reason(second), "waits for a place on kvm01 (1 of 1)");
	do_it(a, "kvm01", &t);
	t = must_do(a, second);
	do_it(a, "kvm01", &t);
	t = must_do(a, third);
	do_it(a, "kvm01", &t);
	must_not(a);
	queue_lane_end(a);
}

static void
one_vm_has_one_job_at_a_time_and_others_pass(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "web1 web2");
	uint64_t one = add("web1"), two = add("web1"), other = add("web2");
	struct queue_told t, u;

	(void)state;
	/* All that can run goes out at once. */
	t = must_do(a, one);
	u = must_do(a, other);
	must_not(a);
	assert_string_equal(reason(two), "waits for job 1");
	assert_int_equal(begin(&t, "kvm01"), 0);
	queue_job_ended(d.q, one, JOB_DONE, "");
	/* Its process is still there. */
	must_not(a);
	assert_int_equal(begin(&t, "kvm01"), ERR_CLOSED);
	queue_task_ended(a, t.task, true, NULL);
	t = must_do(a, two);
	do_it(a, "kvm01", &t);
	do_it(a, "kvm01", &u);
	queue_lane_end(a);
}

static void
restores_go_first_and_hold_the_vm_that_they_read(void **state)
{
	struct queue_lane *a = agent("kvm01", 1, "web1 db1 x");
	uint64_t held = add("x"), slow = add("web1"), back, next_one;
	struct queue_told t = must_do(a, held);
	uint64_t job;

	(void)state;
	back = add_of(JOB_RESTORE, "new1", "kvm01", "web1@latest", 0);
	next_one = add_of(JOB_RESTORE, "new2", "kvm01", "web1@latest", 0);
	do_it(a, "kvm01", &t);
	t = must_do(a, back);
	assert_int_equal(queue_task_check(d.q, t.task, "kvm01", JOB_BACKUP,
			     "new1", NULL, &job, &e),
	    ERR_DENIED);
	assert_int_equal(queue_task_check(d.q, t.task, "kvm01", JOB_RESTORE,
			     "db1", "web1", &job, &e),
	    ERR_DENIED);
	assert_int_equal(queue_task_check(d.q, t.task, "kvm01", JOB_RESTORE,
			     "new1", "web1", &job, &e),
	    0);
	assert_int_equal(job, back);
	assert_string_equal(reason(next_one), "waits for job 3");
	assert_string_equal(reason(slow), "waits for job 3");
	queue_task_ended(a, t.task, false, "the disk is not there");
	must_end(back, JOB_FAILED, "the disk is not there");
	t = must_do(a, next_one);
	queue_task_ended(a, t.task, false, NULL);
	must_do(a, slow);
	queue_lane_end(a);
}

static void
a_second_restore_onto_a_vm_is_refused_and_says_who(void **state)
{
	struct queue_lane *a = agent("kvm01", 1, "web1");
	uint64_t first = add_of(JOB_RESTORE, "web1", "kvm01", "web1@latest", 0);
	json_t *options = json_pack("{s:s}", "backup", "web1@-1");
	const struct queue_request r = { .kind = JOB_RESTORE,
		.vm = "web1",
		.agent = "kvm02",
		.options = options };
	struct queue_told t;
	uint64_t job;

	(void)state;
	assert_int_equal(queue_add(d.q, &r, &job, &e), ERR_BUSY);
	assert_non_null(strstr(e.text, "on kvm01"));
	t = must_do(a, first);
	do_it(a, "kvm01", &t);
	assert_int_equal(queue_add(d.q, &r, &job, &e), 0);
	assert_int_equal(queue_cancel(d.q, job, "test", &e), 0);
	json_decref(options);
	queue_lane_end(a);
}

static void
no_more_run_than_may_over_all_hosts(void **state)
{
	struct queue_lane *l[3] = { agent("k1", 4, "a b c d"),
		agent("k2", 4, "e f g h"), agent("k3", 4, "i") };
	const char *vms[] = { "a", "b", "c", "e", "f", "i" };
	struct queue_told t[6];
	uint64_t job[6];

	(void)state;
	for (int i = 0; i < 6; i++)
		job[i] = add(vms[i]);
	for (int i = 0; i < 3; i++)
		t[i] = must_do(l[0], job[i]);
	t[3] = must_do(l[1], job[3]);
	must_not(l[1]);
	must_not(l[2]);
	assert_string_equal(
	    reason(job[4]), "waits for a place: 4 of 4 jobs run");
	queue_jobs(d.q, 5);
	t[4] = must_do(l[1], job[4]);
	must_not(l[2]);
	do_it(l[0], "k1", &t[0]);
	t[5] = must_do(l[2], job[5]);
	for (int i = 1; i < 6; i++)
		do_it(i < 3     ? l[0]
			: i < 5 ? l[1]
				: l[2],
		    i < 3       ? "k1"
			: i < 5 ? "k2"
				: "k3",
		    &t[i]);
	for (int i = 0; i < 6; i++)
		must_end(job[i], JOB_DONE, NULL);
	for (int i = 0; i < 3; i++)
		queue_lane_end(l[i]);
}

static void
a_vm_that_somebody_backs_up_by_hand_is_waited_for(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "by-hand");
	uint64_t job;

	(void)state;
	atomic_store(&d.busy, 77);
	job = add("by-hand");
	must_not(a);
	assert_string_equal(reason(job), "waits for job 77");
	atomic_store(&d.busy, 0);
	queue_job_ended(d.q, 77, JOB_DONE, "");
	must_do(a, job);
	queue_lane_end(a);
}

/* --- loss */

static void
a_lost_agent_s_tasks_wait_again_in_their_old_place(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a b");
	uint64_t one = add("a"), two = add("b"), three;
	struct queue_told t = must_do(a, one), u;

	(void)state;
	/* It was never told of the second. */
	three = add_of(JOB_BACKUP, "a", "kvm02", NULL, 0);
	queue_lane_end(a);
	assert_string_equal(reason(two), "no connected agent has b");
	assert_string_equal(reason(one), "handed to kvm01");
	/* It comes back, and knows nothing of the first either. */
	a = queue_lane_new(d.q, "kvm01", "here", true, true);
	{
		struct agent_says s;
		json_t *q = json_pack("{s:s, s:i, s:[{s:s}, {s:s}], s:[]}",
		    "host", "kvm01", "jobs", 1, "vms", "vm", "a", "vm", "b",
		    "running");

		assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
		json_decref(q);
		assert_int_equal(queue_serve(a, &s, &e), 0);
	}
	u = must_do(a, one);
	assert_memory_not_equal(t.task, u.task, TASK_LEN);
	assert_int_equal(begin(&t, "kvm01"), ERR_NOENT);
	do_it(a, "kvm01", &u);
	must_end(one, JOB_DONE, NULL);
	must_do(a, two);
	assert_string_equal(reason(three), "kvm02 is not connected");
	queue_lane_end(a);
}

static void
an_agent_that_comes_back_with_its_task_goes_on(void **state)
{
	struct queue_lane *a = agent("kvm01", 1, "a");
	uint64_t job = add("a");
	struct queue_told t = must_do(a, job), x;

	(void)state;
	queue_lane_end(a);
	a = agent("kvm01", 1, "a");
	assert_int_equal(
	    queue_next(a, &t.task, 1, true, 0, NULL, NULL, &x, &e), 0);
	assert_int_equal(x.what, QUEUE_NOTHING);
	do_it(a, "kvm01", &t);
	must_end(job, JOB_DONE, NULL);
	queue_lane_end(a);
}

static void
after_three_times_it_fails(void **state)
{
	struct queue_lane *a = agent("kvm01", 1, "a");
	uint64_t job = add("a");
	struct queue_told t;

	(void)state;
	/* An agent that takes it, and then has never heard of it. */
	for (int i = 0; i < QUEUE_TRIES_MAX; i++) {
		assert_int_equal(atomic_load(&d.ended[job]), 0);
		assert_int_equal(
		    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
		assert_int_equal(t.what, QUEUE_DO);
		json_decref(t.options);
	}
	assert_int_equal(
	    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_NOTHING);
	must_end(job, JOB_FAILED, "3 times");
	assert_int_equal(atomic_load(&d.noted), 1);
	queue_lane_end(a);
}

/* Until the agent is given up. */
static void
lose(struct queue_lane *l)
{
	uint64_t until = now_ms() + 10000;
	unsigned before = atomic_load(&d.seen);

	queue_lane_end(l);
	while (atomic_load(&d.seen) == before && now_ms() < until)
		queue_tick(d.q);
	assert_int_equal(atomic_load(&d.seen), before + 1);
}

static void
what_a_lost_agent_has_not_begun_goes_to_another(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a!"), *b;
	uint64_t job = add("a");
	struct queue_told t = must_do(a, job), u, x;

	(void)state;
	b = agent("kvm02", 4, "a");
	must_not(b);
	lose(a);
	u = must_do(b, job);
	/* The first comes back, and its process tries. */
	a = queue_lane_new(d.q, "kvm01", "here", true, true);
	assert_int_equal(serve(a, "kvm01", 4, "a"), 0);
	assert_int_equal(atomic_load(&d.seen), 101);
	assert_int_equal(
	    queue_next(a, &t.task, 1, true, 0, NULL, NULL, &x, &e), 0);
	assert_int_equal(x.what, QUEUE_STOP);
	assert_memory_equal(x.task, t.task, TASK_LEN);
	assert_int_equal(begin(&t, "kvm01"), ERR_NOENT);
	do_it(b, "kvm02", &u);
	must_end(job, JOB_DONE, NULL);
	queue_lane_end(a);
	queue_lane_end(b);
}

static void
an_agent_that_comes_back_late_takes_its_task_up_again(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a");
	uint64_t job = add("a");
	struct queue_told t = must_do(a, job);
	struct agent_says s;
	json_t *q;
	char text[2 * TASK_LEN + 1];

	(void)state;
	lose(a);
	assert_string_equal(reason(job), "no connected agent has a");
	assert_int_equal(begin(&t, "kvm01"), ERR_NOENT);
	q = json_pack("{s:s, s:[{s:s}], s:[s]}", "host", "kvm01", "vms", "vm",
	    "a", "running", hex(t.task, TASK_LEN, text));
	assert_int_equal(agent_says_parse(q, NULL, NULL, &s, &e), 0);
	json_decref(q);
	a = queue_lane_new(d.q, "kvm01", "here", true, true);
	assert_int_equal(queue_serve(a, &s, &e), 0);
	must_not(a);
	do_it(a, "kvm01", &t);
	must_end(job, JOB_DONE, NULL);
	queue_lane_end(a);
}

static void
what_leaves_on_a_lost_host_holds_up_no_other_and_is_remembered(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a!"), *b;
	uint64_t job = add("a"), after;
	struct queue_told t = must_do(a, job), u, x;

	(void)state;
	assert_int_equal(begin(&t, "kvm01"), 0);
	queue_job_ended(d.q, job, JOB_FAILED, "its lanes were lost");
	after = add("a");
	b = agent("kvm02", 4, "a");
	must_not(b);
	lose(a);
	u = must_do(b, after);
	do_it(b, "kvm02", &u);
	/* It is back, and its process is still at the VM. */
	a = agent("kvm01", 4, "a!");
	after = add("a");
	assert_int_equal(
	    queue_next(a, &t.task, 1, true, 0, NULL, NULL, &x, &e), 0);
	assert_int_equal(x.what, QUEUE_NOTHING);
	must_not(b);
	queue_task_ended(a, t.task, false, NULL);
	must_do(a, after);
	queue_lane_end(a);
	queue_lane_end(b);
}

static void
what_has_begun_outlives_the_control_lane(void **state)
{
	struct queue_lane *a = agent("kvm01", 1, "a");
	uint64_t job = add("a");
	struct queue_told t = must_do(a, job);

	(void)state;
	assert_int_equal(begin(&t, "kvm01"), 0);
	queue_lane_end(a);
	queue_tick(d.q);
	assert_int_equal(atomic_load(&d.ended[job]), 0);
	queue_job_ended(d.q, job, JOB_FAILED, "its lane was lost");
	must_end(job, JOB_FAILED, "its lane was lost");
	a = agent("kvm01", 1, "a");
	add("a");
	/* Nobody has said that the process is gone. */
	must_not(a);
	assert_int_equal(
	    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_DO);
	json_decref(t.options);
	queue_lane_end(a);
}

static void
the_newer_lane_of_a_key_takes_over(void **state)
{
	struct queue_lane *a = agent("kvm01", 1, "a"), *b;
	uint64_t job = add("a");
	struct queue_told t;

	(void)state;
	b = queue_lane_new(d.q, "kvm01", "there", true, true);
	assert_false(queue_lane_replaced(a, &e));
	assert_int_equal(serve(b, "other", 1, "a"), 0);
	assert_true(queue_lane_replaced(a, &e));
	assert_int_equal(
	    queue_next(a, NULL, 0, false, 0, NULL, NULL, &t, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "other, from there"));
	assert_int_equal(serve(a, "kvm01", 1, "a"), ERR_CLOSED);
	/* Its end is none of the other's. */
	queue_lane_end(a);
	t = must_do(b, job);
	do_it(b, "kvm01", &t);
	queue_lane_end(b);
}

/* --- ends */

static void
one_that_waits_can_be_cancelled(void **state)
{
	uint64_t job = add("a"), other = add("a");

	(void)state;
	assert_int_equal(queue_cancel(d.q, job, "uid 0", &e), 0);
	must_end(job, JOB_CANCELLED, "cancelled by uid 0");
	assert_string_equal(reason(job), "");
	assert_int_equal(atomic_load(&d.ended[other]), 0);
	assert_int_equal(queue_cancel(d.q, 999, "uid 0", &e), ERR_NOENT);
}

static void
one_that_was_handed_over_is_cancelled_and_its_process_told(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a");
	uint64_t job = add("a"), after = add("a");
	struct queue_told t = must_do(a, job), x;

	(void)state;
	assert_int_equal(queue_cancel(d.q, job, "uid 0", &e), 0);
	must_end(job, JOB_CANCELLED, "uid 0");
	assert_int_equal(begin(&t, "kvm01"), ERR_CLOSED);
	x = next(a);
	assert_int_equal(x.what, QUEUE_STOP);
	assert_memory_equal(x.task, t.task, TASK_LEN);
	must_not(a);
	queue_task_ended(a, t.task, false, "killed");
	assert_int_equal(atomic_load(&d.ended[job]), 1);
	must_do(a, after);
	/* One that the agent has not heard of yet. */
	queue_cancel(d.q, after, "uid 0", &e);
	queue_lane_end(a);
}

static void
one_that_runs_is_cancelled_and_its_process_told(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a");
	uint64_t job = add("a");
	struct queue_told t = must_do(a, job), x;

	(void)state;
	assert_int_equal(begin(&t, "kvm01"), 0);
	assert_int_equal(queue_cancel(d.q, job, "uid 0", &e), 0);
	assert_int_equal(atomic_load(&d.cancels), 1);
	must_end(job, JOB_CANCELLED, NULL);
	/* Also by a lane that comes after the one that was told. */
	assert_int_equal(next(a).what, QUEUE_STOP);
	queue_lane_end(a);
	a = agent("kvm01", 4, "a");
	x = next(a);
	assert_int_equal(x.what, QUEUE_STOP);
	assert_memory_equal(x.task, t.task, TASK_LEN);
	queue_task_ended(a, t.task, false, NULL);
	must_not(a);
	queue_lane_end(a);
}

static void
one_that_does_not_begin_in_time_fails(void **state)
{
	uint64_t job = add_of(JOB_BACKUP, "a", NULL, NULL, now_ms() + 20),
		 stays = add_of(JOB_BACKUP, "a", NULL, NULL, now_ms() + 60000);
	uint64_t until = now_ms() + 10000;

	(void)state;
	while (atomic_load(&d.ended[job]) == 0 && now_ms() < until)
		queue_tick(d.q);
	must_end(job, JOB_FAILED,
	    "could not begin in time: no connected agent has a");
	assert_int_equal(atomic_load(&d.ended[stays]), 0);
}

static void
a_stop_ends_what_has_not_begun_and_takes_no_more(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a b");
	uint64_t run = add("a"), given = add("b"), waits = add("c"), no;
	struct queue_request r = { .kind = JOB_BACKUP, .vm = "d" };
	struct queue_told t = must_do(a, run), u = must_do(a, given);

	(void)state;
	assert_int_equal(begin(&t, "kvm01"), 0);
	queue_close(d.q, "the daemon is stopping");
	must_end(given, JOB_FAILED, NULL);
	must_end(waits, JOB_FAILED, NULL);
	assert_int_equal(atomic_load(&d.ended[run]), 0);
	assert_int_equal(begin(&u, "kvm01"), ERR_NOENT);
	assert_int_equal(queue_add(d.q, &r, &no, &e), ERR_CLOSED);
	assert_int_equal(
	    queue_next(a, NULL, 0, false, 60000, NULL, NULL, &t, &e),
	    ERR_CLOSED);
	queue_job_ended(d.q, run, JOB_FAILED, "stopping");
	must_end(run, JOB_FAILED, NULL);
	queue_lane_end(a);
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
	assert_int_equal(queue_add(d.q, &r, &job, &e), ERR_LIMIT);
	json_decref(r.options);
	r.options = NULL;
	r.kind = JOB_DELETE;
	assert_int_equal(queue_add(d.q, &r, &job, &e), ERR_INVAL);
	r.kind = JOB_RESTORE;
	assert_int_equal(queue_add(d.q, &r, &job, &e), ERR_INVAL);
	r.kind = JOB_BACKUP;
	for (int i = 0; i < QUEUE_MAX; i++)
		assert_int_equal(queue_add(d.q, &r, &job, &e), 0);
	assert_int_equal(queue_add(d.q, &r, &job, &e), ERR_LIMIT);
	list = json_array();
	assert_int_equal(
	    queue_to_json(d.q, 0, list), QUEUE_MAX - QUEUE_LISTED_MAX);
	assert_int_equal(json_array_size(list), QUEUE_LISTED_MAX);
	json_decref(list);
}

static void
tasks_that_nobody_knows_are_to_end(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a");
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
	job = add("a");
	assert_int_equal(
	    queue_next(a, stray, 2, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_NOTHING);
	assert_string_equal(reason(job),
	    "kvm01 first ends 2 processes of an earlier connection");
	assert_int_equal(
	    queue_next(a, NULL, 0, true, 0, NULL, NULL, &t, &e), 0);
	assert_int_equal(t.what, QUEUE_DO);
	json_decref(t.options);
	queue_lane_end(a);
}

/* --- threads */

static int
gone(void *arg, struct err *x)
{
	(void)arg;
	return err_set(x, ERR_CLOSED, "the peer is gone");
}

static void
a_wait_ends_when_its_peer_is_gone(void **state)
{
	struct queue_lane *a = agent("kvm01", 4, "a");
	struct queue_told t;

	(void)state;
	assert_int_equal(
	    queue_next(a, NULL, 0, false, 60000, gone, NULL, &t, &e),
	    ERR_CLOSED);
	queue_lane_end(a);
}

static void *
waiter(void *arg)
{
	struct queue_told *t = arg;
	struct queue_lane *a = agent("kvm01", 4, "a");

	assert_int_equal(
	    queue_next(a, NULL, 0, false, 60000, NULL, NULL, t, &e), 0);
	json_decref(t->options);
	queue_lane_end(a);
	return NULL;
}

static void
a_wait_ends_at_once_when_there_is_work(void **state)
{
	struct queue_told t;
	unsigned w, r, n = 0;
	pthread_t thread;
	uint64_t began;

	(void)state;
	pthread_create(&thread, NULL, waiter, &t);
	while (n == 0)
		queue_counts(d.q, &w, &r, &n);
	began = now_ms();
	add("a");
	pthread_join(thread, NULL);
	assert_int_equal(t.what, QUEUE_DO);
	/* Not at the next tick by chance: half of one, on a slow machine. */
	assert_true(now_ms() - began < 30000);
}

enum { AGENTS = 6, ROUNDS = 400, ADDERS = 2 };

static atomic_bool no_more;
static atomic_int at_vm[8];

struct worker {
	char key[16];
	unsigned seed;
};

/* Does what it is told, well or not, and now and then loses its lane. */
static void *
work(void *arg)
{
	struct worker *w = arg;
	struct queue_lane *l = agent(w->key, 2, "v0 v1 v2 v3 v4 v5! v6 v7");

	while (!atomic_load(&no_more)) {
		struct queue_told t;
		unsigned dice = (unsigned)rand_r(&w->seed) % 16;
		int vm;

		if (queue_next(l, NULL, 0, true, 20, NULL, NULL, &t, &e) != 0)
			break;
		if (t.what == QUEUE_STOP)
			queue_task_ended(l, t.task, false, "stopped");
		if (t.what != QUEUE_DO)
			continue;
		json_decref(t.options);
		vm = t.vm[1] - '0';
		if (dice == 0) { /* lost before it began */
			queue_lane_end(l);
			l = agent(w->key, 2, "v0 v1 v2 v3 v4 v5 v6 v7!");
			continue;
		}
		if (dice == 1) {
			queue_task_ended(l, t.task, false, "no such disk");
			continue;
		}
		if (begin(&t, w->key) == 0) {
			/* It alone is at that VM. */
			assert_int_equal(atomic_fetch_add(&at_vm[vm], 1), 0);
			atomic_fetch_sub(&at_vm[vm], 1);
			queue_job_ended(
			    d.q, t.job, dice == 2 ? JOB_FAILED : JOB_DONE, "x");
		}
		if (dice == 3) {
			queue_lane_end(l);
			l = agent(w->key, 2, "v0 v1 v2 v3 v4 v5 v6 v7");
		}
		queue_task_ended(l, t.task, true, NULL);
	}
	queue_lane_end(l);
	return NULL;
}

static void *
want(void *arg)
{
	unsigned seed = *(unsigned *)arg;
	char vm[3] = "v0";

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t job;

		vm[1] = (char)('0' + rand_r(&seed) % 8);
		job = add(vm);
		if (rand_r(&seed) % 8 == 0)
			queue_cancel(d.q, job, "somebody", &e);
		if (i % 16 == 0) {
			json_t *list = json_array();
			char page[NAME_PART_MAX + 1];

			queue_to_json(d.q, 0, list);
			json_decref(list);
			json_decref(queue_agents_to_json(d.q, NULL, page));
			queue_tick(d.q);
		}
	}
	return NULL;
}

static void
each_job_ends_once_whatever_agents_and_people_do_at_once(void **state)
{
	unsigned seed = (unsigned)now_ms(), seeds[ADDERS];
	struct worker w[AGENTS] = { { .seed = 0 } };
	pthread_t worker[AGENTS], adder[ADDERS];
	uint64_t until = now_ms() + 120000;
	int n = 0;

	(void)state;
	print_message("seed %u\n", seed);
	log_set_level(LOG_LEVEL_ERROR);
	atomic_store(&no_more, false);
	for (int i = 0; i < AGENTS; i++) {
		snprintf(w[i].key, sizeof(w[i].key), "kvm%02d", i);
		w[i].seed = seed + (unsigned)i;
		pthread_create(&worker[i], NULL, work, &w[i]);
	}
	for (int i = 0; i < ADDERS; i++) {
		seeds[i] = seed + 100 + (unsigned)i;
		pthread_create(&adder[i], NULL, want, &seeds[i]);
	}
	for (int i = 0; i < ADDERS; i++)
		pthread_join(adder[i], NULL);
	while (n < ADDERS * ROUNDS && now_ms() < until) {
		n = 0;
		for (int i = 1; i <= ADDERS * ROUNDS; i++)
			n += atomic_load(&d.ended[i]);
	}
	atomic_store(&no_more, true);
	for (int i = 0; i < AGENTS; i++)
		pthread_join(worker[i], NULL);
	for (int i = 1; i <= ADDERS * ROUNDS; i++)
		assert_int_equal(atomic_load(&d.ended[i]), 1);
	log_set_level(LOG_LEVEL_INFO);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(
		    a_job_goes_to_the_agent_that_has_its_vm_and_keeps_its_number),
		TEST(
		    the_oldest_goes_first_and_one_that_cannot_run_keeps_up_nobody),
		TEST(one_vm_has_one_job_at_a_time_and_others_pass),
		TEST(restores_go_first_and_hold_the_vm_that_they_read),
		TEST(a_second_restore_onto_a_vm_is_refused_and_says_who),
		TEST(no_more_run_than_may_over_all_hosts),
		TEST(a_vm_that_somebody_backs_up_by_hand_is_waited_for),
		TEST(a_lost_agent_s_tasks_wait_again_in_their_old_place),
		TEST(an_agent_that_comes_back_with_its_task_goes_on),
		TEST(after_three_times_it_fails),
		TEST(what_a_lost_agent_has_not_begun_goes_to_another),
		TEST(an_agent_that_comes_back_late_takes_its_task_up_again),
		TEST(
		    what_leaves_on_a_lost_host_holds_up_no_other_and_is_remembered),
		TEST(what_has_begun_outlives_the_control_lane),
		TEST(the_newer_lane_of_a_key_takes_over),
		TEST(one_that_waits_can_be_cancelled),
		TEST(
		    one_that_was_handed_over_is_cancelled_and_its_process_told),
		TEST(one_that_runs_is_cancelled_and_its_process_told),
		TEST(one_that_does_not_begin_in_time_fails),
		TEST(a_stop_ends_what_has_not_begun_and_takes_no_more),
		TEST(the_queue_has_a_limit_and_so_have_options),
		TEST(tasks_that_nobody_knows_are_to_end),
		TEST(a_wait_ends_when_its_peer_is_gone),
		TEST(a_wait_ends_at_once_when_there_is_work),
		TEST(each_job_ends_once_whatever_agents_and_people_do_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
