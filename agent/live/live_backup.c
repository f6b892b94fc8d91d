/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of things is what keeps a guest out of harm: the repository holds
 * the VM first, then the guest is locked and cleaned of what a killed run left,
 * then the point in time is taken.  From there on a failure of any kind ends
 * the view before anything else.
 */
#include "agent/live/live_backup.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "agent/live/alive.h"
#include "agent/live/belongings.h"
#include "agent/sink/swap.h"
#include "agent/source/source_mem.h"
#include "agent/source/source_nbd.h"
#include "proto/base/io.h"

enum {
	/* Room for what else there is beside disks. */
	LIVE_DISKS_MAX =
	    MANIFEST_VOLUMES_MAX - RAM_INPUTS_MAX - BELONGINGS_MAX - 1,
	SCRATCH_SHARE = 5, /* of free space one part stays free */
	NBD_TIMEOUT_MS = 30000
};

struct live {
	const struct live_options *o;
	struct live_result *out;
	struct guest *guest;
	struct backup *backup;
	char owner[9]; /* of bitmaps: this repository and VM */
	char tag[CHECKPOINT_TAG_LEN + 1];
	const char *since; /* the parent's checkpoint, or NULL */
	unsigned ndisks;
	unsigned disk[MANIFEST_VOLUMES_MAX]; /* places in guest_disks */
	unsigned ninputs;
	struct backup_input input[MANIFEST_VOLUMES_MAX];
	struct belongings belongings;
	struct ram *ram;
	struct ram_input ram_input[RAM_INPUTS_MAX]; /* has their names */
};

static bool
named(const char *name, unsigned n, const char *const *list)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

/* A name that no disk has is a mistake that must not pass. */
static int
check_names(
    const struct live *l, unsigned n, const char *const *list, struct err *e)
{
	unsigned nall;
	const struct guest_disk *all = guest_disks(l->guest, &nall);
	char have[ERR_TEXT_MAX / 2] = "";
	size_t at = 0;

	for (unsigned i = 0; i < nall && at < sizeof(have) - 1; i++)
		at += (size_t)snprintf(have + at, sizeof(have) - at, "%s%s",
		    i > 0 ? ", " : "", all[i].name);
	for (unsigned i = 0; i < n; i++) {
		bool found = false;

		for (unsigned k = 0; k < nall; k++)
			found = found || strcmp(all[k].name, list[i]) == 0;
		if (!found)
			return err_set(e, ERR_NOENT,
			    "the guest has no disk \"%s\"; it has %s", list[i],
			    have);
	}
	return 0;
}

static int
choose_disks(struct live *l, struct err *e)
{
	const struct live_options *o = l->o;
	unsigned nall;
	const struct guest_disk *all = guest_disks(l->guest, &nall);
	int rc;

	rc = check_names(l, o->nchosen, o->chosen, e);
	if (rc == 0)
		rc = check_names(l, o->nexcluded, o->excluded, e);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < nall; i++) {
		const char *name = all[i].name;

		if (named(name, o->nexcluded, o->excluded) ||
		    (o->nchosen > 0 && !named(name, o->nchosen, o->chosen)))
			notes_add(l->out->notes, "disk %s is left out", name);
		else
			l->disk[l->ndisks++] = i;
	}
	if (l->ndisks == 0)
		return err_set(e, ERR_INVAL, "no disk is left to back up");
	if (l->ndisks > LIVE_DISKS_MAX)
		return err_set(e, ERR_LIMIT,
		    "a backup has at most %d disks of a virtual machine, and "
		    "this one has %u",
		    LIVE_DISKS_MAX, l->ndisks);
	return 0;
}

static struct backup_input *
add_input(struct live *l, const char *name, const char *kind)
{
	struct backup_input *in = &l->input[l->ninputs++];

	in->name = name;
	in->kind = kind;
	return in;
}

