/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/nasimport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/archive/nastree.h"
#include "agent/pipeline/interrupt.h"
#include "proto/base/json.h"

struct run {
	const struct nasimport_options *o;
	struct nasimport_sum *sum;
	struct nastree *tree;
	char vm[VM_NAME_MAX + 1];
	/* Of the VM's backups, in order. */
	uint64_t *known;
	size_t nknown, cap;
};

static int
time_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int
add_known(struct run *r, const json_t *page, struct err *e)
{
	const json_t *j;
	size_t i;

	json_array_foreach(page, i, j)
	{
		const char *when;
		uint64_t t;
		int rc = json_get_str(j, "time", &when, e);

		if (rc != 0)
			return rc;
		if (time_parse(when, &t) != 0)
			return err_set(e, ERR_PROTO, "\"time\" is not a time");
		if (r->nknown == r->cap) {
			r->cap = r->cap == 0 ? 256 : 2 * r->cap;
			r->known =
			    xrealloc(r->known, r->cap * sizeof(*r->known));
		}
		r->known[r->nknown++] = t;
	}
	return 0;
}

/* All pages of the VM's backups. */
static int
ask_known(struct run *r, struct remote *remote, struct err *e)
{
	json_t *answer, *page, *next = NULL;
	int rc;

	r->nknown = 0;
	do {
		json_t *ask = remote_op("list");

		json_set_str(ask, "vm", r->vm);
		if (next != NULL)
			json_object_set_new(ask, "after", next);
		next = NULL;
		rc = remote_call(remote, ask, REMOTE_CALL_MS, &answer, e);
		if (rc != 0)
			return rc;
		rc = json_get_array(answer, "backups", &page, e);
		if (rc == 0)
			rc = add_known(r, page, e);
		if (rc == 0 && json_array_size(page) > 0)
			next = json_incref(json_object_get(answer, "next"));
		json_decref(answer);
	} while (rc == 0 && next != NULL);
	if (r->nknown > 0)
		qsort(r->known, r->nknown, sizeof(*r->known), time_order);
	return rc;
}

static int
find_known(struct run *r, struct err *e)
{
	const struct job_options *j = &r->o->backup.job;
	struct remote remote;
	int rc;

	rc = remote_open(j->url, j->id, &remote, e);
	if (rc != 0)
		return rc;
	rc = ask_known(r, &remote, e);
	remote_close(&remote);
	return rc;
}

static bool
is_known(const struct run *r, uint64_t t)
{
	return r->nknown > 0 &&
	    bsearch(&t, r->known, r->nknown, sizeof(t), time_order) != NULL;
}

static int
open_all(const struct run *r, const struct nastree_instance *i,
    const struct nastree_point *p, const struct nastree_files *f,
    struct backup_input *in, unsigned *n, struct err *e)
{
	int rc = 0;

	for (unsigned k = 0; rc == 0 && k < f->ndisks; k++) {
		rc =
		    nastree_disk(r->tree, i, p, &f->disk[k], &in[*n].source, e);
		if (rc != 0)
			break;
		in[*n].name = f->disk[k].name;
		in[*n].kind = "disk";
		++*n;
	}
	if (rc == 0 && f->definition) {
		rc = nastree_definition(r->tree, i, p, &in[*n].source, e);
		in[*n].name = "definition";
		in[*n].kind = "definition";
		*n += rc == 0 && in[*n].source != NULL;
	}
	return rc;
}

/* Nothing more can come in; else it is about that one point. */
static bool
is_final(int rc)
{
	switch (rc) {
	case ERR_INVAL:
	case ERR_UNSUP:
	case ERR_NOENT:
	case ERR_LIMIT:
	case ERR_SYS:
	case ERR_EXIST: return false;
	default: return true;
	}
}

static int
send_all(const struct run *r, const char *instance,
    const struct nastree_point *p, const struct backup_input *in, unsigned n,
    bool ran, struct backup_result *out, struct err *e)
{
	struct backup_options o = r->o->backup;
	char source[BACKUP_IMPORT_MAX + 1];
	struct backup *b;
	int rc;

	snprintf(
	    source, sizeof(source), "%s/%s/%s", r->o->root, instance, p->when);
	o.vm = r->vm;
	o.time = p->time;
	o.import = source;
	rc = backup_open(&o, &b, e);
	if (rc != 0) {
		for (unsigned k = 0; k < n; k++)
			source_close(in[k].source);
		return rc;
	}
	rc = backup_send(
	    b, in, n, ran ? "crash" : "offline", NULL, NULL, out, e);
	backup_close(b);
	return rc;
}

/* ${out} says what became of it. */
static int
take(struct run *r, const struct nastree_instance *i,
    const struct nastree_point *p, struct nasimport_point *out,
    struct backup_result *result, struct err *e)
{
	struct backup_input in[MANIFEST_VOLUMES_MAX];
	struct nastree_files f;
	unsigned n = 0;
	int rc;

	memset(in, 0, sizeof(in));
	rc = nastree_look(r->tree, i, p, &f, e);
	if (rc == 0)
		rc = open_all(r, i, p, &f, in, &n, e);
	if (rc != 0 || r->o->dry_run) {
		for (unsigned k = 0; k < n; k++) {
			out->size += in[k].source->size;
			source_close(in[k].source);
		}
		/* Damage there is not damage of the store. */
		e->code =
		    rc == ERR_CORRUPT || rc == ERR_DENIED || rc == ERR_BUSY
		    ? ERR_INVAL
		    : rc;
		out->ndisks = f.ndisks;
		out->what = NASIMPORT_WOULD;
		return e->code;
	}
	out->ndisks = f.ndisks;
	rc = send_all(r, i->name, p, in, n, f.definition, result, e);
	if (rc == 0) {
		out->what = NASIMPORT_IN;
		out->in = result;
		out->size = result->size;
	}
	return rc;
}

