/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/audited.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/chunk.h"

#define IMPORT "import"

enum { MINUTE_MS = 60000, FAULTS_SHOWN = 5, WORD_MAX = 4096 };

int
audited_note(struct serve *srv, const struct audit_entry *a, uint64_t *number,
    struct err *e)
{
	struct err why = { 0 };
	int rc;

	if (srv->audit == NULL)
		return 0;
	rc = audit_append(*srv->audit, a, number, &why);
	if (rc == ERR_LIMIT && a->what != NULL) {
		struct audit_entry less = *a;

		less.what = NULL;
		rc = audit_append(*srv->audit, &less, number, &why);
	}
	if (rc != 0) {
		log_error(
		    "%s by %s was not noted: %s", a->op, a->who, why.text);
		err_set(e, rc, "%s", why.text);
	}
	return rc;
}

/* --- calls */

static bool
is_no_dry_run(const json_t *q)
{
	return !json_is_true(json_object_get(q, "dry_run"));
}

/* "start" alone is what the daemon does by itself. */
static bool
changes_state(const json_t *q)
{
	const char *action = json_string_value(json_object_get(q, "action"));

	return json_object_get(q, "rate") != NULL ||
	    (action != NULL && strcmp(action, "status") != 0 &&
		strcmp(action, "start") != 0);
}

static bool
has_value(const json_t *q)
{
	return json_object_get(q, "value") != NULL;
}

/* What a host backs up by itself is in the list of backups, and not noted. */
static bool
is_import(const json_t *q)
{
	return json_object_get(q, "import") != NULL ||
	    json_object_get(q, "time") != NULL;
}

enum noted {
	NOTED_BEHIND, /* when it is done */
	NOTED_AHEAD,  /* and before */
	NOTED_JOB,    /* when it has begun a job, which notes its end */
	NOTED_FAILED  /* only if it fails: another call goes on with it */
};

static const struct audited {
	const char *op;
	enum noted how;
	bool (*counts)(const json_t *q); /* NULL: always */
	const char *as;                  /* what it is called; NULL: op */
} table[] = {
	{ "delete", NOTED_AHEAD, is_no_dry_run, NULL },
	{ "prune", NOTED_AHEAD, is_no_dry_run, NULL },
	{ "protect", NOTED_AHEAD, NULL, NULL },
	{ "lock", NOTED_AHEAD, NULL, NULL },
	{ "restore", NOTED_JOB, NULL, NULL },
	{ "prepare", NOTED_FAILED, is_import, IMPORT },
	{ "begin", NOTED_JOB, is_import, IMPORT },
	{ "gc", NOTED_BEHIND, changes_state, NULL },
	{ "scrub", NOTED_BEHIND, changes_state, NULL },
	{ "hold", NOTED_BEHIND, NULL, NULL },
	{ "backup", NOTED_BEHIND, NULL, NULL },
	{ "restore_on", NOTED_BEHIND, NULL, NULL },
	{ "cancel", NOTED_BEHIND, NULL, NULL },
	{ "set", NOTED_BEHIND, has_value, NULL },
};

static const struct audited *
find(const char *op, const json_t *q)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].op, op) == 0)
			return table[i].counts == NULL || table[i].counts(q)
			    ? &table[i]
			    : NULL;
	return NULL;
}

char *
audited_who(const struct session *s)
{
	if (s->key == keyset_console())
		return xasprintf("uid %u", (unsigned)s->uid);
	return xstrdup(s->key->name);
}

static const char *
name_of(const struct audited *t)
{
	return t->as != NULL ? t->as : t->op;
}

/* Of what an import says that which tells it from others: not its volumes. */
static json_t *
asked_import(const json_t *q)
{
	static const char *const names[] = { "vm", "import", "time", "base" };
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		json_t *v = json_object_get(q, names[i]);

		if (json_is_string(v) && json_string_length(v) <= WORD_MAX)
			json_object_set(o, names[i], v);
	}
	return o;
}

/* What was asked for, without what is no part of it. */
static json_t *
asked(const struct audited *t, const json_t *q)
{
	json_t *o;

	if (t->as != NULL)
		return asked_import(q);
	o = json_copy((json_t *)(uintptr_t)q);
	json_object_del(o, "op");
	json_object_del(o, "wait");
	json_object_del(o, "dry_run"); /* which is not noted at all */
	return o;
}

static int
note(struct session *s, const char *op, json_t *what, const char *outcome,
    uint64_t of, uint64_t *number, struct err *e)
{
	char *who = audited_who(s);
	struct audit_entry a = { .who = who,
		.from = s->lane != NULL ? lane_peer(s->lane) : "daemon",
		.op = op,
		.what = what,
		.outcome = outcome,
		.of = of };
	int rc = audited_note(s->srv, &a, number, e);

	json_decref(what);
	free(who);
	return rc;
}

/* Of those that could not do what they asked for; so many a minute. */
static bool
may_note_refused(struct serve *srv)
{
	uint64_t minute = now_ms() / MINUTE_MS + 1;

	if (atomic_exchange(&srv->refused_minute, minute) != minute)
		atomic_store(&srv->nrefused, 0);
	return atomic_fetch_add(&srv->nrefused, 1) < AUDITED_REFUSED_MAX;
}

