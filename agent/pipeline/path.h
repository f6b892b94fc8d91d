/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path: the way from a volume's root down to where a lane works, each node
 * verified against the id that its parent names.  One thread's.
 */
#ifndef AGENT_PIPELINE_PATH_H
#define AGENT_PIPELINE_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/chunk.h"
#include "proto/node.h"

struct path_node {
	bool valid;
	uint64_t index;
	struct node node;
};

struct path {
	uint64_t nslices;
	unsigned root_level;
	struct id root;
	struct path_node at[NODE_LEVEL_MAX + 1]; /* by level; none of leaves */
};

/** path_init(p, root, nslices): at the root of a volume of ${nslices} > 0. */
void path_init(struct path *p, const struct id *root, uint64_t nslices);

enum path_step { PATH_LEAF, PATH_HOLE, PATH_FETCH };

/**
 * path_step(p, leaf, &level, &index, id): go towards ${leaf}.  PATH_LEAF: its
 * id is ${id}.  PATH_HOLE: it is below the hole that is node ${index} of
 * ${level} (0: the leaf itself).  PATH_FETCH: get node ${index} of ${level},
 * whose id must be ${id}, path_put it, ask again.
 */
enum path_step path_step(const struct path *p, uint64_t leaf, unsigned *level,
    uint64_t *index, struct id *id);

/** path_put(p, index, n): a verified node. */
void path_put(struct path *p, uint64_t index, const struct node *n);

/**
 * path_verify(h, body, len, nslices, level, index, id, out, e): is that the
 * node ${id}, of that level, and of a shape that fits there?  ERR_CORRUPT.
 */
int path_verify(struct hasher *h, const uint8_t *body, size_t len,
    uint64_t nslices, unsigned level, uint64_t index, const struct id *id,
    struct node *out, struct err *e);

#endif
