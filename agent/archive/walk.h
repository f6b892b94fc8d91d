/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk: what is in a volume of a backup, in order, by its tree: what is the
 * same in another backup, or a hole in both, is passed over by whole subtrees.
 * Without another backup it is compared with holes.  All is verified.  One
 * thread, and its lanes.
 */
#ifndef AGENT_ARCHIVE_WALK_H
#define AGENT_ARCHIVE_WALK_H

#include "agent/pipeline/hot.h"
#include "agent/pipeline/job.h"
#include "agent/pipeline/path.h"
#include "proto/codec.h"
#include "proto/manifest.h"

/* What is told at a time: as much as one L2 table of a qcow2 image covers, and
 * always whole leaves. */
enum {
	WALK_REGION = 512 << 20,
	WALK_LEAVES = WALK_REGION / NODE_FANOUT / CHUNK_SIZE_MIN,
	WALK_WINDOW = 8 << 20 /* bytes that are read at a time */
};

/* A lane to a job at the daemon, and what is needed to check its answers. */
struct walk_lane {
	struct hot hot;
	struct job *job;
	struct hasher *hasher;
	struct codec *codec;
	uint32_t chunk_size;
};

/** walk_lane_init(w, lane, job): ${lane} is attached to ${job}, or its control
 * lane; both stay the caller's. */
void walk_lane_init(struct walk_lane *w, struct lane *lane, struct job *job);
void walk_lane_fini(struct walk_lane *w);

/* One of the two trees. */
struct walk_tree {
	struct walk_lane *lane; /* NULL: holes */
	uint16_t number;        /* in its manifest */
	struct id root;
	struct path path;
	/* Of the region: */
	bool has[WALK_LEAVES]; /* else a hole, or the same in both */
	struct node leaf[WALK_LEAVES];
};

struct walk {
	const char *name; /* of the volume */
	uint64_t size;
	uint64_t nslices;
	uint64_t nleaves;
	uint32_t chunk_size;
	unsigned per; /* leaves of a region */
	struct walk_tree now, was;
	/* The region: */
	uint64_t region;
	unsigned count; /* slices in it */
	/* For windows that are read: */
	uint8_t *data[2];
};

/** walk_new(name, size, lane, number, root): of a volume of ${size} bytes.
 * walk_since(w, lane, number, root): compared with that, of the same size. */
struct walk *walk_new(const char *name, uint64_t size, struct walk_lane *lane,
    uint16_t number, const struct id *root);
void walk_since(struct walk *w, struct walk_lane *lane, uint16_t number,
    const struct id *root);
void walk_free(struct walk *w);

/** walk_idle(w): it is not read for now: let go of its windows. */
void walk_idle(struct walk *w);

/** walk_nregions(w). */
uint64_t walk_nregions(const struct walk *w);

/** walk_next(w, from, e): load the first region from ${from} on where the
 * trees differ.  ERR_NOENT: there is none; ERR_CORRUPT, and what lanes say. */
int walk_next(struct walk *w, uint64_t from, struct err *e);

enum walk_kind { WALK_SAME, WALK_ZERO, WALK_DATA };

/** walk_kind(w, i): slice ${i} of the region.  walk_first(w): the number of
 * its first slice in the volume. */
enum walk_kind walk_kind(const struct walk *w, unsigned i);
uint64_t walk_first(const struct walk *w);

/** A slice of WALK_DATA, by its number in the region. */
typedef int walk_slice(
    void *arg, unsigned i, const uint8_t *data, uint32_t len, struct err *e);

/** walk_read(w, each, arg, e): all of the region's, in order. */
int walk_read(struct walk *w, walk_slice *each, void *arg, struct err *e);

#endif
