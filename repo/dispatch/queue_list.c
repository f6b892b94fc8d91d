/* SPDX-License-Identifier: Apache-2.0 */
/* What people and other parts are shown of queue and agents. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "repo/dispatch/queue_impl.h"

/* What an answer may have of agents: it is one frame. */
enum { PAGE_MAX = 512 << 10 };

static json_t *
to_json(struct queue *q, const struct entry *e)
{
	char since[TIME_TEXT_LEN + 1], text[ERR_TEXT_MAX];
	const char *host = e->agent != NULL ? e->agent->name : e->named;
	json_t *o = json_object();

	if (e->state == ENTRY_WAITING)
		queue_reason(q, e, text, sizeof(text));
	else if (!e->told)
		snprintf(text, sizeof(text), "goes to %s", host);
	else
		snprintf(text, sizeof(text), "handed to %s", host);
	json_set_u64(o, "job", e->job);
	json_set_str(o, "kind", job_kind_name(e->kind));
	json_set_str(o, "vm", e->vm);
	if (e->other[0] != 0)
		json_set_str(o, "other", e->other);
	json_set_str(o, "host", host);
	json_set_str(o, "since", time_print(e->since, since));
	json_set_str(o, "state", job_state_name(JOB_QUEUED));
	json_set_str(o, "why", e->why);
	json_set_str(o, "text", text);
	return o;
}

static bool
is_seen(
    const struct entry *e, bool (*sees)(void *arg, const char *vm), void *arg)
{
	return sees == NULL ||
	    (sees(arg, e->vm) && (e->other[0] == 0 || sees(arg, e->other)));
}

unsigned
queue_to_json(struct queue *q, uint64_t job,
    bool (*sees)(void *arg, const char *vm), void *arg, json_t *jobs)
{
	unsigned n = 0, more = 0;

	queue_lock(q);
	/* Handed over, but not begun; there are few. */
	for (const struct entry *e = q->out; e != NULL; e = e->next)
		if (e->state == ENTRY_GIVEN && (job == 0 || e->job == job) &&
		    is_seen(e, sees, arg))
			json_array_append_new(jobs, to_json(q, e));
	for (const struct entry *e = q->waiting; e != NULL; e = e->next) {
		if (!is_seen(e, sees, arg))
			continue;
		if ((job != 0 && e->job != job) || n == QUEUE_LISTED_MAX) {
			more++;
			continue;
		}
		json_array_append_new(jobs, to_json(q, e));
		n++;
	}
	queue_unlock(q);
	return more;
}

static void
add_tasks(struct queue *q, const struct agent *g, json_t *o)
{
	json_t *list = json_array();

	for (const struct entry *e = q->out; e != NULL; e = e->next) {
		json_t *x;

		if (e->agent != g)
			continue;
		x = json_object();
		json_set_u64(x, "job", e->job);
		json_set_str(x, "kind", job_kind_name(e->kind));
		json_set_str(x, "vm", e->vm);
		json_set_str(x, "state",
		    e->state == ENTRY_GIVEN       ? "queued"
			: e->state == ENTRY_BEGUN ? "running"
						  : "ending");
		json_array_append_new(list, x);
	}
	json_object_set_new(o, "running", list);
}

/* About how long it is as text. */
static size_t
weight(const struct agent *g)
{
	size_t n = 1024 + 256 * (size_t)g->ntasks;

	for (unsigned i = 0; i < g->says.nvms; i++) {
		const struct agent_vm *v = &g->says.vm[i];

		n += 64 + strlen(v->name);
		for (unsigned k = 0; k < v->ndisks; k++)
			n += 160 + strlen(v->disk[k].path);
	}
	return n;
}

json_t *
queue_agents_to_json(struct queue *q, const char *after, char *next)
{
	json_t *list = json_array();
	size_t len = 0;

	next[0] = 0;
	queue_lock(q);
	for (const struct agent *g = q->agents.first; g != NULL; g = g->next) {
		json_t *o;

		if (after != NULL && strcmp(g->name, after) <= 0)
			continue;
		len += weight(g);
		if (len > PAGE_MAX && json_array_size(list) > 0) {
			const json_t *last =
			    json_array_get(list, json_array_size(list) - 1);

			snprintf(next, NAME_PART_MAX + 1, "%s",
			    json_string_value(json_object_get(last, "agent")));
			break;
		}
		o = agent_to_json(g);
		add_tasks(q, g, o);
		json_array_append_new(list, o);
	}
	queue_unlock(q);
	return list;
}

char (*queue_vms(struct queue *q, size_t *n))[VM_NAME_MAX + 1]
{
	char(*names)[VM_NAME_MAX + 1];
	const struct agent *g;
	size_t most = 0;

	*n = 0;
	queue_lock(q);
	for (g = q->agents.first; g != NULL; g = g->next)
		most += g->says.nvms;
	names = xmalloc((most + 1) * sizeof(*names));
	for (g = q->agents.first; g != NULL; g = g->next)
		for (unsigned i = 0; i < g->says.nvms; i++)
			if (g->lane != NULL && g->may_backup)
				memcpy(names[(*n)++], g->says.vm[i].name,
				    sizeof(names[0]));
	queue_unlock(q);
	return names;
}

void
queue_look(
    struct queue *q, const char *agent, const char *vm, struct queue_look *out)
{
	const struct agent_vm *v;
	const struct agent *g;

	memset(out, 0, sizeof(*out));
	queue_lock(q);
	g = agents_find(&q->agents, agent);
	if (g == NULL || g->lane == NULL)
		goto out;
	out->connected = true;
	out->may_restore = g->may_restore;
	memcpy(out->host, g->says.host, sizeof(out->host));
	v = agent_vm_find(g, vm);
	if (v == NULL)
		goto out;
	out->has_vm = true;
	out->vm = *v;
	out->vm.disk = xcalloc(v->ndisks + 1, sizeof(*v->disk));
	for (unsigned i = 0; i < v->ndisks; i++) {
		out->vm.disk[i] = v->disk[i];
		out->vm.disk[i].path = xstrdup(v->disk[i].path);
	}
out:
	queue_unlock(q);
}

void
queue_look_fini(struct queue_look *l)
{
	for (unsigned i = 0; i < l->vm.ndisks; i++)
		free(l->vm.disk[i].path);
	free(l->vm.disk);
	memset(l, 0, sizeof(*l));
}
