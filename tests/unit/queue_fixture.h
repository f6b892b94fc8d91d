/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_fixture: the queue and who owns it, agents that do as they are told,
 * and what must have become of jobs.  All of it may be called by any thread.
 */
#ifndef TESTS_UNIT_QUEUE_FIXTURE_H
#define TESTS_UNIT_QUEUE_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "repo/dispatch/queue.h"

enum { JOBS_KEPT = 4096 };

/* What the daemon would be. */
struct queue_owner {
	struct queue *q;
	_Atomic uint64_t id;
	atomic_uint noted;
	_Atomic uint64_t busy; /* a job of somebody else's at "by-hand" */
	atomic_uint cancels;
	atomic_int ended[JOBS_KEPT]; /* how often */
	atomic_int state[JOBS_KEPT]; /* how at last */
	pthread_mutex_t mu;
	char text[ERR_TEXT_MAX]; /* of the last end; guarded by mu */
	atomic_uint seen;        /* 100 a connection, 1 an agent given up */
};

extern struct queue_owner owner;

/** queue_fixture_start(state), queue_fixture_stop(state): of a case: a queue
 * of 4 jobs, which gives up an agent after 50 ms. */
int queue_fixture_start(void **state);
int queue_fixture_stop(void **state);

#define QUEUE_TEST(f)                                                          \
	cmocka_unit_test_setup_teardown(                                       \
	    f, queue_fixture_start, queue_fixture_stop)

/** job_add(vm): a backup; its number.  job_add_of(): of any kind; a restore is
 * of ${backup}. */
uint64_t job_add(const char *vm);
uint64_t job_add_of(enum job_kind kind, const char *vm, const char *agent,
    const char *backup, uint64_t until_ms);

/** job_reason(job): why it waits; nothing if it does not.  Static. */
const char *job_reason(uint64_t job);

/** job_must_end(job, state, text): it has, once, and said ${text}. */
void job_must_end(uint64_t job, enum job_state state, const char *text);

/** agent_new(key, jobs, vms): one that is connected; "web1 db1!": that runs.
 * agent_serves(l, host, jobs, vms): says that on a lane of its own. */
struct queue_lane *agent_new(const char *key, unsigned jobs, const char *vms);
int agent_serves(
    struct queue_lane *l, const char *host, unsigned jobs, const char *vms);

/** agent_next(l): what there is for it now.  agent_must_do(l, job): that;
 * agent_must_not(l): nothing. */
struct queue_told agent_next(struct queue_lane *l);
struct queue_told agent_must_do(struct queue_lane *l, uint64_t job);
void agent_must_not(struct queue_lane *l);

/** task_begin(t, key): its process asks to.  task_do(l, key, t): begun, and
 * done, and its process gone. */
int task_begin(const struct queue_told *t, const char *key);
void task_do(struct queue_lane *l, const char *key, const struct queue_told *t);

#endif
