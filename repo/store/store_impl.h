/* SPDX-License-Identifier: Apache-2.0 */
/* store_impl: what the files of the store share. */
#ifndef REPO_STORE_STORE_IMPL_H
#define REPO_STORE_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/codec.h"
#include "repo/store/idmap.h"
#include "repo/store/ledger.h"
#include "repo/store/store.h"

struct store {
	struct store_format format; /* set before start */
	int dirfd;
	int lockfd;
	struct volume *volume;
	struct pack_set *packs;
	struct index *index;
	struct ledger *ledger;
	struct damage *damage;
	unsigned checkpoint_ms;       /* set before start */
	_Atomic uint64_t ranges_left; /* bytes for the lanes' joined reads */
};

/* What a session may rely on and no node of it holds yet: value in an idmap. */
struct frontier_id {
	uint8_t kind;
	uint8_t level;
	bool tail;
};

struct store_session {
	struct store *store;
	struct ledger_session *ledger;
	uint32_t domain;

	/* Answers and puts hold it to read until they are in the frontier; who
	 * turns the session's start holds it to write (rule 8). */
	pthread_rwlock_t gate;
	pthread_mutex_t mu;
	struct idmap frontier; /* struct frontier_id; guarded by mu */
	struct idmap lacking;  /* uint64_t: the batch as of which a chunk was
				* answered not to be there; guarded by mu */
	uint64_t stored;       /* since the last checkpoint; guarded by mu */
	/* The control lane's own. */
	uint64_t checkpoint_ms;
};

/* Nodes last read on the way down a tree, one a level. */
struct store_path {
	struct id id[NODE_LEVEL_MAX + 1];
	struct node node[NODE_LEVEL_MAX + 1];
};

/* The leaves of one node, as far as a joined read had them. */
struct leaf_group {
	struct id of;
	bool have[NODE_FANOUT];
	struct node leaf[NODE_FANOUT];
};

struct store_lane {
	struct hasher *hasher;
	struct codec *codec;
	uint8_t *raw;          /* one chunk, decoded */
	struct store *store;   /* that ${range} is of */
	uint8_t *range;        /* joined reads; made when first used */
	uint64_t range_len;    /* bytes that one may have */
	uint64_t range_shared; /* of them out of store->ranges_left */
	struct buf payload;    /* one record */
	struct store_path path;
	struct id group_of;       /* whose leaf was asked for last */
	struct leaf_group *group; /* made when first used */
};

enum {
	FRONTIER_MAX = 16384,
	LACKING_MAX = 4096 /* what lanes have in work; beyond it all go */
};

/** store_hold_node(x, l, n, id, e): put a node that holds part of the frontier
 * for an incomplete manifest; the frontier stays as it is. */
int store_hold_node(struct store_session *x, struct store_lane *l,
    const struct node *n, struct id *id, struct err *e);

/** store_commit_unchecked: store_commit without looking at the trees. */
int store_commit_unchecked(struct store_session *x, struct manifest *m,
    const struct store_drop *d, unsigned n, struct err *e);

/** damage_new(), damage_free(d): what is known of damage; empty at first. */
struct damage *damage_new(void);
void damage_free(struct damage *d);

/** store_lock(dir, dirfd, &fd, e): ERR_BUSY names who holds it. */
int store_lock(const char *dir, int dirfd, int *fd, struct err *e);

/** store_node_at(s, l, id, place, level, out, e): the node whose record lies
 * there: read, verified against its id, parsed, its level checked. */
int store_node_at(struct store *s, struct store_lane *l, const struct id *id,
    const struct place *place, unsigned level, struct node *out, struct err *e);

/** store_found_damage(s, id, x, code): a read of what ${x} names ended so: if
 * that means damage it is noted, once. */
void store_found_damage(struct store *s, const struct id *id,
    const struct index_entry *x, int code);

/** rollforward(x, v, p, format, e): bring index and packs together when a
 * store is opened: STORE.md 13; fills the pack set. */
int rollforward(struct index *x, struct volume *v, struct pack_set *p,
    const struct store_format *format, struct err *e);

/** store_volume_open(dirfd, f, nfs_timeout_ms, out, e): where the packs of the
 * repository ${dirfd} are. */
int store_volume_open(int dirfd, const struct store_format *f,
    unsigned nfs_timeout_ms, struct volume **out, struct err *e);

#endif
