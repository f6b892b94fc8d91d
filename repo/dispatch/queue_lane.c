/* SPDX-License-Identifier: Apache-2.0 */
/* The agents' side of the queue: lanes that serve, and tasks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/dispatch/queue_impl.h"

struct queue_lane *
queue_lane_new(struct queue *q, const char *key, const char *from,
    bool may_backup, bool may_restore)
{
	struct queue_lane *l = xcalloc(1, sizeof(*l));

	l->q = q;
	snprintf(l->key, sizeof(l->key), "%s", key);
	snprintf(l->from, sizeof(l->from), "%s", from);
	l->may_backup = may_backup;
	l->may_restore = may_restore;
	cond_init(&l->work);
	return l;
}

/*
 * Others may have what it has not begun.  What has begun goes on by its own
 * lanes.  What leaves stands in nobody's way any more, but is kept: if the
 * agent comes back it says whether that process is still there.
 */
void
queue_forget_lost(struct queue *q, struct agent *g)
{
	struct entry *e, *next;
	char why[120];

	if (g->given_up)
		return;
	g->given_up = true;
	snprintf(why, sizeof(why), "the connection to %s was lost", g->name);
	for (e = q->out; e != NULL; e = next) {
		next = e->next;
		if (e->agent == g && e->state == ENTRY_GIVEN)
			entry_back(q, e, true, why);
	}
	if (q->o.seen != NULL)
		q->o.seen(q->o.arg, g->name, g->says.host, false);
}

void
queue_lane_end(struct queue_lane *l)
{
	struct queue *q;
	struct entry *e, *next;
	struct agent *g;

	if (l == NULL)
		return;
	q = l->q;
	queue_lock(q);
	g = l->agent;
	if (g != NULL) {
		log_info("agent %s (%s) is not connected any more", g->name,
		    g->says.host);
		l->agent = NULL;
		g->lane = NULL;
		g->lost_ms = now_ms();
		g->lost = (uint64_t)time(NULL);
		q->agents.nconnected--;
		agents_changed(&q->agents);
		agents_trim(&q->agents);
		for (e = q->out; e != NULL; e = next) {
			next = e->next;
			/* It never heard of these. */
			if (e->agent == g && e->state == ENTRY_GIVEN &&
			    !e->told)
				entry_back(q, e, false, "its agent was lost");
		}
		queue_dispatch(q);
	}
	queue_unlock(q);
	pthread_cond_destroy(&l->work);
	free(l);
}

static bool
has_task(uint8_t (*list)[TASK_LEN], unsigned n, const uint8_t *task)
{
	for (unsigned i = 0; i < n; i++)
		if (memcmp(list[i], task, TASK_LEN) == 0)
			return true;
	return false;
}

/* The agent says what it has in hand: what else it should have is gone. */
static void
reconcile(
    struct queue *q, struct agent *g, uint8_t (*running)[TASK_LEN], unsigned n)
{
	struct entry *e, *next;
	char why[120];

	g->nstray = 0;
	for (unsigned i = 0; i < n; i++)
		if (queue_find_task(q, running[i]) == NULL &&
		    !entry_take_up(q, g, running[i]))
			g->nstray++;
	if (g->nstray == 0)
		g->stray_ms = 0;
	else if (g->stray_ms == 0)
		g->stray_ms = now_ms() + QUEUE_STRAY_MS;
	snprintf(why, sizeof(why), "%s does not know of it", g->name);
	for (e = q->out; e != NULL; e = next) {
		next = e->next;
		if (e->agent != g || !e->told || has_task(running, n, e->task))
			continue;
		if (e->state == ENTRY_GIVEN)
			entry_back(q, e, false, why);
		else if (e->state == ENTRY_LEAVING)
			entry_gone(q, e);
		else
			e->gone = true;
	}
}

