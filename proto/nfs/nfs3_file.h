/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nfs3_file: reading and writing a file of an export.
 *
 * What is written is sent at once and kept until the server has it on disk: a
 * server that restarts forgets what it had not committed, and tells only by
 * another verifier; it is then sent again.  So a sync that answers 0 is true,
 * whatever became of the server meanwhile.  Reads see what was written.
 *
 * Any number of threads.  Errors as in nfs3.h.
 */
#ifndef PROTO_NFS_NFS3_FILE_H
#define PROTO_NFS_NFS3_FILE_H

#include <sys/uio.h>

#include "proto/nfs/nfs3.h"

/* Of all files of an export together, kept until committed. */
enum { NFS3_KEPT_MAX = 96 << 20 };

struct nfs3_file;

/** nfs3_file_new(n, fh, size, patient): a file that is there.  ${patient}: what
 * was taken waits for the server without end; else a write or sync that got no
 * answer as long as patience lasts fails with ERR_TIMEOUT. */
struct nfs3_file *nfs3_file_new(
    struct nfs3 *n, const struct nfs3_fh *fh, uint64_t size, bool patient);

/** nfs3_file_free(f): the server has been sent all; what was not synced may be
 * lost with it.  Waits for its answers. */
void nfs3_file_free(struct nfs3_file *f);

/**
 * nfs3_file_write(f, iov, n, off): all parts one after another.  Waits for room
 * only: ERR_TIMEOUT, and nothing of it was taken.  An error of a write before
 * comes with the next write or sync, and stays: ERR_NOSPC, ERR_SYS, ....
 */
int nfs3_file_write(
    struct nfs3_file *f, const struct iovec *iov, int n, uint64_t off);

/** nfs3_file_flush(f): send what is held back to make requests large. */
void nfs3_file_flush(struct nfs3_file *f);

/** nfs3_file_sync(f): all that was written before is on the server's disk. */
int nfs3_file_sync(struct nfs3_file *f);

/** nfs3_file_read(f, data, len, off, got): fewer than ${len} only at the
 * end. */
int nfs3_file_read(
    struct nfs3_file *f, void *data, size_t len, uint64_t off, size_t *got);

int nfs3_file_readv(struct nfs3_file *f, const struct iovec *iov, int n,
    uint64_t off, size_t *got);

uint64_t nfs3_file_size(struct nfs3_file *f);

/** nfs3_file_cut(f, size): nobody writes meanwhile. */
int nfs3_file_cut(struct nfs3_file *f, uint64_t size);

#endif
