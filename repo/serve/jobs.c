/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/jobs.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/jobs_impl.h"

struct jobs *
jobs_new(void (*let_go)(void *arg, struct job *j), void *arg)
{
	struct jobs *a = xcalloc(1, sizeof(*a));

	a->let_go = let_go;
	a->arg = arg;
	pthread_mutex_init(&a->mu, NULL);
	cond_init(&a->gone);
	return a;
}

void
jobs_number(struct jobs *a, struct numbers *n)
{
	a->numbers = n;
}

void
jobs_pace(struct jobs *a, struct pace *p)
{
	a->pace = p;
}

void
jobs_free(struct jobs *a)
{
	if (a == NULL)
		return;
	pthread_cond_destroy(&a->gone);
	pthread_mutex_destroy(&a->mu);
	free(a);
}

void
jobs_tell(struct jobs *a, struct events *v)
{
	a->events = v;
}

struct job *
job_new_as(struct jobs *a, uint64_t id, enum job_kind kind, const char *vm,
    const char *host)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->all = a;
	j->face.kind = kind;
	snprintf(j->face.vm, sizeof(j->face.vm), "%s", vm);
	snprintf(j->face.host, sizeof(j->face.host), "%s", host);
	j->face.since = (uint64_t)time(NULL);
	j->face.lanes = 1;
	j->face.started_ms = now_ms();
	memcpy(j->face.phase, "preparing", sizeof("preparing"));
	random_bytes(j->token, sizeof(j->token));
	j->refs = 1;
	j->heard_ms = now_ms();
	j->face.id = id;
	/* By address: a key may be called "console", too. */
	if (a->pace != NULL)
		j->pace = pace_join(
		    a->pace, id, host != keyset_console()->name ? host : NULL);
	return j;
}

uint64_t
jobs_id(struct jobs *a)
{
	uint64_t id;

	if (a->numbers != NULL)
		return numbers_next(a->numbers);
	pthread_mutex_lock(&a->mu);
	id = ++a->last_id;
	pthread_mutex_unlock(&a->mu);
	return id;
}

struct job *
job_new(struct jobs *a, enum job_kind kind, const char *vm, const char *host)
{
	return job_new_as(a, jobs_id(a), kind, vm, host);
}

void
job_start(struct job *j)
{
	struct jobs *a = j->all;

	pthread_mutex_lock(&a->mu);
	j->started = true;
	j->heard_ms = now_ms();
	j->face.started_ms = j->heard_ms;
	j->next = a->first;
	a->first = j;
	pthread_mutex_unlock(&a->mu);
}

static void
job_free(struct job *j)
{
	explicit_bzero(&j->domain, sizeof(j->domain));
	plans_free(j->plans);
	pace_leave(j->pace);
	free(j);
}

void
job_drop(struct job *j)
{
	j->all->let_go(j->all->arg, j);
	job_free(j);
}

/*
 * Whether the caller is to let go of what ${j} owns, now that it has left.
 * The registry is locked.
 */
static bool
must_let_go(struct job *j)
{
	if (j->torn || j->inside > 0 || j->face.state == JOB_RUNNING)
		return false;
	j->torn = true;
	return true;
}

int
job_attach(struct jobs *a, const uint8_t token[JOB_TOKEN_LEN], const char *host,
    struct job **out, struct err *e)
{
	struct job *j, *found = NULL;
	int rc = 0;

	pthread_mutex_lock(&a->mu);
	/* To the end and in constant time: a token is a secret. */
	for (j = a->first; j != NULL; j = j->next)
		if (CRYPTO_memcmp(j->token, token, JOB_TOKEN_LEN) == 0)
			found = j;
	j = found;
	if (j == NULL || j->face.state != JOB_RUNNING ||
	    strcmp(j->face.host, host) != 0) {
		rc = err_set(
		    e, ERR_NOENT, "there is no running job with that token");
	} else if (j->face.lanes >= j->lanes_max) {
		rc = err_set(e, ERR_LIMIT,
		    "job %" PRIu64 " has %u lanes, and may not have more",
		    j->face.id, j->face.lanes);
	} else {
		j->face.lanes++;
		j->refs++;
		j->heard_ms = now_ms();
		*out = j;
	}
	pthread_mutex_unlock(&a->mu);
	return rc;
}

void
job_detach(struct job *j)
{
	struct jobs *a = j->all;
	bool last;

	pthread_mutex_lock(&a->mu);
	j->face.lanes--;
	last = --j->refs == 0;
	pthread_mutex_unlock(&a->mu);
	/* It has ended: the control lane is gone. */
	if (last)
		job_free(j);
}

/* The registry is locked. */
static int
look(struct job *j, struct err *e)
{
	if (j->face.state == JOB_RUNNING)
		return 0;
	if (j->face.state == JOB_DONE)
		return err_set(
		    e, ERR_CLOSED, "job %" PRIu64 " has ended", j->face.id);
	return err_set(e, ERR_CLOSED, "job %" PRIu64 " has ended: %.300s",
	    j->face.id, j->face.text);
}

