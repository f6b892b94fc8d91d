/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: JSON in, JSON out.  PROTOCOL.md 6. */
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/agents.h"
#include "repo/serve/audited.h"
#include "repo/serve/partial.h"
#include "repo/serve/damage.h"
#include "repo/serve/definition.h"
#include "repo/serve/notify.h"
#include "repo/serve/retain.h"
#include "repo/serve/scheduler.h"
#include "repo/serve/sight.h"
#include "repo/serve/verify.h"

enum {
	LIST_MAX = 1000,
	STATUS_DAMAGE_MS = 5000 /* to look for what is hit */
};

/* Is that among its features? */
static bool
wants(const json_t *q, const char *feature)
{
	const json_t *list = json_object_get(q, "features"), *f;
	size_t i;

	json_array_foreach(list, i, f)
	{
		if (json_is_string(f) &&
		    strcmp(json_string_value(f), feature) == 0)
			return true;
	}
	return false;
}

/* The first line of the protocol: who is who. */
static int
op_hello(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	const struct store_format *f = store_format(s->srv->store);
	json_t *roles = json_array();
	uint64_t version;
	int rc;

	json_object_set_new(a, "roles", roles);
	if (s->greeted)
		return err_set(e, ERR_PROTO, "hello was said already");
	rc = json_get_u64(q, "version", &version, e);
	if (rc != 0)
		return rc;
	if (version != PROTOCOL_VERSION)
		return err_set(e, ERR_UNSUP,
		    "this daemon speaks version %d of the protocol, the peer "
		    "version %llu: install the same release on both",
		    PROTOCOL_VERSION, (unsigned long long)version);
	/* An agent's control lane is none that works, and need not find a place
	 * among those; others are counted here, before they cost more. */
	if (!wants(q, "serve")) {
		rc = session_works(s, e);
		if (rc != 0)
			return rc;
	}
	json_set_u64(a, "version", PROTOCOL_VERSION);
	json_set_str(a, "program", SERVE_PROGRAM " " BACKSTAY_VERSION);
	json_object_set_new(a, "features", json_array());
	json_set_hex(a, "uuid", f->uuid, sizeof(f->uuid));
	json_set_u64(a, "chunk_size", f->chunk_size);
	json_set_str(a, "hash", "sha256");
	json_set_u64(a, "lanes_max", s->key->lanes);
	json_set_str(a, "key", s->key->name);
	for (unsigned r = ROLE_BACKUP; r <= ROLE_ADMIN; r <<= 1)
		if (s->key->roles & r)
			json_array_append_new(
			    roles, json_string(auth_role_name(r)));
	s->greeted = true;
	return 0;
}

/* A lane makes one job at a time; one that has ended may be followed. */
static int
free_lane(struct session *s, struct err *e)
{
	if (s->job == NULL)
		return 0;
	if (!s->control)
		return err_set(e, ERR_INVAL, "this lane is attached to a job");
	if (job_ended_ms(s->job) == 0)
		return err_set(e, ERR_INVAL, "this lane has a job already");
	session_no_job(s);
	return 0;
}

static int
need_control(struct session *s, struct err *e)
{
	if (s->job == NULL || !s->control)
		return err_set(e, ERR_INVAL, "this lane has begun no job");
	return 0;
}

static int
op_prepare(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	int rc = free_lane(s, e);

	if (rc == 0 && s->prepared != NULL)
		rc =
		    err_set(e, ERR_INVAL, "this lane has prepared one already");
	return rc != 0 ? rc : ingest_prepare(s, q, a, e);
}

static int
op_begin(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	int rc = free_lane(s, e);

	return rc != 0 ? rc : ingest_begin(s, q, a, e);
}

static int
op_restore(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	int rc = free_lane(s, e);

	if (rc == 0 && s->prepared != NULL)
		rc = err_set(e, ERR_INVAL, "this lane has prepared a backup");
	return rc != 0 ? rc : restore_begin(s, q, a, e);
}

static int
op_attach(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	uint8_t token[JOB_TOKEN_LEN];
	struct job *j;
	int rc;

	if (s->job != NULL || s->prepared != NULL)
		return err_set(e, ERR_INVAL, "this lane has a job already");
	rc = json_get_hex(q, "token", token, sizeof(token), e);
	if (rc == 0)
		rc = job_attach(s->srv->jobs, token, s->key->name, &j, e);
	if (rc != 0)
		return rc;
	session_job(s, j, false);
	json_set_u64(a, "job", j->face.id);
	return 0;
}

/* From here on the disks are the new ones, or files are what they are to be:
 * what is left the host does without the daemon. */
