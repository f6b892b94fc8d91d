/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/agents.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/audited.h"
#include "repo/serve/conn.h"
#include "repo/serve/sight.h"

/* --- what the queue asks the daemon */

static uint64_t
new_id(void *arg)
{
	struct serve *srv = arg;

	return jobs_id(srv->jobs);
}

static void
note(void *arg, const struct queue_end *end)
{
	struct serve *srv = arg;

	jobs_note(srv->jobs, end);
}

static uint64_t
busy(void *arg, const char *vm)
{
	struct serve *srv = arg;

	return jobs_busy(srv->jobs, vm);
}

static int
cancel(void *arg, uint64_t job, const char *who, struct err *e)
{
	struct serve *srv = arg;

	return jobs_cancel(srv->jobs, job, who, e);
}

static void
seen(void *arg, const char *agent, const char *host, bool connected)
{
	struct serve *srv = arg;
	json_t *facts;

	if (srv->events == NULL || atomic_load(&srv->stopping))
		return;
	facts = json_object();
	json_set_str(facts, "agent", agent);
	json_set_str(facts, "host", host);
	json_set_str(facts, "outcome", connected ? "back" : "lost");
	json_object_set_new(facts, "text",
	    json_sprintf(connected ? "agent %s (%s) is connected again"
				   : "agent %s (%s) is not connected any more",
		agent, host));
	event_post(srv->events, EVENT_AGENT_LOST, facts);
}

struct queue *
agents_queue(struct serve *srv, unsigned jobs)
{
	const struct queue_options o = { .jobs = jobs,
		.id = new_id,
		.note = note,
		.busy = busy,
		.seen = seen,
		.cancel = cancel,
		.arg = srv };

	return queue_new(&o);
}

/* --- lanes */

int
agents_lane(struct session *s, const char *op, struct err *e)
{
	bool serves = strcmp(op, "serve") == 0;

	if (serves || strcmp(op, "next") == 0 || strcmp(op, "ended") == 0) {
		if (!serves && s->served == NULL)
			return err_set(e, ERR_INVAL, "say serve first");
		return 0;
	}
	if (s->served != NULL)
		return err_set(e, ERR_INVAL,
		    "this lane serves: for %s open another one", op);
	return session_works(s, e);
}

/* An agent's lane is none that works. */
static int
turn_agent(struct session *s, struct err *e)
{
	int rc;

	if (s->job != NULL || s->prepared != NULL)
		return err_set(e, ERR_INVAL, "this lane has a job");
	rc = keyring_lane_use(
	    s->srv->keyring, s->key, s->usage, s->use, LANE_SERVES, e);
	if (rc == 0) {
		s->use = LANE_SERVES;
		rc = conn_serves(s->conn, e);
	}
	if (rc != 0) {
		s->ends = true;
		return rc;
	}
	lane_limit(s->lane, AGENT_FRAME_MAX);
	s->served =
	    queue_lane_new(s->srv->queue, s->key->name, lane_peer(s->lane),
		auth_may(s->key, ROLE_BACKUP), auth_may(s->key, ROLE_RESTORE));
	return 0;
}

int
serve_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct agent_says says;
	int rc;

	(void)a;
	if (s->key == keyset_console())
		return err_set(e, ERR_INVAL, "an agent comes with its key");
	rc = agent_says_parse(q, sight_vm, (void *)(uintptr_t)s->key, &says, e);
	if (rc == 0 && s->served == NULL) {
		rc = turn_agent(s, e);
		if (rc != 0)
			agent_says_fini(&says);
	}
	if (rc != 0)
		return rc;
	rc = queue_serve(s->served, &says, e);
	/* Replaced, or one too many: nothing comes of this lane any more. */
	s->ends = rc != 0;
	return rc;
}

