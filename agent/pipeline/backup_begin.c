/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/backup_begin.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/image/origin.h"
#include "proto/base/json.h"

/* ${out} has room for MANIFEST_CHECKPOINT_MAX + 1 bytes. */
static int
take_checkpoint(const json_t *parent, char *out, struct err *e)
{
	const char *tag = "";
	int rc = json_opt_str(parent, "checkpoint", &tag, e);

	if (rc == 0 && strlen(tag) > MANIFEST_CHECKPOINT_MAX)
		rc = err_set(e, ERR_PROTO, "\"checkpoint\" is too long");
	if (rc == 0)
		memcpy(out, tag, strlen(tag) + 1);
	return rc;
}

static void
ask_base(json_t *ask, const struct backup_options *o)
{
	char text[TIME_TEXT_LEN + 1];

	if (o->base != 0)
		json_set_str(ask, "base", time_print(o->base, text));
}

static void
ask_import(json_t *ask, const struct backup_options *o)
{
	if (o->import != NULL)
		json_set_str(ask, "import", o->import);
}

int
backup_prepare(struct backup *b, struct err *e)
{
	const struct backup_options *o = b->options;
	json_t *ask = remote_op("prepare"), *answer, *parent;
	int rc;

	json_set_str(ask, "vm", o->vm);
	json_set_bool(ask, "full", o->full);
	ask_base(ask, o);
	ask_import(ask, o);
	remote_ask_task(ask);
	remote_ask_wait(ask, o->job.wait_ms);
	rc = remote_call(&b->job.control, ask,
	    remote_wait_ms(REMOTE_CALL_MS, o->job.wait_ms), &answer, e);
	if (rc == ERR_UNSUP)
		return 0;
	if (rc != 0)
		return rc;
	b->prepared = true;
	if (json_object_get(answer, "parent") != NULL) {
		rc = json_get_object(answer, "parent", &parent, e);
		if (rc == 0)
			rc = take_checkpoint(parent, b->checkpoint, e);
		if (rc != 0)
			err_prefix(e, "%s", lane_peer(b->job.control.lane));
	}
	json_decref(answer);
	return rc;
}

/* So that a restore finds it, and knows it again. */
static void
tell_origin(json_t *j, const struct backup_volume *v, size_t *room)
{
	struct origin o;
	size_t n;

	if (v->path == NULL)
		return;
	if (v->identity != NULL) {
		snprintf(o.path, sizeof(o.path), "%s", v->path);
		snprintf(o.identity, sizeof(o.identity), "%s", v->identity);
	} else if (!origin_find(v->path, &o)) {
		return;
	}
	n = strlen(o.path) + strlen(o.identity) + 2;
	if (n > *room)
		return;
	*room -= n;
	json_set_str(j, "path", o.path);
	if (o.identity[0] != 0)
		json_set_str(j, "identity", o.identity);
}

