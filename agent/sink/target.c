/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sink/target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/image/imglock.h"
#include "agent/sink/swap.h"
#include "agent/sink/target_nfs.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { OPEN_TRIES = 16 };

/*
 * What ${path} means: its folder and its name there.  A link to an image is
 * followed, so that it goes on being a link.
 */
static void
split_path(struct target *t, const char *path, char **dir)
{
	char *full = realpath(path, NULL), *slash;

	if (full == NULL)
		full = xstrdup(path);
	slash = strrchr(full, '/');
	if (slash == NULL) {
		*dir = xstrdup(".");
		t->name = xstrdup(full);
	} else {
		*dir = xasprintf(
		    "%.*s", slash == full ? 1 : (int)(slash - full), full);
		t->name = xstrdup(slash + 1);
	}
	t->tmp = xasprintf(".%s.restoring", t->name);
	t->dir = realpath(*dir, NULL);
	free(full);
}

/* The temporary file of a swap that was interrupted is a disk. */
static int
check_swap(const struct target *t, struct err *e)
{
	char *journal = swap_journal_name(t->name);
	int there = faccessat(t->dirfd, journal, F_OK, AT_SYMLINK_NOFOLLOW);

	free(journal);
	if (there == -1)
		return 0;
	return swap_refuse(t->path, e);
}

/* What is there already must be ours to replace, and nobody may use it. */
static int
check_old(struct target *t, struct err *e)
{
	struct stat st;

	t->old_fd = openat(t->dirfd, t->name,
	    O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
	if (t->old_fd == -1)
		return errno == ENOENT ? 0 : imgfile_open_error(e, t->path);
	if (!t->force)
		return err_set(e, ERR_EXIST,
		    "%s: is there already: restore to another name, or say "
		    "--force to replace it",
		    t->path);
	if (fstat(t->old_fd, &st) == -1)
		return imgfile_sys(e, t->path, "stat");
	if (!S_ISREG(st.st_mode))
		return err_set(
		    e, ERR_INVAL, "%s: is not a regular file", t->path);
	return imglock_take(t->old_fd, t->path, IMGLOCK_WRITE, e);
}

/* The open temporary file must (still) be the one of that name, and ours. */
static int
check_tmp(struct target *t, bool *again, struct err *e)
{
	struct stat st, named;
	int rc;

	rc = imglock_take(t->fd, t->path, IMGLOCK_WRITE, e);
	if (rc != 0)
		return rc;
	if (fstat(t->fd, &st) == -1)
		return imgfile_sys(e, t->tmp, "stat");
	/* Its last user may have removed it before we had the lock. */
	*again = fstatat(t->dirfd, t->tmp, &named, AT_SYMLINK_NOFOLLOW) == -1 ||
	    named.st_ino != st.st_ino || named.st_dev != st.st_dev;
	if (*again)
		return 0;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
		return err_set(e, ERR_EXIST,
		    "%s: the temporary file %s belongs to another: remove it",
		    t->path, t->tmp);
	if (ftruncate(t->fd, 0) == -1)
		return imgfile_sys(e, t->tmp, "truncate");
	return 0;
}

static int
open_tmp(struct target *t, struct err *e)
{
	bool again = true;
	int rc = 0;

	for (int i = 0; again && i < OPEN_TRIES; i++) {
		t->fd = openat(t->dirfd, t->tmp,
		    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
		    0600);
		if (t->fd == -1)
			return errno == ENOSPC || errno == EDQUOT
			    ? imgfile_write_error(e, t->path)
			    : imgfile_open_error(e, t->path);
		again = false;
		rc = check_tmp(t, &again, e);
		if (rc != 0 || again)
			close(t->fd);
	}
	if (again)
		return err_set(e, ERR_BUSY,
		    "%s: other restores to it come and go", t->path);
	return rc;
}

static void
free_names(struct target *t)
{
	free(t->path);
	free(t->dir);
	free(t->name);
	free(t->tmp);
	free(t->kept);
}

int
target_open(struct target *t, const char *path, bool force, struct err *e)
{
	char *dir;
	int rc;

	*t = (struct target){ .fd = -1,
		.dirfd = -1,
		.old_fd = -1,
		.force = force,
		.path = xstrdup(path) };
	t->out = (struct outfile){ .path = t->path, .fd = -1 };
	if (nfs3_is_url(path)) {
		rc = target_nfs_open(t, e);
		if (rc != 0)
			free_names(t);
		return rc;
	}
	split_path(t, path, &dir);
	if (t->name[0] == 0 || strlen(t->tmp) > NAME_MAX) {
		rc = err_set(
		    e, ERR_INVAL, "%s: is not a name for an image", path);
		goto err_free;
	}
	t->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dirfd == -1) {
		rc = imgfile_open_error(e, dir);
		goto err_free;
	}
	rc = check_swap(t, e);
	if (rc == 0)
		rc = check_old(t, e);
	if (rc == 0)
		rc = open_tmp(t, e);
	if (rc != 0)
		goto err_close;
	t->out.fd = t->fd;
	free(dir);
	return 0;
err_close:
	if (t->old_fd != -1)
		close(t->old_fd);
	close(t->dirfd);
err_free:
	free(dir);
	free_names(t);
	return rc;
}

/* The new file is to be usable by whoever could use the old one. */
static int
take_owner(struct target *t, struct err *e)
{
	struct stat st;

	if (t->old_fd == -1)
		return 0;
	if (fstat(t->old_fd, &st) == -1)
		return imgfile_sys(e, t->path, "stat");
	/* Only root may give files away; others replace files of their own. */
	if (fchown(t->fd, st.st_uid, st.st_gid) == -1 && errno != EPERM)
		return imgfile_sys(e, t->path, "chown");
	if (fchmod(t->fd, st.st_mode & 0777) == -1)
		return imgfile_sys(e, t->path, "chmod");
	return 0;
}

int
target_finish(struct target *t, struct err *e)
{
	int rc;

	if (t->nfs != NULL)
		return target_nfs_finish(t, e);
	rc = take_owner(t, e);
	if (rc == 0)
		rc = outfile_sync(&t->out, e);
	if (rc != 0)
		return rc;
	if (t->held)
		return fsync(t->dirfd) == -1
		    ? imgfile_sys(e, t->path, "sync its folder")
		    : 0;
	if (renameat2(t->dirfd, t->tmp, t->dirfd, t->name,
		t->force ? 0 : RENAME_NOREPLACE) == -1) {
		if (errno == EEXIST)
			return err_set(e, ERR_EXIST,
			    "%s: somebody made it meanwhile", t->path);
		return imgfile_sys(e, t->path, "rename");
	}
	t->finished = true;
	if (fsync(t->dirfd) == -1)
		return imgfile_sys(e, t->path, "sync its folder");
	return 0;
}

void
target_close(struct target *t)
{
	if (t->nfs != NULL) {
		target_nfs_close(t);
		free_names(t);
		return;
	}
	/* Before the lock goes with the descriptor: it could be another's. */
	if (!t->finished)
		unlinkat(t->dirfd, t->tmp, 0);
	close(t->fd);
	if (t->old_fd != -1)
		close(t->old_fd);
	close(t->dirfd);
	free_names(t);
}