/* Its lane is ${l} from here on, and no other. */
static void
connect_agent(struct queue_lane *l, struct agent *g, const char *host)
{
	struct queue *q = l->q;
	struct queue_lane *old = g->lane;

	if (old == NULL) {
		q->agents.nconnected++;
		log_info("agent %s (%s, from %s) is connected", g->name, host,
		    l->from);
	} else {
		snprintf(
		    old->by, sizeof(old->by), "%s, from %s", host, l->from);
		old->replaced = true;
		old->agent = NULL;
		pthread_cond_signal(&old->work);
		if (strcmp(g->says.host, host) != 0)
			log_error("agent %s: host %s (from %s) takes over from "
				  "host %s (from %s): do two hosts use one "
				  "key?",
			    g->name, host, l->from, g->says.host, g->from);
		else
			log_info("agent %s (%s): a new connection from %s "
				 "takes over from that from %s",
			    g->name, host, l->from, g->from);
	}
	if (g->given_up && q->o.seen != NULL)
		q->o.seen(q->o.arg, g->name, host, true);
	g->given_up = false;
	g->lane = l;
	g->may_backup = l->may_backup;
	g->may_restore = l->may_restore;
	g->since = (uint64_t)time(NULL);
	snprintf(g->from, sizeof(g->from), "%s", l->from);
	l->agent = g;
	/* What the lane before was answered may not have arrived. */
	for (struct entry *e = q->out; e != NULL; e = e->next)
		if (e->agent == g)
			e->stop_told = false;
}

int
queue_serve(struct queue_lane *l, struct agent_says *s, struct err *e)
{
	struct queue *q = l->q;
	struct agent *g;
	int rc = 0;

	queue_lock(q);
	g = agents_find(&q->agents, l->key);
	if (q->closed)
		rc = err_set(e, ERR_CLOSED, "the daemon is stopping");
	else if (l->replaced)
		rc = err_set(e, ERR_CLOSED,
		    "another connection of key %s serves now (%s)", l->key,
		    l->by);
	else if ((g == NULL || g->lane == NULL) &&
	    q->agents.nconnected >= AGENTS_MAX)
		rc = err_set(e, ERR_LIMIT,
		    "%d agents are connected, and there may not be more",
		    AGENTS_MAX);
	if (rc != 0) {
		queue_unlock(q);
		agent_says_fini(s);
		return rc;
	}
	if (g == NULL)
		g = agents_get(&q->agents, l->key);
	if (g->lane != l)
		connect_agent(l, g, s->host);
	if (s->told_running)
		reconcile(q, g, s->running, s->nrunning);
	agents_says(&q->agents, g, s);
	queue_dispatch(q);
	queue_unlock(q);
	return 0;
}

/* A task that nobody here knows: its process does nothing that counts. */
static bool
take_stray(struct queue_lane *l, uint8_t (*running)[TASK_LEN], unsigned n,
    struct queue_told *out)
{
	for (unsigned i = 0; i < n; i++) {
		if (l->nstray == AGENT_RUNNING_MAX)
			l->nstray = 0; /* told again: that does no harm */
		if (queue_find_task(l->q, running[i]) != NULL ||
		    has_task(l->stray, l->nstray, running[i]))
			continue;
		memcpy(l->stray[l->nstray++], running[i], TASK_LEN);
		out->what = QUEUE_STOP;
		memcpy(out->task, running[i], TASK_LEN);
		return true;
	}
	return false;
}

static bool
take_work(struct queue_lane *l, struct queue_told *out)
{
	struct entry *found = NULL;

	for (struct entry *e = l->q->out; e != NULL; e = e->next) {
		if (e->agent != l->agent)
			continue;
		if (e->stop && !e->stop_told) {
			e->stop_told = true;
			out->what = QUEUE_STOP;
			memcpy(out->task, e->task, TASK_LEN);
			return true;
		}
		/* The newest is the first in that list. */
		if (e->state == ENTRY_GIVEN && !e->told)
			found = e;
	}
	if (found == NULL)
		return false;
	found->told = true;
	found->tries++;
	out->what = QUEUE_DO;
	memcpy(out->task, found->task, TASK_LEN);
	out->job = found->job;
	out->kind = found->kind;
	memcpy(out->vm, found->vm, sizeof(out->vm));
	out->options = found->options != NULL ? json_deep_copy(found->options)
					      : json_object();
	return true;
}

/* The mutex is held, and is let go meanwhile. */
static void
rest(struct queue_lane *l, uint64_t until_ms)
{
	cond_wait_until(&l->work, &l->q->mu, until_ms);
}

static int
still_serves(struct queue_lane *l, struct err *e)
{
	if (l->q->closed)
		return err_set(e, ERR_CLOSED, "the daemon is stopping");
	if (l->replaced)
		return err_set(e, ERR_CLOSED,
		    "another connection of key %s serves now (%s)", l->key,
		    l->by);
	if (l->agent == NULL)
		return err_set(e, ERR_INVAL, "say serve first");
	return 0;
}