int
job_enter(struct job *j, struct err *e)
{
	int rc;

	pthread_mutex_lock(&j->all->mu);
	rc = look(j, e);
	if (rc == 0) {
		j->inside++;
		j->heard_ms = now_ms();
	}
	pthread_mutex_unlock(&j->all->mu);
	return rc;
}

void
job_leave(struct job *j)
{
	bool mine;

	pthread_mutex_lock(&j->all->mu);
	j->inside--;
	j->heard_ms = now_ms();
	mine = must_let_go(j);
	pthread_mutex_unlock(&j->all->mu);
	/* The lane that leaves still counts, so ${j} is there. */
	if (mine)
		j->all->let_go(j->all->arg, j);
}

int
job_alive(struct job *j, struct err *e)
{
	int rc;

	pthread_mutex_lock(&j->all->mu);
	rc = look(j, e);
	if (rc == 0)
		j->heard_ms = now_ms();
	pthread_mutex_unlock(&j->all->mu);
	return rc;
}

void
job_heard(struct job *j)
{
	pthread_mutex_lock(&j->all->mu);
	j->heard_ms = now_ms();
	pthread_mutex_unlock(&j->all->mu);
}

uint64_t
job_ended_ms(struct job *j)
{
	uint64_t t;

	pthread_mutex_lock(&j->all->mu);
	t = j->face.state == JOB_RUNNING ? 0 : j->ended_ms;
	pthread_mutex_unlock(&j->all->mu);
	return t;
}

void
job_progress(struct job *j, const struct job_progress *p)
{
	pthread_mutex_lock(&j->all->mu);
	j->face.progress = *p;
	pthread_mutex_unlock(&j->all->mu);
}

int
job_phase(struct job *j, const char *phase, struct err *e)
{
	size_t n = strlen(phase);

	if (n == 0 || n > JOB_PHASE_MAX ||
	    strspn(phase, "abcdefghijklmnopqrstuvwxyz-") != n)
		return err_set(e, ERR_INVAL,
		    "a phase is a word of up to %d letters", JOB_PHASE_MAX);
	pthread_mutex_lock(&j->all->mu);
	memcpy(j->face.phase, phase, n + 1);
	pthread_mutex_unlock(&j->all->mu);
	return 0;
}

/* The registry is locked; a post waits for nothing. */
static void
tell(struct jobs *a, const struct job_face *f)
{
	json_t *facts;

	a->counts.n[f->kind][f->state]++;
	if (a->events == NULL)
		return;
	facts = job_face_to_json(f);
	json_set_str(facts, "outcome",
	    json_string_value(json_object_get(facts, "state")));
	json_set_u64(facts, "seconds", (uint64_t)time(NULL) - f->since);
	event_post(a->events,
	    f->state == JOB_DONE ? EVENT_JOB_END : EVENT_JOB_FAILURE, facts);
}

/* The registry is locked, ${j} runs.  True: the caller lets go. */
static bool
end_locked(struct job *j, enum job_state state, int code, const char *text)
{
	struct jobs *a = j->all;
	struct job **at;

	j->face.state = state;
	j->code = code;
	j->ended_ms = now_ms();
	j->face.took_ms = j->ended_ms - j->face.started_ms;
	snprintf(j->face.text, sizeof(j->face.text), "%s", text);
	for (at = &a->first; *at != NULL; at = &(*at)->next)
		if (*at == j) {
			*at = j->next;
			break;
		}
	a->ended[a->nended++ % JOBS_ENDED_KEPT] = j->face;
	log_info("job %" PRIu64 ": %s of %s (%s) %s: %s", j->face.id,
	    job_kind_name(j->face.kind), j->face.vm, j->face.host,
	    job_state_name(state), text);
	tell(a, &j->face);
	pthread_cond_broadcast(&a->gone);
	return must_let_go(j);
}

void
job_end(struct job *j, enum job_state state, int code, const char *text)
{
	struct jobs *a = j->all;
	bool mine = false;

	pthread_mutex_lock(&a->mu);
	if (j->face.state == JOB_RUNNING)
		mine = end_locked(j, state, code, text);
	pthread_mutex_unlock(&a->mu);
	if (mine)
		a->let_go(a->arg, j);
}

/* The registry is locked. */
static bool
lost_locked(struct job *j, int code, const char *text)
{
	char more[ERR_TEXT_MAX];

	if (!j->settled || j->face.kind != JOB_RESTORE)
		return end_locked(j, JOB_FAILED, code, text);
	snprintf(more, sizeof(more),
	    "all of it was sent, and its host was putting it in place, but "
	    "did not say how that ended, look there: %.200s",
	    text);
	return end_locked(j, JOB_FAILED, code, more);
}

void
job_lost(struct job *j, int code, const char *text)
{
	struct jobs *a = j->all;
	bool mine = false;

	pthread_mutex_lock(&a->mu);
	if (j->face.state == JOB_RUNNING)
		mine = lost_locked(j, code, text);
	pthread_mutex_unlock(&a->mu);
	if (mine)
		a->let_go(a->arg, j);
}

