/* SPDX-License-Identifier: Apache-2.0 */
/* backup_leaf: one leaf of a volume in work: read it, and see what is new. */
#ifndef AGENT_PIPELINE_BACKUP_LEAF_H
#define AGENT_PIPELINE_BACKUP_LEAF_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/pipeline/backup.h"
#include "agent/pipeline/backup_trust.h"
#include "agent/pipeline/cursor.h"
#include "agent/pipeline/effort.h"
#include "agent/pipeline/job.h"
#include "agent/pipeline/tree.h"
#include "agent/source/source.h"
#include "proto/msg.h"

enum { BACKUP_WINDOW = 8 << 20 /* read at once, and so a buffer's size */ };

struct slice_run {
	uint64_t first;
	uint64_t n;
};

/* All set before the lanes start, but for what trees do themselves. */
struct backup_volume {
	const char *name;
	const char *kind;
	struct source *source;
	const char *path; /* or NULL; until it began, as are the next */
	const char *identity;
	const struct id *base_root;
	uint64_t nslices;
	struct tree *tree;
	bool has_parent;
	uint64_t parent_size;
	struct id parent_root;
	uint64_t parent_nleaves;   /* 0: no parent to compare with */
	struct slice_run *damaged; /* of the parent: in order, apart */
	size_t ndamaged;
	/* Of the parent's size, and what the source knows to be clean is as in
	 * the parent, which is there. */
	bool trusted;
};

struct backup {
	struct job job;
	struct cursor cursor;
	struct probes probes;
	struct trust trust;
	uint32_t chunk_size;
	struct effort effort;
	const struct backup_options *options; /* main thread only, as below */
	bool prepared;
	bool sent;
	bool began;
	bool has_parent;
	char whole[200]; /* as in struct backup_result */
	char checkpoint[MANIFEST_CHECKPOINT_MAX + 1]; /* the parent's, or "" */
	unsigned nvolumes;
	struct backup_volume volume[MANIFEST_VOLUMES_MAX];
};

/** backup_lane(l, arg, e): what a lane does; ${arg} is the struct backup. */
int backup_lane(struct job_lane *l, void *arg, struct err *e);

enum parent_state { PARENT_NONE, PARENT_ASKED, PARENT_KNOWN };

struct leaf {
	bool used;
	unsigned volume;
	uint64_t index;
	uint64_t first; /* slice */
	unsigned n;     /* slices within the volume */
	unsigned nfilled;
	unsigned attempt; /* of sending it */
	uint8_t
	    force[NODE_FANOUT / 8]; /* slices the store turned out to lack */
	bool any_damaged;
	uint8_t damaged[NODE_FANOUT / 8]; /* in the store: ask, though the
					     parent has the same */
	bool probe;      /* it was taken unread: only compare ${sample} */
	uint64_t nholes; /* or, not 0: so many leaves with what was a hole */
	uint8_t sample[NODE_FANOUT / 8];
	enum parent_state parent_state;
	struct node parent; /* what is at its place in the parent */
	struct id parent_id;
	struct node node; /* what it is: children up to ${nfilled} */
	struct id id;     /* once all is filled in */
};

enum slice_kind {
	SLICE_HOLE,
	SLICE_PARENT, /* as in the parent at its place */
	SLICE_TWIN,   /* as another one before it in the leaf */
	SLICE_ASK,    /* the store may have it */
	SLICE_FORCE   /* the store said that it lacks it */
};

/* A part of a leaf with its bytes: what is read, asked and sent at a time. */
struct window {
	struct leaf *leaf; /* NULL: idle */
	unsigned at;       /* first slice in the leaf */
	unsigned n;
	bool last;    /* the leaf is complete with it */
	bool reuse;   /* the leaf is the parent's */
	bool waiting; /* for HAVE */
	unsigned nask;
	uint8_t kind[NODE_FANOUT]; /* enum slice_kind, from ${at} on */
	struct msg_have have;      /* of those of SLICE_ASK, in order */
	uint8_t *data;             /* BACKUP_WINDOW bytes */
};

/** leaf_hole_run(b, volume, leaf, &n, e): how many leaves from ${leaf} on are
 * holes without being read.  As source_map. */
int leaf_hole_run(const struct backup *b, unsigned volume, uint64_t leaf,
    uint64_t *n, struct err *e);

/** leaf_bytes(b, volume, leaf, n): bytes of the volume below those leaves. */
uint64_t leaf_bytes(
    const struct backup *b, unsigned volume, uint64_t leaf, uint64_t n);

/** leaf_source_failed(v, rc, e): what a failure of its source means. */
int leaf_source_failed(const struct backup_volume *v, int rc, struct err *e);

/** leaf_damaged_run(v, slice): the first damaged run that ends behind
 * ${slice}, or NULL. */
const struct slice_run *leaf_damaged_run(
    const struct backup_volume *v, uint64_t slice);

/** leaf_init(l, b, volume, index): a leaf without a parent. */
void leaf_init(
    struct leaf *l, const struct backup *b, unsigned volume, uint64_t index);

/**
 * window_fill(w, b, l, h, &nread, e): read the next part of ${l} into ${w},
 * but for what is trusted; hash it, tell the kinds of its slices; with the last
 * part, l->node and l->id are complete.  Where it finds that nothing was to be
 * trusted, b->trust is lost.  As source_read; never ERR_CORRUPT.
 */
int window_fill(struct window *w, struct backup *b, struct leaf *l,
    struct hasher *h, uint64_t *nread, struct err *e);

/**
 * leaf_probe(b, l, h, data, &nread, e): compare the sampled slices of ${l},
 * whose parent is known; ${data} has room for a chunk.  As window_fill.
 */
int leaf_probe(struct backup *b, const struct leaf *l, struct hasher *h,
    uint8_t *data, uint64_t *nread, struct err *e);

/**
 * leaf_probe_holes(b, l, data, &nread, e): of l->nholes leaves that are holes
 * in the parent, compare the sampled slices that are none in the source; what
 * takes too long is put back for others.  As leaf_probe.
 */
int leaf_probe_holes(struct backup *b, const struct leaf *l, uint8_t *data,
    uint64_t *nread, struct err *e);

/** window_slice_len(w, b, i): bytes of its slice ${i}. */
uint32_t window_slice_len(
    const struct window *w, const struct backup *b, unsigned i);

#endif
