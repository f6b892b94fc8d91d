/* SPDX-License-Identifier: Apache-2.0 */
/* outfile: a new file that is being written: of this host, or on an NFS
 * export.  Its descriptor, or its client and file, stay the caller's. */
#ifndef AGENT_IMAGE_OUTFILE_H
#define AGENT_IMAGE_OUTFILE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/nfs/nfs3_file.h"

/* Constant while it is used. */
struct outfile {
	const char *path; /* for messages */
	int fd;           /* unless ${nfs} */
	struct nfs3 *client;
	struct nfs3_file *nfs;
};

/* All: ERR_NOSPC, ERR_CLOSED (the NFS server does not answer), ERR_DENIED,
 * ERR_SYS; any thread, but for the last two. */

/** outfile_write(f, data, len, off, e): an NFS server's failure may come with a
 * later write, or the sync. */
int outfile_write(const struct outfile *f, const void *data, size_t len,
    uint64_t off, struct err *e);

/** outfile_read(f, data, len, off, e): what was written; elsewhere, and beyond
 * the end, are zeroes. */
int outfile_read(const struct outfile *f, void *data, size_t len, uint64_t off,
    struct err *e);

/** outfile_resize(f, size, e): nobody writes meanwhile. */
int outfile_resize(const struct outfile *f, uint64_t size, struct err *e);

/** outfile_sync(f, e): all of it is on disk. */
int outfile_sync(const struct outfile *f, struct err *e);

#endif
