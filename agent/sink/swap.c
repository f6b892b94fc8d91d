/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sink/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/image/imglock.h"
#include "agent/sink/swap_impl.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { KEPT_NAMES_MAX = 100 };

/* Of the file with that name; 0: there is none; UINT64_MAX: cannot be told. */
static uint64_t
inode(const struct swap_disk *d, const char *name)
{
	struct stat st;

	if (fstatat(d->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return st.st_ino;
	return errno == ENOENT ? 0 : UINT64_MAX;
}

static int
failed(const struct swap_disk *d, const char *what, struct err *e)
{
	char *path = xasprintf("%s/%s", d->dir, d->name);
	int rc = errno == ENOSPC || errno == EDQUOT
	    ? imgfile_write_error(e, path)
	    : imgfile_sys(e, path, what);

	free(path);
	return rc;
}

/* All is where the journal says it can be. */
static int
check_places(const struct swap *w, struct err *e)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct swap_disk *d = &w->disk[i];
		uint64_t now = inode(d, d->name);

		if (now == d->new_ino)
			continue;
		if (now != d->old_ino || inode(d, d->tmp) != d->new_ino)
			return err_set(e, ERR_CORRUPT,
			    "%s/%s: it or %s is another file than the "
			    "interrupted restore had there: look at both, move "
			    "away what is wrong, then remove %s",
			    d->dir, d->name, d->tmp, d->journal);
	}
	return 0;
}

/* Second names for the old disks.  Nothing is changed by it. */
static int
link_old(const struct swap *w, struct err *e)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct swap_disk *d = &w->disk[i];

		if (d->old_ino == 0 || inode(d, d->name) == d->new_ino ||
		    inode(d, d->old) == d->old_ino)
			continue;
		/* Of nobody: a swap that ended takes it away. */
		if (unlinkat(d->dirfd, d->old, 0) == -1 && errno != ENOENT)
			return failed(d, "remove an old name", e);
		if (linkat(d->dirfd, d->name, d->dirfd, d->old, 0) == -1)
			return failed(d, "give it a second name", e);
		if (fsync(d->dirfd) == -1)
			return failed(d, "sync its folder", e);
	}
	return 0;
}

static int
rename_new(const struct swap *w, struct err *e)
{
	for (unsigned i = 0; i < w->n; i++) {
		const struct swap_disk *d = &w->disk[i];

		if (inode(d, d->name) == d->new_ino)
			continue;
		if (renameat(d->dirfd, d->tmp, d->dirfd, d->name) == -1)
			return failed(d, "rename", e);
		if (fsync(d->dirfd) == -1)
			return failed(d, "sync its folder", e);
	}
	return 0;
}

/* NAME.old-STAMP, or the first like it that is free. */
static int
keep_old(const struct swap *w, struct swap_disk *d)
{
	for (int i = 1; i <= KEPT_NAMES_MAX; i++) {
		char *kept = i == 1
		    ? xasprintf("%s.old-%s", d->name, w->stamp)
		    : xasprintf("%s.old-%s.%d", d->name, w->stamp, i);
		int r = linkat(d->dirfd, d->old, d->dirfd, kept, 0);
		bool ours =
		    r == -1 && errno == EEXIST && inode(d, kept) == d->old_ino;

		if (r == 0 || ours) {
			free(d->kept);
			d->kept = xasprintf("%s/%s", d->dir, kept);
			free(kept);
			return unlinkat(d->dirfd, d->old, 0);
		}
		free(kept);
		if (errno != EEXIST)
			return -1;
	}
	errno = EEXIST;
	return -1;
}

/* All names are the new disks'.  The old ones go, or stay. */
static int
drop_old(struct swap *w, struct err *e)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct swap_disk *d = &w->disk[i];
		int r;

		if (d->old_ino == 0 || inode(d, d->old) != d->old_ino)
			continue;
		r = w->stamp[0] != 0 ? keep_old(w, d)
				     : unlinkat(d->dirfd, d->old, 0);
		if (r == -1 || fsync(d->dirfd) == -1)
			return failed(d, "let go of the old disk", e);
	}
	return 0;
}