static int
point(struct run *r, const struct nastree_instance *i,
    const struct nastree_point *p, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], when[TIME_TEXT_LEN + 1];
	struct nasimport_point out = { .what = NASIMPORT_THERE,
		.instance = i->name,
		.when = p->when,
		.name = name };
	struct backup_result result;
	int rc = 0;

	snprintf(name, sizeof(name), "%s@%s", r->vm, time_print(p->time, when));
	e->text[0] = 0;
	if (!is_known(r, p->time))
		rc = take(r, i, p, &out, &result, e);
	/* Somebody else was faster. */
	if (rc == ERR_EXIST)
		rc = 0;
	if (rc != 0 && (is_final(rc) || interrupt_pending()))
		return err_prefix(e, "%s/%s", i->name, p->when);
	if (rc != 0) {
		out.what = NASIMPORT_PASSED;
		out.why = e->text;
	}
	r->sum->n[out.what]++;
	if (rc == 0) {
		r->sum->size += out.size;
		r->sum->stored += out.in != NULL ? result.stats.stored : 0;
	}
	r->o->tell(r->o->arg, &out);
	return 0;
}

static int
instance(struct run *r, const struct nastree_instance *i, struct err *e)
{
	const char *ns = r->o->name_space;
	int rc;

	if (r->o->vm != NULL)
		snprintf(r->vm, sizeof(r->vm), "%s", r->o->vm);
	else
		snprintf(r->vm, sizeof(r->vm), "%s%s%.*s", ns != NULL ? ns : "",
		    ns != NULL ? "/" : "", NAME_PART_MAX, i->name);
	rc = find_known(r, e);
	for (size_t k = 0; rc == 0 && k < i->npoints; k++) {
		if (r->o->when != NULL &&
		    strcmp(r->o->when, i->point[k].when) != 0)
			continue;
		if (interrupt_pending())
			return err_set(e, ERR_CLOSED,
			    "stopped by a signal: run it again, and it goes "
			    "on where it was");
		rc = point(r, i, &i->point[k], e);
	}
	return rc;
}

static bool
is_wanted(const struct nasimport_options *o, const char *name)
{
	for (unsigned k = 0; k < o->nonly; k++)
		if (strcmp(o->only[k], name) == 0)
			return true;
	return o->nonly == 0;
}

static void
tell_passed(
    struct run *r, const char *instance, const char *when, const char *why)
{
	struct nasimport_point out = { .what = NASIMPORT_PASSED,
		.instance = instance,
		.when = when,
		.name = "",
		.why = why };

	r->sum->n[NASIMPORT_PASSED]++;
	r->o->tell(r->o->arg, &out);
}

/* What is no backup by its name or kind may well be somebody's. */
static void
tell_skipped(struct run *r)
{
	for (size_t i = 0; i < r->tree->nskipped; i++) {
		const struct nastree_skipped *s = &r->tree->skipped[i];

		if (is_wanted(r->o, s->instance) && r->o->when == NULL)
			tell_passed(r, s->instance, s->when, s->why);
	}
}

/* A folder that was named is no instance's. */
static int
no_points(const struct nasimport_options *o, struct err *e)
{
	return err_set(e, ERR_NOENT,
	    "%s/%s: there is no YYYY.MM.DD.HH.MM.SS in it, as CloudStack's NAS "
	    "backups have; of a tree of instances say --cloudstack",
	    strcmp(o->root, "/") == 0 ? "" : o->root, o->only[0]);
}

static int
check_wanted(
    const struct nasimport_options *o, const struct nastree *t, struct err *e)
{
	for (unsigned k = 0; k < o->nonly; k++) {
		size_t i = 0;

		while (i < t->ninstances &&
		    strcmp(t->instance[i].name, o->only[k]) != 0)
			i++;
		if (i == t->ninstances && o->vm != NULL)
			return no_points(o, e);
		if (i == t->ninstances)
			return err_set(e, ERR_NOENT,
			    "%s: has no instance %.100s", t->root, o->only[k]);
	}
	return 0;
}

int
nasimport_run(
    const struct nasimport_options *o, struct nasimport_sum *sum, struct err *e)
{
	struct run r = { .o = o, .sum = sum };
	int rc;

	memset(sum, 0, sizeof(*sum));
	rc = nastree_scan(o->root, &r.tree, e);
	if (rc == ERR_NOENT && o->vm != NULL)
		return no_points(o, e);
	if (rc != 0)
		return rc;
	rc = check_wanted(o, r.tree, e);
	for (size_t i = 0; rc == 0 && i < r.tree->ninstances; i++) {
		const struct nastree_instance *in = &r.tree->instance[i];

		if (!is_wanted(o, in->name))
			continue;
		if (o->vm != NULL || name_part_ok(in->name))
			rc = instance(&r, in, e);
		else
			tell_passed(&r, in->name, "",
			    "no VM can be called like that: give it another "
			    "name, as in import VM FOLDER");
	}
	if (rc == 0)
		tell_skipped(&r);
	nastree_free(r.tree);
	free(r.known);
	return rc;
}
