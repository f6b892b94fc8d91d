/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/agents.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"

const char *
vm_state_name(enum vm_state s)
{
	static const char *const names[] = { "unknown", "off", "running" };

	return names[s];
}

/* --- what one says */

/* A word of ours on a person's screen: printable, no blanks at its ends. */
static int
take_word(const json_t *q, const char *key, char *out, size_t size, bool must,
    struct err *e)
{
	const char *s = "";
	int rc;

	rc = must ? json_get_str(q, key, &s, e) : json_opt_str(q, key, &s, e);
	if (rc != 0)
		return rc;
	if (strlen(s) >= size)
		return err_set(e, ERR_LIMIT, "\"%s\" has more than %zu bytes",
		    key, size - 1);
	for (const char *p = s; *p != 0; p++)
		if (*p < ' ' || *p == 0x7f)
			return err_set(
			    e, ERR_PROTO, "\"%s\" is no plain text", key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int
take_disk(const json_t *q, struct agent_disk *d, struct err *e)
{
	const char *path = "", *name;
	int rc;

	if (!json_is_object(q))
		return err_set(e, ERR_PROTO, "a disk is an object");
	rc = json_get_str(q, "name", &name, e);
	if (rc == 0 && !name_part_ok(name))
		rc = err_set(
		    e, ERR_INVAL, "\"%.70s\" is no name for a disk", name);
	if (rc == 0)
		rc = json_opt_str(q, "path", &path, e);
	if (rc == 0 && strlen(path) > AGENT_PATH_MAX)
		rc = err_set(e, ERR_LIMIT, "a path has more than %d bytes",
		    AGENT_PATH_MAX);
	if (rc == 0)
		rc = json_opt_u64(q, "size", &d->size, e);
	if (rc == 0)
		rc = take_word(
		    q, "format", d->format, sizeof(d->format), false, e);
	if (rc != 0)
		return rc;
	memcpy(d->name, name, strlen(name) + 1);
	d->path = xstrdup(path);
	return 0;
}

static int
take_state(const json_t *q, enum vm_state *out, struct err *e)
{
	const char *s = "unknown";
	int rc = json_opt_str(q, "state", &s, e);

	*out = VM_UNKNOWN;
	for (enum vm_state i = VM_UNKNOWN; rc == 0 && i <= VM_RUNNING; i++)
		if (strcmp(s, vm_state_name(i)) == 0)
			*out = i;
	return rc;
}

static void
vm_fini(struct agent_vm *v)
{
	for (unsigned i = 0; i < v->ndisks; i++)
		free(v->disk[i].path);
	free(v->disk);
}

static int
take_vm(const json_t *q, struct agent_vm *v, unsigned *ndisks, struct err *e)
{
	const json_t *disks = json_object_get(q, "disks");
	size_t n = json_array_size(disks);
	int rc = take_state(q, &v->state, e);

	if (rc != 0 || n == 0)
		return rc;
	if (n > AGENT_DISKS_MAX - *ndisks)
		return err_set(e, ERR_LIMIT,
		    "more than %d disks in all: see agent.conf, which VMs are "
		    "told",
		    AGENT_DISKS_MAX);
	v->disk = xcalloc(n, sizeof(*v->disk));
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc =
		    take_disk(json_array_get(disks, i), &v->disk[v->ndisks], e);
		if (rc == 0)
			v->ndisks++;
	}
	*ndisks += v->ndisks;
	if (rc != 0)
		vm_fini(v);
	return rc;
}

static int
by_name(const void *a, const void *b)
{
	const struct agent_vm *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int
take_vms(const json_t *q, bool (*sees)(void *arg, const char *vm), void *arg,
    struct agent_says *s, struct err *e)
{
	json_t *list;
	unsigned ndisks = 0;
	size_t n;
	int rc = json_get_array(q, "vms", &list, e);

	if (rc != 0)
		return rc;
	n = json_array_size(list);
	if (n > AGENT_VMS_MAX)
		return err_set(e, ERR_LIMIT, "more than %d VMs", AGENT_VMS_MAX);
	s->vm = xcalloc(n + 1, sizeof(*s->vm));
	for (size_t i = 0; i < n; i++) {
		const json_t *o = json_array_get(list, i);
		struct agent_vm *v = &s->vm[s->nvms];
		const char *name;

		if (!json_is_object(o))
			return err_set(e, ERR_PROTO, "a VM is an object");
		rc = json_get_str(o, "vm", &name, e);
		if (rc == 0 && !vm_name_ok(name))
			rc = err_set(e, ERR_INVAL,
			    "\"%.140s\" is no name for a VM", name);
		if (rc != 0)
			return rc;
		if (sees != NULL && !sees(arg, name)) {
			s->hidden++;
			continue;
		}
		memcpy(v->name, name, strlen(name) + 1);
		rc = take_vm(o, v, &ndisks, e);
		if (rc != 0)
			return err_prefix(e, "VM %s", name);
		s->nvms++;
	}
	qsort(s->vm, s->nvms, sizeof(*s->vm), by_name);
	for (unsigned i = 1; i < s->nvms; i++)
		if (strcmp(s->vm[i - 1].name, s->vm[i].name) == 0)
			return err_set(e, ERR_INVAL, "VM %s is there twice",
			    s->vm[i].name);
	return 0;
}

int
agent_running_parse(const json_t *q, uint8_t (**out)[TASK_LEN], unsigned *n,
    bool *told, struct err *e)
{
	json_t *list = json_object_get(q, "running");
	size_t len = json_array_size(list);

	*out = NULL;
	*n = 0;
	*told = list != NULL;
	if (list == NULL)
		return 0;
	if (!json_is_array(list))
		return err_set(e, ERR_PROTO, "\"running\" is an array");
	if (len > AGENT_RUNNING_MAX)
		return err_set(
		    e, ERR_LIMIT, "more than %d tasks", AGENT_RUNNING_MAX);
	*out = xcalloc(len + 1, TASK_LEN);
	for (size_t i = 0; i < len; i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (s == NULL || strlen(s) != 2 * TASK_LEN ||
		    unhex(s, (*out)[*n], TASK_LEN) != 0) {
			free(*out);
			*out = NULL;
			*n = 0;
			return err_set(
			    e, ERR_PROTO, "\"running\" has what is no task");
		}
		++*n;
	}
	return 0;
}

int
agent_says_parse(const json_t *q, bool (*sees)(void *arg, const char *vm),
    void *arg, struct agent_says *out, struct err *e)
{
	struct agent_says s = { .jobs = 0 };
	uint64_t jobs = 1;
	int rc;

	rc = take_word(q, "host", s.host, sizeof(s.host), true, e);
	if (rc == 0)
		rc = take_word(
		    q, "version", s.version, sizeof(s.version), false, e);
	if (rc == 0)
		rc = json_opt_u64(q, "jobs", &jobs, e);
	if (rc == 0 && (jobs == 0 || jobs > AGENT_JOBS_MAX))
		rc = err_set(
		    e, ERR_LIMIT, "\"jobs\" is from 1 to %d", AGENT_JOBS_MAX);
	if (rc == 0)
		rc = agent_running_parse(
		    q, &s.running, &s.nrunning, &s.told_running, e);
	if (rc == 0)
		rc = take_vms(q, sees, arg, &s, e);
	if (rc != 0) {
		agent_says_fini(&s);
		return rc;
	}
	s.jobs = (unsigned)jobs;
	*out = s;
	return 0;
}

void
agent_says_fini(struct agent_says *s)
{
	for (unsigned i = 0; i < s->nvms; i++)
		vm_fini(&s->vm[i]);
	free(s->vm);
	free(s->running);
	memset(s, 0, sizeof(*s));
}

/* --- all of them */

void
agents_fini(struct agents *a)
{
	while (a->first != NULL)
		agents_drop(a, a->first);
	free(a->has);
	memset(a, 0, sizeof(*a));
}

struct agent *
agents_find(struct agents *a, const char *name)
{
	for (struct agent *g = a->first; g != NULL; g = g->next)
		if (strcmp(g->name, name) == 0)
			return g;
	return NULL;
}

struct agent *
agents_get(struct agents *a, const char *name)
{
	struct agent *g = agents_find(a, name), **at;

	if (g != NULL)
		return g;
	g = xcalloc(1, sizeof(*g));
	memcpy(g->name, name, strlen(name) + 1);
	/* By name, as people look for them. */
	for (at = &a->first; *at != NULL; at = &(*at)->next)
		if (strcmp((*at)->name, name) > 0)
			break;
	g->next = *at;
	*at = g;
	a->n++;
	return g;
}

void
agents_changed(struct agents *a)
{
	a->stale = true;
}

void
agents_says(struct agents *a, struct agent *g, struct agent_says *s)
{
	agent_says_fini(&g->says);
	g->says = *s;
	memset(s, 0, sizeof(*s));
	g->order = ++a->order;
	agents_changed(a);
}

void
agents_drop(struct agents *a, struct agent *g)
{
	struct agent **at;

	for (at = &a->first; *at != g; at = &(*at)->next)
		;
	*at = g->next;
	a->n--;
	agents_changed(a);
	agent_says_fini(&g->says);
	free(g);
}

void
agents_trim(struct agents *a)
{
	struct agent *oldest = NULL;

	if (a->n <= AGENTS_KEPT)
		return;
	for (struct agent *g = a->first; g != NULL; g = g->next)
		if (g->lane == NULL && g->ntasks == 0 &&
		    (oldest == NULL || g->lost_ms < oldest->lost_ms))
			oldest = g;
	if (oldest != NULL)
		agents_drop(a, oldest);
}

const struct agent_vm *
agent_vm_find(const struct agent *g, const char *vm)
{
	size_t from = 0, to = g->says.nvms;

	while (from < to) {
		size_t mid = from + (to - from) / 2;
		int c = strcmp(g->says.vm[mid].name, vm);

		if (c == 0)
			return &g->says.vm[mid];
		if (c < 0)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
}

static int
by_vm(const void *a, const void *b)
{
	const struct agent_has *x = a, *y = b;

	return strcmp(x->vm, y->vm);
}

static void
index_all(struct agents *a)
{
	unsigned n = 0;

	if (!a->stale)
		return;
	for (const struct agent *g = a->first; g != NULL; g = g->next)
		if (g->lane != NULL)
			n += g->says.nvms;
	free(a->has);
	a->has = xcalloc(n + 1, sizeof(*a->has));
	a->nhas = 0;
	for (struct agent *g = a->first; g != NULL; g = g->next)
		for (unsigned i = 0; g->lane != NULL && i < g->says.nvms; i++)
			a->has[a->nhas++] =
			    (struct agent_has){ g->says.vm[i].name, g };
	qsort(a->has, a->nhas, sizeof(*a->has), by_vm);
	a->stale = false;
}

/* Better ones have more. */
static uint64_t
fitness(const struct agent *g, const char *vm)
{
	const struct agent_vm *v = agent_vm_find(g, vm);

	return (uint64_t)(v->state == VM_RUNNING) << 63 |
	    (uint64_t)(g->ntasks < g->says.jobs) << 62 | g->order;
}

struct agent *
agents_with(struct agents *a, const char *vm)
{
	size_t from = 0, to;
	struct agent *best = NULL;

	index_all(a);
	to = a->nhas;
	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (strcmp(a->has[mid].vm, vm) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	for (; from < a->nhas && strcmp(a->has[from].vm, vm) == 0; from++) {
		struct agent *g = a->has[from].agent;

		if (g->may_backup &&
		    (best == NULL || fitness(g, vm) > fitness(best, vm)))
			best = g;
	}
	return best;
}

json_t *
agent_to_json(const struct agent *g)
{
	char since[TIME_TEXT_LEN + 1];
	json_t *o = json_object(), *vms = json_array();

	json_set_str(o, "agent", g->name);
	json_set_str(o, "host", g->says.host);
	json_set_str(o, "version", g->says.version);
	json_set_str(o, "from", g->from);
	json_set_bool(o, "connected", g->lane != NULL);
	json_set_str(o, "since",
	    time_print(g->lane != NULL ? g->since : g->lost, since));
	json_set_u64(o, "jobs", g->says.jobs);
	json_set_bool(o, "backup", g->may_backup);
	json_set_bool(o, "restore", g->may_restore);
	json_set_u64(o, "hidden", g->says.hidden);
	json_object_set_new(o, "vms", vms);
	for (unsigned i = 0; i < g->says.nvms; i++) {
		const struct agent_vm *v = &g->says.vm[i];
		json_t *x = json_object(), *disks = json_array();

		json_set_str(x, "vm", v->name);
		json_set_str(x, "state", vm_state_name(v->state));
		for (unsigned k = 0; k < v->ndisks; k++) {
			json_t *d = json_object();

			json_set_str(d, "name", v->disk[k].name);
			json_set_str(d, "path", v->disk[k].path);
			json_set_u64(d, "size", v->disk[k].size);
			json_set_str(d, "format", v->disk[k].format);
			json_array_append_new(disks, d);
		}
		json_object_set_new(x, "disks", disks);
		json_array_append_new(vms, x);
	}
	return o;
}