static bool
settles(const struct job *j, const char *phase)
{
	return j->face.kind == JOB_RESTORE &&
	    strcmp(phase, j->onto ? "swapping" : "syncing") == 0;
}

static int
op_progress(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct job_progress p = { 0 };
	const char *phase = NULL;
	const struct {
		const char *key;
		uint64_t *out;
	} field[] = { { "done", &p.done }, { "total", &p.total },
		{ "read", &p.read }, { "holes", &p.holes },
		{ "unchanged", &p.unchanged },
		{ "deduplicated", &p.deduplicated }, { "sent", &p.sent },
		{ "stored", &p.stored } };
	int rc;

	(void)a;
	/* There is nothing to tell yet: whoever prepares shows that it lives.
	 */
	if (s->prepared != NULL)
		return 0;
	rc = need_control(s, e);
	for (size_t i = 0; rc == 0 && i < sizeof(field) / sizeof(field[0]); i++)
		rc = json_opt_u64(q, field[i].key, field[i].out, e);
	if (rc == 0)
		rc = json_opt_str(q, "phase", &phase, e);
	if (rc == 0)
		rc = job_alive(s->job, e);
	if (rc == 0 && phase != NULL)
		rc = job_phase(s->job, phase, e);
	if (rc == 0 && phase != NULL && settles(s->job, phase))
		rc = job_settle(s->job, e);
	if (rc != 0)
		return rc;
	job_progress(s->job, &p);
	if (s->job->face.kind == JOB_BACKUP && job_enter(s->job, e) == 0) {
		partial_tick(s->srv, s->job, s->tools);
		job_leave(s->job);
	}
	return 0;
}

static int
op_commit(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	int rc = need_control(s, e);

	if (rc == 0 && s->job->face.kind != JOB_BACKUP)
		rc = err_set(e, ERR_INVAL, "this is no backup");
	return rc != 0 ? rc : ingest_commit(s, q, a, e);
}

static int
op_finish(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	const char *text = NULL;
	bool ok;
	int rc;

	(void)a;
	rc = need_control(s, e);
	if (rc == 0)
		rc = json_get_bool(q, "ok", &ok, e);
	if (rc == 0)
		rc = json_opt_str(q, "text", &text, e);
	if (rc != 0)
		return rc;
	/* A backup is done by its commit and by nothing else. */
	if (s->job->face.kind == JOB_BACKUP)
		ok = false;
	if (text == NULL || *text == 0)
		text = ok ? "finished" : "given up by its agent";
	job_end(s->job, ok ? JOB_DONE : JOB_FAILED, ERR_CLOSED, text);
	session_no_job(s);
	return 0;
}

static json_t *
backup_to_json(struct serve *srv, const struct manifest *m)
{
	char when[TIME_TEXT_LEN + 1];
	json_t *o = json_object();

	json_set_str(o, "vm", m->vm);
	json_set_str(o, "time", time_print(m->time, when));
	json_set_u64(o, "seq", m->seq);
	json_set_hex(o, "id", m->id, sizeof(m->id));
	json_set_str(o, "host", m->host);
	json_set_str(o, "consistency", m->consistency);
	json_set_u64(o, "size", manifest_size(m));
	json_object_set_new(o, "stats", manifest_stats_to_json(&m->stats));
	if (!m->has_parent)
		json_set_bool(o, "full", true);
	if (m->unusual[0] != 0)
		json_set_str(o, "unusual", m->unusual);
	retain_face(srv, m, o);
	return o;
}

/* "VM#SEQ", as the answer before gave it. */
static int
cursor_parse(const char *s, struct catalog_cursor *out, struct err *e)
{
	const char *hash = strrchr(s, '#');

	memset(out, 0, sizeof(*out));
	if (hash == NULL || (size_t)(hash - s) > VM_NAME_MAX ||
	    number_parse(hash + 1, 0, UINT64_MAX, &out->seq) != 0)
		return err_set(
		    e, ERR_INVAL, "\"after\" is not the \"next\" of an answer");
	memcpy(out->vm, s, (size_t)(hash - s));
	return 0;
}

