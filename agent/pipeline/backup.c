/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/backup.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/pipeline/backup_leaf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"

static int
open_sources(struct backup *b, const struct backup_options *o, struct err *e)
{
	for (unsigned i = 0; i < o->ndisks; i++) {
		struct backup_volume *v = &b->volume[i];
		int rc = source_open(o->disk[i].spec, &v->source, e);

		if (rc == 0)
			b->nvolumes++;
		if (rc == 0 && v->source->size > VOLUME_SIZE_MAX)
			rc = err_set(e, ERR_LIMIT, "the disk is too large");
		if (rc != 0) {
			e->code = rc == ERR_CORRUPT ? ERR_INVAL : rc;
			return err_prefix(e, "disk %s", o->disk[i].name);
		}
		v->name = o->disk[i].name;
	}
	return 0;
}

static void
make_trees(struct backup *b)
{
	b->chunk_size = b->job.control.chunk_size;
	for (unsigned i = 0; i < b->nvolumes; i++) {
		struct backup_volume *v = &b->volume[i];

		v->nslices = chunk_nslices(v->source->size, b->chunk_size);
		v->tree = tree_new(v->source->size, b->chunk_size);
		b->job.count.total += v->source->size;
		b->cursor.nleaves[b->cursor.nvolumes++] = tree_nleaves(v->tree);
	}
}

static json_t *
begin_ask(const struct backup *b, const struct backup_options *o)
{
	json_t *ask = remote_op("begin"), *volumes = json_array();
	char text[TIME_TEXT_LEN + 1];

	for (unsigned i = 0; i < b->nvolumes; i++) {
		const struct backup_volume *v = &b->volume[i];
		json_t *j = json_object();

		json_set_str(j, "name", v->name);
		json_set_str(j, "kind", "disk");
		json_set_u64(j, "size", v->source->size);
		json_set_str(j, "format", v->source->format);
		json_set_u64(j, "cluster_size", v->source->cluster_size);
		json_array_append_new(volumes, j);
	}
	json_set_str(ask, "vm", o->vm);
	json_object_set_new(ask, "volumes", volumes);
	json_set_str(ask, "agent_time", time_print((uint64_t)time(NULL), text));
	/* Whoever writes to an image holds its lock, and we hold ours. */
	json_set_str(ask, "consistency", "offline");
	json_set_bool(ask, "full", o->full);
	remote_ask_wait(ask, o->job.wait_ms);
	return ask;
}

/* Slices that the store has no sound copy of any more. */
static int
read_damaged(struct backup_volume *v, const json_t *list, struct err *e)
{
	uint64_t end = 0;
	const json_t *j;
	size_t i;

	if (list == NULL)
		return 0;
	v->damaged = xcalloc(json_array_size(list), sizeof(*v->damaged));
	json_array_foreach(list, i, j)
	{
		json_int_t first = json_integer_value(json_array_get(j, 0));
		json_int_t n = json_integer_value(json_array_get(j, 1));
		struct slice_run *r = &v->damaged[i];

		if (first < 0 || n <= 0 || (uint64_t)first < end ||
		    (uint64_t)first > VOLUME_SIZE_MAX ||
		    (uint64_t)n > VOLUME_SIZE_MAX)
			return err_set(
			    e, ERR_PROTO, "\"damaged\" holds no runs in order");
		r->first = (uint64_t)first;
		r->n = (uint64_t)n;
		end = r->first + r->n;
		v->ndamaged++;
	}
	return 0;
}

/* What to compare each volume with. */
static int
read_parent(
    struct backup *b, const json_t *answer, bool *has_parent, struct err *e)
{
	json_t *parent, *volumes;
	int rc;

	*has_parent = json_object_get(answer, "parent") != NULL;
	if (!*has_parent)
		return 0;
	rc = json_get_object(answer, "parent", &parent, e);
	if (rc == 0)
		rc = json_get_array(parent, "volumes", &volumes, e);
	if (rc == 0 && json_array_size(volumes) != b->nvolumes)
		rc = err_set(e, ERR_PROTO, "a parent of other volumes");
	for (unsigned i = 0; rc == 0 && i < b->nvolumes; i++) {
		const json_t *j = json_array_get(volumes, i);
		struct id root;
		uint64_t size = 0, n;

		if (json_is_null(j))
			continue;
		rc = json_get_u64(j, "size", &size, e);
		if (rc == 0)
			rc = json_get_hex(j, "root", root.b, ID_LEN, e);
		if (rc == 0)
			rc = read_damaged(
			    &b->volume[i], json_object_get(j, "damaged"), e);
		if (rc != 0 || id_is_hole(&root))
			continue;
		n = chunk_nslices(size, b->chunk_size);
		b->volume[i].parent_nleaves =
		    n / NODE_FANOUT + (n % NODE_FANOUT != 0);
	}
	return rc;
}

static int
begin(struct backup *b, const struct backup_options *o, bool *has_parent,
    struct err *e)
{
	json_t *answer;
	int rc;

	rc = remote_call(&b->job.control, begin_ask(b, o),
	    remote_wait_ms(REMOTE_CALL_MS, o->job.wait_ms), &answer, e);
	if (rc != 0)
		return rc;
	rc = job_begun(&b->job, answer, e);
	if (rc == 0) {
		rc = read_parent(b, answer, has_parent, e);
		if (rc != 0)
			err_prefix(e, "%s", lane_peer(b->job.control.lane));
	}
	json_decref(answer);
	return rc;
}

static int
commit(struct backup *b, struct backup_result *out, struct err *e)
{
	json_t *ask = remote_op("commit"), *roots = json_array(), *answer;
	char text[2 * ID_LEN + 1];
	const char *name, *id;
	struct id root;
	int rc;

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

static void
close_volumes(struct backup *b)
{
	for (unsigned i = 0; i < b->nvolumes; i++) {
		free(b->volume[i].damaged);
		tree_free(b->volume[i].tree);
		source_close(b->volume[i].source);
	}
}

int
backup_run(
    const struct backup_options *o, struct backup_result *out, struct err *e)
{
	struct backup *b = xcalloc(1, sizeof(*b));
	int rc;

	memset(out, 0, sizeof(*out));
	cursor_init(&b->cursor);
	/* Held before the daemon is asked: nothing to undo there if it fails.
	 */
	rc = open_sources(b, o, e);
	if (rc != 0)
		goto err_volumes;
	rc = job_open(&b->job, &o->job, e);
	if (rc != 0)
		goto err_volumes;
	make_trees(b);
	out->size = b->job.count.total;
	rc = begin(b, o, &out->has_parent, e);
	if (rc != 0)
		goto err_job;
	effort_init(&b->effort, o->compression, b->job.nlanes);
	rc = job_run(&b->job, o->vm, o->quiet, backup_lane, b, e);
	effort_fini(&b->effort);
	if (rc == 0)
		rc = commit(b, out, e);
	/* Best effort: without it the daemon sees that the lane ends. */
	if (rc != 0)
		job_finish(&b->job, false, e->text, NULL);
err_job:
	job_close(&b->job);
err_volumes:
	close_volumes(b);
	cursor_fini(&b->cursor);
	free(b);
	return rc;
}
