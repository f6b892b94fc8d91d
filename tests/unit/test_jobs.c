/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/serve/jobs.h"

static atomic_int nlet_go;
static struct err e;

static void
let_go(void *arg, struct job *j)
{
	(void)arg;
	(void)j;
	atomic_fetch_add(&nlet_go, 1);
}

static struct job *
started(struct jobs *a, const char *vm)
{
	struct job *j = job_new(a, JOB_BACKUP, vm, "kvm01");

	j->lanes_max = 3;
	job_start(j);
	return j;
}

static int
setup(void **state)
{
	atomic_store(&nlet_go, 0);
	*state = jobs_new(let_go, NULL);
	return 0;
}

static int
teardown(void **state)
{
	jobs_free(*state);
	return 0;
}

static void
a_token_lets_lanes_of_the_same_key_in(void **state)
{
	struct jobs *a = *state;
	struct job *j = started(a, "web1"), *x, *other = started(a, "web2");
	uint8_t wrong[JOB_TOKEN_LEN];

	assert_true(j->face.id != other->face.id);
	assert_memory_not_equal(j->token, other->token, JOB_TOKEN_LEN);
	memcpy(wrong, j->token, sizeof(wrong));
	wrong[15] ^= 1;
	assert_int_equal(job_attach(a, wrong, "kvm01", &x, &e), ERR_NOENT);
	assert_int_equal(job_attach(a, j->token, "kvm02", &x, &e), ERR_NOENT);
	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), 0);
	assert_ptr_equal(x, j);
	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), 0);
	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), ERR_LIMIT);
	job_detach(j);
	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), 0);
	job_end(j, JOB_DONE, 0, "web1@x");
	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), ERR_NOENT);
	for (int i = 0; i < 3; i++)
		job_detach(j);
	job_end(other, JOB_DONE, 0, "");
	job_detach(other);
}

static void
what_it_owns_stays_while_a_call_is_inside(void **state)
{
	struct jobs *a = *state;
	struct job *j = started(a, "web1"), *x;

	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), 0);
	assert_int_equal(job_enter(j, &e), 0);
	assert_int_equal(job_enter(j, &e), 0);
	job_end(j, JOB_FAILED, ERR_CLOSED, "the cable was cut");
	assert_int_equal(atomic_load(&nlet_go), 0);
	assert_int_equal(job_enter(j, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "the cable was cut"));
	assert_int_equal(job_alive(j, &e), ERR_CLOSED);
	/* The control lane goes first. */
	job_leave(j);
	job_detach(j);
	assert_int_equal(atomic_load(&nlet_go), 0);
	job_leave(j);
	assert_int_equal(atomic_load(&nlet_go), 1);
	job_detach(j);
	assert_int_equal(atomic_load(&nlet_go), 1);
}

static void
the_first_end_counts(void **state)
{
	struct jobs *a = *state;
	struct job *j = started(a, "web1");
	json_t *list;

	assert_int_equal(job_ended_ms(j), 0);
	job_end(j, JOB_DONE, 0, "web1@T");
	job_end(j, JOB_FAILED, ERR_SYS, "too late");
	assert_true(job_ended_ms(j) != 0);
	job_detach(j);
	assert_int_equal(atomic_load(&nlet_go), 1);
	list = jobs_to_json(a);
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(list, 0), "text")),
	    "web1@T");
	assert_string_equal(json_string_value(json_object_get(
				json_array_get(list, 0), "state")),
	    "done");
	json_decref(list);
}

static void
one_that_could_not_start_is_never_seen(void **state)
{
	struct jobs *a = *state;
	struct job *j = job_new(a, JOB_RESTORE, "web1", "kvm01"), *x;
	json_t *list;

	assert_int_equal(job_attach(a, j->token, "kvm01", &x, &e), ERR_NOENT);
	job_drop(j);
	assert_int_equal(atomic_load(&nlet_go), 1);
	list = jobs_to_json(a);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
}