static void
add_disk(struct live *l, const struct guest_disk *d, struct source *s)
{
	struct backup_input *in =
	    add_input(l, d->name, d->cdrom ? "seed" : "disk");

	in->source = s;
	in->path = d->path;
}

/* What the machine is made of beside its disks. */
static int
add_belongings(struct live *l, struct err *e)
{
	const char *format, *text = guest_definition(l->guest, &format);
	struct belongings *b = &l->belongings;

	if (l->ninputs + b->n + 1 > MANIFEST_VOLUMES_MAX)
		return err_set(e, ERR_LIMIT, "a backup has at most %d volumes",
		    MANIFEST_VOLUMES_MAX);
	if (text != NULL)
		add_input(l, "definition", "definition")->source =
		    source_mem_new(text, strlen(text), format);
	for (unsigned i = 0; i < b->n; i++)
		add_input(l, b->one[i].name, b->one[i].kind)->source =
		    b->one[i].source;
	b->n = 0;
	if (b->note[0] != 0)
		notes_add(l->out->notes, "%s", b->note);
	if (guest_note(l->guest)[0] != 0)
		notes_add(l->out->notes, "%s", guest_note(l->guest));
	return 0;
}

static int
scratch_room(const struct live_options *o, uint64_t *room, struct err *e)
{
	struct statvfs st;

	*room = o->scratch_max;
	if (*room != 0)
		return 0;
	if (statvfs(o->scratch_dir, &st) != 0)
		return err_set(e, ERR_NOENT,
		    "scratch folder %s: %m; make it, or say --scratch-dir",
		    o->scratch_dir);
	*room = (uint64_t)st.f_bavail * st.f_frsize;
	*room -= *room / SCRATCH_SHARE;
	return 0;
}

static int
open_disks(struct live *l, const struct guest_view *v, struct err *e)
{
	unsigned n;
	const struct guest_disk *all = guest_disks(l->guest, &n);
	int rc;

	for (unsigned i = 0; i < l->ndisks; i++) {
		const struct guest_disk *d = &all[l->disk[i]];
		struct source_nbd_options so = { .socket = v->disk[i].socket,
			.export = v->disk[i].export,
			.dirty = v->disk[i].dirty,
			.format = d->format,
			.connections = l->o->backup.job.lanes,
			.timeout_ms = NBD_TIMEOUT_MS };
		struct source *s;

		rc = source_nbd_open(&so, &s, e);
		if (rc != 0)
			return err_prefix(e, "disk %s", d->name);
		add_disk(l, d, s);
		if (v->disk[i].dirty == NULL && v->disk[i].why[0] != 0 &&
		    !d->cdrom)
			notes_add(l->out->notes, "disk %s is read in full: %s",
			    d->name, v->disk[i].why);
	}
	return 0;
}

static int
plan_ram(struct live *l, uint64_t room, struct err *e)
{
	struct ram_options ro = { .scratch_dir = l->o->scratch_dir,
		.scratch_max = room,
		.method = l->o->ram_method };
	int rc;

	if (!l->o->ram)
		return 0;
	rc = ram_plan(l->guest, &ro, &l->ram, e);
	if (rc != 0)
		return err_prefix(e, "its memory cannot be saved");
	l->out->ram = ram_method_name(ram_method(l->ram));
	return 0;
}

static int
add_ram(struct live *l, struct err *e)
{
	unsigned n;
	int rc;

	if (l->ram == NULL)
		return 0;
	rc = ram_finish(l->ram, e);
	if (rc != 0)
		return err_prefix(e, "its memory cannot be saved");
	n = ram_inputs(l->ram, l->ram_input);
	for (unsigned i = 0; i < n; i++) {
		const struct ram_input *in = &l->ram_input[i];

		/* Names are few enough: checked when they were planned. */
		add_input(l, in->name, in->kind)->source = in->source;
	}
	return 0;
}

