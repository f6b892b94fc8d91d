/* SPDX-License-Identifier: Apache-2.0 */
/* nfs3_impl: what the files of proto/nfs share. */
#ifndef PROTO_NFS_NFS3_IMPL_H
#define PROTO_NFS_NFS3_IMPL_H

#include "proto/nfs/nfs3_conn.h"

struct nfs3_file;
TAILQ_HEAD(nfs3_files, nfs3_file);

/* Locks, in the order in which they are taken: files_mu, a file's, mu. */
struct nfs3 {
	struct nfs3_url url;
	struct nfs3_fh root; /* set before it is handed out, as the next */
	uint32_t read_max, write_max;
	atomic_uint patience_ms;
	struct nfs3_limits limits;
	bool bounded; /* constant */
	unsigned nconns;
	struct nfs3_conn conn[NFS3_CONNS];

	_Atomic uint64_t unsent; /* bytes of pieces that the server may not
				    have yet */

	pthread_mutex_t files_mu;
	struct nfs3_files files; /* guarded by files_mu: those that are open */

	/* What files keep until it is on disk. */
	pthread_mutex_t mu;
	pthread_cond_t room;
	uint64_t kept; /* bytes; guarded by mu */
};

/** nfs3_give(n, op): to the connection with the least to do. */
void nfs3_give(struct nfs3 *n, struct nfs3_op *op);

/** nfs3_rc(n, what, st): the server's status as ours; logged where it is
 * ERR_SYS. */
int nfs3_rc(const struct nfs3 *n, const char *what, nfsstat3 st);

/** nfs3_mount(n, path, out, e): the handle of an export, or of a
 * folder in one; connects for this alone. */
int nfs3_mount(
    struct nfs3 *n, const char *path, struct nfs3_fh *out, struct err *e);

/** nfs3_fsinfo(n): what the server takes at once. */
int nfs3_fsinfo(struct nfs3 *n);

static inline struct nfs_fh3
nfs3_raw_fh(const struct nfs3_fh *fh)
{
	struct nfs_fh3 raw = { .data = { .data_len = fh->len,
				   .data_val = (char *)(uintptr_t)fh->data } };

	return raw;
}

#endif