int
next_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	uint8_t(*running)[TASK_LEN];
	struct queue_told t;
	uint64_t wait = 0;
	unsigned n;
	bool told;
	int rc;

	rc = json_opt_u64(q, "wait", &wait, e);
	if (rc == 0)
		rc = agent_running_parse(q, &running, &n, &told, e);
	if (rc != 0)
		return rc;
	if (wait > QUEUE_WAIT_MAX_MS)
		wait = QUEUE_WAIT_MAX_MS;
	rc = queue_next(s->served, running, n, told, (unsigned)wait,
	    session_look, s, &t, e);
	free(running);
	s->ends = rc == ERR_CLOSED;
	if (rc != 0 || t.what == QUEUE_NOTHING)
		return rc;
	if (t.what == QUEUE_STOP) {
		json_set_hex(a, "cancel", t.task, TASK_LEN);
		return 0;
	}
	json_set_hex(a, "task", t.task, TASK_LEN);
	json_set_u64(a, "job", t.job);
	json_set_str(a, "kind", job_kind_name(t.kind));
	json_set_str(a, "vm", t.vm);
	json_object_set_new(a, "options", t.options);
	log_info("job %" PRIu64 ": %s of %s was handed to %s", t.job,
	    job_kind_name(t.kind), t.vm, s->key->name);
	return 0;
}

int
ended_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	uint8_t task[TASK_LEN];
	const char *text = NULL;
	bool ok = false;
	int rc;

	(void)a;
	rc = json_get_hex(q, "task", task, sizeof(task), e);
	if (rc == 0)
		rc = json_get_bool(q, "ok", &ok, e);
	if (rc == 0)
		rc = json_opt_str(q, "text", &text, e);
	if (rc == 0)
		queue_task_ended(s->served, task, ok, text);
	return rc;
}

/* --- the process that does a task */

int
agents_task(struct session *s, const json_t *q, enum job_kind kind,
    const char *vm, const char *other, const char *job_vm, struct job **j,
    struct err *e)
{
	struct jobs *jobs = s->srv->jobs;
	uint8_t task[TASK_LEN];
	uint64_t id;
	int rc;

	if (json_object_get(q, "task") == NULL) {
		*j = job_new(jobs, kind, job_vm, s->key->name);
		return 0;
	}
	rc = json_get_hex(q, "task", task, sizeof(task), e);
	if (rc == 0)
		rc = queue_task_check(
		    s->srv->queue, task, s->key->name, kind, vm, other, &id, e);
	if (rc != 0)
		return rc;
	*j = job_new_as(jobs, id, kind, job_vm, s->key->name);
	(*j)->by_task = true;
	memcpy((*j)->task, task, sizeof(task));
	return 0;
}

static void
start(void *arg)
{
	job_start(arg);
}

int
agents_begin(struct session *s, struct job *j, struct err *e)
{
	if (j->by_task)
		return queue_task_begin(s->srv->queue, j->task, s->key->name,
		    j->face.id, start, j, e);
	job_start(j);
	return 0;
}

/* --- people */

/* Leave of an agent's VMs and tasks what the key sees. */
static void
hide_vms(const struct session *s, json_t *list)
{
	for (size_t i = json_array_size(list); i-- > 0;)
		if (!auth_sees(s->key,
			json_string_value(
			    json_object_get(json_array_get(list, i), "vm"))))
			json_array_remove(list, i);
}

int
agents_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char next[NAME_PART_MAX + 1];
	const char *after = NULL;
	struct keyset *keys;
	json_t *list, *o;
	size_t i;
	int rc = json_opt_str(q, "after", &after, e);

	if (rc != 0)
		return rc;
	list = queue_agents_to_json(s->srv->queue, after, next);
	keys = keyring_get(s->srv->keyring);
	for (i = json_array_size(list); i-- > 0;) {
		o = json_array_get(list, i);
		hide_vms(s, json_object_get(o, "vms"));
		hide_vms(s, json_object_get(o, "running"));
		/* One that will not come again. */
		if (!json_is_true(json_object_get(o, "connected")) &&
		    auth_find_name(keyset_auth(keys),
			json_string_value(json_object_get(o, "agent"))) == NULL)
			json_array_remove(list, i);
	}
	keyset_put(keys);
	json_object_set_new(a, "agents", list);
	if (next[0] != 0)
		json_set_str(a, "next", next);
	return 0;
}

