/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of backups: restore jobs, and the parent's tree for backups. */
#include <inttypes.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/agents.h"

static int
check_onto(const struct auth_key *key, const char *onto, struct err *e)
{
	struct buf patterns = { 0 };

	if (!vm_name_ok(onto))
		return err_set(
		    e, ERR_INVAL, "\"%.140s\" is no name for a VM", onto);
	if (auth_sees(key, onto))
		return 0;
	auth_patterns(key, &patterns);
	err_set(e, ERR_DENIED,
	    "key %s may not restore onto VM %s: its patterns are %.200s",
	    key->name, onto, buf_cstr(&patterns));
	buf_fini(&patterns);
	return ERR_DENIED;
}

/*
 * To plain files: the backup is read.  Onto disks: the VM that it is of, and
 * the one whose disks they are, are restored; in order of names, as everyone
 * takes two locks.
 */
static int
take_locks(struct session *s, struct job *j, const char *onto, int wait_ms,
    struct err *e)
{
	struct lock_request l = { .vm = j->face.vm,
		.mode = onto != NULL ? LOCK_FOR_RESTORE : LOCK_FOR_READ,
		.backup = onto != NULL ? NULL : j->manifest.id,
		.job = j->face.id,
		.host = j->face.host,
		.since = j->face.since,
		.look = session_look,
		.arg = s };
	uint64_t until = now_ms() + (uint64_t)(wait_ms > 0 ? wait_ms : 0);
	const char *vm[2] = { j->face.vm, onto };
	int rc, n = 1;

