/* SPDX-License-Identifier: Apache-2.0 */
/* subtree: the nodes of a volume's tree above a range of slices, level by
 * level, each level in joined reads. */
#ifndef REPO_STORE_SUBTREE_H
#define REPO_STORE_SUBTREE_H

#include "repo/store/store_impl.h"

struct subtree {
	/* Of each level those from ${first} on; holes have no children. */
	uint64_t first[NODE_LEVEL_MAX + 1];
	uint32_t n[NODE_LEVEL_MAX + 1]; /* 0: that level was not kept */
	struct node *node[NODE_LEVEL_MAX + 1];
};

/**
 * subtree_load(s, l, root, size, slice, n, out, e): the slices are in the
 * volume.  Of a few slices only the leaves are kept.  subtree_free(t) takes
 * what is kept, also after a failure.  As store_read_node.
 */
int subtree_load(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, struct subtree *out,
    struct err *e);
void subtree_free(struct subtree *t);

/** subtree_node(t, level, index): NULL: it is not in there. */
const struct node *subtree_node(
    const struct subtree *t, unsigned level, uint64_t index);

#endif
