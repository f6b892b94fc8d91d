/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/queue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/dispatch/queue_impl.h"

struct queue *
queue_new(const struct queue_options *o)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	q->o = *o;
	if (q->o.grace_ms == 0)
		q->o.grace_ms = QUEUE_GRACE_MS;
	q->telling_end = &q->telling;
	pthread_mutex_init(&q->mu, NULL);
	return q;
}

static void
entry_free(struct entry *e)
{
	json_decref(e->options);
	free(e);
}

void
queue_free(struct queue *q)
{
	struct entry *e, *next;

	if (q == NULL)
		return;
	for (e = q->waiting; e != NULL; e = next) {
		next = e->next;
		entry_free(e);
	}
	for (e = q->out; e != NULL; e = next) {
		next = e->next;
		entry_free(e);
	}
	agents_fini(&q->agents);
	pthread_mutex_destroy(&q->mu);
	free(q);
}

void
queue_lock(struct queue *q)
{
	pthread_mutex_lock(&q->mu);
}

void
queue_unlock(struct queue *q)
{
	struct telling *t = q->telling, *next;

	q->telling = NULL;
	q->telling_end = &q->telling;
	pthread_mutex_unlock(&q->mu);
	for (; t != NULL; t = next) {
		next = t->next;
		t->ended(t->arg, t->job, t->state, t->text);
		free(t);
	}
}

/* --- entries; the mutex is held */

/* By job: whatever comes back is an old one, and so near the first. */
static void
wait_in(struct queue *q, struct entry *e)
{
	struct entry **at = &q->waiting;

	e->state = ENTRY_WAITING;
	if (q->last != NULL && q->last->job < e->job)
		at = &q->last->next;
	while (*at != NULL && (*at)->job < e->job)
		at = &(*at)->next;
	e->next = *at;
	*at = e;
	if (e->next == NULL)
		q->last = e;
	q->nwaiting++;
}

static void
out_with(struct queue *q, struct entry *e, struct agent *g)
{
	e->state = ENTRY_GIVEN;
	e->agent = g;
	e->last[0] = 0;
	g->ntasks++;
	q->nout++;
	e->next = q->out;
	q->out = e;
}

static void
take_out(struct entry **list, struct entry *e)
{
	while (*list != e)
		list = &(*list)->next;
	*list = e->next;
}

static void
wait_out(struct queue *q, struct entry *e)
{
	take_out(&q->waiting, e);
	q->nwaiting--;
	if (q->last != e)
		return;
	q->last = NULL;
	for (struct entry *x = q->waiting; x != NULL; x = x->next)
		q->last = x;
}

/* It is nobody's task from here on. */
static void
task_out(struct queue *q, struct entry *e)
{
	struct agent *g = e->agent;

	take_out(&q->out, e);
	if (e->state != ENTRY_LEAVING)
		q->nout--;
	e->agent = NULL;
	e->told = false;
	memset(e->task, 0, sizeof(e->task));
	g->ntasks--;
}

void
entry_give(struct queue *q, struct entry *e, struct agent *g)
{
	wait_out(q, e);
	out_with(q, e, g);
	random_bytes(e->task, sizeof(e->task));
	pthread_cond_signal(&g->lane->work);
}

void
entry_tell(
    struct queue *q, struct entry *e, enum job_state state, const char *text)
{
	struct telling *t;

	if (e->ended == NULL)
		return;
	t = xcalloc(1, sizeof(*t));
	t->ended = e->ended;
	t->arg = e->arg;
	t->job = e->job;
	t->state = state;
	snprintf(t->text, sizeof(t->text), "%s", text);
	*q->telling_end = t;
	q->telling_end = &t->next;
	e->ended = NULL;
}

/* In the list of jobs it has ended in the same step as it leaves this one. */
static void
note_end(
    struct queue *q, struct entry *e, enum job_state state, const char *text)
{
	struct queue_end end = { .job = e->job,
		.kind = e->kind,
		.vm = e->vm,
		.other = e->other,
		.host = e->agent != NULL ? e->agent->name : e->named,
		.since = e->since,
		.state = state,
		.text = text };

