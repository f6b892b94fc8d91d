/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A view of a domain's disks: libvirt's backup job in pull mode, with a
 * checkpoint.  The scratch files lie in a folder of ours that QEMU's user owns;
 * the NBD server's socket lies in the folder that libvirt made for this QEMU,
 * where its confinement lets it make one.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/guest/guest_libvirt.h"
#include "agent/guest/scratch.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	/* Between two questions whether the job goes on; after one that was
	 * not answered. */
	ASK_MS = 1000,
	ASK_AGAIN_MS = 20000,
	ASK_LIMIT_MS = 4000
};

static char dirty_context[] = "qemu:dirty-bitmap:" GUEST_VIEW_BITMAP;

/* The room that all scratch files may need. */
static int
check_room(
    const struct guest *g, const struct guest_view_options *o, struct err *e)
{
	uint64_t need = 0;

	for (unsigned i = 0; i < o->ndisks; i++)
		need += scratch_need(
		    g->disk[o->disk[i]].size, o->scratch_max - need);
	return scratch_check(o->scratch_dir, need, e);
}

/* ${dir} with a folder in it that QEMU's user owns. */
static int
make_dir(struct lv *lv, const char *dir, struct err *e)
{
	struct lv_view *v = &lv->view;
	mode_t mode = 0700;

	v->dir = xasprintf("%s/" GUEST_PREFIX "%s", dir, lv->uuid);
	if (geteuid() != 0 && lv->uid != geteuid())
		mode = 0711; /* QEMU passes, to files that libvirt gives it */
	if (mkdir(v->dir, mode) == -1 && errno != EEXIST)
		goto err;
	if (geteuid() == 0 && lchown(v->dir, lv->uid, lv->gid) == -1)
		goto err;
	return 0;
err:
	return err_set(e, errno == EACCES ? ERR_DENIED : ERR_SYS,
	    "folder for scratch files %s: %s", v->dir, strerror(errno));
}

static int
choose_socket(struct lv *lv, struct err *e)
{
	struct lv_view *v = &lv->view;
	struct sockaddr_un un;
	const char *dirs[] = { lv->run_dir, v->dir };

	for (unsigned i = 0; i < 2; i++) {
		if (dirs[i] == NULL)
			continue;
		v->socket = xasprintf("%s%s" GUEST_PREFIX "nbd", dirs[i],
		    dirs[i][strlen(dirs[i]) - 1] == '/' ? "" : "/");
		if (strlen(v->socket) < sizeof(un.sun_path))
			return 0;
		free(v->socket);
		v->socket = NULL;
	}
	return err_set(e, ERR_LIMIT,
	    "%s: too long a path for a socket: choose another folder for "
	    "scratch files",
	    v->dir);
}

static int
note_file(struct guest *g, const char *path, struct err *e)
{
	int rc = mark_file(g->mark, path);

	return rc == 0 ? 0
		       : err_set(e, rc, "cannot note that %s is made", path);
}

/*
 * A scratch file with its room set aside, which libvirt alone does not do.
 * Where a file without a name can get none, libvirt makes them all.
 */
static int
make_scratch(struct guest *g, unsigned i, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	uint64_t size = g->disk[v->disk[i]].size;
	char link[40];
	int fd, rc;

	rc = scratch_new(v->dir, size,
	    scratch_need(size, v->scratch_max / v->ndisks), &fd, e);
	if (rc != 0)
		return rc;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (geteuid() == 0 && fchown(fd, lv->uid, lv->gid) == -1)
		rc = err_set(
		    e, ERR_SYS, "%s: %s", v->scratch[i], strerror(errno));
	else if (linkat(AT_FDCWD, link, AT_FDCWD, v->scratch[i],
		     AT_SYMLINK_FOLLOW) == -1)
		v->made = false;
	close(fd);
	return rc;
}

static int
make_files(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < v->ndisks; i++) {
		v->scratch[i] = xasprintf("%s/" GUEST_PREFIX "%s.qcow2", v->dir,
		    g->disk[v->disk[i]].name);
		rc = note_file(g, v->scratch[i], e);
		if (rc == 0 && unlink(v->scratch[i]) == -1 && errno != ENOENT)
			rc = err_set(e, ERR_SYS, "%s: %s", v->scratch[i],
			    strerror(errno));
	}
	/* Behind its files, so that it is removed when it is empty. */
	if (rc == 0)
		rc = note_file(g, v->dir, e);
	v->made = true;
	for (unsigned i = 0; rc == 0 && i < v->ndisks && v->made; i++)
		rc = make_scratch(g, i, e);
	if (rc == 0 && !v->made)
		for (unsigned i = 0; i < v->ndisks; i++)
			unlink(v->scratch[i]);
	return rc;
}

