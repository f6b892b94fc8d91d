/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/image/origin.h"
#include "agent/pipeline/restore_lane.h"
#include "agent/pipeline/restore_place.h"
#include "agent/sink/swap.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

static int
begin(struct restore *r, const struct restore_options *o, struct manifest *m,
    struct err *e)
{
	json_t *ask = remote_op("restore"), *answer, *j;
	struct remote *c = &r->job.control;
	int rc;

	json_set_str(ask, "backup", o->backup);
	if (o->onto != NULL)
		json_set_str(ask, "onto", o->onto);
	remote_ask_task(ask);
	remote_ask_wait(ask, o->job.wait_ms);
	rc = remote_call(
	    c, ask, remote_wait_ms(REMOTE_CALL_MS, o->job.wait_ms), &answer, e);
	if (rc != 0)
		return rc;
	rc = job_begun(&r->job, answer, e);
	if (rc == 0) {
		rc = json_get_object(answer, "manifest", &j, e);
		if (rc == 0)
			rc = manifest_from_json(j, m, e);
		if (rc == 0 && m->chunk_size != c->chunk_size)
			rc = err_set(e, ERR_PROTO,
			    "a backup with another chunk size than the "
			    "repository's");
		if (rc != 0)
			err_prefix(e, "%s", lane_peer(c->lane));
	}
	json_decref(answer);
	return rc;
}

/* The names of the volumes that there are, for a person. */
static void
list_volumes(const struct manifest *m, char *out, size_t len)
{
	size_t at = 0;

	out[0] = 0;
	for (unsigned i = 0; i < m->nvolumes; i++) {
		size_t n = strlen(m->volume[i].name);

		if (at + n + 6 > len) {
			memcpy(out + at, ", ...", 6);
			return;
		}
		if (i > 0) {
			memcpy(out + at, ", ", 2);
			at += 2;
		}
		memcpy(out + at, m->volume[i].name, n + 1);
		at += n;
	}
}

/* As they were said. */
static int
choose_places(
    const struct restore_options *o, struct restore_result *out, struct err *e)
{
	char names[ERR_TEXT_MAX / 2];

	for (unsigned i = 0; i < o->ndisks; i++) {
		const struct restore_disk *d = &o->disk[i];
		int number = manifest_volume_find(&out->manifest, d->name);

		if (number == -1) {
			list_volumes(&out->manifest, names, sizeof(names));
			return err_set(e, ERR_NOENT,
			    "%s has no disk \"%s\"; it has %s", o->backup,
			    d->name, names);
		}
		out->place[out->nplaces++] =
		    (struct restore_place){ .volume =
						&out->manifest.volume[number],
			    .path = d->path,
			    .format = d->format,
			    .named = true };
	}
	return 0;
}

static int
choose_volumes(struct restore *r, const struct restore_options *o,
    struct restore_result *out, struct err *e)
{
	int rc = o->swap ? places_choose(o, out, e) : choose_places(o, out, e);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < out->nplaces; i++) {
		struct restore_volume *v = &r->volume[i];
		const struct manifest_volume *mv = out->place[i].volume;
		size_t number = (size_t)(mv - out->manifest.volume);

		out->chosen[number] = true;
		out->size += mv->size;
		v->name = mv->name;
		v->number = (uint16_t)number;
		v->size = mv->size;
		v->nslices = chunk_nslices(mv->size, r->chunk_size);
		v->root = mv->root;
		r->windows.nleaves[i] =
		    v->nslices / NODE_FANOUT + (v->nslices % NODE_FANOUT != 0);
		r->windows.nvolumes++;
		r->nvolumes++;
	}
	r->windows.chunk_size = r->chunk_size;
	r->windows.nlanes = r->job.nlanes;
	r->job.count.total = out->size;
	return 0;
}

/* All are open, and the old ones locked, before one of them is looked at. */
static int
open_sinks(struct restore *r, const struct restore_options *o,
    struct restore_result *out, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; i < r->nvolumes; i++) {
		struct restore_volume *v = &r->volume[i];
		const struct restore_place *p = &out->place[i];
		struct sink_options so = { .path = p->path,
			.format = p->format,
			.size = v->size,
			.cluster_size = p->volume->cluster_size,
			.force = o->swap || o->force,
			.held = o->swap };

		if (sink_open(&so, &v->sink, e) != 0)
			return err_prefix(e, "disk %s", v->name);
	}
	for (unsigned i = 0; i < r->nvolumes && rc == 0 && o->swap; i++)
		rc = places_check(
		    o, &out->manifest, &out->place[i], r->volume[i].sink, e);
	if (rc == 0 && o->swap && !o->force)
		rc = places_room(r, out, e);
	return rc;
}

/* Of now, as part of a file's name: QEMU takes what stands before a colon for a
 * protocol. */
static void
name_stamp(char *out)
{
	char text[TIME_TEXT_LEN + 1];

	time_print((uint64_t)time(NULL), text);
	for (const char *p = text; *p != 0; p++)
		if (*p != '-' && *p != ':')
			*out++ = *p;
	*out = 0;
}

/* Whatever was in their places before is so no more. */
static int
swap_disks(struct restore *r, const struct restore_options *o,
    struct restore_result *out, struct err *e)
{
	struct target *t[MANIFEST_VOLUMES_MAX];
	char stamp[TIME_TEXT_LEN + 1];
	unsigned n = 0;
	int rc;