static void
running_ones_come_first_then_the_last_hundred(void **state)
{
	const struct job_progress p = { .done = 5, .total = 10 };
	struct jobs *a = *state;
	struct job *j, *r;
	uint64_t last = 0;
	json_t *list, *o;

	for (int i = 0; i < 130; i++) {
		j = started(a, "old");
		last = j->face.id;
		job_end(j, JOB_DONE, 0, "");
		job_detach(j);
	}
	r = started(a, "now");
	job_progress(r, &p);
	list = jobs_to_json(a);
	assert_int_equal(json_array_size(list), 1 + JOBS_ENDED_KEPT);
	o = json_array_get(list, 0);
	assert_string_equal(
	    json_string_value(json_object_get(o, "state")), "running");
	assert_string_equal(json_string_value(json_object_get(o, "vm")), "now");
	assert_int_equal(json_integer_value(json_object_get(o, "done")), 5);
	assert_int_equal(json_integer_value(json_object_get(o, "lanes")), 1);
	for (size_t i = 1; i <= JOBS_ENDED_KEPT; i++)
		assert_int_equal(json_integer_value(json_object_get(
				     json_array_get(list, i), "job")),
		    last - (i - 1));
	json_decref(list);
	assert_int_equal(jobs_running(a), 1);
	job_end(r, JOB_FAILED, ERR_SYS, "x");
	assert_int_equal(jobs_running(a), 0);
	job_detach(r);
}

static uint64_t
number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static void
each_lane_s_bytes_are_told_while_the_job_runs(void **state)
{
	struct jobs *a = *state;
	struct job *j = started(a, "web1");
	int x = traffic_join(&j->traffic), y = traffic_join(&j->traffic);
	json_t *o, *list;

	assert_int_equal(x, 0);
	assert_int_equal(y, 1);
	traffic_count(&j->traffic, x, 10, 1);
	traffic_count(&j->traffic, y, 200, 20);
	traffic_count(&j->traffic, y, 200, 20);
	traffic_count(&j->traffic, -1, 7, 7);
	assert_int_equal(job_phase(j, "reading", &e), 0);
	assert_int_equal(job_phase(j, "no phase", &e), ERR_INVAL);
	assert_int_equal(job_phase(j, "sixteen-letters-", &e), ERR_INVAL);
	assert_int_equal(job_phase(j, "", &e), ERR_INVAL);
	traffic_leave(&j->traffic, x);
	o = jobs_one_to_json(a, j->face.id);
	assert_string_equal(
	    json_string_value(json_object_get(o, "phase")), "reading");
	list = json_object_get(o, "traffic");
	assert_int_equal(json_array_size(list), 1);
	assert_int_equal(number(json_array_get(list, 0), "lane"), 1);
	assert_int_equal(number(json_array_get(list, 0), "in"), 400);
	assert_int_equal(number(json_array_get(list, 0), "out"), 40);
	json_decref(o);
	/* Its number is free again, and its bytes are gone. */
	assert_int_equal(traffic_join(&j->traffic), 0);
	assert_int_equal(atomic_load(&j->traffic.lane[0].in), 0);
	for (int i = 2; i < TRAFFIC_LANES_MAX; i++)
		assert_int_equal(traffic_join(&j->traffic), i);
	assert_int_equal(traffic_join(&j->traffic), -1);
	j->face.started_ms -= 5000;
	job_end(j, JOB_DONE, 0, "web1@T");
	o = jobs_one_to_json(a, j->face.id);
	assert_null(json_object_get(o, "traffic"));
	assert_in_range(number(o, "took_ms"), 5000, 65000);
	json_decref(o);
	job_detach(j);
}

static void
a_job_is_cancelled_once_and_not_when_it_is_about_to_end(void **state)
{
	struct jobs *a = *state;
	struct job *j = started(a, "web1"), *late = started(a, "web2");
	json_t *o;

	assert_int_equal(jobs_cancel(a, 4711, "uid 0", &e), ERR_NOENT);
	assert_int_equal(job_enter(j, &e), 0);
	assert_int_equal(jobs_cancel(a, j->face.id, "uid 0", &e), 0);
	/* What it owns stays while a call is inside. */
	assert_int_equal(atomic_load(&nlet_go), 0);
	job_leave(j);
	assert_int_equal(atomic_load(&nlet_go), 1);
	assert_int_equal(job_settle(j, &e), ERR_CLOSED);
	job_end(j, JOB_DONE, 0, "too late");
	o = jobs_one_to_json(a, j->face.id);
	assert_string_equal(
	    json_string_value(json_object_get(o, "state")), "cancelled");
	assert_string_equal(json_string_value(json_object_get(o, "text")),
	    "cancelled by uid 0");
	json_decref(o);
	assert_int_equal(jobs_cancel(a, j->face.id, "uid 0", &e), ERR_CLOSED);
	job_detach(j);

	assert_int_equal(job_settle(late, &e), 0);
	assert_int_equal(jobs_cancel(a, late->face.id, "uid 0", &e), ERR_BUSY);
	job_end(late, JOB_DONE, 0, "web2@T");
	job_detach(late);
}

