/* SPDX-License-Identifier: Apache-2.0 */
/* How a backup begins: its VM, its volumes, what it builds on. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/agents.h"
#include "repo/serve/damage.h"
#include "repo/serve/leaving.h"

enum { PARENT_DAMAGE_MS = 30000, TIME_AHEAD_S = 60, IMPORT_TEXT_MAX = 4096 };

/* So that sums of sizes stay whole numbers in JSON and in 64 bits. */
#define TOTAL_SIZE_MAX ((uint64_t)1 << 62)

/* A string of the question, or ${otherwise}; what it holds is checked later. */
static int
take_text(const json_t *q, const char *key, const char *otherwise, char *out,
    size_t room, struct err *e)
{
	const char *s = otherwise;
	int rc;

	rc = json_opt_str(q, key, &s, e);
	if (rc != 0)
		return rc;
	if (strlen(s) >= room)
		return err_set(e, ERR_LIMIT, "\"%s\" is too long", key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

/* Where it was read from; who tells no path tells no identity. */
static int
take_origin(const json_t *q, struct manifest *m, struct manifest_volume *v,
    struct err *e)
{
	const char *path = NULL, *identity = "";
	int rc;

	rc = json_opt_str(q, "path", &path, e);
	if (rc == 0)
		rc = json_opt_str(q, "identity", &identity, e);
	if (rc != 0 || path == NULL)
		return rc;
	return manifest_set_origin(m, v, path, identity, e);
}

static int
take_volume(const json_t *q, struct manifest *m, struct manifest_volume *v,
    struct err *e)
{
	uint64_t cluster = 0;
	const char *name;
	int rc;

	rc = json_get_str(q, "name", &name, e);
	if (rc == 0 && !name_part_ok(name))
		rc = err_set(e, ERR_INVAL,
		    "\"%.80s\" is no name for a volume (letters, digits, "
		    "\".\", \"_\", \"-\"; up to %d)",
		    name, NAME_PART_MAX);
	if (rc != 0)
		return rc;
	memcpy(v->name, name, strlen(name) + 1);
	rc = take_text(q, "kind", "disk", v->kind, sizeof(v->kind), e);
	if (rc == 0)
		rc = take_text(
		    q, "format", "raw", v->format, sizeof(v->format), e);
	if (rc == 0)
		rc = json_opt_u64(q, "cluster_size", &cluster, e);
	if (rc == 0)
		rc = json_get_u64(q, "size", &v->size, e);
	if (rc == 0)
		rc = take_origin(q, m, v, e);
	if (rc != 0)
		return rc;
	if (v->size > VOLUME_SIZE_MAX || cluster > UINT32_MAX)
		return err_set(e, ERR_LIMIT, "volume %s is too large", v->name);
	v->cluster_size = (uint32_t)cluster;
	return 0;
}

static int
take_volumes(const json_t *q, struct manifest *m, struct err *e)
{
	json_t *list;
	size_t n;
	int rc;

	rc = json_get_array(q, "volumes", &list, e);
	if (rc != 0)
		return rc;
	n = json_array_size(list);
	if (n == 0 || n > MANIFEST_VOLUMES_MAX)
		return err_set(e, ERR_LIMIT,
		    "%zu volumes: a backup has from 1 to %d", n,
		    MANIFEST_VOLUMES_MAX);
	for (size_t i = 0; i < n; i++) {
		struct manifest_volume *v = &m->volume[m->nvolumes];

		rc = take_volume(json_array_get(list, i), m, v, e);
		if (rc != 0)
			return rc;
		if (manifest_volume_find(m, v->name) != -1)
			return err_set(
			    e, ERR_INVAL, "two volumes are called %s", v->name);
		m->nvolumes++;
		/* Each is bounded, so this cannot pass 64 bits. */
		if (manifest_size(m) > TOTAL_SIZE_MAX)
			return err_set(
			    e, ERR_LIMIT, "the volumes are too large together");
	}
	return 0;
}

/* Nothing is begun that could not be read back when it is done. */
static int
check_manifest(const struct manifest *m, struct err *e)
{
	struct manifest again;
	json_t *j = manifest_to_json(m);
	int rc = manifest_from_json(j, &again, e);

	json_decref(j);
	return rc;
}

/*
 * A time of its own, of what is taken in from elsewhere.  The lock on the VM is
 * held from before, so nobody else gives that time meanwhile.
 */
static int
take_time(struct session *s, const json_t *q, struct manifest *m, struct err *e)
{
	struct backup_ref ref = { .by_time = true };
	const char *when = NULL;
	struct manifest *other;
	uint64_t t;
	int rc;

	rc = json_opt_str(q, "time", &when, e);
	if (rc != 0 || when == NULL)
		return rc;
	if ((s->key->roles & ROLE_ADMIN) == 0)
		return err_set(e, ERR_DENIED,
		    "key %s may not say which time a backup is of: import on "
		    "the NAS, or by a key with the role admin",
		    s->key->name);
	if (time_parse(when, &t) != 0)
		return err_set(e, ERR_PROTO, "\"time\" is not a time");
	/* Of two backups of one second one is told to be later, and clocks of
	 * two repositories are never the same. */
	if (t > (uint64_t)time(NULL) + TIME_AHEAD_S)
		return err_set(e, ERR_INVAL,
		    "%s is not over yet: a backup is of the past", when);
	memcpy(ref.vm, m->vm, sizeof(ref.vm));
	ref.time = t;
	other = xcalloc(1, sizeof(*other));
	rc = catalog_find(s->srv->catalog, &ref, other, NULL);
	free(other);
	if (rc == 0)
		return err_set(
		    e, ERR_EXIST, "%s@%s is there already", m->vm, when);
	m->time = t;
	m->imported = true;
	return 0;
}

/* The manifest to be, but for what only the commit knows. */
static int
take_manifest(const json_t *q, struct manifest *m, struct err *e)
{
	const char *when = NULL;
	int rc;

	rc = json_opt_str(q, "agent_time", &when, e);
	if (rc == 0 && when != NULL && time_parse(when, &m->agent_time) != 0)
		rc = err_set(e, ERR_PROTO, "\"agent_time\" is not a time");
	if (rc == 0)
		rc = take_text(q, "consistency", "", m->consistency,
		    sizeof(m->consistency), e);
	if (rc == 0)
		rc = take_text(q, "checkpoint", "", m->checkpoint,
		    sizeof(m->checkpoint), e);
	if (rc == 0)
		rc = take_volumes(q, m, e);
	return rc != 0 ? rc : check_manifest(m, e);
}

/* Only the audit log has it. */
static int
check_import(const json_t *q, struct err *e)
{
	const char *text = "";
	int rc = json_opt_str(q, "import", &text, e);

	if (rc == 0 && strlen(text) > IMPORT_TEXT_MAX)
		rc = err_set(e, ERR_LIMIT, "\"import\" is too long");
	return rc;
}

static int
take_vm(const json_t *q, const char **vm, struct err *e)
{
	int rc = json_get_str(q, "vm", vm, e);

	if (rc == 0 && !vm_name_ok(*vm))
		rc = err_set(e, ERR_INVAL,
		    "\"%.140s\" is no name for a VM ([NAMESPACE/]NAME of "
		    "letters, digits, \".\", \"_\", \"-\")",
		    *vm);
	return rc;
}

static int
check_may(const struct auth_key *key, const char *vm, struct err *e)
{
	struct buf patterns = { 0 };

	if (auth_sees(key, vm))
		return 0;
	auth_patterns(key, &patterns);
	err_set(e, ERR_DENIED,
	    "key %s may not back up VM %s: its patterns are %.200s", key->name,
	    vm, buf_cstr(&patterns));
	buf_fini(&patterns);
	return ERR_DENIED;
}

/*
 * The VM's newest backup, unless its ids mean nothing here; it stands until
 * the job lets go.
 */
static void
find_parent(struct session *s, struct job *j, const struct backup_ref *base)
{
	struct catalog *c = s->srv->catalog;
	struct manifest *p = &j->parent;

	int rc = base != NULL ? catalog_find(c, base, p, NULL)
			      : catalog_newest(c, j->manifest.vm, p);

	if (rc != 0 || p->domain != j->manifest.domain ||
	    p->chunk_size != j->manifest.chunk_size ||
	    catalog_hold(c, p->vm, p->id) != 0)
		return;
	j->has_parent = true;
}

static void
match_volumes(struct job *j)
{
	for (unsigned i = 0; i < j->manifest.nvolumes; i++)
		j->parent_volume[i] = manifest_volume_find(
		    &j->parent, j->manifest.volume[i].name);
}

/* NULL: what of it is damaged cannot be told. */
static json_t *
parent_to_json(struct session *s, const struct job *j)
{
	uint64_t until_ms = now_ms() + PARENT_DAMAGE_MS;
	struct store_lane *tools =
	    store_lane_new(s->srv->store, domain_key(&j->domain));
	json_t *o = json_object(), *list = json_array(), *damaged;
	char when[TIME_TEXT_LEN + 1];

	json_set_str(o, "time", time_print(j->parent.time, when));
	if (j->parent.checkpoint[0] != 0)
		json_set_str(o, "checkpoint", j->parent.checkpoint);
	for (unsigned i = 0; i < j->manifest.nvolumes; i++) {
		const struct manifest_volume *v;
		json_t *x;

		if (j->parent_volume[i] == -1) {
			json_array_append_new(list, json_null());
			continue;
		}
		v = &j->parent.volume[j->parent_volume[i]];
		x = json_object();
		json_set_u64(x, "size", v->size);
		json_set_hex(x, "root", v->root.b, ID_LEN);
		json_array_append_new(list, x);
		damaged = damage_of_volume(s->srv->store, tools, v, until_ms);
		if (damaged == NULL) {
			json_decref(list);
			json_decref(o);
			o = NULL;
			goto out;
		}
		json_object_set_new(x, "damaged", damaged);
	}
	json_object_set_new(o, "volumes", list);
out:
	store_lane_free(tools);
	return o;
}

/* Without a parent everything is asked for, and so what is damaged is found
 * lacking, too. */
static void
offer_parent(struct session *s, struct job *j, json_t *a)
{
	json_t *parent = j->has_parent ? parent_to_json(s, j) : NULL;

	if (parent != NULL) {
		json_object_set_new(a, "parent", parent);
	} else if (j->has_parent) {
		j->has_parent = false;
		leaving_release(s->srv, j->parent.vm, j->parent.id);
	}
}

/* What a running job owns; on failure the caller drops the job. */
static int
equip(struct session *s, struct job *j, bool full,
    const struct backup_ref *base, int wait_ms, struct err *e)
{
	struct serve *srv = s->srv;
	struct lock_request l = { .vm = j->face.vm,
		.mode = LOCK_FOR_INGEST,
		.job = j->face.id,
		.host = j->face.host,
		.since = j->face.since,
		.look = session_look,
		.arg = s };
	int rc;

	rc = keyring_job_begin(srv->keyring, s->key, s->usage, e);
	if (rc != 0)
		return rc;
	j->usage = s->usage;
	rc = lock_take(srv->locks, &l, wait_ms, &j->lock[0], e);
	if (rc != 0)
		return rc;
	rc = domains_for(srv->domains, j->face.vm, &j->domain, e);
	if (rc != 0)
		return rc;
	j->manifest.domain = j->domain.number;
	rc = store_begin(srv->store, j->domain.number, &j->session, e);
	if (rc != 0)
		return rc;
	/* Only now: what the catalog shows from here on the session may use. */
	if (!full)
		find_parent(s, j, base);
	if (base != NULL && !j->has_parent)
		return err_set(e, ERR_NOENT,
		    "%s has no backup of the time that it builds on, or one "
		    "with other ids",
		    j->face.vm);
	return 0;
}

/* What it is to build on, by its time: true if that is said. */
static int
take_base(const json_t *q, const char *vm, bool *said, struct backup_ref *base,
    struct err *e)
{
	const char *when = NULL;
	int rc = json_opt_str(q, "base", &when, e);

	*said = rc == 0 && when != NULL;
	if (!*said)
		return rc;
	*base = (struct backup_ref){ .by_time = true };
	memcpy(base->vm, vm, strlen(vm) + 1);
	if (time_parse(when, &base->time) != 0)
		return err_set(e, ERR_PROTO, "\"base\" is not a time");
	return 0;
}

/* A job that holds its VM, and knows what it builds on; not begun yet. */
static int
prepare(struct session *s, const json_t *q, struct job **out, struct err *e)
{
	bool full = false, on_base = false;
	struct backup_ref base;
	const char *vm;
	struct job *j;
	int rc, wait_ms;

	rc = take_vm(q, &vm, e);
	if (rc == 0)
		rc = check_import(q, e);
	if (rc == 0)
		rc = session_wait_ms(q, &wait_ms, e);
	if (rc == 0)
		rc = json_opt_bool(q, "full", &full, e);
	if (rc == 0)
		rc = check_may(s->key, vm, e);
	if (rc == 0)
		rc = take_base(q, vm, &on_base, &base, e);
	if (rc != 0)
		return rc;
	rc = agents_task(s, q, JOB_BACKUP, vm, NULL, vm, &j, e);
	if (rc != 0)
		return rc;
	memcpy(j->manifest.vm, vm, strlen(vm) + 1);
	memcpy(j->manifest.host, s->key->name, strlen(s->key->name) + 1);
	j->manifest.chunk_size = store_format(s->srv->store)->chunk_size;
	j->lanes_max = s->key->lanes;
	rc = equip(s, j, full, on_base ? &base : NULL, wait_ms, e);
	if (rc != 0) {
		job_drop(j);
		return rc;
	}
	*out = j;
	return 0;
}

int
ingest_prepare(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char when[TIME_TEXT_LEN + 1];
	struct job *j;
	json_t *parent;
	int rc;

	rc = prepare(s, q, &j, e);
	if (rc != 0)
		return rc;
	s->prepared = j;
	json_set_u64(a, "job", j->face.id);
	if (!j->has_parent)
		return 0;
	parent = json_object();
	json_set_str(parent, "time", time_print(j->parent.time, when));
	if (j->parent.checkpoint[0] != 0)
		json_set_str(parent, "checkpoint", j->parent.checkpoint);
	json_object_set_new(a, "parent", parent);
	return 0;
}

/* The job that this lane prepared for the VM, or a new one. */
static int
begin_job(struct session *s, const json_t *q, struct job **out, struct err *e)
{
	const char *vm;
	int rc;

	if (s->prepared == NULL)
		return prepare(s, q, out, e);
	rc = take_vm(q, &vm, e);
	if (rc == 0)
		rc = check_import(q, e);
	if (rc == 0 && strcmp(vm, s->prepared->face.vm) != 0)
		rc = err_set(e, ERR_INVAL,
		    "this lane has prepared a backup of %s, not of %s",
		    s->prepared->face.vm, vm);
	if (rc != 0)
		return rc;
	*out = s->prepared;
	s->prepared = NULL;
	return 0;
}

int
ingest_begin(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	const struct manifest *m;
	char size[16];
	struct job *j;
	int rc;

	rc = begin_job(s, q, &j, e);
	if (rc != 0)
		return rc;
	m = &j->manifest;
	rc = take_time(s, q, &j->manifest, e);
	if (rc == 0)
		rc = take_manifest(q, &j->manifest, e);
	if (rc != 0) {
		job_drop(j);
		return rc;
	}
	match_volumes(j);
	json_set_u64(a, "job", j->face.id);
	json_set_hex(a, "token", j->token, sizeof(j->token));
	json_set_u64(a, "lanes_max", j->lanes_max);
	if (j->domain.keyed)
		json_set_hex(a, "hash_key", j->domain.key, HASH_KEY_LEN);
	offer_parent(s, j, a);
	rc = agents_begin(s, j, e);
	if (rc != 0) {
		job_drop(j);
		return rc;
	}
	session_job(s, j, true);
	log_info("job %" PRIu64 ": backup of %s (%s) began: %u volumes, %s%s",
	    j->face.id, m->vm, s->key->name, m->nvolumes,
	    size_print(manifest_size(m), size),
	    j->has_parent ? ", with a parent" : "");
	return 0;
}
