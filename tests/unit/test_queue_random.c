/* SPDX-License-Identifier: Apache-2.0 */
/* The queue between threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "tests/unit/queue_fixture.h"

static _Thread_local struct err e;

static int
gone(void *arg, struct err *x)
{
	(void)arg;
	return err_set(x, ERR_CLOSED, "the peer is gone");
}

static void
a_wait_ends_when_its_peer_is_gone(void **state)
{
	struct queue_lane *a = agent_new("kvm01", 4, "a");
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
	struct queue_lane *a = agent_new("kvm01", 4, "a");

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
		queue_counts(owner.q, &w, &r, &n);
	began = now_ms();
	job_add("a");
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
	struct queue_lane *l = agent_new(w->key, 2, "v0 v1 v2 v3 v4 v5! v6 v7");

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
			l = agent_new(w->key, 2, "v0 v1 v2 v3 v4 v5 v6 v7!");
			continue;
		}
		if (dice == 1) {
			queue_task_ended(l, t.task, false, "no such disk");
			continue;
		}
		if (task_begin(&t, w->key) == 0) {
			/* It alone is at that VM. */
			assert_int_equal(atomic_fetch_add(&at_vm[vm], 1), 0);
			atomic_fetch_sub(&at_vm[vm], 1);
			queue_job_ended(owner.q, t.job,
			    dice == 2 ? JOB_FAILED : JOB_DONE, "x");
		}
		if (dice == 3) {
			queue_lane_end(l);
			l = agent_new(w->key, 2, "v0 v1 v2 v3 v4 v5 v6 v7");
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
		job = job_add(vm);
		if (rand_r(&seed) % 8 == 0)
			queue_cancel(owner.q, job, "somebody", &e);
		if (i % 16 == 0) {
			json_t *list = json_array();
			char page[NAME_PART_MAX + 1];

			queue_to_json(owner.q, 0, NULL, NULL, list);
			json_decref(list);
			json_decref(queue_agents_to_json(owner.q, NULL, page));
			queue_tick(owner.q);
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
			n += atomic_load(&owner.ended[i]);
	}
	atomic_store(&no_more, true);
	for (int i = 0; i < AGENTS; i++)
		pthread_join(worker[i], NULL);
	for (int i = 1; i <= ADDERS * ROUNDS; i++)
		assert_int_equal(atomic_load(&owner.ended[i]), 1);
	log_set_level(LOG_LEVEL_INFO);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(a_wait_ends_when_its_peer_is_gone),
		QUEUE_TEST(a_wait_ends_at_once_when_there_is_work),
		QUEUE_TEST(
		    each_job_ends_once_whatever_agents_and_people_do_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
