/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/archive/export_lane.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

/* A job that reads ${backup}, as a restore to files does. */
static int
begin(struct job *job, const struct export_options *o, const char *backup,
    struct manifest *m, struct err *e)
{
	json_t *ask = remote_op("restore"), *answer, *j;
	struct remote *c = &job->control;
	int rc;

	json_set_str(ask, "backup", backup);
	remote_ask_wait(ask, o->job.wait_ms);
	rc = remote_call(
	    c, ask, remote_wait_ms(REMOTE_CALL_MS, o->job.wait_ms), &answer, e);
	if (rc != 0)
		return rc;
	rc = job_begun(job, answer, e);
	if (rc == 0)
		rc = json_get_object(answer, "manifest", &j, e);
	if (rc == 0)
		rc = manifest_from_json(j, m, e);
	if (rc == 0 && m->chunk_size != c->chunk_size)
		rc = err_set(e, ERR_PROTO,
		    "a backup with another chunk size than the repository's");
	if (rc != 0)
		err_prefix(e, "%s", lane_peer(c->lane));
	json_decref(answer);
	return rc;
}

static void
list_volumes(const struct manifest *m, struct buf *out)
{
	for (unsigned i = 0; i < m->nvolumes; i++)
		buf_printf(out, "%s%s", i > 0 ? ", " : "", m->volume[i].name);
}

static int
choose(struct export *x, const struct export_options *o,
    struct export_result *out, struct err *e)
{
	const struct manifest *m = &x->head.manifest;
	struct buf names = { 0 };
	int number;

	for (unsigned i = 0; i < o->nvolumes; i++) {
		number = manifest_volume_find(m, o->volume[i]);
		if (number == -1) {
			list_volumes(m, &names);
			err_set(e, ERR_NOENT,
			    "%s has no volume \"%.64s\"; it has %.250s",
			    o->backup, o->volume[i], buf_cstr(&names));
			buf_fini(&names);
			return ERR_NOENT;
		}
		out->chosen[number] = true;
	}
	for (unsigned i = 0; i < m->nvolumes; i++) {
		bool disk = strcmp(m->volume[i].kind, "disk") == 0;

		out->chosen[i] |= o->nvolumes == 0;
		/* Others take no memory, and no libvirt's definition. */
		if (o->format == EXPORT_OVA)
			out->chosen[i] = out->chosen[i] && disk;
		if (out->chosen[i]) {
			out->size += m->volume[i].size;
			x->head.member[x->head.n++].volume = i;
		}
	}
	x->job.count.total = out->size;
	if (x->head.n == 0)
		return err_set(e, ERR_NOENT, "%s has no disks", o->backup);
	return 0;
}

/* What it is compared with: of the same VM, and older. */
static int
open_base(struct export *x, const struct export_options *o, struct err *e)
{
	int rc;

	if (o->since == NULL)
		return 0;
	x->base = xcalloc(1, sizeof(*x->base));
	rc = job_open(x->base, &o->job, e);
	if (rc != 0) {
		free(x->base);
		x->base = NULL;
		return rc;
	}
	rc = begin(x->base, o, o->since, &x->base_manifest, e);
	if (rc != 0)
		return rc;
	if (strcmp(x->base_manifest.vm, x->head.manifest.vm) != 0)
		return err_set(e, ERR_INVAL,
		    "--since %.150s: that is a backup of another VM", o->since);
	if (memcmp(x->base_manifest.id, x->head.manifest.id, BACKUP_ID_LEN) ==
	    0)
		return err_set(e, ERR_INVAL,
		    "--since %.150s: that is the very backup", o->since);
	if (x->base_manifest.domain != x->head.manifest.domain)
		return err_set(e, ERR_INVAL,
		    "--since %.150s: its ids are another namespace's",
		    o->since);
	x->head.since = true;
	memcpy(x->head.since_id, x->base_manifest.id, BACKUP_ID_LEN);
	x->head.since_time = x->base_manifest.time;
	return 0;
}

/* The text of its definition, which an OVF is made of; best effort. */
static void
fetch_definition(struct export *x)
{
	json_t *ask = remote_op("show"), *answer, *j;
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	const char *text;
	struct err e;

	json_set_str(ask, "backup", manifest_name(&x->head.manifest, name));
	json_set_bool(ask, "definition", true);
	if (remote_call(&x->job.control, ask, REMOTE_CALL_MS, &answer, &e) != 0)
		return;
	j = json_object_get(answer, "definition");
	text = json_string_value(json_object_get(j, "text"));
	if (text != NULL)
		x->definition = xstrdup(text);
	json_decref(answer);
}

static int
work(struct export *x, const struct export_options *o,
    struct export_result *out, struct err *e)
{
	int rc;

	rc = open_base(x, o, e);
	if (rc == 0)
		rc = choose(x, o, out, e);
	if (rc != 0)
		return rc;
	if (o->format == EXPORT_OVA)
		fetch_definition(x);
	rc = export_out_open(&x->out, o->to, o->force, e);
	if (rc != 0)
		return rc;
	rc = job_tell(&x->job, "reading", e);
	if (rc == 0)
		rc = job_run(&x->job, o->backup, o->quiet, export_lane, x, e);
	if (rc == 0)
		rc = job_tell(&x->job, "syncing", e);
	if (rc == 0)
		rc = export_out_finish(&x->out, e);
	out->written = x->out.written;
	export_out_close(&x->out);
	return rc;
}

int
export_run(
    const struct export_options *o, struct export_result *out, struct err *e)
{
	struct export *x = xcalloc(1, sizeof(*x));
	struct job_options jo = o->job;
	struct err late;
	int rc;

	memset(out, 0, sizeof(*out));
	/* An archive is written by one thread, from its start to its end. */
	jo.lanes = 1;
	x->options = o;
	rc = job_open(&x->job, &jo, e);
	if (rc != 0)
		goto err_free;
	rc = begin(&x->job, o, o->backup, &x->head.manifest, e);
	if (rc == 0)
		rc = work(x, o, out, e);
	out->manifest = x->head.manifest;
	counters_stats(
	    &x->job.count, now_ms() - x->job.started_ms, &out->stats);
	if (rc != 0)
		job_finish(&x->job, false, e->text, NULL);
	else if (job_finish(&x->job, true, "exported", &late) != 0)
		log_info("the export is complete, but the daemon could not be "
			 "told: %s",
		    late.text);
	if (x->base != NULL) {
		job_finish(x->base, rc == 0, "", NULL);
		job_close(x->base);
	}
	job_close(&x->job);
	free(x->base);
	free(x->definition);
err_free:
	free(x);
	return rc;
}
