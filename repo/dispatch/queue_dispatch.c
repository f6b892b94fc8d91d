/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which job goes to which agent, and why one waits.
 *
 * One pass goes over all that wait, from the oldest on, and passes over what
 * cannot run: so a job that cannot run keeps up nobody, and of those that can
 * the oldest is first.  Restores are before backups: somebody waits for them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/io.h"
#include "repo/dispatch/queue_impl.h"

/* Which agent it would go to; NULL: none that is connected. */
static struct agent *
agent_of(struct queue *q, const struct entry *e)
{
	struct agent *g;

	if (e->named[0] == 0)
		return agents_with(&q->agents, e->vm);
	g = agents_find(&q->agents, e->named);
	return g != NULL && g->lane != NULL ? g : NULL;
}

static bool
may(const struct agent *g, const struct entry *e)
{
	if (e->kind == JOB_RESTORE)
		return g->may_restore;
	return g->may_backup && agent_vm_find(g, e->vm) != NULL;
}

static bool
touches(const struct entry *x, const char *vm)
{
	return strcmp(x->vm, vm) == 0 || strcmp(x->other, vm) == 0;
}

/* What leaves, on a host that is lost, is in no other's way. */
static bool
counts(const struct entry *x)
{
	return x->state != ENTRY_LEAVING || !x->agent->given_up;
}

uint64_t
queue_busy(struct queue *q, const struct entry *e)
{
	uint64_t job = 0;

	for (const struct entry *x = q->out; x != NULL; x = x->next)
		if (counts(x) &&
		    (touches(x, e->vm) ||
			(e->other[0] != 0 && touches(x, e->other))))
			return x->job;
	if (q->o.busy != NULL)
		job = q->o.busy(q->o.arg, e->vm);
	if (job == 0 && q->o.busy != NULL && e->other[0] != 0)
		job = q->o.busy(q->o.arg, e->other);
	return job;
}

static bool
has_place(const struct agent *g)
{
	return g->lane != NULL && g->ntasks < g->says.jobs &&
	    (g->nstray == 0 || now_ms() >= g->stray_ms);
}

static void
dispatch_kind(struct queue *q, enum job_kind kind)
{
	struct entry *e, *next;

	for (e = q->waiting; e != NULL && q->nout < q->o.jobs; e = next) {
		struct agent *g;

		next = e->next;
		if (e->kind != kind)
			continue;
		g = agent_of(q, e);
		if (g != NULL && has_place(g) && may(g, e) &&
		    queue_busy(q, e) == 0)
			entry_give(q, e, g);
	}
}

static bool
any_place(const struct queue *q)
{
	if (q->closed || q->nwaiting == 0 || q->nout >= q->o.jobs)
		return false;
	for (const struct agent *g = q->agents.first; g != NULL; g = g->next)
		if (has_place(g))
			return true;
	return false;
}

void
queue_dispatch(struct queue *q)
{
	if (!any_place(q))
		return;
	dispatch_kind(q, JOB_RESTORE);
	dispatch_kind(q, JOB_BACKUP);
}

bool
queue_nobody(struct queue *q, const struct entry *e, char *out, size_t len)
{
	const struct agent *g = agent_of(q, e);

	if (g == NULL && e->named[0] != 0)
		snprintf(out, len, "%s is not connected", e->named);
	else if (g == NULL)
		snprintf(out, len, "no connected agent has %s", e->vm);
	else if (e->kind == JOB_BACKUP && agent_vm_find(g, e->vm) == NULL)
		snprintf(out, len, "%s does not report %s", g->name, e->vm);
	else if (!may(g, e))
		snprintf(out, len, "the key %s has not the role %s", g->name,
		    job_kind_name(e->kind));
	else
		return false;
	return true;
}

void
queue_reason(struct queue *q, const struct entry *e, char *out, size_t len)
{
	const struct agent *g = agent_of(q, e);
	uint64_t job;

	if (queue_nobody(q, e, out, len))
		return;
	job = queue_busy(q, e);
	if (job != 0)
		snprintf(out, len, "waits for job %" PRIu64, job);
	else if (g->ntasks >= g->says.jobs)
		snprintf(out, len, "waits for a place on %s (%u of %u)",
		    g->name, g->ntasks, g->says.jobs);
	else if (!has_place(g))
		snprintf(out, len,
		    "%s first ends %u processes of an earlier connection",
		    g->name, g->nstray);
	else if (q->nout >= q->o.jobs)
		snprintf(out, len, "waits for a place: %u of %u jobs run",
		    q->nout, q->o.jobs);
	else
		snprintf(out, len, "is next");
}

int
queue_takes(struct queue *q, const struct queue_request *r, struct err *e)
{
	struct entry x = { .kind = r->kind };
	char why[ERR_TEXT_MAX / 2];
	bool none;

	snprintf(x.vm, sizeof(x.vm), "%s", r->vm);
	snprintf(
	    x.named, sizeof(x.named), "%s", r->agent != NULL ? r->agent : "");
	queue_lock(q);
	none = queue_nobody(q, &x, why, sizeof(why));
	queue_unlock(q);
	return none ? err_set(e, ERR_NOENT, "%s; see `backstay agents`", why)
		    : 0;
}
