/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_on: a restore that a connected agent is to do, onto the disks of a VM
 * of its host.  What can be told from here is told now; the agent looks at the
 * disks themselves before it touches anything.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/agents.h"

struct wish {
	const char *backup, *host;
	const char *onto, *as; /* or NULL */
	const char *target;    /* the VM whose disks are written */
	json_t *disks;         /* or NULL */
	bool keep_old, force, later;
	struct manifest m;
};

static int
take_disks(struct wish *w, const json_t *q, struct err *e)
{
	const json_t *d;
	size_t i;
	int rc;

	if (json_object_get(q, "disks") == NULL)
		return 0;
	rc = json_get_array(q, "disks", &w->disks, e);
	if (rc == 0 && json_array_size(w->disks) > MANIFEST_VOLUMES_MAX)
		rc = err_set(e, ERR_LIMIT, "a backup has at most %d disks",
		    MANIFEST_VOLUMES_MAX);
	if (rc != 0)
		return rc;
	json_array_foreach(w->disks, i, d)
	{
		const char *name, *path = NULL, *colon;

		rc = json_get_str(d, "name", &name, e);
		if (rc == 0)
			rc = json_opt_str(d, "path", &path, e);
		if (rc != 0)
			return rc;
		if (manifest_volume_find(&w->m, name) == -1)
			return err_set(e, ERR_NOENT, "%s has no disk \"%.70s\"",
			    w->backup, name);
		if (path == NULL)
			continue;
		colon = strchr(path, ':');
		if (strncmp(path, "raw:", 4) == 0 ||
		    strncmp(path, "qcow2:", 6) == 0)
			path = colon + 1;
		if (path[0] != '/')
			return err_set(e, ERR_INVAL,
			    "disk %s: on %s there is no telling where "
			    "\"%.100s\" "
			    "is: say the path from the root",
			    name, w->host, path);
	}
	return 0;
}

static int
take(struct wish *w, const json_t *q, struct err *e)
{
	int rc;

	rc = json_get_str(q, "backup", &w->backup, e);
	if (rc == 0)
		rc = json_get_str(q, "host", &w->host, e);
	if (rc == 0)
		rc = json_opt_str(q, "onto", &w->onto, e);
	if (rc == 0)
		rc = json_opt_str(q, "as", &w->as, e);
	if (rc == 0)
		rc = json_opt_bool(q, "keep_old", &w->keep_old, e);
	if (rc == 0)
		rc = json_opt_bool(q, "force", &w->force, e);
	if (rc == 0)
		rc = json_opt_bool(q, "later", &w->later, e);
	if (rc == 0 && w->onto != NULL && w->as != NULL)
		rc = err_set(e, ERR_INVAL,
		    "onto the disks of a VM, or as a new one: not both");
	if (rc == 0 && w->onto != NULL && !vm_name_ok(w->onto))
		rc = err_set(
		    e, ERR_INVAL, "\"%.140s\" is no name for a VM", w->onto);
	if (rc == 0 && w->as != NULL && !vm_name_ok(w->as))
		rc = err_set(
		    e, ERR_INVAL, "\"%.140s\" is no name for a VM", w->as);
	return rc;
}

static int
find(struct session *s, struct wish *w, struct err *e)
{
	struct backup_ref ref;
	int rc = backup_ref_parse(w->backup, &ref, e);

	if (rc == 0 && !auth_sees(s->key, ref.vm))
		rc = err_set(e, ERR_NOENT, "there is no backup of %s", ref.vm);
	if (rc == 0)
		rc = catalog_find(s->srv->catalog, &ref, &w->m, e);
	if (rc != 0)
		return rc;
	w->target = w->as != NULL ? w->as : w->onto != NULL ? w->onto : w->m.vm;
	if (!auth_sees(s->key, w->target))
		return err_set(e, ERR_DENIED, "key %s may not restore VM %s",
		    s->key->name, w->target);
	return 0;
}

/* The host's key, not only the one that asks, must be allowed to. */
static int
check_key(struct session *s, const struct wish *w, struct err *e)
{
	struct keyset *keys = keyring_get(s->srv->keyring);
	const struct auth_key *k = auth_find_name(keyset_auth(keys), w->host);
	int rc = 0;

	if (k == NULL)
		rc = err_set(e, ERR_NOENT,
		    "there is no key named %.70s; see `backstay agents`",
		    w->host);
	else if (!auth_may(k, ROLE_RESTORE))
		rc = err_set(e, ERR_DENIED,
		    "the key %s may not restore: it has not the role restore",
		    w->host);
	else if (!auth_sees(k, w->m.vm) || !auth_sees(k, w->target))
		rc = err_set(e, ERR_DENIED,
		    "the key %s may not restore %s: its patterns do not match",
		    w->host, auth_sees(k, w->m.vm) ? w->target : w->m.vm);
	keyset_put(keys);
	return rc;
}

