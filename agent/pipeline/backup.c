/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/backup.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/pipeline/backup_begin.h"
#include "agent/pipeline/backup_leaf.h"
#include "agent/sink/swap.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3.h"

int
backup_open(const struct backup_options *o, struct backup **out, struct err *e)
{
	struct backup *b = xcalloc(1, sizeof(*b));
	int rc;

	b->options = o;
	cursor_init(&b->cursor);
	probes_init(&b->probes);
	trust_init(&b->trust, o->verify_clean);
	rc = job_open(&b->job, &o->job, e);
	if (rc != 0)
		goto err_free;
	rc = backup_prepare(b, e);
	if (rc != 0)
		goto err_job;
	*out = b;
	return 0;
err_job:
	job_close(&b->job);
err_free:
	trust_fini(&b->trust);
	probes_fini(&b->probes);
	cursor_fini(&b->cursor);
	free(b);
	return rc;
}

const char *
backup_parent_checkpoint(const struct backup *b)
{
	return b->checkpoint[0] != 0 ? b->checkpoint : NULL;
}

const char *
backup_repo(const struct backup *b)
{
	return b->job.control.uuid;
}

int
backup_alive(struct backup *b, struct err *e)
{
	if (!b->prepared)
		return 0;
	return remote_call(
	    &b->job.control, remote_op("progress"), REMOTE_CALL_MS, NULL, e);
}

static int
take_inputs(
    struct backup *b, const struct backup_input *in, unsigned n, struct err *e)
{
	b->chunk_size = b->job.control.chunk_size;
	for (unsigned i = 0; i < n; i++) {
		struct backup_volume *v = &b->volume[b->nvolumes++];

		v->name = in[i].name;
		v->kind = in[i].kind;
		v->source = in[i].source;
		v->path = in[i].path;
		v->identity = in[i].identity;
		v->base_root = in[i].base_root;
		if (v->source->size > VOLUME_SIZE_MAX) {
			err_set(e, ERR_LIMIT, "the disk is too large");
			return err_prefix(e, "disk %s", v->name);
		}
		v->nslices = chunk_nslices(v->source->size, b->chunk_size);
		v->tree = tree_new(v->source->size, b->chunk_size);
		b->job.count.total += v->source->size;
		b->cursor.nleaves[b->cursor.nvolumes++] = tree_nleaves(v->tree);
	}
	return 0;
}

/* What was sent is in the store, so little of it goes twice. */
static void
begin_anew(struct backup *b, struct backup_result *out)
{
	bool condemned = atomic_load(&b->trust.lost) == TRUST_CONDEMNED;
	struct backup_volume *v = &b->volume[b->trust.volume];
	uint64_t off = b->trust.slice * b->chunk_size;

	if (condemned) {
		out->condemned = true;
		memcpy(out->condemned_disk, v->name, strlen(v->name) + 1);
		out->condemned_offset = off;
		log_error("disk %s: at byte %llu it is not as it was, though "
			  "nothing was noted to have changed: all of it is "
			  "read",
		    v->name, (unsigned long long)off);
	} else {
		log_info("disk %s: near byte %llu the store has lost a part of "
			 "the backup before: all of it is read",
		    v->name, (unsigned long long)off);
	}
	for (unsigned i = 0; i < b->nvolumes; i++) {
		v = &b->volume[i];
		tree_free(v->tree);
		v->tree = tree_new(v->source->size, b->chunk_size);
		v->trusted = false;
		/* Then what it has is asked for, all of it. */
		if (!condemned)
			v->parent_nleaves = 0;
	}
	cursor_rewind(&b->cursor);
	probes_clear(&b->probes);
	b->trust.used = false;
	atomic_store(&b->trust.lost, TRUST_KEPT);
	atomic_store(&b->job.count.done, 0);
	atomic_store(&b->job.count.holes, 0);
	atomic_store(&b->job.count.unchanged, 0);
	atomic_store(&b->job.count.deduplicated, 0);
}

static int
run(struct backup *b, struct backup_result *out, struct err *e)
{
	const struct backup_options *o = b->options;
	int rc;

	rc = job_tell(&b->job, "reading", e);
	if (rc != 0)
		return rc;
	effort_init(&b->effort, o->compression, b->job.nlanes);
	for (;;) {
		rc = job_run(&b->job, o->vm, o->quiet, backup_lane, b, e);
		if (rc != 0 || !trust_is_lost(&b->trust))
			break;
		begin_anew(b, out);
	}
	effort_fini(&b->effort);
	return rc;
}