	log_info("job %" PRIu64 ": %s of %s %s before it began: %s", e->job,
	    job_kind_name(e->kind), e->vm, job_state_name(state), text);
	if (q->o.note != NULL)
		q->o.note(q->o.arg, &end);
	entry_tell(q, e, state, text);
}

void
entry_end(
    struct queue *q, struct entry *e, enum job_state state, const char *text)
{
	note_end(q, e, state, text);
	if (e->state == ENTRY_WAITING)
		wait_out(q, e);
	else
		task_out(q, e);
	entry_free(e);
}

void
entry_back(struct queue *q, struct entry *e, bool lost, const char *why)
{
	char text[ERR_TEXT_MAX], agent[NAME_PART_MAX + 1] = "";
	uint8_t task[TASK_LEN];

	if (q->closed) {
		entry_end(q, e, JOB_FAILED, "the daemon is stopping");
		return;
	}
	if (e->tries >= QUEUE_TRIES_MAX) {
		snprintf(text, sizeof(text),
		    "it was handed to an agent %u times and has never begun; "
		    "the last time: %s",
		    e->tries, why);
		entry_end(q, e, JOB_FAILED, text);
		return;
	}
	log_info("job %" PRIu64 ": %s of %s waits again: %s", e->job,
	    job_kind_name(e->kind), e->vm, why);
	if (lost)
		memcpy(agent, e->agent->name, sizeof(agent));
	memcpy(task, e->task, sizeof(task));
	task_out(q, e);
	memcpy(e->task, task, sizeof(task));
	memcpy(e->last, agent, sizeof(agent));
	wait_in(q, e);
}

bool
entry_take_up(struct queue *q, struct agent *g, const uint8_t task[TASK_LEN])
{
	struct entry *e = q->waiting;

	while (e != NULL &&
	    (strcmp(e->last, g->name) != 0 ||
		memcmp(e->task, task, TASK_LEN) != 0))
		e = e->next;
	if (e == NULL || queue_busy(q, e) != 0)
		return false;
	wait_out(q, e);
	out_with(q, e, g);
	e->told = true;
	return true;
}

void
entry_gone(struct queue *q, struct entry *e)
{
	task_out(q, e);
	entry_free(e);
}

struct entry *
queue_find_task(struct queue *q, const uint8_t task[TASK_LEN])
{
	struct entry *found = NULL;

	/* To the end and each to its end: a task is a secret. */
	for (struct entry *e = q->out; e != NULL; e = e->next) {
		uint8_t differ = 0;

		for (unsigned i = 0; i < TASK_LEN; i++)
			differ |= (uint8_t)(e->task[i] ^ task[i]);
		if (differ == 0)
			found = e;
	}
	return found;
}

static struct entry *
find_job(struct entry *list, uint64_t job)
{
	while (list != NULL && list->job != job)
		list = list->next;
	return list;
}

/* --- who wants something done */

static int
check_request(const struct queue_request *r, char *other, struct err *e)
{
	struct backup_ref ref;
	const char *backup;
	size_t len = 0;
	char *text;
	int rc;

	other[0] = 0;
	if (!vm_name_ok(r->vm))
		return err_set(
		    e, ERR_INVAL, "\"%.140s\" is no name for a VM", r->vm);
	if (r->agent != NULL && !name_part_ok(r->agent))
		return err_set(e, ERR_INVAL,
		    "\"%.70s\" is no name for an agent", r->agent);
	if (r->options != NULL) {
		text = json_dumps(r->options, JSON_COMPACT);
		len = text != NULL ? strlen(text) : SIZE_MAX;
		free(text);
	}
	if (len > QUEUE_OPTIONS_MAX)
		return err_set(e, ERR_LIMIT,
		    "the options of a job have more than %d bytes",
		    QUEUE_OPTIONS_MAX);
	if (r->kind == JOB_BACKUP)
		return 0;
	if (r->kind != JOB_RESTORE)
		return err_set(
		    e, ERR_INVAL, "a %s is not queued", job_kind_name(r->kind));
	if (r->agent == NULL)
		return err_set(
		    e, ERR_INVAL, "a restore goes to an agent that is named");
	rc = json_get_str(r->options, "backup", &backup, e);
	if (rc == 0)
		rc = backup_ref_parse(backup, &ref, e);
	if (rc == 0 && strcmp(ref.vm, r->vm) != 0)
		memcpy(other, ref.vm, sizeof(ref.vm));
	return rc;
}