static void
note_failed(struct session *s, const char *op, json_t *what, const char *how,
    uint64_t of, const struct err *e)
{
	char *text = xasprintf("%s: %s", how, e->text);

	if (of != 0 || may_note_refused(s->srv))
		note(s, op, what, text, of, NULL, NULL);
	else
		json_decref(what);
	free(text);
}

void
audited_refused(
    struct session *s, const char *op, const json_t *q, const struct err *e)
{
	const struct audited *t = find(op, q);

	if (t != NULL)
		note_failed(s, name_of(t), asked(t, q), "refused", 0, e);
}

/* It has only begun; its job notes the end. */
static void
note_job(struct session *s, const struct audited *t, const json_t *q, json_t *a)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	json_t *what = asked(t, q);
	uint64_t n = 0;

	/* That of a backup has no name before it is done. */
	if (s->job != NULL && s->job->face.kind == JOB_RESTORE)
		json_set_str(
		    what, "backup", manifest_name(&s->job->manifest, name));
	json_object_set(what, "job", json_object_get(a, "job"));
	if (note(s, name_of(t), what, "begun", 0, &n, NULL) == 0 &&
	    s->job != NULL)
		s->job->audit = n;
}

/* Of a VM that was pruned: what no rule kept. */
static void
add_pruned(const json_t *vm, json_t *names, json_t *stopped)
{
	const char *name = json_string_value(json_object_get(vm, "vm"));
	const json_t *rows = json_object_get(vm, "backups");
	const json_t *why = json_object_get(vm, "stopped");

	if (why != NULL)
		json_array_append_new(stopped,
		    json_sprintf("%s: %s", name, json_string_value(why)));
	if (json_integer_value(json_object_get(vm, "removed")) == 0)
		return;
	for (size_t i = 0; i < json_array_size(rows); i++) {
		const json_t *row = json_array_get(rows, i);

		if (json_object_get(row, "rule") == NULL)
			json_array_append_new(names,
			    json_sprintf("%s@%s", name,
				json_string_value(
				    json_object_get(row, "time"))));
	}
}

/* What was done, by the answer; of a prune not what it has kept. */
static json_t *
done(const char *op, json_t *a)
{
	const json_t *vms = json_object_get(a, "vms");
	json_t *o, *names, *stopped;

	if (strcmp(op, "prune") != 0)
		return json_incref(a);
	o = json_object();
	names = json_array();
	stopped = json_array();
	for (size_t i = 0; i < json_array_size(vms); i++)
		add_pruned(json_array_get(vms, i), names, stopped);
	json_object_set_new(o, "backups", names);
	json_object_set_new(o, "stopped", stopped);
	return o;
}

int
audited_run(struct session *s, const char *op, audited_op *run, const json_t *q,
    json_t *a, struct err *e)
{
	const struct audited *t = find(op, q);
	uint64_t of = 0;
	int rc;

	if (t == NULL)
		return run(s, q, a, e);
	if (t->how == NOTED_AHEAD &&
	    note(s, op, asked(t, q), "begun", 0, &of, e) != 0) {
		err_prefix(e, "nothing was done, since it cannot be noted");
		return e->code;
	}
	rc = run(s, q, a, e);
	if (rc != 0) {
		session_explain(e, rc, op);
		note_failed(s, name_of(t), of == 0 ? asked(t, q) : NULL,
		    "failed", of, e);
	} else if (t->how == NOTED_AHEAD) {
		note(s, op, done(op, a), "done", of, NULL, NULL);
	} else if (t->how == NOTED_JOB) {
		note_job(s, t, q, a);
	} else if (t->how == NOTED_BEHIND) {
		json_t *what = asked(t, q);

		if (json_object_get(what, "job") == NULL)
			json_object_set(what, "job", json_object_get(a, "job"));
		note(s, op, what, "done", 0, NULL, NULL);
	}
	return rc;
}

void
audited_job_end(struct serve *srv, struct job *j)
{
	struct audit_entry a = { .who = j->face.host,
		.op = j->face.kind == JOB_BACKUP ? IMPORT
						 : job_kind_name(j->face.kind),
		.of = j->audit };
	char *text = NULL;

	if (j->audit == 0)
		return;
	if (j->face.state != JOB_DONE) {
		text = xasprintf(
		    "%s: %s", job_state_name(j->face.state), j->face.text);
	} else if (j->face.kind == JOB_BACKUP) {
		a.what = json_object();
		json_set_str(a.what, "backup", j->face.text);
	}
	a.outcome = text != NULL ? text : "done";
	audited_note(srv, &a, NULL, NULL);
	json_decref(a.what);
	free(text);
}

/* --- the daemon's own */

/* As the file would have it; NULL: there is none of that name. */
static char *
line_of(const struct auth *a, const char *name)
{
	const struct auth_key *k = auth_find_name(a, name);
	struct buf b = { 0 };
	char *s;

	if (k == NULL)
		return NULL;
	auth_print_key(k, &b);
	s = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return s;
}

