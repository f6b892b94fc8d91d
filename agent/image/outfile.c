/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image/outfile.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/image/nfsfile.h"
#include "proto/base/io.h"

static int
remote(const struct outfile *f, int rc, const char *what, struct err *e)
{
	return rc == 0 ? 0 : nfsfile_error(e, rc, f->client, f->path, what);
}

int
outfile_write(const struct outfile *f, const void *data, size_t len,
    uint64_t off, struct err *e)
{
	const struct iovec iov = { (void *)(uintptr_t)data, len };

	if (f->nfs != NULL)
		return remote(
		    f, nfs3_file_write(f->nfs, &iov, 1, off), "write", e);
	if (pwrite_full(f->fd, data, len, off) == -1)
		return imgfile_write_error(e, f->path);
	return 0;
}

int
outfile_read(const struct outfile *f, void *data, size_t len, uint64_t off,
    struct err *e)
{
	size_t got = 0;
	ssize_t n;
	int rc;

	if (f->nfs != NULL) {
		rc = nfs3_file_read(f->nfs, data, len, off, &got);
		if (rc != 0)
			return remote(f, rc, "read", e);
	} else {
		n = pread_full(f->fd, data, len, off);
		if (n == -1)
			return imgfile_sys(e, f->path, "read");
		got = (size_t)n;
	}
	memset((uint8_t *)data + got, 0, len - got);
	return 0;
}

int
outfile_resize(const struct outfile *f, uint64_t size, struct err *e)
{
	if (size > INT64_MAX) {
		errno = EFBIG;
		return imgfile_write_error(e, f->path);
	}
	if (f->nfs != NULL)
		return remote(f, nfs3_file_cut(f->nfs, size), "resize", e);
	if (ftruncate(f->fd, (off_t)size) == -1)
		return imgfile_write_error(e, f->path);
	return 0;
}

int
outfile_sync(const struct outfile *f, struct err *e)
{
	if (f->nfs != NULL)
		return remote(f, nfs3_file_sync(f->nfs), "sync", e);
	if (fsync(f->fd) == -1)
		return imgfile_write_error(e, f->path);
	return 0;
}
