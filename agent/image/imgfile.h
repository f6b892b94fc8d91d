/* SPDX-License-Identifier: Apache-2.0 */
/* imgfile: a regular file, here or on an NFS export, or a block device that
 * holds an image, for reading. */
#ifndef AGENT_IMAGE_IMGFILE_H
#define AGENT_IMAGE_IMGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/err.h"

struct nfsfile;

/* All set by open and constant from then on, but for imgfile_call. */
struct imgfile {
	int fd;              /* -1: on NFS */
	struct nfsfile *nfs; /* or NULL */
	uint64_t size;
	bool device;
	dev_t dev;
	ino_t ino;
	char *path;
};

/**
 * imgfile_open(path, out, e): open for reading and take QEMU's lock for it, so
 * that no QEMU opens it for writing before imgfile_close.  ${path} may be the
 * URL of a file on an NFS export: of such a file there is no lock.
 * ERR_NOENT, ERR_DENIED, ERR_BUSY, ERR_INVAL (neither file nor device),
 * ERR_SYS; of a URL as nfsfile_open.
 */
int imgfile_open(const char *path, struct imgfile **out, struct err *e);

/** imgfile_call(f, name): messages say ${name} in place of its path. */
void imgfile_call(struct imgfile *f, const char *name);

/**
 * imgfile_open_unlocked(path, out, e): a regular file that is no disk of a
 * guest's, without that lock.  ERR_NOENT, ERR_DENIED, ERR_INVAL, ERR_SYS.
 */
int imgfile_open_unlocked(
    const char *path, struct imgfile **out, struct err *e);

/**
 * imgfile_read(f, data, len, off, e): ${len} bytes; past the end are zeroes.
 * Any thread.  ERR_SYS; ERR_CORRUPT if the file has become shorter; ERR_CLOSED:
 * the NFS server does not answer.
 */
int imgfile_read(
    struct imgfile *f, void *data, size_t len, uint64_t off, struct err *e);

/**
 * imgfile_map(f, off, len, hole): how many of the ${len} > 0 bytes at ${off}
 * (within the file) are alike: a hole of the file system, or maybe data.
 * Returns that number, > 0.  Any thread.
 */
uint64_t imgfile_map(struct imgfile *f, uint64_t off, uint64_t len, bool *hole);

/** imgfile_still(f, e): what cannot be locked has not been written to since it
 * was opened.  ERR_BUSY: it has; ERR_CLOSED, ERR_SYS. */
int imgfile_still(struct imgfile *f, struct err *e);

/** imgfile_same(a, b): both are the same file, or device. */
bool imgfile_same(const struct imgfile *a, const struct imgfile *b);

/** imgfile_close(f): NULL is nothing. */
void imgfile_close(struct imgfile *f);

/**
 * imgfile_open_error(e, path): the answer to errno of a failed open or stat:
 * ERR_NOENT, ERR_DENIED, ERR_BUSY, ERR_INVAL or (logged) ERR_SYS.
 */
int imgfile_open_error(struct err *e, const char *path);

/** imgfile_sys(e, path, what): log errno, explain it, return ERR_SYS. */
int imgfile_sys(struct err *e, const char *path, const char *what);

/**
 * imgfile_write_error(e, path): the answer to errno of a failed write:
 * ERR_NOSPC or (logged) ERR_SYS.
 */
int imgfile_write_error(struct err *e, const char *path);

/** imgfile_device_size(fd, size): 0, or -1 with errno. */
int imgfile_device_size(int fd, uint64_t *size);

#endif
