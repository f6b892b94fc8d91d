/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_NFS_NFS3_FILE_IMPL_H
#define PROTO_NFS_NFS3_FILE_IMPL_H

#include "proto/nfs/nfs3_file.h"
#include "proto/nfs/nfs3_impl.h"

enum piece_state {
	PIECE_FILLING, /* the last one: more may come behind it */
	PIECE_FLYING,  /* given to a connection */
	PIECE_WRITTEN  /* the server has it, perhaps in memory only */
};

/* What one WRITE has; kept until a COMMIT covers it. */
struct piece {
	struct nfs3_op op;
	TAILQ_ENTRY(piece) link;
	struct nfs3_file *f;
	struct WRITE3args args;
	enum piece_state state;
	bool covered; /* was written before the COMMIT under way was sent */
	uint64_t seq;
	uint64_t off;
	uint32_t len;
	uint32_t at; /* of these the server has taken already */
	char verf[NFS3_WRITEVERFSIZE];
	char data[];
};

TAILQ_HEAD(pieces, piece);

struct nfs3_file {
	TAILQ_ENTRY(nfs3_file) link;
	struct nfs3 *n;
	struct nfs3_fh fh;
	pthread_mutex_t mu;
	pthread_cond_t moved;
	struct pieces pieces; /* guarded by mu, as is all below; by age */
	uint64_t next_seq;
	uint64_t size;
	uint64_t end;     /* no piece ends beyond */
	uint64_t written; /* bytes that wait for a COMMIT */
	unsigned flying;
	bool committing;
	bool patient;      /* set before start: no deadlines */
	bool foreign;      /* others may have written what is not committed */
	uint64_t ncommits; /* that were answered */
	struct nfs3_op commit;
	struct COMMIT3args commit_args;
	int error; /* the first; stays */
};

/** piece_send(p): its file is locked. */
void piece_send(struct piece *p);

/** file_commit(f): send a COMMIT for all that is written, unless one is under
 * way.  Locked. */
void file_commit(struct nfs3_file *f);

#endif