/* Names of ${a}: not in ${b}; or, ${changed}: otherwise in ${b}. */
static json_t *
differing(const struct auth *a, const struct auth *b, bool changed)
{
	json_t *names = json_array();

	for (size_t i = 0; i < a->n; i++) {
		const char *name = a->key[i].name;
		char *x = line_of(a, name), *y = line_of(b, name);

		if (changed ? y != NULL && strcmp(x, y) != 0 : y == NULL)
			json_array_append_new(names, json_string(name));
		free(x);
		free(y);
	}
	return names;
}

void
audited_keys(struct serve *srv, const struct auth *old, const struct auth *now)
{
	struct audit_entry a = { .who = "daemon",
		.from = AUTH_FILE,
		.op = "keys",
		.what = json_object(),
		.outcome = "done" };

	json_object_set_new(a.what, "added", differing(now, old, false));
	json_object_set_new(a.what, "removed", differing(old, now, false));
	json_object_set_new(a.what, "changed", differing(old, now, true));
	audited_note(srv, &a, NULL, NULL);
	json_decref(a.what);
}

struct looked {
	unsigned shown;
	bool runs;    /* by the last line that says so */
	bool started; /* some daemon did before */
	uint64_t job; /* the greatest number of one */
};

static void
see_line(void *arg, json_t *line)
{
	struct looked *l = arg;
	const char *op = json_string_value(json_object_get(line, "op"));
	const char *how = json_string_value(json_object_get(line, "outcome"));
	json_int_t job = json_integer_value(
	    json_object_get(json_object_get(line, "what"), "job"));

	if (strcmp(op, "start") == 0)
		l->runs = l->started = true;
	else if (strcmp(op, "stop") == 0)
		l->runs = false;
	/* Who asked for what there is not may have said any number. */
	if (how != NULL && job > 0 && (uint64_t)job > l->job &&
	    (strcmp(how, "begun") == 0 || strcmp(how, "done") == 0))
		l->job = (uint64_t)job;
}

/* Numbers of jobs go on behind all that are known of. */
static void
tell_numbers(struct serve *srv, const struct looked *l)
{
	struct catalog_totals t;

	catalog_totals(srv->catalog, &t);
	numbers_known(
	    srv->numbers, l->job, l->started || t.nbackups + t.nincomplete > 0);
}

static void
see_fault(void *arg, const char *file, uint64_t line, const char *text)
{
	struct looked *l = arg;

	if (l->shown++ < FAULTS_SHOWN)
		log_error("%s:%" PRIu64 ": %s", file, line, text);
}

/* So that a change while no daemon ran shows. */
static void
add_sum(json_t *o, int dirfd, const char *file)
{
	struct hasher *h = hasher_new(NULL);
	struct buf text = { 0 };
	struct id id;

	if (file_read(dirfd, file, SETTINGS_FILE_MAX, &text) == 0) {
		hasher_chunk(h, text.data, text.len, &id);
		json_set_hex(o, file, id.b, sizeof(id.b));
	}
	hasher_free(h);
	buf_fini(&text);
}

void
audited_start(struct serve *srv)
{
	struct audit_entry a = { .who = "daemon",
		.op = "start",
		.what = json_object(),
		.outcome = "done" };
	struct audit_report r = { .faults = 0 };
	struct looked l = { .shown = 0 };
	struct err e = { 0 };
	int rc;

	if (srv->audit == NULL)
		goto out;
	/* What is full was checked when it was not, and can be at any time;
	 * but all of it is asked for the last job's number where that is lost.
	 */
	if (numbers_lost(srv->numbers))
		rc = audit_read(
		    *srv->audit, see_line, see_fault, &l, NULL, &r, &e);
	else
		rc = audit_read_newest(
		    *srv->audit, see_line, see_fault, &l, &r, &e);
	if (rc != 0)
		log_error("%s", e.text);
	tell_numbers(srv, &l);
	if (r.faults > 0) {
		log_error(AUDIT_FILE ": %u faults: `backstay audit --check` "
				     "tells more",
		    r.faults);
		json_set_u64(a.what, "faults", r.faults);
	}
	if (l.runs)
		json_set_str(a.what, "after", "crash");
	json_set_str(a.what, "program", SERVE_PROGRAM " " BACKSTAY_VERSION);
	add_sum(a.what, *srv->audit, AUTH_FILE);
	add_sum(a.what, *srv->audit, SETTINGS_FILE);
	audited_note(srv, &a, NULL, NULL);
	/* Whoever keeps the daemon's log has a witness elsewhere. */
	if (r.last > 0)
		log_info(AUDIT_FILE ": %" PRIu64 " lines until now, hash %s",
		    r.last, r.hash);
out:
	json_decref(a.what);
}

void
audited_stop(struct serve *srv, const char *why)
{
	struct audit_entry a = {
		.who = "daemon", .from = why, .op = "stop", .outcome = "done"
	};

	audited_note(srv, &a, NULL, NULL);
}