/* A restore onto the same VM, or NULL. */
static const struct entry *
restoring(const struct entry *list, const struct entry *x)
{
	while (list != NULL &&
	    (list->kind != JOB_RESTORE || list->state == ENTRY_LEAVING ||
		strcmp(list->vm, x->vm) != 0))
		list = list->next;
	return list;
}

/* Two of them are a mistake that is better told than done. */
static int
check_alone(const struct queue *q, const struct entry *x, struct err *e)
{
	const struct entry *has = restoring(q->out, x);
	char since[TIME_TEXT_LEN + 1];

	if (has == NULL)
		has = restoring(q->waiting, x);
	if (has == NULL)
		return 0;
	return err_set(e, ERR_BUSY,
	    "%s is being restored already: job %" PRIu64 " on %s, since %s, %s",
	    has->vm, has->job,
	    has->agent != NULL ? has->agent->name : has->named,
	    time_print(has->since, since),
	    has->state == ENTRY_BEGUN ? "runs" : "is queued");
}

/*
 * The queue is full.  What nobody who is connected could take gives way to what
 * somebody can, so that no host fills it with machines that it tells of and
 * then has no more.
 */
static bool
make_room(struct queue *q, const struct entry *x)
{
	char why[ERR_TEXT_MAX / 2];

	if (queue_nobody(q, x, why, sizeof(why)))
		return false;
	for (struct entry *e = q->waiting; e != NULL; e = e->next) {
		if (e->kind != JOB_BACKUP || e->named[0] != 0 ||
		    !queue_nobody(q, e, why, sizeof(why)))
			continue;
		entry_end(q, e, JOB_FAILED,
		    "the queue is full, and no connected agent has the VM");
		return true;
	}
	return false;
}

int
queue_add(struct queue *q, const struct queue_request *r, uint64_t *job,
    struct err *e)
{
	char other[VM_NAME_MAX + 1];
	struct entry *x;
	int rc = check_request(r, other, e);

	if (rc != 0)
		return rc;
	x = xcalloc(1, sizeof(*x));
	x->kind = r->kind;
	memcpy(x->vm, r->vm, strlen(r->vm) + 1);
	memcpy(x->other, other, sizeof(other));
	snprintf(
	    x->named, sizeof(x->named), "%s", r->agent != NULL ? r->agent : "");
	snprintf(x->why, sizeof(x->why), "%s", r->why != NULL ? r->why : "");
	x->options = json_deep_copy(r->options);
	x->since = (uint64_t)time(NULL);
	x->until_ms = r->until_ms;
	x->ended = r->ended;
	x->arg = r->arg;
	/* One that is not taken costs a number: there are enough. */
	x->job = q->o.id(q->o.arg);
	queue_lock(q);
	if (q->closed)
		rc = err_set(e, ERR_CLOSED, "the daemon is stopping");
	else if (q->nwaiting >= QUEUE_MAX && !make_room(q, x))
		rc = err_set(e, ERR_LIMIT,
		    "%d jobs wait in the queue, and there may not be more",
		    QUEUE_MAX);
	else if (x->kind == JOB_RESTORE)
		rc = check_alone(q, x, e);
	if (rc != 0) {
		queue_unlock(q);
		entry_free(x);
		return rc;
	}
	*job = x->job;
	wait_in(q, x);
	queue_dispatch(q);
	queue_unlock(q);
	return 0;
}

/* It has ended; its process, if there is one, is to end too. */
static void
cancel_given(struct queue *q, struct entry *e, const char *text)
{
	struct agent *g = e->agent;

	if (!e->told) {
		entry_end(q, e, JOB_CANCELLED, text);
		return;
	}
	note_end(q, e, JOB_CANCELLED, text);
	e->state = ENTRY_LEAVING;
	q->nout--;
	e->stop = true;
	if (g->lane != NULL)
		pthread_cond_signal(&g->lane->work);
}