int
job_settle(struct job *j, struct err *e)
{
	int rc;

	pthread_mutex_lock(&j->all->mu);
	rc = look(j, e);
	if (rc == 0)
		j->settled = true;
	pthread_mutex_unlock(&j->all->mu);
	return rc;
}

bool
job_settled(struct job *j)
{
	bool yes;

	pthread_mutex_lock(&j->all->mu);
	yes = j->settled && j->face.state == JOB_RUNNING;
	pthread_mutex_unlock(&j->all->mu);
	return yes;
}

int
jobs_cancel(struct jobs *a, uint64_t id, const char *who, struct err *e)
{
	const struct job_face *f;
	char text[ERR_TEXT_MAX];
	bool mine = false, last;
	struct job *j;
	int rc = 0;

	snprintf(text, sizeof(text), "cancelled by %s", who);
	pthread_mutex_lock(&a->mu);
	j = jobs_find_running(a, id);
	f = jobs_find_ended(a, id);
	if (j == NULL && f != NULL)
		rc = err_set(e, ERR_CLOSED,
		    "job %" PRIu64 " has ended already: %s", id,
		    job_state_name(f->state));
	else if (j == NULL)
		rc = err_set(e, ERR_NOENT,
		    "there is no job %" PRIu64 ", or it ended long ago", id);
	else if (j->settled)
		rc = err_set(e, ERR_BUSY,
		    "job %" PRIu64 " cannot be cancelled: what it is for is "
		    "done, it is about to end",
		    id);
	if (rc == 0 && j != NULL) {
		j->refs++;
		mine = end_locked(j, JOB_CANCELLED, ERR_CLOSED, text);
	}
	pthread_mutex_unlock(&a->mu);
	if (rc != 0 || j == NULL)
		return rc;
	if (mine)
		a->let_go(a->arg, j);
	pthread_mutex_lock(&a->mu);
	last = --j->refs == 0;
	pthread_mutex_unlock(&a->mu);
	if (last)
		job_free(j);
	return 0;
}

void
jobs_note(struct jobs *a, const struct queue_end *end)
{
	struct job_face f = { .id = end->job,
		.kind = end->kind,
		.since = end->since,
		.state = end->state };

	snprintf(f.vm, sizeof(f.vm), "%s", end->vm);
	snprintf(f.other, sizeof(f.other), "%s", end->other);
	snprintf(f.host, sizeof(f.host), "%s", end->host);
	snprintf(f.text, sizeof(f.text), "%s", end->text);
	pthread_mutex_lock(&a->mu);
	a->ended[a->nended++ % JOBS_ENDED_KEPT] = f;
	tell(a, &f);
	pthread_mutex_unlock(&a->mu);
}

uint64_t
jobs_busy(struct jobs *a, const char *vm)
{
	uint64_t id = 0;

	pthread_mutex_lock(&a->mu);
	for (const struct job *j = a->first; j != NULL && id == 0; j = j->next)
		if ((j->face.kind == JOB_BACKUP ||
			j->face.kind == JOB_RESTORE) &&
		    strcmp(j->face.vm, vm) == 0)
			id = j->face.id;
	pthread_mutex_unlock(&a->mu);
	return id;
}

/*
 * End the jobs that were silent since before ${before_ms}; one at a time,
 * because letting go must not be done under the lock.
 */
static void
end_silent(struct jobs *a, bool all, uint64_t before_ms, const char *text)
{
	for (;;) {
		struct job *j;
		bool mine, last;

		pthread_mutex_lock(&a->mu);
		for (j = a->first; j != NULL; j = j->next)
			if (all ? !j->settled
				: j->inside == 0 && j->heard_ms < before_ms)
				break;
		if (j == NULL) {
			pthread_mutex_unlock(&a->mu);
			return;
		}
		j->refs++;
		mine = lost_locked(j, all ? ERR_CLOSED : ERR_TIMEOUT, text);
		pthread_mutex_unlock(&a->mu);
		if (mine)
			a->let_go(a->arg, j);
		pthread_mutex_lock(&a->mu);
		last = --j->refs == 0;
		pthread_mutex_unlock(&a->mu);
		if (last)
			job_free(j);
	}
}

void
jobs_expire(struct jobs *a, uint64_t silence_ms)
{
	uint64_t now = now_ms();
	char text[80];

	snprintf(text, sizeof(text),
	    "nothing was heard on any of its lanes for %" PRIu64 " s",
	    silence_ms / 1000);
	if (now > silence_ms)
		end_silent(a, false, now - silence_ms, text);
}

void
jobs_end_all(struct jobs *a, const char *text)
{
	end_silent(a, true, 0, text);
}

bool
jobs_settled_wait(struct jobs *a, uint64_t until_ms)
{
	const struct job *j;
	bool late = false;

	pthread_mutex_lock(&a->mu);
	for (;;) {
		for (j = a->first; j != NULL && !j->settled; j = j->next)
			;
		if (j == NULL || late)
			break;
		late = !cond_wait_until(&a->gone, &a->mu, until_ms);
	}
	pthread_mutex_unlock(&a->mu);
	return j == NULL;
}