	name_stamp(stamp);
	for (unsigned i = 0; i < r->nvolumes; i++)
		if (r->volume[i].sink->target != NULL)
			t[n++] = r->volume[i].sink->target;
	rc = swap_run(t, n, o->keep_old ? stamp : NULL, e);
	for (unsigned i = 0; i < r->nvolumes && rc == 0; i++) {
		struct target *its = r->volume[i].sink->target;

		if (its == NULL)
			continue;
		out->place[i].kept = its->kept;
		its->kept = NULL;
	}
	return rc;
}

/* It is the disk that it replaces, or the one that was there. */
static void
inherit(const struct sink *s, const struct restore_place *p,
    const struct manifest *m)
{
	char identity[MANIFEST_IDENTITY_MAX + 1] = "";

	/* Where it was it is that disk again, whatever was there meanwhile. */
	if (strcmp(p->path, manifest_path(m, p->volume)) == 0)
		snprintf(identity, sizeof(identity), "%s",
		    manifest_identity(m, p->volume));
	else if (p->was_there)
		origin_identity(s->target->old_fd, identity);
	origin_inherit(s->fd, identity);
}

/* Only now do the targets appear: all of all volumes came and was verified. */
struct finishing {
	struct restore *r;
	const struct restore_options *o;
	struct restore_result *out;
};

/* What the system has not written yet may be gigabytes, and take minutes. */
static int
finish_sinks(void *arg, struct err *e)
{
	struct finishing *f = arg;
	struct restore *r = f->r;
	const struct restore_options *o = f->o;
	struct restore_result *out = f->out;
	uint64_t done = atomic_load(&r->job.count.done);

	if (done != r->job.count.total)
		return err_set(e, ERR_INVAL,
		    "%llu of %llu bytes are accounted for: this is a mistake "
		    "in the agent",
		    (unsigned long long)done,
		    (unsigned long long)r->job.count.total);
	for (unsigned i = 0; i < r->nvolumes; i++) {
		struct restore_volume *v = &r->volume[i];

		if (o->swap && !out->place[i].device)
			inherit(v->sink, &out->place[i], &out->manifest);
		if (sink_finish(v->sink, e) != 0)
			return err_prefix(e, "disk %s", v->name);
	}
	return 0;
}

/* What people on the NAS are to know of it. */
static void
tell_end(struct restore *r, const struct restore_options *o,
    const struct restore_result *out, int rc, const struct err *e)
{
	struct buf text = { 0 };
	struct err late;

	if (rc != 0) {
		job_finish(&r->job, false, e->text, NULL);
		return;
	}
	for (unsigned i = 0; i < out->nplaces && o->swap; i++) {
		const struct restore_place *p = &out->place[i];

		buf_printf(&text, "%s%s %s %s", i > 0 ? ", " : "",
		    p->volume->name,
		    p->device          ? "written to"
			: p->was_there ? "replaced"
				       : "made at",
		    p->path);
		if (p->kept != NULL)
			buf_printf(&text, " (kept: %s)", p->kept);
	}
	if (job_finish(&r->job, true, buf_cstr(&text), &late) != 0)
		log_info("the restore is complete, but the daemon could not "
			 "be told: %s",
		    late.text);
	buf_fini(&text);
}

void
restore_result_fini(struct restore_result *r)
{
	for (unsigned i = 0; i < r->nplaces; i++)
		free(r->place[i].kept);
	r->nplaces = 0;
}

int
restore_run(
    const struct restore_options *o, struct restore_result *out, struct err *e)
{
	struct restore *r = xcalloc(1, sizeof(*r));
	int rc;

	memset(out, 0, sizeof(*out));
	windows_init(&r->windows);
	rc = job_open(&r->job, &o->job, e);
	if (rc != 0)
		goto err_windows;
	r->chunk_size = r->job.control.chunk_size;
	rc = begin(r, o, &out->manifest, e);
	if (rc != 0)
		goto err_job;
	rc = choose_volumes(r, o, out, e);
	if (rc == 0)
		rc = open_sinks(r, o, out, e);
	if (rc == 0)
		rc = job_tell(&r->job, "writing", e);
	if (rc == 0)
		rc = job_run(&r->job, o->backup, o->quiet, restore_lane, r, e);
	if (rc == 0)
		rc = job_tell(&r->job, "syncing", e);
	if (rc == 0)
		rc = job_aside(&r->job, finish_sinks,
		    &(struct finishing){ .r = r, .o = o, .out = out }, e);
	/* Whoever ended the job meanwhile has the old disks. */
	if (rc == 0 && o->swap)
		rc = job_tell(&r->job, "swapping", e);
	if (rc == 0 && o->swap)
		rc = swap_disks(r, o, out, e);
	counters_stats(
	    &r->job.count, now_ms() - r->job.started_ms, &out->stats);
	for (unsigned i = 0; i < r->nvolumes; i++)
		sink_close(r->volume[i].sink);
	tell_end(r, o, out, rc, e);
err_job:
	job_close(&r->job);
err_windows:
	windows_fini(&r->windows);
	free(r);
	return rc;
}
