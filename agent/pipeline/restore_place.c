/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/restore_place.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/image/origin.h"
#include "agent/sink/swap.h"
#include "proto/base/bytes.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3.h"

/* Of a qcow2 header: the magic, and where the size is that the guest sees. */
enum { HEAD_LEN = 32, HEAD_SIZE_AT = 24 };
static const uint8_t qcow2_magic[4] = "QFI\xfb";

static const struct restore_disk *
asked_for(const struct restore_options *o, const char *name)
{
	for (unsigned i = 0; i < o->ndisks; i++)
		if (strcmp(o->disk[i].name, name) == 0)
			return &o->disk[i];
	return NULL;
}

static bool
is_device(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static int
choose_format(const struct restore_options *o, const struct restore_disk *d,
    struct restore_place *p, struct err *e)
{
	const char *was = p->volume->format;

	p->device = is_device(p->path);
	if (p->device && !o->force)
		return err_set(e, ERR_EXIST,
		    "disk %s: %s is a block device, which is written in place: "
		    "there is no going back if that is interrupted; --force "
		    "does it",
		    p->volume->name, p->path);
	if (d != NULL && d->format != NULL)
		p->format = d->format;
	else if (p->device)
		p->format = "raw";
	else
		p->format = was;
	if (strcmp(p->format, "raw") != 0 && strcmp(p->format, "qcow2") != 0)
		return err_set(e, ERR_UNSUP,
		    "disk %s was a %s image, which is not written here: say "
		    "--disk %s=qcow2:PATH or raw:PATH, and change the "
		    "machine's definition",
		    p->volume->name, was, p->volume->name);
	return 0;
}

/* The backup says where a disk was, but it may be of a repository that is not
 * trusted with all files of this host. */
static bool
is_own(const struct restore_options *o, const char *path)
{
	for (unsigned i = 0; i < o->nown; i++)
		if (strcmp(o->own[i], path) == 0)
			return true;
	return o->nown == 0;
}

static int
choose_place(const struct restore_options *o, struct restore_result *out,
    const struct manifest_volume *v, struct err *e)
{
	const struct restore_disk *d = asked_for(o, v->name);
	struct restore_place *p = &out->place[out->nplaces];
	char what[200];
	int rc;

	p->volume = v;
	p->named = d != NULL && d->path != NULL;
	p->path = p->named ? d->path : manifest_path(&out->manifest, v);
	if (!p->named && o->all_named)
		return err_set(e, ERR_INVAL,
		    "disk %s: another VM than it was of needs a place of its "
		    "own for it: say --disk %s=PATH",
		    v->name, v->name);
	if (p->path[0] == 0)
		return err_set(e, ERR_NOENT,
		    "disk %s: the backup does not say where it was: say --disk "
		    "%s=PATH",
		    v->name, v->name);
	if (!p->named && !is_own(o, p->path))
		return err_set(e, ERR_DENIED,
		    "disk %s was at %.200s, which is no disk of that machine "
		    "now: say --disk %s=PATH",
		    v->name, p->path, v->name);
	for (unsigned i = 0; i < out->nplaces; i++)
		if (strcmp(out->place[i].path, p->path) == 0)
			return err_set(e, ERR_INVAL,
			    "disks %s and %s have the same target",
			    out->place[i].volume->name, v->name);
	rc = nfs3_is_url(p->path) ? sink_no_swap(p->path, e)
				  : choose_format(o, d, p, e);
	if (rc == 0)
		rc = swap_recover(p->path, what, sizeof(what), e);
	if (rc != 0)
		return rc;
	if (what[0] != 0)
		log_info("%s: %s", p->path, what);
	out->nplaces++;
	return 0;
}

int
places_choose(
    const struct restore_options *o, struct restore_result *out, struct err *e)
{
	const struct manifest *m = &out->manifest;
	int rc = 0;

	for (unsigned i = 0; i < o->ndisks; i++)
		if (manifest_volume_find(m, o->disk[i].name) == -1)
			return err_set(e, ERR_NOENT, "%s has no disk \"%s\"",
			    o->backup, o->disk[i].name);
	for (unsigned i = 0; i < m->nvolumes && rc == 0; i++) {
		const struct manifest_volume *v = &m->volume[i];
		/* Places that are said for some do not leave others out. */
		bool wanted = strcmp(v->kind, "disk") == 0
		    ? !o->only || asked_for(o, v->name) != NULL
		    : asked_for(o, v->name) != NULL;

		if (wanted)
			rc = choose_place(o, out, v, e);
	}
	if (rc == 0 && out->nplaces == 0)
		rc = err_set(e, ERR_NOENT, "%s has no disks", o->backup);
	return rc;
}

/* What a guest sees of the image: its format and size. */
static int
look_at(int fd, const struct restore_place *p, const char **format,
    uint64_t *size, struct err *e)
{
	uint8_t head[HEAD_LEN] = { 0 };
	struct stat st;

	if (fstat(fd, &st) == -1 || pread(fd, head, sizeof(head), 0) == -1)
		return imgfile_sys(e, p->path, "read");
	*format = "raw";
	*size = (uint64_t)st.st_size;
	if (p->device && imgfile_device_size(fd, size) == -1)
		return imgfile_sys(e, p->path, "size");
	/* A guest can write that magic to a raw disk of its own. */
	if (strcmp(p->volume->format, "raw") == 0 ||
	    memcmp(head, qcow2_magic, sizeof(qcow2_magic)) != 0)
		return 0;
	*format = "qcow2";
	*size = get_be64(head + HEAD_SIZE_AT);
	return 0;
}

static int
another(const struct restore_place *p, const char *why, struct err *e)
{
	return err_set(e, ERR_EXIST,
	    "disk %s: %.160s is not the disk that was backed up: %s; to "
	    "replace "
	    "it all the same name it: --disk %s=%s",
	    p->volume->name, p->path, why, p->volume->name, p->path);
}

int
places_check(const struct restore_options *o, const struct manifest *m,
    struct restore_place *p, const struct sink *s, struct err *e)
{
	int fd = s->target != NULL ? s->target->old_fd : s->fd;
	char identity[MANIFEST_IDENTITY_MAX + 1], why[120];
	const char *format = "", *was = manifest_identity(m, p->volume);
	uint64_t size = 0;
	int rc;

	p->was_there = fd != -1;
	if (fd == -1)
		return 0;
	if (o->is_new && !o->force)
		return err_set(e, ERR_EXIST,
		    "disk %s: %s is there already: a VM by a new name is to "
		    "replace nothing; --force replaces it",
		    p->volume->name, p->path);
	if (p->named)
		return 0;
	rc = look_at(fd, p, &format, &size, e);
	if (rc != 0)
		return rc;
	if (strcmp(format, p->volume->format) != 0) {
		snprintf(why, sizeof(why), "it is %s, and was %s", format,
		    p->volume->format);
		return another(p, why, e);
	}
	if (size != p->volume->size) {
		snprintf(why, sizeof(why),
		    "it has %" PRIu64 " bytes, and had %" PRIu64, size,
		    p->volume->size);
		return another(p, why, e);
	}
	origin_identity(fd, identity);
	if (was[0] == 0 || identity[0] == 0)
		return another(p, "neither can be told from others", e);
	if (strcmp(identity, was) != 0)
		return another(p, "another has its name now", e);
	return 0;
}