static int
begin_view(struct live *l, struct guest_view *v, struct err *e)
{
	struct guest_view_options vo = { .repo = l->owner,
		.tag = l->tag,
		.since = l->since,
		.quiesce = l->o->quiesce,
		.scratch_dir = l->o->scratch_dir,
		.ndisks = l->ndisks,
		.point = belongings_take,
		.point_arg = &l->belongings };
	int rc;

	memcpy(vo.disk, l->disk, sizeof(vo.disk));
	rc = scratch_room(l->o, &vo.scratch_max, e);
	if (rc == 0)
		rc = plan_ram(l, vo.scratch_max, e);
	if (rc != 0)
		return rc;
	if (l->ram != NULL) {
		vo.frozen = ram_frozen;
		vo.frozen_after = ram_frozen_after;
		vo.frozen_arg = l->ram;
	}
	return guest_view_begin(l->guest, &vo, v, e);
}

/* The point in time, and the sources that show it. */
static int
take_view(struct live *l, struct err *e)
{
	struct guest_view v;
	struct alive alive;
	int rc;

	alive_begin(&alive, l->backup);
	rc = begin_view(l, &v, e);
	if (rc == 0)
		rc = add_ram(l, e);
	alive_end(&alive);
	if (rc != 0)
		return rc;
	l->out->pause_us = v.pause_us;
	snprintf(l->out->consistency, sizeof(l->out->consistency), "%s",
	    v.consistency);
	if (v.note[0] != 0)
		notes_add(l->out->notes, "%s", v.note);
	rc = open_disks(l, &v, e);
	return rc != 0 ? rc : add_belongings(l, e);
}

static int
watch(void *arg, struct err *e)
{
	return guest_watch(arg, e);
}

/* Its images, as they lie there; nobody writes to them meanwhile. */
static int
open_images(struct live *l, bool *since_used, struct err *e)
{
	unsigned n;
	const struct guest_disk *all = guest_disks(l->guest, &n);
	char bitmap[CHECKPOINT_NAME_MAX], spec[PATH_MAX + 16], why[160];
	int rc;

	*since_used = false;
	for (unsigned i = 0; i < l->ndisks; i++) {
		const struct guest_disk *d = &all[l->disk[i]];
		struct source *s;

		if (d->path == NULL)
			return err_set(e, ERR_UNSUP,
			    "disk %s is no file of this host; start the guest, "
			    "or say --exclude %s",
			    d->name, d->name);
		if (strcmp(d->format, "raw") != 0 &&
		    strcmp(d->format, "qcow2") != 0)
			return err_set(e, ERR_UNSUP,
			    "disk %s is a %s image, which can be read while "
			    "the guest runs only: start it, convert the image "
			    "to qcow2, or say --exclude %s",
			    d->name, d->format, d->name);
		if (swap_pending(d->path)) {
			swap_refuse(d->path, e);
			return err_prefix(e, "disk %s", d->name);
		}
		snprintf(spec, sizeof(spec), "%s:%s", d->format, d->path);
		why[0] = 0;
		if (l->since != NULL) {
			guest_bitmap_name(bitmap, l->owner, l->since);
			rc = source_open_bitmap(
			    spec, bitmap, &s, why, sizeof(why), e);
		} else {
			rc = source_open(spec, &s, e);
		}
		if (rc != 0)
			return err_prefix(e, "disk %s", d->name);
		add_disk(l, d, s);
		if (l->since != NULL && why[0] == 0)
			*since_used = true;
		else if (why[0] != 0 && !d->cdrom)
			notes_add(l->out->notes, "disk %s is read in full: %s",
			    d->name, why);
	}
	snprintf(l->out->consistency, sizeof(l->out->consistency), "offline");
	return 0;
}

static void
close_inputs(struct live *l)
{
	while (l->ninputs > 0)
		source_close(l->input[--l->ninputs].source);
}

/* The disks of a guest that is off have the bitmap of an earlier backup: it
 * has all that changed since this one, too, and so it is this one's as well. */