static const char *
named(const struct wish *w, const char *name)
{
	const json_t *d;
	size_t i;

	json_array_foreach(w->disks, i, d)
	{
		const char *n = json_string_value(json_object_get(d, "name"));

		if (n != NULL && strcmp(n, name) == 0)
			return json_string_value(json_object_get(d, "path"));
	}
	return NULL;
}

/* Each disk has a place. */
static int
check_places(const struct wish *w, const struct queue_look *l, struct err *e)
{
	bool own = strcmp(w->target, w->m.vm) == 0;

	for (unsigned i = 0; i < w->m.nvolumes; i++) {
		const struct manifest_volume *v = &w->m.volume[i];
		const char *there = "PATH";

		if (strcmp(v->kind, "disk") != 0 || named(w, v->name) != NULL ||
		    (own && *manifest_path(&w->m, v) != 0))
			continue;
		for (unsigned k = 0; l->has_vm && k < l->vm.ndisks; k++)
			if (strcmp(l->vm.disk[k].name, v->name) == 0)
				there = l->vm.disk[k].path;
		if (w->as != NULL)
			return err_set(e, ERR_INVAL,
			    "disk %s: a VM by a new name needs a place of its "
			    "own for it: say --disk %s=PATH",
			    v->name, v->name);
		return err_set(e, ERR_INVAL,
		    "disk %s: %s: say --disk %s=%.200s", v->name,
		    own ? "the backup does not say where it was"
			: "for another VM its place is to be named",
		    v->name, there);
	}
	return 0;
}

static int
check_host(struct session *s, const struct wish *w, struct err *e)
{
	struct queue_look l;
	int rc = 0;

	queue_look(s->srv->queue, w->host, w->target, &l);
	if (!l.connected && !w->later)
		rc = err_set(e, ERR_NOENT,
		    "%s is not connected: start backstay-agent serve there, or "
		    "say --later; see `backstay agents`",
		    w->host);
	else if (w->as != NULL && l.has_vm)
		rc = err_set(e, ERR_EXIST,
		    "%s has a VM %s already: say another name", w->host, w->as);
	else if (l.has_vm && l.vm.state == VM_RUNNING)
		rc = err_set(e, ERR_BUSY,
		    "VM %s runs on %s: shut it off first, or restore by a new "
		    "name (--as)",
		    w->target, w->host);
	else
		rc = check_places(w, &l, e);
	queue_look_fini(&l);
	return rc;
}

static json_t *
options(const struct wish *w)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	json_t *o = json_object();

	/* The very one: "latest" may be another when its turn comes. */
	json_set_str(o, "backup", manifest_name(&w->m, name));
	json_set_str(o, "onto", w->target);
	if (w->as != NULL)
		json_set_bool(o, "as_new", true);
	if (w->disks != NULL)
		json_object_set(o, "disks", w->disks);
	if (w->keep_old)
		json_set_bool(o, "keep_old", true);
	if (w->force)
		json_set_bool(o, "force", true);
	return o;
}

int
restore_on_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct wish *w = xcalloc(1, sizeof(*w));
	struct queue_request r = { .kind = JOB_RESTORE, .why = "console" };
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	uint64_t job;
	int rc;

	rc = take(w, q, e);
	if (rc == 0)
		rc = find(s, w, e);
	if (rc == 0)
		rc = take_disks(w, q, e);
	if (rc == 0)
		rc = check_key(s, w, e);
	if (rc == 0)
		rc = check_host(s, w, e);
	if (rc != 0)
		goto out;
	r.vm = w->target;
	r.agent = w->host;
	r.options = options(w);
	rc = queue_add(s->srv->queue, &r, &job, e);
	json_decref(r.options);
	if (rc != 0)
		goto out;
	json_set_u64(a, "job", job);
	json_set_str(a, "backup", manifest_name(&w->m, name));
	json_set_str(a, "onto", w->target);
	log_info("job %" PRIu64 ": restore of %s onto %s on %s is queued", job,
	    name, w->target, w->host);
out:
	free(w);
	return rc;
}