static int
op_list(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct catalog_cursor cur = { .seq = 0 }, told = { .seq = 0 };
	bool incomplete = false;
	const char *vm = NULL, *after = NULL;
	json_t *list = json_array();
	struct manifest m;
	int rc;

	json_object_set_new(a, "backups", list);
	rc = json_opt_str(q, "vm", &vm, e);
	if (rc == 0)
		rc = json_opt_str(q, "after", &after, e);
	if (rc == 0)
		rc = json_opt_bool(q, "incomplete", &incomplete, e);
	if (rc == 0 && vm != NULL && !vm_name_ok(vm))
		rc =
		    err_set(e, ERR_INVAL, "\"%.140s\" is no name for a VM", vm);
	if (rc == 0 && after != NULL)
		rc = cursor_parse(after, &cur, e);
	if (rc != 0)
		return rc;
	cur.incomplete = incomplete;
	/* No backup has the sequence 0, so this begins with the VM's first. */
	if (vm != NULL && strcmp(cur.vm, vm) != 0) {
		cur.seq = 0;
		memcpy(cur.vm, vm, strlen(vm) + 1);
	}
	while (catalog_next(s->srv->catalog, &cur, &m) == 0) {
		if (vm != NULL && strcmp(m.vm, vm) != 0)
			break;
		if (!auth_sees(s->key, m.vm)) {
			cur.seq = UINT64_MAX;
			continue;
		}
		if (json_array_size(list) == LIST_MAX) {
			char *next = xasprintf(
			    "%s#%llu", told.vm, (unsigned long long)told.seq);

			json_set_str(a, "next", next);
			free(next);
			break;
		}
		json_array_append_new(list, backup_to_json(s->srv, &m));
		told = cur;
	}
	return 0;
}

static int
op_show(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	bool definition = false;
	struct backup_ref ref;
	struct manifest m;
	const char *name;
	json_t *j;
	int rc;

	rc = json_opt_bool(q, "definition", &definition, e);
	if (rc == 0)
		rc = json_get_str(q, "backup", &name, e);
	if (rc == 0)
		rc = backup_ref_parse(name, &ref, e);
	if (rc != 0)
		return rc;
	if (!auth_sees(s->key, ref.vm))
		return err_set(
		    e, ERR_NOENT, "there is no backup of %s", ref.vm);
	rc = catalog_find(s->srv->catalog, &ref, &m, e);
	if (rc != 0)
		return rc;
	json_object_set_new(a, "manifest", manifest_to_json(&m));
	retain_face(s->srv, &m, a);
	if (!definition)
		return 0;
	rc = definition_to_json(s->srv, &m, &j, e);
	if (rc != 0)
		return session_explain(e, rc, "show");
	if (j != NULL)
		json_object_set_new(a, "definition", j);
	return 0;
}

static uint64_t
json_bound(uint64_t v)
{
	return v < INT64_MAX ? v : INT64_MAX;
}

/* What was told since the start, by kind. */
static json_t *
told(struct serve *srv)
{
	struct events_counts n = { .lost = 0 };
	json_t *o = json_object();

	if (srv->events != NULL)
		events_counts(srv->events, &n);
	for (int k = 0; k < EVENT_KINDS; k++)
		json_set_u64(
		    o, event_kind_name((enum event_kind)k), n.posted[k]);
	return o;
}

static uint64_t
low_space(struct serve *srv)
{
	const struct settings *s = settings_get(srv->settings);
	uint64_t percent = s->low_space;

	settings_put(srv->settings, s);
	return percent;
}

static int
op_status(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	const struct store_format *f = store_format(s->srv->store);
	char since[TIME_TEXT_LEN + 1];
	struct catalog_totals t;
	struct store_status st;
	int rc;

	(void)q;
	rc = store_status(s->srv->store, &st);
	if (rc != 0)
		return session_explain(e, rc, "status");
	catalog_totals(s->srv->catalog, &t);
	json_set_hex(a, "uuid", f->uuid, sizeof(f->uuid));
	json_set_u64(a, "chunk_size", f->chunk_size);
	json_set_str(
	    a, "dedup", f->dedup_namespace ? "namespace" : "repository");
	json_set_u64(a, "logical", json_bound(t.logical));
	json_set_u64(a, "unique", json_bound(st.unique_raw));
	json_set_u64(a, "live", json_bound(st.live));
	json_set_u64(a, "stored", json_bound(st.stored));
	json_set_u64(a, "packs", st.npacks);
	json_set_u64(a, "index_bytes", st.index_bytes);
	json_set_u64(a, "entries", st.entries);
	json_set_u64(a, "backups", t.nbackups);
	json_set_u64(a, "vms", t.nvms);
	json_set_u64(a, "incomplete", t.nincomplete);
	json_object_set_new(a, "reclaim", gc_to_json(s->srv));
	json_object_set_new(a, "scrub", scrub_to_json(s->srv));
	json_object_set_new(a, "retention", retain_to_json(s->srv));
	json_object_set_new(a, "bwlimit", sight_rates(s));
	json_object_set_new(a, "schedule", scheduler_to_json(s->srv, s->key));
	json_object_set_new(
	    a, "damage", damage_to_json(s->srv, s->key, STATUS_DAMAGE_MS));
	json_set_u64(a, "avail", json_bound(st.avail));
	json_set_u64(a, "total", json_bound(st.total));
	json_set_u64(a, "low_space", low_space(s->srv));
	json_object_set_new(a, "events", told(s->srv));
	json_set_str(a, "since", time_print(s->srv->since, since));
	json_set_u64(a, "jobs", jobs_running(s->srv->jobs));
	return 0;
}