static void
stop_task(struct queue *q, uint64_t job)
{
	struct entry *e = find_job(q->out, job);

	if (e == NULL || e->stop)
		return;
	e->stop = true;
	if (e->agent->lane != NULL)
		pthread_cond_signal(&e->agent->lane->work);
}

int
queue_cancel(struct queue *q, uint64_t job, const char *who, struct err *e)
{
	char text[ERR_TEXT_MAX];
	struct entry *x;
	int rc;

	snprintf(text, sizeof(text), "cancelled by %s", who);
	queue_lock(q);
	x = find_job(q->waiting, job);
	if (x != NULL) {
		entry_end(q, x, JOB_CANCELLED, text);
		queue_unlock(q);
		return 0;
	}
	x = find_job(q->out, job);
	if (x != NULL && x->state == ENTRY_GIVEN) {
		cancel_given(q, x, text);
		queue_dispatch(q);
		queue_unlock(q);
		return 0;
	}
	if (x != NULL && x->state == ENTRY_LEAVING && !x->stop) {
		/* The job has ended, its process has not. */
		stop_task(q, job);
		queue_unlock(q);
		return 0;
	}
	queue_unlock(q);
	rc = q->o.cancel(q->o.arg, job, who, e);
	if (rc != 0)
		return rc;
	queue_lock(q);
	stop_task(q, job);
	queue_unlock(q);
	return 0;
}

void
queue_close(struct queue *q, const char *text)
{
	struct entry *e, *next;

	queue_lock(q);
	q->closed = true;
	while (q->waiting != NULL)
		entry_end(q, q->waiting, JOB_FAILED, text);
	for (e = q->out; e != NULL; e = next) {
		next = e->next;
		if (e->state == ENTRY_GIVEN)
			entry_end(q, e, JOB_FAILED, text);
	}
	for (struct agent *g = q->agents.first; g != NULL; g = g->next)
		if (g->lane != NULL)
			pthread_cond_signal(&g->lane->work);
	queue_unlock(q);
}

void
queue_jobs(struct queue *q, unsigned jobs)
{
	queue_lock(q);
	q->o.jobs = jobs;
	queue_dispatch(q);
	queue_unlock(q);
}

/* --- what becomes of them */

void
queue_job_ended(
    struct queue *q, uint64_t job, enum job_state state, const char *text)
{
	struct entry *e;

	queue_lock(q);
	e = find_job(q->out, job);
	if (e != NULL && e->state == ENTRY_BEGUN) {
		entry_tell(q, e, state, text);
		if (e->gone) {
			entry_gone(q, e);
		} else {
			e->state = ENTRY_LEAVING;
			q->nout--;
		}
	}
	/* One that was not the queue's may have been in the way, too. */
	queue_dispatch(q);
	queue_unlock(q);
}

static void
end_overdue(struct queue *q, uint64_t now)
{
	char text[ERR_TEXT_MAX], why[ERR_TEXT_MAX / 2];
	struct entry *e, *next;

	for (e = q->waiting; e != NULL; e = next) {
		next = e->next;
		if (e->until_ms == 0 || now < e->until_ms)
			continue;
		queue_reason(q, e, why, sizeof(why));
		snprintf(text, sizeof(text), QUEUE_LATE ": %s", why);
		entry_end(q, e, JOB_FAILED, text);
	}
}

void
queue_tick(struct queue *q)
{
	uint64_t now = now_ms();

	queue_lock(q);
	for (struct agent *g = q->agents.first; g != NULL; g = g->next)
		if (g->lane == NULL && now - g->lost_ms >= q->o.grace_ms)
			queue_forget_lost(q, g);
	end_overdue(q, now);
	queue_dispatch(q);
	queue_unlock(q);
}

void
queue_counts(
    struct queue *q, unsigned *waiting, unsigned *running, unsigned *agents)
{
	queue_lock(q);
	*waiting = q->nwaiting;
	*running = q->nout;
	*agents = q->agents.nconnected;
	queue_unlock(q);
}