static void
queued_ones_stand_between_running_and_ended_ones_and_never_twice(void **state)
{
	struct jobs *a = *state;
	uint64_t first = jobs_id(a), second = jobs_id(a), third = jobs_id(a);
	struct job *j = job_new_as(a, second, JOB_BACKUP, "web1", "kvm01");
	struct queue_end end = { .job = third,
		.kind = JOB_BACKUP,
		.vm = "web1",
		.other = "",
		.host = "",
		.state = JOB_CANCELLED,
		.text = "cancelled by uid 0" };
	json_t *queued =
	    json_pack("[{s:I}, {s:I}, {s:I}]", "job", (json_int_t)first, "job",
		(json_int_t)second, "job", (json_int_t)third);
	const uint64_t order[] = { second, first, third };
	json_t *list;

	assert_int_equal(jobs_busy(a, "web1"), 0);
	job_start(j);
	assert_int_equal(jobs_busy(a, "web1"), second);
	jobs_note(a, &end);
	list = jobs_with_queued(a, queued);
	assert_int_equal(json_array_size(list), 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(json_integer_value(json_object_get(
				     json_array_get(list, i), "job")),
		    order[i]);
	json_decref(list);
	json_decref(queued);
	job_end(j, JOB_DONE, 0, "");
	job_detach(j);
}

static void
silence_ends_a_job_but_not_one_that_works(void **state)
{
	struct jobs *a = *state;
	struct job *quiet = started(a, "quiet"), *busy = started(a, "busy");
	uint64_t end = now_ms() + 5000;

	assert_int_equal(job_enter(busy, &e), 0);
	jobs_expire(a, 1000);
	assert_int_equal(job_ended_ms(quiet), 0);
	while (job_ended_ms(quiet) == 0 && now_ms() < end)
		jobs_expire(a, 20);
	assert_true(job_ended_ms(quiet) != 0);
	assert_int_equal(job_enter(quiet, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "nothing was heard"));
	assert_int_equal(job_ended_ms(busy), 0);
	jobs_end_all(a, "the daemon is stopping");
	assert_int_equal(job_alive(busy, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "the daemon is stopping"));
	assert_int_equal(atomic_load(&nlet_go), 1);
	job_leave(busy);
	assert_int_equal(atomic_load(&nlet_go), 2);
	job_detach(busy);
	job_detach(quiet);
}

struct lane_of {
	struct job *j;
	pthread_t thread;
	unsigned n;
};

static void *
lane_main(void *arg)
{
	struct lane_of *l = arg;

	while (job_enter(l->j, NULL) == 0) {
		l->n++;
		job_leave(l->j);
	}
	job_detach(l->j);
	return NULL;
}

static void
lanes_let_go_once_however_the_end_comes(void **state)
{
	struct jobs *a = *state;
	struct lane_of l[4];

	for (int round = 0; round < 30; round++) {
		struct job *j = job_new(a, JOB_BACKUP, "web1", "kvm01"), *x;

		j->lanes_max = 8;
		job_start(j);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(
			    job_attach(a, j->token, "kvm01", &x, &e), 0);
			l[i] = (struct lane_of){ .j = j };
			assert_int_equal(pthread_create(&l[i].thread, NULL,
					     lane_main, &l[i]),
			    0);
		}
		if (round % 2 == 0)
			jobs_end_all(a, "all");
		else
			job_end(j, JOB_FAILED, ERR_CLOSED, "one");
		job_detach(j);
		for (int i = 0; i < 4; i++)
			pthread_join(l[i].thread, NULL);
		assert_int_equal(atomic_load(&nlet_go), round + 1);
	}
}