static const struct op {
	const char *name;
	unsigned roles; /* one of these; 0: anybody, who has begun a job */
	int (*run)(
	    struct session *s, const json_t *q, json_t *a, struct err *e);
} ops[] = {
	{ "hello", 0, op_hello },
	{ "prepare", ROLE_BACKUP, op_prepare },
	{ "begin", ROLE_BACKUP, op_begin },
	{ "restore", ROLE_RESTORE, op_restore },
	{ "attach", 0, op_attach },
	{ "progress", 0, op_progress },
	{ "commit", 0, op_commit },
	{ "finish", 0, op_finish },
	{ "list", ROLE_BACKUP | ROLE_RESTORE | ROLE_DELETE, op_list },
	{ "show", ROLE_BACKUP | ROLE_RESTORE | ROLE_DELETE, op_show },
	{ "status", ROLE_ADMIN, op_status },
	{ "jobs", ROLE_ADMIN, jobs_call },
	{ "delete", ROLE_DELETE, delete_backups },
	{ "prune", ROLE_DELETE, prune_call },
	{ "protect", ROLE_ADMIN, protect_call },
	{ "lock", ROLE_ADMIN, lock_call },
	{ "gc", ROLE_ADMIN, gc_call },
	{ "verify", ROLE_ADMIN, verify_call },
	{ "verified", ROLE_ADMIN, verified_call },
	{ "damage", ROLE_ADMIN, damage_call },
	{ "scrub", ROLE_ADMIN, scrub_call },
	{ "hold", ROLE_ADMIN, hold_call },
	{ "notify", ROLE_ADMIN, notify_call },
	{ "serve", ROLE_BACKUP | ROLE_RESTORE, serve_call },
	{ "next", ROLE_BACKUP | ROLE_RESTORE, next_call },
	{ "ended", ROLE_BACKUP | ROLE_RESTORE, ended_call },
	{ "agents", ROLE_ADMIN, agents_call },
	{ "backup", ROLE_ADMIN, backup_call },
	{ "restore_on", ROLE_ADMIN, restore_on_call },
	{ "cancel", ROLE_ADMIN, cancel_call },
	{ "set", ROLE_ADMIN, set_call },
	{ "schedule", ROLE_ADMIN, schedule_call },
};

static const struct op *
find_op(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	return NULL;
}

/* What the key of a refused call would need, for a person. */
static int
refuse(const struct session *s, const struct op *op, struct err *e)
{
	char roles[64] = "";
	size_t at = 0;

	for (unsigned r = ROLE_BACKUP; r <= ROLE_ADMIN; r <<= 1)
		if ((op->roles & r) != 0)
			at += (size_t)snprintf(roles + at, sizeof(roles) - at,
			    "%s%s", at > 0 ? " or " : "", auth_role_name(r));
	return err_set(e, ERR_DENIED,
	    "key %s may not %s: it has not the role %s", s->key->name, op->name,
	    roles);
}

static int
run_op(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	const struct op *op;
	const char *name;
	int rc;

	rc = json_get_str(q, "op", &name, e);
	if (rc != 0)
		return rc;
	op = find_op(name);
	if (!s->greeted && (op == NULL || op->run != op_hello))
		return err_set(e, ERR_PROTO, "the first call is hello");
	if (op == NULL)
		return err_set(e, ERR_UNSUP,
		    "\"%.60s\" is no operation of this daemon", name);
	if (op->roles == 0 || auth_may(s->key, op->roles)) {
		rc = op->run != op_hello ? agents_lane(s, op->name, e) : 0;
		return rc != 0 ? rc
			       : audited_run(s, op->name, op->run, q, a, e);
	}
	rc = refuse(s, op, e);
	audited_refused(s, op->name, q, e);
	return rc;
}

int
control_call(struct session *s, const struct frame *f, struct err *e)
{
	json_t *q = NULL, *a = json_object();
	int rc;

	rc = json_parse(f->payload, f->len, &q, e);
	if (rc == 0)
		rc = run_op(s, q, a, e);
	if (rc == 0) {
		json_print(a, lane_begin(s->lane, MSG_RESULT, f->request));
		lane_end(s->lane, NULL);
	}
	json_decref(q);
	json_decref(a);
	return rc;
}