int
lv_view_files(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	int rc;

	(void)out;
	for (unsigned i = 0; i < o->ndisks; i++)
		if (lv->disk[o->disk[i]].shared)
			return err_set(e, ERR_UNSUP,
			    "disk %s is shared with other machines, whose "
			    "writes no point in time holds back: leave it out",
			    g->disk[o->disk[i]].name);
	/* It may have ended, or been started anew, since it was opened. */
	rc = lv_enter(lv, LV_QUICK_MS, e);
	if (rc != 0)
		return rc;
	rc = lv_read_state(g, e);
	lv_leave(lv);
	if (rc == 0 && g->state == GUEST_OFF)
		rc = err_set(e, ERR_INVAL, "the guest is not running");
	if (rc == 0)
		rc = check_room(g, o, e);
	if (rc != 0)
		return rc;
	memset(v, 0, sizeof(*v));
	v->open = true;
	snprintf(v->repo, sizeof(v->repo), "%s", o->repo);
	snprintf(v->tag, sizeof(v->tag), "%s", o->tag);
	guest_bitmap_name(v->new, o->repo, o->tag);
	if (o->since != NULL)
		guest_bitmap_name(v->old, o->repo, o->since);
	v->scratch_max = o->scratch_max;
	v->ndisks = o->ndisks;
	memcpy(v->disk, o->disk, sizeof(v->disk));
	rc = make_dir(lv, o->scratch_dir, e);
	if (rc == 0)
		rc = choose_socket(lv, e);
	if (rc == 0)
		rc = note_file(g, v->socket, e);
	if (rc == 0)
		rc = make_files(g, e);
	return rc;
}

void
lv_view_undo_files(struct lv *lv)
{
	struct lv_view *v = &lv->view;

	for (unsigned i = 0; i < v->ndisks; i++) {
		if (v->scratch[i] != NULL && unlink(v->scratch[i]) == -1 &&
		    errno != ENOENT)
			log_sys("%s: unlink", v->scratch[i]);
		free(v->scratch[i]);
	}
	if (v->socket != NULL && unlink(v->socket) == -1 && errno != ENOENT)
		log_sys("%s: unlink", v->socket);
	free(v->socket);
	if (v->dir != NULL && rmdir(v->dir) == -1 && errno != ENOENT)
		log_sys("%s: rmdir", v->dir);
	free(v->dir);
	memset(v, 0, sizeof(*v));
}

int
lv_view_prepare(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct lv *lv = g->impl;
	bool found;
	int rc;

	(void)o;
	rc = lv_enter(lv, GUEST_SLOW_MS, e);
	if (rc != 0)
		return rc;
	rc = lv_job_end(lv, &found, e);
	if (rc == 0)
		rc = lv_check_parent(g, out, e);
	lv_leave(lv);
	return rc;
}

/* The first folder on the way that QEMU's user may not enter, or NULL. */
static const char *
closed_folder(const struct lv *lv, char *path)
{
	struct stat st;

	for (char *p = path + 1; *p != 0; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (stat(path, &st) == 0 &&
		    (st.st_mode &
			(st.st_uid == lv->uid          ? S_IXUSR
				: st.st_gid == lv->gid ? S_IXGRP
						       : S_IXOTH)) == 0)
			return path;
		*p = '/';
	}
	return NULL;
}

static int
explain_begin(struct lv *lv, int rc, struct err *e)
{
	char *path = xstrdup(lv->view.scratch[0]);
	const char *closed = lv->uid == 0 ? NULL : closed_folder(lv, path);
	struct err was;

	if (closed != NULL && e != NULL && rc == ERR_SYS) {
		was = *e;
		rc = err_set(e, ERR_DENIED,
		    "%.200s (QEMU runs as user %u, which may not enter %s: "
		    "chmod o+x it, or choose another folder for scratch files)",
		    was.text, lv->uid, closed);
	}
	free(path);
	return rc;
}

/*
 * The job was refused.  Is it for a bitmap?  Then its disk, or, if none can be
 * told, all of them, are read whole.
 */
static bool
give_up_bitmap(struct guest *g, struct guest_view *out)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	virErrorPtr error = virGetLastError();
	char quoted[sizeof(lv->disk[0].target) + 2];
	bool one = false, any = false;

	if (error == NULL || error->message == NULL || v->old[0] == 0 ||
	    (error->code != VIR_ERR_CHECKPOINT_INCONSISTENT &&
		error->code != VIR_ERR_NO_DOMAIN_CHECKPOINT &&
		strstr(error->message, v->old) == NULL))
		return false;
	for (unsigned i = 0; i < v->ndisks; i++) {
		snprintf(quoted, sizeof(quoted), "'%s'",
		    lv->disk[v->disk[i]].target);
		one = one ||
		    (v->incremental[i] &&
			strstr(error->message, quoted) != NULL);
	}
	for (unsigned i = 0; i < v->ndisks; i++) {
		snprintf(quoted, sizeof(quoted), "'%s'",
		    lv->disk[v->disk[i]].target);
		if (!v->incremental[i] ||
		    (one && strstr(error->message, quoted) == NULL))
			continue;
		v->incremental[i] = false;
		any = true;
		snprintf(out->disk[i].why, sizeof(out->disk[i].why),
		    "libvirt: %.140s", error->message);
	}
	return any;
}

