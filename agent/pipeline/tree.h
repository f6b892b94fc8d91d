/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: builds the upper levels of a volume's tree while its leaves are found
 * out in any order, by any lanes.  Pure but for its mutex.
 *
 * A node becomes ready when all its children within the volume are known and
 * in the store.  Somebody takes it, sends it, and adds it when the daemon has
 * taken it.  Memory is the nodes on the frontier of the work, whatever the
 * size of the volume.
 */
#ifndef AGENT_PIPELINE_TREE_H
#define AGENT_PIPELINE_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/node.h"

struct tree;

/* A node to be sent. */
struct tree_ready {
	uint64_t index; /* its place among those of node.level */
	struct node node;
};

/** tree_new(size, chunk_size): of a volume of ${size} bytes. */
struct tree *tree_new(uint64_t size, uint32_t chunk_size);
void tree_free(struct tree *t);

/** tree_nleaves(t): how many leaves the volume has. */
uint64_t tree_nleaves(const struct tree *t);

/**
 * tree_add_leaf(t, index, id, tail): leaf ${index} is in the store, or is a
 * hole.  ${tail}: it holds the volume's short last slice.  Each leaf once.
 * tree_add_holes(t, first, n): ${n} leaves are holes.
 * tree_add_node(t, level, index, id): a node that was taken is in the store.
 * tree_add_subtree(t, level, index, id, tail): the store has all that is below
 * node ${index} of ${level}, which is ${id} (may be a hole); nothing of it was
 * or will be told.
 * Any thread.
 */
void tree_add_leaf(
    struct tree *t, uint64_t index, const struct id *id, bool tail);
void tree_add_holes(struct tree *t, uint64_t first, uint64_t n);
void tree_add_node(
    struct tree *t, unsigned level, uint64_t index, const struct id *id);
void tree_add_subtree(struct tree *t, unsigned level, uint64_t index,
    const struct id *id, bool tail);

/** tree_root_level(t): of a volume that is not empty. */
unsigned tree_root_level(const struct tree *t);

/** tree_nnodes(t, level): how many nodes that level has. */
uint64_t tree_nnodes(const struct tree *t, unsigned level);

/** tree_take(t, out): a node that is ready, each once.  False: none is. */
bool tree_take(struct tree *t, struct tree_ready *out);

/** tree_root(t, out): the root, once all is known.  False: not yet. */
bool tree_root(struct tree *t, struct id *out);

/** tree_nopen(t): nodes that are kept now: open ones and ready ones. */
unsigned tree_nopen(struct tree *t);

#endif
