/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image/imgfile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/imglock.h"
#include "agent/image/nfsfile.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

int
imgfile_sys(struct err *e, const char *path, const char *what)
{
	int was = errno;

	log_sys("%s: %s", path, what);
	return err_set(e, ERR_SYS, "%s: %s: %s", path, what, strerror(was));
}

int
imgfile_open_error(struct err *e, const char *path)
{
	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		return err_set(e, ERR_NOENT, "%s: there is no such file", path);
	case EACCES:
	case EPERM:
	case EROFS:
		return err_set(e, ERR_DENIED, "%s: %s: run as a user who may",
		    path, strerror(errno));
	case EBUSY:
		return err_set(
		    e, ERR_BUSY, "%s: is mounted or otherwise in use", path);
	case ELOOP:
	case ENAMETOOLONG:
	case ENXIO:
	case EISDIR:
		return err_set(e, ERR_INVAL, "%s: %s", path, strerror(errno));
	default: return imgfile_sys(e, path, "open");
	}
}

int
imgfile_write_error(struct err *e, const char *path)
{
	if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
		return err_set(e, ERR_NOSPC,
		    "%s: %s: make room, or restore to another place", path,
		    strerror(errno));
	return imgfile_sys(e, path, "write");
}

int
imgfile_device_size(int fd, uint64_t *size)
{
	return ioctl(fd, BLKGETSIZE64, size);
}

/* The file, and what it is; to be closed in any case. */
static int
open_to_read(
    struct imgfile *f, const char *path, struct stat *st, struct err *e)
{
	/* Without O_NONBLOCK a named pipe would keep us here for ever. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->fd == -1)
		return imgfile_open_error(e, path);
	f->path = xstrdup(path);
	if (fstat(f->fd, st) == -1)
		return imgfile_sys(e, path, "stat");
	return 0;
}

static int
open_on_nfs(const char *url, struct imgfile **out, struct err *e)
{
	struct imgfile *f = xcalloc(1, sizeof(*f));
	int rc;

	f->fd = -1;
	rc = nfsfile_open(url, &f->size, &f->nfs, e);
	if (rc != 0) {
		free(f);
		return rc;
	}
	f->path = xstrdup(url);
	*out = f;
	return 0;
}

int
imgfile_open(const char *path, struct imgfile **out, struct err *e)
{
	struct imgfile *f;
	struct stat st;
	int rc;

	if (nfs3_is_url(path))
		return open_on_nfs(path, out, e);
	f = xcalloc(1, sizeof(*f));
	rc = open_to_read(f, path, &st, e);
	if (rc != 0)
		goto err_close;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		rc = err_set(e, ERR_INVAL,
		    "%s: is neither a regular file nor a block device", path);
		goto err_close;
	}
	rc = imglock_take(f->fd, path, IMGLOCK_READ, e);
	if (rc != 0)
		goto err_close;
	/* The size only after the lock: before it a writer might grow it. */
	f->device = S_ISBLK(st.st_mode);
	if (f->device ? imgfile_device_size(f->fd, &f->size) == -1
		      : fstat(f->fd, &st) == -1) {
		rc = imgfile_sys(e, path, "size");
		goto err_close;
	}
	if (!f->device)
		f->size = (uint64_t)st.st_size;
	/* Two nodes of one device are one device. */
	f->dev = f->device ? 0 : st.st_dev;
	f->ino = f->device ? (ino_t)st.st_rdev : st.st_ino;
	*out = f;
	return 0;
err_close:
	imgfile_close(f);
	return rc;
}

void
imgfile_call(struct imgfile *f, const char *name)
{
	free(f->path);
	f->path = xstrdup(name);
}

int
imgfile_open_unlocked(const char *path, struct imgfile **out, struct err *e)
{
	struct imgfile *f = xcalloc(1, sizeof(*f));
	struct stat st;
	int rc;

	rc = open_to_read(f, path, &st, e);
	if (rc != 0)
		goto err_close;
	if (!S_ISREG(st.st_mode)) {
		rc = err_set(e, ERR_INVAL, "%s: is no regular file", path);
		goto err_close;
	}
	f->size = (uint64_t)st.st_size;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	*out = f;
	return 0;
err_close:
	imgfile_close(f);
	return rc;
}

int
imgfile_read(
    struct imgfile *f, void *data, size_t len, uint64_t off, struct err *e)
{
	uint8_t *p = data;
	size_t n = len;
	ssize_t got;

	if (off >= f->size)
		n = 0;
	else if (n > f->size - off)
		n = (size_t)(f->size - off);
	memset(p + n, 0, len - n);
	if (n == 0)
		return 0;
	if (f->nfs != NULL)
		return nfsfile_read(f->nfs, p, n, off, e);
	got = pread_full(f->fd, p, n, off);
	if (got == -1)
		return imgfile_sys(e, f->path, "read");
	if ((size_t)got < n)
		return err_set(e, ERR_CORRUPT,
		    "%s: became shorter while it was read", f->path);
	return 0;
}

uint64_t
imgfile_map(struct imgfile *f, uint64_t off, uint64_t len, bool *hole)
{
	off_t at, to;

	*hole = false;
	/* NFS of version 3 does not tell of holes. */
	if (f->device || f->nfs != NULL)
		return len;
	at = lseek(f->fd, (off_t)off, SEEK_DATA);
	if (at == -1 && errno == ENXIO && off < f->size) {
		*hole = true; /* nothing but a hole up to the end */
		return len;
	}
	if (at == -1 || (uint64_t)at < off)
		return len; /* no such knowledge here: all may be data */
	if ((uint64_t)at > off) {
		*hole = true;
		return (uint64_t)at - off < len ? (uint64_t)at - off : len;
	}
	to = lseek(f->fd, at, SEEK_HOLE);
	if (to == -1 || to <= at || (uint64_t)(to - at) > len)
		return len;
	return (uint64_t)(to - at);
}

int
imgfile_still(struct imgfile *f, struct err *e)
{
	return f->nfs != NULL ? nfsfile_still(f->nfs, e) : 0;
}

bool
imgfile_same(const struct imgfile *a, const struct imgfile *b)
{
	if (a->nfs != NULL || b->nfs != NULL)
		return a->nfs != NULL && b->nfs != NULL &&
		    nfsfile_same(a->nfs, b->nfs);
	return a->device == b->device && a->dev == b->dev && a->ino == b->ino;
}

void
imgfile_close(struct imgfile *f)
{
	if (f == NULL)
		return;
	nfsfile_close(f->nfs);
	if (f->fd != -1)
		close(f->fd);
	free(f->path);
	free(f);
}