int
lv_view_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	int rc;

	(void)o;
	rc = lv_enter(lv, GUEST_SLOW_MS, e);
	if (rc != 0)
		return rc;
	v->begun = true;
	/* Each turn but the last gives up a bitmap. */
	for (;;) {
		struct buf job = { 0 }, checkpoint = { 0 };
		const char *with = NULL;

		lv_xml_backup(g, &job);
		if (lv_xml_checkpoint(g, &checkpoint))
			with = buf_cstr(&checkpoint);
		rc = virDomainBackupBegin(lv->dom, buf_cstr(&job), with,
		    v->made ? VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL : 0);
		buf_fini(&job);
		buf_fini(&checkpoint);
		if (rc == 0)
			break;
		if (give_up_bitmap(g, out))
			continue;
		rc = lv_error(lv, e, "libvirt does not begin the backup job");
		rc = explain_begin(lv, rc, e);
		break;
	}
	lv_leave(lv);
	return rc;
}

int
lv_view_expose(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;

	(void)o;
	(void)e;
	for (unsigned i = 0; i < v->ndisks; i++) {
		out->disk[i].socket = v->socket;
		out->disk[i].export = g->disk[v->disk[i]].name;
		out->disk[i].dirty = v->incremental[i] ? dirty_context : NULL;
	}
	v->asked = now_ms();
	return 0;
}

/* Not for a while after libvirt did not answer: the view does not need it, and
 * the scratch files are to be looked at meanwhile. */
static int
ask_for_job(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	char *xml;
	int rc = 0;

	if (g->pid != 0 && kill(g->pid, 0) == -1 && errno == ESRCH)
		return err_set(e, ERR_CLOSED, "the guest has ended");
	if (now_ms() < v->asked + ASK_MS)
		return 0;
	v->asked = now_ms() + ASK_AGAIN_MS;
	if (lv_enter(lv, ASK_LIMIT_MS, NULL) != 0)
		return 0;
	xml = virDomainBackupGetXMLDesc(lv->dom, 0);
	if (xml != NULL) {
		v->asked = now_ms();
		free(xml);
	} else if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_BACKUP) {
		rc = err_set(e, ERR_CLOSED,
		    "the backup job has ended: the guest was switched off, or "
		    "somebody aborted it");
	}
	lv_leave(lv);
	return rc;
}

int
lv_watch(struct guest *g, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	uint64_t used = 0;
	struct statvfs fs;
	struct stat st;

	if (!v->open)
		return 0;
	/* What is set aside lies behind the end of the file. */
	for (unsigned i = 0; i < v->ndisks; i++)
		if (stat(v->scratch[i], &st) == 0)
			used += (uint64_t)st.st_size;
	if (used >= v->scratch_max)
		return err_set(e, ERR_NOSPC,
		    "the guest overwrote so much while it was read that the "
		    "scratch files reached their limit of %llu MiB: raise it, "
		    "or back up at a quieter time",
		    (unsigned long long)v->scratch_max >> 20);
	if (statvfs(v->dir, &fs) == 0 &&
	    (uint64_t)fs.f_bavail * fs.f_frsize < SCRATCH_MARGIN / 2)
		return err_set(e, ERR_NOSPC,
		    "the file system of the scratch files is nearly full: "
		    "the view was given up before the guest's writes failed");
	return ask_for_job(g, e);
}

int
lv_view_end(struct guest *g, bool keep, struct err *e)
{
	struct lv *lv = g->impl;
	struct lv_view *v = &lv->view;
	unsigned n;
	bool found;
	int rc = 0, rc2;

	if (v->begun) {
		rc = lv_enter(lv, GUEST_SLOW_MS, e);
		if (rc == 0) {
			rc = lv_job_end(lv, &found, e);
			rc2 = keep
			    ? lv_check_delete_old(
				  lv, v->repo, v->tag, &n, rc == 0 ? e : NULL)
			    : lv_check_delete(lv, v->new, rc == 0 ? e : NULL);
			rc = rc != 0 ? rc : rc2;
			lv_leave(lv);
		}
	}
	lv_view_undo_files(lv);
	return rc;
}