bool
queue_lane_replaced(struct queue_lane *l, struct err *e)
{
	bool replaced;

	queue_lock(l->q);
	replaced = still_serves(l, e) == ERR_CLOSED;
	queue_unlock(l->q);
	return replaced;
}

int
queue_next(struct queue_lane *l, uint8_t (*running)[TASK_LEN], unsigned n,
    bool told, unsigned wait_ms, int (*look)(void *arg, struct err *e),
    void *arg, struct queue_told *out, struct err *e)
{
	struct queue *q = l->q;
	uint64_t now = now_ms(), until, tick = now + QUEUE_TICK_MS;
	int rc;

	until =
	    now + (wait_ms < QUEUE_WAIT_MAX_MS ? wait_ms : QUEUE_WAIT_MAX_MS);
	memset(out, 0, sizeof(*out));
	queue_lock(q);
	rc = still_serves(l, e);
	if (rc == 0 && told) {
		reconcile(q, l->agent, running, n);
		queue_dispatch(q);
		if (take_stray(l, running, n, out))
			until = 0;
	}
	while (rc == 0 && out->what == QUEUE_NOTHING && !take_work(l, out)) {
		now = now_ms();
		if (now >= until)
			break;
		if (now < tick) {
			rest(l, tick < until ? tick : until);
		} else {
			tick = now + QUEUE_TICK_MS;
			queue_unlock(q);
			rc = look != NULL ? look(arg, e) : 0;
			queue_lock(q);
		}
		if (rc == 0)
			rc = still_serves(l, e);
	}
	queue_unlock(q);
	return rc;
}

void
queue_task_ended(struct queue_lane *l, const uint8_t task[TASK_LEN], bool ok,
    const char *text)
{
	struct queue *q = l->q;
	struct entry *e;

	if (text == NULL || *text == 0)
		text = ok ? "its process ended without having begun"
			  : "its process failed before it began";
	queue_lock(q);
	e = queue_find_task(q, task);
	if (e != NULL && l->agent != NULL && e->agent == l->agent) {
		if (e->state == ENTRY_GIVEN)
			entry_end(q, e, JOB_FAILED, text);
		else if (e->state == ENTRY_LEAVING)
			entry_gone(q, e);
		else
			e->gone = true;
		queue_dispatch(q);
	}
	queue_unlock(q);
}

/* --- the process that does a task */

static int
check(struct entry *x, const char *key, struct err *e)
{
	if (x == NULL || strcmp(x->agent->name, key) != 0 || !x->told)
		return err_set(e, ERR_NOENT,
		    "key %s has no such task: it was taken back, or its job "
		    "has ended",
		    key);
	if (x->state == ENTRY_LEAVING)
		return err_set(e, ERR_CLOSED, "job %" PRIu64 " has ended%s",
		    x->job, x->stop ? ": it was cancelled" : "");
	if (x->state == ENTRY_BEGUN)
		return err_set(
		    e, ERR_INVAL, "job %" PRIu64 " has begun already", x->job);
	return 0;
}

int
queue_task_check(struct queue *q, const uint8_t task[TASK_LEN], const char *key,
    enum job_kind kind, const char *vm, const char *other, uint64_t *job,
    struct err *e)
{
	struct entry *x;
	int rc;

	if (other == NULL || strcmp(other, vm) == 0)
		other = "";
	queue_lock(q);
	x = queue_find_task(q, task);
	rc = check(x, key, e);
	if (rc == 0 &&
	    (x->kind != kind || strcmp(x->vm, vm) != 0 ||
		strcmp(x->other, other) != 0))
		rc = err_set(e, ERR_DENIED,
		    "the task is a %s of %s, not a %s of %s",
		    job_kind_name(x->kind), x->vm, job_kind_name(kind), vm);
	if (rc == 0)
		*job = x->job;
	queue_unlock(q);
	return rc;
}

int
queue_task_begin(struct queue *q, const uint8_t task[TASK_LEN], const char *key,
    uint64_t job, void (*start)(void *arg), void *arg, struct err *e)
{
	struct entry *x;
	int rc;

	queue_lock(q);
	x = queue_find_task(q, task);
	rc = check(x, key, e);
	if (rc == 0 && x->job != job)
		rc = err_set(e, ERR_DENIED, "the task is of another job");
	if (rc == 0) {
		x->state = ENTRY_BEGUN;
		start(arg);
	}
	queue_unlock(q);
	return rc;
}
