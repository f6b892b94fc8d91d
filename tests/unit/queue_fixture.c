/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/queue_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"

static _Thread_local struct err e;

struct queue_owner owner;

static uint64_t
next_id(void *arg)
{
	(void)arg;
	return atomic_fetch_add(&owner.id, 1) + 1;
}

static void
note(void *arg, const struct queue_end *end)
{
	(void)arg;
	if (end->job >= JOBS_KEPT)
		abort();
	atomic_fetch_add(&owner.noted, 1);
}

static uint64_t
busy(void *arg, const char *vm)
{
	(void)arg;
	return strcmp(vm, "by-hand") == 0 ? atomic_load(&owner.busy) : 0;
}

static void
seen(void *arg, const char *agent, const char *host, bool connected)
{
	(void)arg;
	(void)agent;
	(void)host;
	atomic_fetch_add(&owner.seen, connected ? 100 : 1);
}

/* As the daemon: the job ends, and what it owned is let go of. */
static int
cancel(void *arg, uint64_t job, const char *who, struct err *x)
{
	(void)arg;
	(void)who;
	if (job == 999)
		return err_set(x, ERR_NOENT, "there is no job 999");
	atomic_fetch_add(&owner.cancels, 1);
	queue_job_ended(owner.q, job, JOB_CANCELLED, "cancelled");
	return 0;
}

static void
ended(void *arg, uint64_t job, enum job_state state, const char *text)
{
	(void)arg;
	/* It may call the queue. */
	queue_tick(owner.q);
	pthread_mutex_lock(&owner.mu);
	snprintf(owner.text, sizeof(owner.text), "%s", text);
	pthread_mutex_unlock(&owner.mu);
	atomic_store(&owner.state[job], (int)state);
	atomic_fetch_add(&owner.ended[job], 1);
}

int
queue_fixture_start(void **state)
{
	const struct queue_options o = { .jobs = 4,
		.grace_ms = 50,
		.id = next_id,
		.note = note,
		.busy = busy,
		.seen = seen,
		.cancel = cancel };

	memset(&owner, 0, sizeof(owner));
	pthread_mutex_init(&owner.mu, NULL);
	owner.q = queue_new(&o);
	*state = owner.q;
	return 0;
}

int
queue_fixture_stop(void **state)
{
	queue_free(*state);
	return 0;
}

uint64_t
job_add_of(enum job_kind kind, const char *vm, const char *agent,
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
	assert_int_equal(queue_add(owner.q, &r, &job, &e), 0);
	json_decref(r.options);
	return job;
}

uint64_t
job_add(const char *vm)
{
	return job_add_of(JOB_BACKUP, vm, NULL, NULL, 0);
}

int
agent_serves(
    struct queue_lane *l, const char *host, unsigned jobs, const char *vms)
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

struct queue_lane *
agent_new(const char *key, unsigned jobs, const char *vms)
{
	struct queue_lane *l = queue_lane_new(owner.q, key, "here", true, true);

	assert_int_equal(agent_serves(l, key, jobs, vms), 0);
	return l;
}

struct queue_told
agent_next(struct queue_lane *l)
{
	struct queue_told t;

	assert_int_equal(
	    queue_next(l, NULL, 0, false, 0, NULL, NULL, &t, &e), 0);
	json_decref(t.options);
	t.options = NULL;
	return t;
}

struct queue_told
agent_must_do(struct queue_lane *l, uint64_t job)
{
	struct queue_told t = agent_next(l);

	assert_int_equal(t.what, QUEUE_DO);
	assert_int_equal(t.job, job);
	return t;
}

void
agent_must_not(struct queue_lane *l)
{
	assert_int_equal(agent_next(l).what, QUEUE_NOTHING);
}

static void
start(void *arg)
{
	*(bool *)arg = true;
}

int
task_begin(const struct queue_told *t, const char *key)
{
	bool started = false;
	uint64_t job;
	int rc = queue_task_check(
	    owner.q, t->task, key, t->kind, t->vm, NULL, &job, &e);

	if (rc == 0)
		rc = queue_task_begin(
		    owner.q, t->task, key, job, start, &started, &e);
	assert_int_equal(rc == 0, started);
	return rc;
}

void
task_do(struct queue_lane *l, const char *key, const struct queue_told *t)
{
	assert_int_equal(task_begin(t, key), 0);
	queue_job_ended(owner.q, t->job, JOB_DONE, "web1@T");
	queue_task_ended(l, t->task, true, NULL);
}

const char *
job_reason(uint64_t job)
{
	static char text[ERR_TEXT_MAX];
	json_t *list = json_array();

	queue_to_json(owner.q, job, NULL, NULL, list);
	snprintf(text, sizeof(text), "%s",
	    json_array_size(list) == 0 ? ""
				       : json_string_value(json_object_get(
					     json_array_get(list, 0), "text")));
	json_decref(list);
	return text;
}

void
job_must_end(uint64_t job, enum job_state state, const char *text)
{
	assert_int_equal(atomic_load(&owner.ended[job]), 1);
	assert_int_equal(atomic_load(&owner.state[job]), (int)state);
	if (text != NULL && strstr(owner.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", owner.text, text);
}