/* From the first on: without its journal the others mean nothing. */
static int
forget(const struct swap *w, struct err *e)
{
	for (unsigned i = 0; i < w->n; i++)
		if (swap_forget(w, i) == -1)
			return failed(&w->disk[i], "remove its journal", e);
	return 0;
}

/* No name was changed: as if nothing had been. */
static int
undo(const struct swap *w, bool drop_new, struct err *e)
{
	if (swap_forget(w, 0) == -1)
		return failed(&w->disk[0], "remove its journal", e);
	for (unsigned i = 0; i < w->n; i++) {
		const struct swap_disk *d = &w->disk[i];

		if (d->old_ino != 0 && inode(d, d->name) == d->old_ino &&
		    inode(d, d->old) == d->old_ino)
			(void)unlinkat(d->dirfd, d->old, 0);
		if (drop_new && inode(d, d->name) != d->new_ino &&
		    inode(d, d->tmp) == d->new_ino)
			(void)unlinkat(d->dirfd, d->tmp, 0);
	}
	return forget(w, e);
}

static int
go_on(struct swap *w, struct err *e)
{
	const struct swap_disk *d = &w->disk[0];
	struct err late;
	int rc = rename_new(w, e);

	if (rc != 0)
		return err_prefix(e,
		    "the new disks are whole, but not all are in place; "
		    "backstay-agent restore --finish %s/%s goes on",
		    d->dir, d->name);
	rc = drop_old(w, e);
	if (rc != 0)
		return err_prefix(e,
		    "the new disks are in place; backstay-agent restore "
		    "--finish %s/%s lets go of the old ones",
		    d->dir, d->name);
	/* All is done, and whoever finds a journal finds that out. */
	(void)forget(w, &late);
	return 0;
}

static struct swap *
from_targets(struct target *const *t, unsigned n, const char *stamp)
{
	struct swap *w = swap_new();

	random_bytes(w->id, sizeof(w->id));
	if (stamp != NULL)
		snprintf(w->stamp, sizeof(w->stamp), "%s", stamp);
	for (unsigned i = 0; i < n; i++) {
		struct swap_disk *d;
		struct stat st;

		if (t[i]->dir == NULL ||
		    swap_add(w, t[i]->dir, t[i]->name, NULL) != 0)
			goto err;
		d = &w->disk[i];
		if (fstat(t[i]->fd, &st) == -1)
			goto err;
		d->new_ino = st.st_ino;
		d->old_ino = inode(d, d->name);
		/* The one that is locked is the one that is replaced. */
		if (t[i]->old_fd != -1 &&
		    (fstat(t[i]->old_fd, &st) == -1 || st.st_ino != d->old_ino))
			goto err;
		if (t[i]->old_fd == -1 && d->old_ino != 0)
			goto err;
	}
	return w;
err:
	swap_free(w);
	return NULL;
}

int
swap_run(struct target *const *t, unsigned n, const char *stamp, struct err *e)
{
	struct swap *w;
	struct err late;
	int rc = 0;

	if (n == 0)
		return 0;
	w = from_targets(t, n, stamp);
	if (w == NULL)
		return err_set(e, ERR_EXIST,
		    "somebody moved, made or removed a disk meanwhile: nothing "
		    "was replaced");
	for (unsigned i = w->n; i > 0 && rc == 0; i--)
		rc = swap_note(w, i - 1, e);
	if (rc == 0)
		rc = link_old(w, e);
	if (rc != 0) {
		if (undo(w, false, &late) != 0)
			log_error("what was noted of the swap could not be "
				  "removed: %s",
			    late.text);
		goto out;
	}
	/* From here on it is finished, by us or by the next run. */
	for (unsigned i = 0; i < n; i++)
		t[i]->finished = true;
	rc = go_on(w, e);
	for (unsigned i = 0; i < n; i++) {
		t[i]->kept = w->disk[i].kept;
		w->disk[i].kept = NULL;
	}
out:
	swap_free(w);
	return rc;
}