static int
commit(struct backup *b, struct backup_result *out, struct err *e)
{
	json_t *ask, *roots, *answer;
	char text[2 * ID_LEN + 1];
	const char *name, *id;
	struct id root;
	int rc;

	rc = job_tell(&b->job, "committing", e);
	if (rc != 0)
		return rc;
	ask = remote_op("commit");
	roots = json_array();
	for (unsigned i = 0; i < b->nvolumes; i++) {
		if (!tree_root(b->volume[i].tree, &root)) {
			json_decref(roots);
			json_decref(ask);
			return err_set(e, ERR_INVAL,
			    "disk %s: its tree is not complete: this is a "
			    "mistake in the agent",
			    b->volume[i].name);
		}
		json_array_append_new(
		    roots, json_string(hex(root.b, ID_LEN, text)));
	}
	counters_stats(
	    &b->job.count, now_ms() - b->job.started_ms, &out->stats);
	json_object_set_new(ask, "roots", roots);
	json_object_set_new(ask, "stats", manifest_stats_to_json(&out->stats));
	rc = remote_call(&b->job.control, ask, REMOTE_COMMIT_MS, &answer, e);
	if (rc != 0)
		return rc;
	rc = json_get_str(answer, "backup", &name, e);
	if (rc == 0)
		rc = json_get_str(answer, "id", &id, e);
	if (rc == 0)
		rc = json_get_u64(answer, "seq", &out->seq, e);
	if (rc == 0) {
		strncpy(out->name, name, sizeof(out->name) - 1);
		strncpy(out->id, id, sizeof(out->id) - 1);
	}
	json_decref(answer);
	return rc;
}

int
backup_send(struct backup *b, const struct backup_input *in, unsigned n,
    const char *consistency, const char *checkpoint, const char *since_used,
    struct backup_result *out, struct err *e)
{
	int rc;

	assert(!b->sent && n <= MANIFEST_VOLUMES_MAX);
	b->sent = true;
	memset(out, 0, sizeof(*out));
	rc = take_inputs(b, in, n, e);
	if (rc == 0) {
		out->size = b->job.count.total;
		rc = backup_begin(b, consistency, checkpoint, since_used, e);
	}
	if (rc != 0)
		goto out;
	out->has_parent = b->has_parent;
	memcpy(out->whole, b->whole, sizeof(out->whole));
	out->trusted = b->trust.used;
	rc = run(b, out, e);
	for (unsigned i = 0; i < n && rc == 0; i++)
		if ((rc = source_still(in[i].source, e)) != 0)
			err_prefix(e, "disk %s", in[i].name);
out:
	if (rc == 0 && b->options->last != NULL)
		rc = b->options->last(b->options->last_arg, e);
	for (unsigned i = 0; i < n; i++)
		source_close(in[i].source);
	if (rc == 0)
		rc = commit(b, out, e);
	/* Best effort: without it the daemon sees that the lane ends.  Who is
	 * stuck does not hear it. */
	if (rc != 0 && rc != ERR_TIMEOUT && b->began)
		job_finish(&b->job, false, e->text, NULL);
	return rc;
}

void
backup_close(struct backup *b)
{
	if (b == NULL)
		return;
	job_close(&b->job);
	for (unsigned i = 0; i < b->nvolumes; i++) {
		free(b->volume[i].damaged);
		tree_free(b->volume[i].tree);
	}
	trust_fini(&b->trust);
	probes_fini(&b->probes);
	cursor_fini(&b->cursor);
	free(b);
}

static int
open_disks(const struct backup_disk *disk, unsigned n, struct backup_input *in,
    unsigned *nopen, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		const char *path = source_path(disk[i].spec);
		int rc = !nfs3_is_url(path) && swap_pending(path)
		    ? swap_refuse(path, e)
		    : 0;

		if (rc == 0)
			rc = source_open(disk[i].spec, &in[i].source, e);
		if (rc != 0) {
			/* Damage there is not damage of the store. */
			e->code = rc == ERR_CORRUPT ? ERR_INVAL : rc;
			return err_prefix(e, "disk %s", disk[i].name);
		}
		in[i].name = disk[i].name;
		in[i].kind = "disk";
		in[i].path = path;
		in[i].identity = NULL;
		in[i].base_root = NULL;
		*nopen = i + 1;
	}
	return 0;
}

int
backup_disks(const struct backup_options *o, const struct backup_disk *disk,
    unsigned n, struct backup_result *out, struct err *e)
{
	struct backup_input in[MANIFEST_VOLUMES_MAX];
	struct backup *b;
	unsigned nopen = 0;
	int rc;

	memset(out, 0, sizeof(*out));
	/* Held before the daemon is asked: nothing to undo there if it fails.
	 */
	rc = open_disks(disk, n, in, &nopen, e);
	if (rc == 0)
		rc = backup_open(o, &b, e);
	if (rc != 0)
		goto err_close;
	/* Whoever writes to an image holds its lock, and we hold ours. */
	rc = backup_send(b, in, n, "offline", NULL, NULL, out, e);
	backup_close(b);
	return rc;
err_close:
	while (nopen > 0)
		source_close(in[--nopen].source);
	return rc;
}