static int
send_stopped(struct live *l, struct err *e)
{
	bool since_used;
	unsigned n;
	int rc;

	rc = open_images(l, &since_used, e);
	if (rc == 0)
		rc = belongings_take(l->guest, &l->belongings, e);
	if (rc == 0)
		rc = add_belongings(l, e);
	if (rc != 0) {
		close_inputs(l);
		return rc;
	}
	n = l->ninputs;
	l->ninputs = 0;
	return backup_send(l->backup, l->input, n, l->out->consistency,
	    since_used ? l->since : NULL, since_used ? l->since : NULL,
	    &l->out->backup, e);
}

static int
send_running(struct live *l, struct err *e)
{
	uint8_t random[CHECKPOINT_TAG_LEN / 2];
	unsigned n;
	int rc;

	random_bytes(random, sizeof(random));
	hex(random, sizeof(random), l->tag);
	rc = take_view(l, e);
	if (rc != 0) {
		close_inputs(l);
		return rc;
	}
	n = l->ninputs;
	l->ninputs = 0;
	return backup_send(l->backup, l->input, n, l->out->consistency, l->tag,
	    l->since, &l->out->backup, e);
}

static int
open_guest(struct live *l, struct err *e)
{
	const struct live_options *o = l->o;
	int rc;

	rc = o->domain != NULL
	    ? guest_open_libvirt(o->uri, o->domain, &l->guest, e)
	    : guest_open_qmp(o->qmp, o->ga, &l->guest, e);
	return rc != 0 ? rc : guest_lock(l->guest, e);
}

/* With the VM held there and the guest locked here: nobody else's. */
static int
release_old(struct live *l, struct err *e)
{
	char what[256];
	bool found;
	int rc;

	rc = guest_release(l->guest, l->owner, l->since, what, sizeof(what), e);
	if (what[0] != 0)
		notes_add(l->out->notes,
		    "released what an earlier run left: %s", what);
	return rc != 0 ? rc : ram_release(l->guest, &found, e);
}

/* One guest may be backed up to several repositories, and there as several VMs:
 * each has bitmaps of its own, and lets those of the others be. */
static void
name_owner(struct live *l)
{
	struct hasher *h = hasher_new(NULL);
	char *text =
	    xasprintf("%s %s", backup_repo(l->backup), l->o->backup.vm);
	struct id id;

	hasher_chunk(h, text, strlen(text), &id);
	hex(id.b, sizeof(l->owner) / 2, l->owner);
	free(text);
	hasher_free(h);
}

int
live_backup_run(
    const struct live_options *o, struct live_result *out, struct err *e)
{
	struct live *l = xcalloc(1, sizeof(*l));
	struct backup_options bo = o->backup;
	struct err late = { 0 };
	int rc;

	memset(out, 0, sizeof(*out));
	l->o = o;
	l->out = out;
	rc = open_guest(l, e);
	if (rc == 0)
		rc = choose_disks(l, e);
	if (rc != 0)
		goto out;
	if (guest_state(l->guest) != GUEST_OFF) {
		bo.job.watch = watch;
		bo.job.watch_arg = l->guest;
	}
	rc = backup_open(&bo, &l->backup, e);
	if (rc != 0)
		goto out;
	name_owner(l);
	if (!o->backup.full)
		l->since = backup_parent_checkpoint(l->backup);
	if (guest_state(l->guest) == GUEST_OFF) {
		rc = send_stopped(l, e);
	} else {
		rc = release_old(l, e);
		if (rc == 0)
			rc = send_running(l, e);
	}
	if (rc == 0 && out->backup.whole[0] != 0)
		notes_add(l->out->notes, "read in full: %s", out->backup.whole);
	if (guest_view_end(l->guest, rc == 0, rc == 0 ? &late : NULL) != 0 &&
	    rc == 0)
		notes_add(l->out->notes,
		    "the backup is complete, but not all of it could be "
		    "undone in the guest: %s",
		    late.text);
out:
	backup_close(l->backup);
	belongings_close(&l->belongings);
	ram_close(l->ram);
	guest_close(l->guest);
	free(l);
	return rc;
}