static json_t *
begin_ask(
    const struct backup *b, const char *consistency, const char *checkpoint)
{
	const struct backup_options *o = b->options;
	json_t *ask = remote_op("begin"), *volumes = json_array();
	size_t room = MANIFEST_ORIGINS_MAX;
	char text[TIME_TEXT_LEN + 1];

	for (unsigned i = 0; i < b->nvolumes; i++) {
		const struct backup_volume *v = &b->volume[i];
		json_t *j = json_object();

		json_set_str(j, "name", v->name);
		json_set_str(j, "kind", v->kind);
		json_set_u64(j, "size", v->source->size);
		json_set_str(j, "format", v->source->format);
		json_set_u64(j, "cluster_size", v->source->cluster_size);
		tell_origin(j, v, &room);
		json_array_append_new(volumes, j);
	}
	json_set_str(ask, "vm", o->vm);
	json_object_set_new(ask, "volumes", volumes);
	json_set_str(ask, "agent_time",
	    time_print(
		o->agent_time != 0 ? o->agent_time : (uint64_t)time(NULL),
		text));
	ask_base(ask, o);
	ask_import(ask, o);
	json_set_str(ask, "consistency", consistency);
	if (o->time != 0)
		json_set_str(ask, "time", time_print(o->time, text));
	if (checkpoint != NULL)
		json_set_str(ask, "checkpoint", checkpoint);
	json_set_bool(ask, "full", o->full);
	remote_ask_task(ask);
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

static int
read_volume(
    const struct backup *b, struct backup_volume *v, json_t *j, struct err *e)
{
	uint64_t n;
	int rc;

	rc = json_get_u64(j, "size", &v->parent_size, e);
	if (rc == 0)
		rc = json_get_hex(j, "root", v->parent_root.b, ID_LEN, e);
	if (rc == 0)
		rc = read_damaged(v, json_object_get(j, "damaged"), e);
	if (rc != 0)
		return rc;
	v->has_parent = true;
	if (v->base_root != NULL &&
	    (v->parent_size != v->source->size ||
		!id_equal(v->base_root, &v->parent_root)))
		return err_set(e, ERR_NOENT,
		    "disk %s: what it builds on is another there, or its ids "
		    "are of another kind: import the whole of it",
		    v->name);
	if (id_is_hole(&v->parent_root))
		return 0;
	n = chunk_nslices(v->parent_size, b->chunk_size);
	v->parent_nleaves = n / NODE_FANOUT + (n % NODE_FANOUT != 0);
	return 0;
}

/* Its changes are known since a backup that has no such volume. */
static void
say_whole(struct backup *b, const struct backup_volume *v, bool missing)
{
	size_t at = strlen(b->whole);

	snprintf(b->whole + at, sizeof(b->whole) - at, "%sdisk %s: %s",
	    at == 0 ? "" : "; ", v->name,
	    missing ? "the last backup has none"
		    : "in the last backup it is of another size");
}

/* What to compare each volume with, and which of them to trust. */
static int
read_parent(struct backup *b, const json_t *answer, const char *since_used,
    struct err *e)
{
	/* Not b->checkpoint: the caller may have ${since_used} from there. */
	char checkpoint[MANIFEST_CHECKPOINT_MAX + 1];
	json_t *parent, *volumes;
	bool trusted;
	int rc;

	if (json_object_get(answer, "parent") == NULL)
		return 0;
	rc = json_get_object(answer, "parent", &parent, e);
	if (rc == 0)
		rc = json_get_array(parent, "volumes", &volumes, e);
	if (rc == 0 && json_array_size(volumes) != b->nvolumes)
		rc = err_set(e, ERR_PROTO, "a parent of other volumes");
	if (rc == 0)
		rc = take_checkpoint(parent, checkpoint, e);
	if (rc != 0)
		return rc;
	b->has_parent = true;
	trusted = b->options->base != 0 ||
	    (since_used != NULL && since_used[0] != 0 &&
		strcmp(since_used, checkpoint) == 0);
	for (unsigned i = 0; rc == 0 && i < b->nvolumes; i++) {
		struct backup_volume *v = &b->volume[i];
		json_t *j = json_array_get(volumes, i);

		if (json_is_null(j) && v->base_root != NULL)
			return err_set(e, ERR_NOENT,
			    "disk %s: what it builds on has no such disk",
			    v->name);
		if (json_is_null(j)) {
			if (trusted && v->source->ops->clean != NULL)
				say_whole(b, v, true);
			continue;
		}
		rc = read_volume(b, v, j, e);
		v->trusted = rc == 0 && trusted &&
		    v->source->ops->clean != NULL &&
		    v->parent_size == v->source->size;
		b->trust.used |= v->trusted;
		if (rc == 0 && trusted && v->source->ops->clean != NULL &&
		    v->parent_size != v->source->size)
			say_whole(b, v, false);
	}
	return rc;
}

int
backup_begin(struct backup *b, const char *consistency, const char *checkpoint,
    const char *since_used, struct err *e)
{
	int wait_ms = b->options->job.wait_ms;
	json_t *answer;
	int rc;

	rc = remote_call(&b->job.control, begin_ask(b, consistency, checkpoint),
	    remote_wait_ms(REMOTE_CALL_MS, wait_ms), &answer, e);
	if (rc != 0)
		return rc;
	b->began = true;
	rc = job_begun(&b->job, answer, e);
	if (rc == 0) {
		/* Without it there would be nothing to read. */
		if (b->options->base != 0 &&
		    json_object_get(answer, "parent") == NULL)
			rc = err_set(e, ERR_NOENT,
			    "what it builds on is damaged, or none of this "
			    "repository's");
	}
	if (rc == 0) {
		rc = read_parent(b, answer, since_used, e);
		if (rc != 0)
			err_prefix(e, "%s", lane_peer(b->job.control.lane));
	}
	json_decref(answer);
	return rc;
}
