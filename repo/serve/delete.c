/* SPDX-License-Identifier: Apache-2.0 */
/* Deleting backups: STORE.md 4, PROTOCOL.md 6. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/reclaim/freed.h"
#include "repo/serve/delete.h"
#include "repo/serve/leaving.h"
#include "repo/serve/session.h"

enum { FREED_MS = 50 /* what a delete may take to say what it frees */ };

struct victims {
	struct manifest *m; /* by VM and sequence, each once */
	unsigned n;
};

static int
resolve(
    struct session *s, const json_t *name, struct manifest *out, struct err *e)
{
	struct backup_ref ref;
	int rc;

	if (!json_is_string(name))
		return err_set(e, ERR_PROTO, "\"backups\": names, as strings");
	rc = backup_ref_parse(json_string_value(name), &ref, e);
	if (rc != 0)
		return rc;
	if (!auth_sees(s->key, ref.vm))
		return err_set(
		    e, ERR_NOENT, "there is no backup of %s", ref.vm);
	return catalog_find_any(s->srv->catalog, &ref, out, e);
}

static int
by_vm(const void *a, const void *b)
{
	const struct manifest *x = a, *y = b;
	int c = strcmp(x->vm, y->vm);

	if (c != 0)
		return c;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* All names before anything is done: "latest" is the latest of now. */
static int
resolve_all(
    struct session *s, const json_t *q, struct victims *v, struct err *e)
{
	json_t *names;
	unsigned n;
	int rc;

	rc = json_get_array(q, "backups", &names, e);
	if (rc != 0)
		return rc;
	if (json_array_size(names) == 0 || json_array_size(names) > DELETE_MAX)
		return err_set(
		    e, ERR_LIMIT, "name from 1 to %d backups", DELETE_MAX);
	n = (unsigned)json_array_size(names);
	v->m = xmalloc(n * sizeof(*v->m));
	for (unsigned i = 0; i < n; i++) {
		rc = resolve(s, json_array_get(names, i), &v->m[i], e);
		if (rc != 0)
			return rc;
	}
	qsort(v->m, n, sizeof(*v->m), by_vm);
	for (unsigned i = 0; i < n; i++)
		if (v->n == 0 || by_vm(&v->m[i], &v->m[v->n - 1]) != 0)
			v->m[v->n++] = v->m[i];
	return 0;
}

/* The backups of one VM; its delete lock is held. */
static int
drop(struct session *s, const struct manifest *m, unsigned n, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct leaving l;
	int rc = 0;

	leaving_init(&l, s->srv, m->vm);
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		rc = leaving_add(&l, m[i].id, e);
		if (rc == ERR_NOENT)
			err_set(e, rc, "%s was deleted just now",
			    manifest_name(&m[i], name));
	}
	if (rc == 0) {
		rc = leaving_drop(&l, e);
		if (rc != 0)
			session_explain(e, rc, "delete");
	}
	leaving_end(&l, rc == 0);
	if (rc == 0)
		serve_dropped(s->srv);
	return rc;
}

static int
take_lock(struct session *s, struct job *j, const struct manifest *m,
    unsigned n, int wait_ms, struct err *e)
{
	uint8_t(*ids)[BACKUP_ID_LEN] = xmalloc(n * sizeof(*ids));
	struct lock_request l = { .vm = j->face.vm,
		.mode = LOCK_FOR_DELETE,
		.backup = ids[0],
		.nmore = n - 1,
		.job = j->face.id,
		.host = j->face.host,
		.since = j->face.since,
		.look = session_look,
		.arg = s };
	int rc;

	for (unsigned i = 0; i < n; i++)
		memcpy(ids[i], m[i].id, sizeof(ids[i]));
	rc = lock_take(s->srv->locks, &l, wait_ms, &j->lock[0], e);
	free(ids);
	return rc;
}

/* How the job is called when it has ended. */
static void
describe(const struct manifest *m, unsigned n, char *out, size_t len)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	if (n == 1)
		snprintf(out, len, "%s", manifest_name(m, name));
	else
		snprintf(
		    out, len, "%s and %u more", manifest_name(m, name), n - 1);
}

int
delete_of_vm(struct session *s, const struct manifest *m, unsigned n,
    int wait_ms, struct err *e)
{
	char text[VM_NAME_MAX + TIME_TEXT_LEN + 32];
	struct job *j;
	int rc;

	j = job_new(s->srv->jobs, JOB_DELETE, m->vm, s->key->name);
	rc = take_lock(s, j, m, n, wait_ms, e);
	if (rc != 0) {
		job_drop(j);
		return rc;
	}
	job_start(j);
	rc = job_enter(j, e);
	if (rc == 0) {
		rc = job_settle(j, e);
		if (rc == 0)
			rc = drop(s, m, n, e);
		job_leave(j);
	}
	describe(m, n, text, sizeof(text));
	job_end(
	    j, rc == 0 ? JOB_DONE : JOB_FAILED, rc, rc == 0 ? text : e->text);
	job_detach(j);
	return rc;
}

/* Before any of them goes, and for a dry run. */
static int
may_all(struct session *s, const struct victims *v, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < v->n; i++)
		if (!v->m[i].incomplete)
			rc = guard_check(s->srv->guard, &v->m[i], e);
	return rc;
}

/* One VM after the other, holding no other. */
static int
delete_all(
    struct session *s, const struct victims *v, int wait_ms, struct err *e)
{
	uint64_t until = now_ms() + (uint64_t)(wait_ms > 0 ? wait_ms : 0);

	for (unsigned i = 0, k; i < v->n; i = k) {
		uint64_t now = now_ms();
		int rc;

		for (k = i + 1; k < v->n; k++)
			if (strcmp(v->m[k].vm, v->m[i].vm) != 0)
				break;
		if (wait_ms > 0)
			wait_ms = now < until ? (int)(until - now) : 0;
		rc = delete_of_vm(s, v->m + i, k - i, wait_ms, e);
		if (rc != 0 && i > 0)
			err_prefix(e, "%u backups were deleted, but then", i);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
delete_backups(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct victims v = { .n = 0 };
	json_t *list = json_array();
	bool dry_run = false;
	uint64_t bytes;
	int rc, wait_ms;

	json_object_set_new(a, "backups", list);
	rc = session_wait_ms(q, &wait_ms, e);
	if (rc == 0)
		rc = json_opt_bool(q, "dry_run", &dry_run, e);
	if (rc == 0)
		rc = resolve_all(s, q, &v, e);
	if (rc == 0)
		rc = may_all(s, &v, e);
	if (rc != 0)
		goto out;
	/* To say it exactly may cost a walk; to delete may not. */
	rc = freed_within(
	    s->srv->store, v.m, v.n, dry_run ? 0 : FREED_MS, &bytes, e);
	if (rc == 0)
		json_set_u64(a, "freed", bytes);
	if (rc != 0 && dry_run) {
		session_explain(e, rc, "delete");
		goto out;
	}
	rc = dry_run ? 0 : delete_all(s, &v, wait_ms, e);
	for (unsigned i = 0; rc == 0 && i < v.n; i++)
		json_array_append_new(
		    list, json_string(manifest_name(&v.m[i], name)));
out:
	free(v.m);
	return rc;
}