static bool
any_new(const struct swap *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (inode(&w->disk[i], w->disk[i].name) == w->disk[i].new_ino)
			return true;
	return false;
}

/* Nobody else is at it, nor uses a disk. */
static int
lock_all(struct swap *w, struct err *e)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct swap_disk *d = &w->disk[i];
		const char *name[2] = { d->name, d->tmp };

		for (int k = 0; k < 2; k++) {
			int rc;

			d->lock[k] = openat(d->dirfd, name[k],
			    O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
			if (d->lock[k] == -1 && errno != ENOENT)
				return failed(d, "open", e);
			if (d->lock[k] == -1)
				continue;
			rc =
			    imglock_take(d->lock[k], d->name, IMGLOCK_WRITE, e);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}

/* ${w}: what the journal beside one of them says. */
static int
recover(struct swap *w, const char *path, char *what, size_t len, struct err *e)
{
	struct swap *first;
	bool begun;
	int rc;

	rc = lock_all(w, e);
	if (rc != 0)
		return rc;
	/* Only now: before the locks another may have been at it. */
	rc = swap_read(w->disk[0].dirfd, w->disk[0].journal, path, &first, e);
	if (rc != 0)
		return rc;
	begun = first != NULL && memcmp(first->id, w->id, SWAP_ID_LEN) == 0;
	swap_free(first);
	if (!begun) {
		snprintf(what, len, "%s",
		    any_new(w) ? "tidied up behind a restore that had ended"
			       : "undone: a restore that was interrupted "
				 "before it put new disks in place");
		return undo(w, true, e);
	}
	rc = check_places(w, e);
	if (rc == 0)
		rc = link_old(w, e);
	if (rc == 0)
		rc = go_on(w, e);
	if (rc == 0)
		snprintf(what, len,
		    "finished: an interrupted restore; %u disk%s of it %s in "
		    "place now",
		    w->n, w->n == 1 ? "" : "s", w->n == 1 ? "is" : "are");
	return rc;
}

/* The folder of ${path} and its name there; links are followed. */
static int
open_folder(const char *path, char **name, struct err *e)
{
	char *full = realpath(path, NULL), *slash;
	int fd;

	if (full == NULL)
		full = xstrdup(path);
	slash = strrchr(full, '/');
	*name = xstrdup(slash == NULL ? full : slash + 1);
	if (slash != NULL)
		slash[slash == full] = 0;
	fd = open(
	    slash == NULL ? "." : full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		imgfile_open_error(e, path);
	free(full);
	return fd;
}

bool
swap_pending(const char *path)
{
	struct err e;
	char *name, *journal;
	int dirfd = open_folder(path, &name, &e);
	bool is;

	journal = swap_journal_name(name);
	is = dirfd != -1 &&
	    faccessat(dirfd, journal, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (dirfd != -1)
		close(dirfd);
	free(journal);
	free(name);
	return is;
}

int
swap_refuse(const char *path, struct err *e)
{
	return err_set(e, ERR_EXIST,
	    "%s: an interrupted restore has not ended yet: backstay-agent "
	    "restore --finish %s brings it to its end",
	    path, path);
}

int
swap_recover(const char *path, char *what, size_t len, struct err *e)
{
	struct swap *w = NULL;
	char *name, *journal;
	int dirfd, rc;

	what[0] = 0;
	dirfd = open_folder(path, &name, e);
	if (dirfd == -1) {
		free(name);
		return e->code;
	}
	journal = swap_journal_name(name);
	rc = swap_read(dirfd, journal, path, &w, e);
	if (rc == 0 && w != NULL)
		rc = recover(w, path, what, len, e);
	if (rc != 0)
		what[0] = 0;
	swap_free(w);
	close(dirfd);
	free(journal);
	free(name);
	return rc;
}