	if (onto != NULL && strcmp(onto, j->face.vm) != 0) {
		bool swap = strcmp(onto, j->face.vm) < 0;

		vm[0] = swap ? onto : j->face.vm;
		vm[1] = swap ? j->face.vm : onto;
		n = 2;
	}
	for (int i = 0; i < n; i++) {
		uint64_t now = now_ms();

		l.vm = vm[i];
		if (wait_ms > 0)
			wait_ms = now < until ? (int)(until - now) : 0;
		rc = lock_take(s->srv->locks, &l, wait_ms, &j->lock[i], e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
equip(struct session *s, struct job *j, const char *onto, int wait_ms,
    struct err *e)
{
	struct serve *srv = s->srv;
	struct manifest *m = &j->manifest;
	uint8_t id[BACKUP_ID_LEN];
	int rc;

	rc = keyring_job_begin(srv->keyring, s->key, s->usage, e);
	if (rc != 0)
		return rc;
	j->usage = s->usage;
	rc = take_locks(s, j, onto, wait_ms, e);
	if (rc != 0)
		return rc;
	/* It may have been deleted before the lock was there. */
	memcpy(id, m->id, sizeof(id));
	if (catalog_find_id(srv->catalog, j->face.vm, id, m) != 0)
		return err_set(e, ERR_NOENT,
		    "that backup of %s was deleted just now", j->face.vm);
	return domains_get(srv->domains, m->domain, &j->domain, e);
}

int
restore_begin(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	const char *backup, *onto = NULL;
	struct backup_ref ref;
	struct manifest m;
	struct job *j;
	int rc, wait_ms;

	rc = json_get_str(q, "backup", &backup, e);
	if (rc == 0)
		rc = session_wait_ms(q, &wait_ms, e);
	if (rc == 0)
		rc = json_opt_str(q, "onto", &onto, e);
	if (rc == 0)
		rc = backup_ref_parse(backup, &ref, e);
	if (rc != 0)
		return rc;
	if (!auth_sees(s->key, ref.vm))
		return err_set(
		    e, ERR_NOENT, "there is no backup of %s", ref.vm);
	rc = catalog_find(s->srv->catalog, &ref, &m, e);
	if (rc == 0 && onto != NULL)
		rc = check_onto(s->key, onto, e);
	if (rc != 0)
		return rc;
	rc = agents_task(
	    s, q, JOB_RESTORE, onto != NULL ? onto : m.vm, m.vm, m.vm, &j, e);
	if (rc != 0)
		return rc;
	j->manifest = m;
	j->lanes_max = s->key->lanes;
	j->plans = plans_new();
	j->onto = onto != NULL;
	if (onto != NULL && strcmp(onto, m.vm) != 0)
		memcpy(j->face.other, onto, strlen(onto) + 1);
	rc = equip(s, j, onto, wait_ms, e);
	if (rc != 0) {
		job_drop(j);
		return rc;
	}
	json_set_u64(a, "job", j->face.id);
	json_set_hex(a, "token", j->token, sizeof(j->token));
	json_set_u64(a, "lanes_max", j->lanes_max);
	if (j->domain.keyed)
		json_set_hex(a, "hash_key", j->domain.key, HASH_KEY_LEN);
	json_object_set_new(a, "manifest", manifest_to_json(&j->manifest));
	rc = agents_begin(s, j, e);
	if (rc != 0) {
		job_drop(j);
		return rc;
	}
	session_job(s, j, true);
	log_info("job %" PRIu64 ": restore of %s (%s) began%s%s", j->face.id,
	    manifest_name(&m, name), s->key->name, onto != NULL ? " onto " : "",
	    onto != NULL ? onto : "");
	return 0;
}

/* The volume whose tree a TREE of this job means. */
static int
tree_volume(const struct job *j, unsigned volume,
    const struct manifest_volume **out, struct err *e)
{
	if (volume >= j->manifest.nvolumes)
		return err_set(e, ERR_INVAL, "there is no volume %u", volume);
	if (j->face.kind == JOB_RESTORE) {
		*out = &j->manifest.volume[volume];
		return 0;
	}
	if (!j->has_parent || j->parent_volume[volume] == -1)
		return err_set(e, ERR_NOENT, "volume %s has no parent",
		    j->manifest.volume[volume].name);
	*out = &j->parent.volume[j->parent_volume[volume]];
	return 0;
}

/* A backup looks at parts of its parent, a restore at all of its tree. */
static int
read_node(struct session *s, const struct manifest_volume *v,
    const struct msg_tree *q, struct node *out, struct err *e)
{
	struct store *store = s->srv->store;

	if (s->job->plans != NULL)
		return plans_node(s->job->plans, store, s->tools, v, q, out, e);
	return store_tree_node(
	    store, s->tools, &v->root, v->size, q->level, q->index, out, e);
}

int
restore_tree(struct session *s, const struct frame *f, struct err *e)
{
	const struct manifest_volume *v;
	struct node node = { .n = 0 };
	uint8_t body[NODE_LEN_MAX];
	struct msg_tree q;
	size_t len = 0;
	int rc;

	if (s->job == NULL)
		return session_need_job(s, JOB_RESTORE, f->type, e);
	rc = msg_tree_parse(f->payload, f->len, &q, e);
	if (rc == 0)
		rc = tree_volume(s->job, q.volume, &v, e);
	if (rc == 0)
		rc = job_enter(s->job, e);
	if (rc != 0)
		return rc;
	if (!id_is_hole(&v->root))
		rc = read_node(s, v, &q, &node, e);
	job_leave(s->job);
	if (rc != 0)
		return rc;
	if (node.n > 0)
		len = node_print(&node, body);
	lane_send(s->lane, MSG_TREE_NODE, f->request, body, len, NULL);
	return 0;
}

struct reply {
	struct session *s;
	uint32_t request;
	uint32_t ndata;
};

static int
send_slice(void *arg, uint64_t slice, uint8_t codec, uint32_t raw_len,
    const uint8_t *data, size_t len, struct err *e)
{
	struct reply *r = arg;
	struct msg_data m = { .slice = slice,
		.codec = codec,
		.raw_len = raw_len,
		.data = data,
		.len = len };
	int rc;

	/* A slow peer that takes something is no silent one. */
	rc = job_alive(r->s->job, e);
	if (rc != 0)
		return rc;
	msg_data_print(lane_begin(r->s->lane, MSG_DATA, r->request), &m);
	r->ndata++;
	return lane_end(r->s->lane, e);
}

/* A part of what is asked for, into ${r}. */
static int
read_part(struct reply *r, const struct manifest_volume *v,
    const struct msg_read *q, struct err *e)
{
	struct store_lane *tools = r->s->tools;
	struct store *store = r->s->srv->store;
	struct plans *plans = r->s->job->plans;
	struct plan_use *u;
	int rc;

	rc = plans_get(plans, store, tools, v, q, &u, e);
	if (rc != 0)
		return rc;
	rc = store_plan_read(
	    store, tools, plans_plan(u), q->part, q->nparts, send_slice, r, e);
	plans_put(plans, u);
	return rc;
}

int
restore_read(struct session *s, const struct frame *f, struct err *e)
{
	struct reply r = { .s = s, .request = f->request };
	const struct manifest_volume *v;
	struct msg_read q;
	uint64_t nslices;
	int rc;

	rc = session_need_job(s, JOB_RESTORE, f->type, e);
	if (rc == 0)
		rc = msg_read_parse(f->payload, f->len, &q, e);
	if (rc == 0)
		rc = job_alive(s->job, e);
	if (rc == 0)
		rc = tree_volume(s->job, q.volume, &v, e);
	if (rc != 0)
		return rc;
	nslices = chunk_nslices(v->size, s->job->manifest.chunk_size);
	if (q.slice >= nslices || q.n > nslices - q.slice)
		return err_set(e, ERR_INVAL,
		    "READ: volume %s has %" PRIu64 " slices", v->name, nslices);
	if (!id_is_hole(&v->root))
		rc = read_part(&r, v, &q, e);
	if (rc != 0)
		return rc;
	msg_read_done_print(
	    lane_begin(s->lane, MSG_READ_DONE, f->request), r.ndata);
	lane_end(s->lane, NULL);
	return 0;
}
