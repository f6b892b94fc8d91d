/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/restore.h"

#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/restore_lane.h"
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

static int
choose_volumes(struct restore *r, const struct restore_options *o,
    struct restore_result *out, struct err *e)
{
	char names[ERR_TEXT_MAX / 2];

	for (unsigned i = 0; i < o->ndisks; i++) {
		struct restore_volume *v = &r->volume[i];
		const struct manifest_volume *mv;
		int number;

		number = manifest_volume_find(&out->manifest, o->disk[i].name);
		if (number == -1) {
			list_volumes(&out->manifest, names, sizeof(names));
			return err_set(e, ERR_NOENT,
			    "%s has no disk \"%s\"; it has %s", o->backup,
			    o->disk[i].name, names);
		}
		mv = &out->manifest.volume[number];
		out->chosen[number] = true;
		out->size += mv->size;
		v->name = o->disk[i].name;
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

static int
open_sinks(struct restore *r, const struct restore_options *o,
    const struct manifest *m, struct err *e)
{
	for (unsigned i = 0; i < r->nvolumes; i++) {
		struct restore_volume *v = &r->volume[i];
		struct sink_options so = { .path = o->disk[i].path,
			.format = o->disk[i].format,
			.size = v->size,
			.cluster_size = m->volume[v->number].cluster_size,
			.force = o->force };

		if (sink_open(&so, &v->sink, e) != 0)
			return err_prefix(e, "disk %s", v->name);
	}
	return 0;
}

/* Only now do the targets appear: all of all volumes came and was verified. */
static int
finish_sinks(struct restore *r, struct err *e)
{
	uint64_t done = atomic_load(&r->job.count.done);

	if (done != r->job.count.total)
		return err_set(e, ERR_INVAL,
		    "%llu of %llu bytes are accounted for: this is a mistake "
		    "in the agent",
		    (unsigned long long)done,
		    (unsigned long long)r->job.count.total);
	for (unsigned i = 0; i < r->nvolumes; i++)
		if (sink_finish(r->volume[i].sink, e) != 0)
			return err_prefix(e, "disk %s", r->volume[i].name);
	return 0;
}

int
restore_run(
    const struct restore_options *o, struct restore_result *out, struct err *e)
{
	struct restore *r = xcalloc(1, sizeof(*r));
	struct err late;
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
		rc = open_sinks(r, o, &out->manifest, e);
	if (rc == 0)
		rc = job_tell(&r->job, "writing", e);
	if (rc == 0)
		rc = job_run(&r->job, o->backup, o->quiet, restore_lane, r, e);
	if (rc == 0)
		rc = job_tell(&r->job, "syncing", e);
	if (rc == 0)
		rc = finish_sinks(r, e);
	counters_stats(
	    &r->job.count, now_ms() - r->job.started_ms, &out->stats);
	for (unsigned i = 0; i < r->nvolumes; i++)
		sink_close(r->volume[i].sink);
	if (rc != 0)
		job_finish(&r->job, false, e->text, NULL);
	else if (job_finish(&r->job, true, "", &late) != 0)
		log_info("the restore is complete, but the daemon could not "
			 "be told: %s",
		    late.text);
err_job:
	job_close(&r->job);
err_windows:
	windows_fini(&r->windows);
	free(r);
	return rc;
}