static void
must_be(struct jobs *a, uint64_t id, const char *state, const char *text)
{
	json_t *o = jobs_one_to_json(a, id);

	assert_string_equal(
	    json_string_value(json_object_get(o, "state")), state);
	assert_non_null(
	    strstr(json_string_value(json_object_get(o, "text")), text));
	json_decref(o);
}

static void *
end_late(void *arg)
{
	struct job *j = arg;

	job_end(j, JOB_DONE, 0, "vda replaced");
	return NULL;
}

static void
a_stop_leaves_what_is_settled_to_end_as_what_it_is(void **state)
{
	struct jobs *a = *state;
	struct job *r = job_new(a, JOB_RESTORE, "web1", "kvm01");
	struct job *c = started(a, "web2"), *other = started(a, "web3");
	uint64_t id[3] = { r->face.id, c->face.id, other->face.id };
	pthread_t t;

	job_start(r);
	assert_false(job_settled(r));
	assert_int_equal(job_settle(r, &e), 0);
	assert_true(job_settled(r));
	/* A commit is under way. */
	assert_int_equal(job_enter(c, &e), 0);
	assert_int_equal(job_settle(c, &e), 0);
	jobs_end_all(a, "the daemon is stopping");
	must_be(a, id[2], "failed", "the daemon is stopping");
	must_be(a, id[0], "running", "");
	must_be(a, id[1], "running", "");
	assert_false(jobs_settled_wait(a, now_ms() + 20));
	job_end(c, JOB_DONE, 0, "web2@T");
	job_leave(c);
	assert_int_equal(pthread_create(&t, NULL, end_late, r), 0);
	assert_true(jobs_settled_wait(a, now_ms() + 60000));
	pthread_join(t, NULL);
	must_be(a, id[0], "done", "vda replaced");
	must_be(a, id[1], "done", "web2@T");
	assert_false(job_settled(r));
	assert_int_equal(atomic_load(&nlet_go), 3);
	job_detach(r);
	job_detach(c);
	job_detach(other);
}

static void
nobody_says_how_a_settled_restore_ended_whose_host_is_lost(void **state)
{
	struct jobs *a = *state;
	struct job *r = job_new(a, JOB_RESTORE, "web1", "kvm01");
	struct job *plain = job_new(a, JOB_RESTORE, "web2", "kvm01");
	struct job *told = job_new(a, JOB_RESTORE, "web3", "kvm01");

	job_start(r);
	job_start(plain);
	job_start(told);
	assert_int_equal(job_settle(r, &e), 0);
	assert_int_equal(job_settle(told, &e), 0);
	job_lost(r, ERR_CLOSED, "kvm01 hung up");
	must_be(a, r->face.id, "failed", "did not say how that ended");
	must_be(a, r->face.id, "failed", "kvm01 hung up");
	job_lost(plain, ERR_CLOSED, "kvm01 hung up");
	must_be(a, plain->face.id, "failed", "kvm01 hung up");
	/* Its host has said. */
	job_end(told, JOB_FAILED, ERR_CLOSED, "no space");
	job_lost(told, ERR_CLOSED, "kvm01 hung up");
	must_be(a, told->face.id, "failed", "no space");
	job_detach(r);
	job_detach(plain);
	job_detach(told);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_token_lets_lanes_of_the_same_key_in),
		T(what_it_owns_stays_while_a_call_is_inside),
		T(the_first_end_counts),
		T(one_that_could_not_start_is_never_seen),
		T(running_ones_come_first_then_the_last_hundred),
		T(each_lane_s_bytes_are_told_while_the_job_runs),
		T(a_job_is_cancelled_once_and_not_when_it_is_about_to_end),
		T(queued_ones_stand_between_running_and_ended_ones_and_never_twice),
		T(silence_ends_a_job_but_not_one_that_works),
		T(lanes_let_go_once_however_the_end_comes),
		T(a_stop_leaves_what_is_settled_to_end_as_what_it_is),
		T(nobody_says_how_a_settled_restore_ended_whose_host_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