static int
check_host(struct session *s, const char *host, struct err *e)
{
	struct keyset *keys = keyring_get(s->srv->keyring);
	bool there = auth_find_name(keyset_auth(keys), host) != NULL;

	keyset_put(keys);
	if (there)
		return 0;
	return err_set(e, ERR_NOENT,
	    "there is no key named %.70s; see `backstay key list`", host);
}

/* What of a backup is said with the call goes on to the agent as it is. */
static json_t *
backup_options(const json_t *q)
{
	static const char *const names[] = { "full", "ram", "quiesce",
		"bwlimit", "compression", "lanes" };
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *v = json_object_get(q, names[i]);

		if (v != NULL)
			json_object_set(o, names[i], v);
	}
	return o;
}

int
backup_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct queue_request r = { .kind = JOB_BACKUP, .why = "console" };
	bool later = false;
	uint64_t job;
	int rc;

	rc = json_get_str(q, "vm", &r.vm, e);
	if (rc == 0)
		rc = json_opt_str(q, "host", &r.agent, e);
	if (rc == 0)
		rc = json_opt_bool(q, "later", &later, e);
	if (rc == 0 && r.agent != NULL)
		rc = check_host(s, r.agent, e);
	if (rc == 0 && !vm_name_ok(r.vm))
		rc = err_set(
		    e, ERR_INVAL, "\"%.140s\" is no name for a VM", r.vm);
	if (rc == 0 && !auth_sees(s->key, r.vm))
		rc = err_set(e, ERR_DENIED, "key %s may not back up VM %s",
		    s->key->name, r.vm);
	if (rc == 0 && !later)
		rc = queue_takes(s->srv->queue, &r, e);
	if (rc != 0)
		return rc;
	r.options = backup_options(q);
	rc = queue_add(s->srv->queue, &r, &job, e);
	json_decref(r.options);
	if (rc == 0)
		json_set_u64(a, "job", job);
	return rc;
}

/* In the words of jobs_cancel: what may not be seen is as if it were not there.
 */
static int
no_job(uint64_t job, struct err *e)
{
	return err_set(e, ERR_NOENT,
	    "there is no job %" PRIu64 ", or it ended long ago", job);
}

int
cancel_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	uint64_t job;
	char *who;
	int rc;

	rc = json_get_u64(q, "job", &job, e);
	if (rc == 0 && !sight_job(s, job))
		rc = no_job(job, e);
	if (rc != 0)
		return rc;
	who = audited_who(s);
	rc = queue_cancel(s->srv->queue, job, who, e);
	free(who);
	if (rc == 0)
		json_object_set_new(
		    a, "state", jobs_one_to_json(s->srv->jobs, job));
	return rc;
}

int
jobs_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct serve *srv = s->srv;
	json_t *list, *waits = json_array(), *one;
	uint64_t job = 0;
	unsigned more;
	int rc = json_opt_u64(q, "job", &job, e);

	if (rc != 0) {
		json_decref(waits);
		return rc;
	}
	/* Before the others: what begins meanwhile is then in both, and not in
	 * neither. */
	more = queue_to_json(
	    srv->queue, job, sight_vm, (void *)(uintptr_t)s->key, waits);
	if (job == 0) {
		list = jobs_with_queued(srv->jobs, waits);
		sight_jobs(s, list, true);
		json_object_set_new(a, "jobs", list);
		if (more > 0)
			json_set_u64(a, "untold", more);
		json_decref(waits);
		return 0;
	}
	one = jobs_one_to_json(srv->jobs, job);
	if (json_is_null(one) && json_array_size(waits) > 0)
		one = json_incref(json_array_get(waits, 0));
	json_decref(waits);
	list = json_array();
	json_object_set_new(a, "jobs", list);
	if (!json_is_null(one))
		json_array_append_new(list, one);
	sight_jobs(s, list, true);
	return json_array_size(list) > 0 ? 0 : no_job(job, e);
}
