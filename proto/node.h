/* SPDX-License-Identifier: Apache-2.0 */
/* node: the Merkle tree over a volume's slices.  PROTOCOL.md 4. */
#ifndef PROTO_NODE_H
#define PROTO_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/chunk.h"

enum {
	NODE_FANOUT = 128,
	/* 128^7 slices of 64 KiB are more than VOLUME_SIZE_MAX. */
	NODE_LEVEL_MAX = 6,
	NODE_HEADER_LEN = 4,
	NODE_LEN_MAX = NODE_HEADER_LEN + NODE_FANOUT * ID_LEN
};

/*
 * A node of level 0 (a leaf) holds chunks, one of level n nodes of level n-1.
 * There is one form of each content: trailing holes are cut off (n counts
 * what is left), so the last child is never a hole and n is never 0; a
 * subtree of only holes is itself the hole's id and no node.
 */
struct node {
	uint8_t level;
	uint8_t n;
	bool tail; /* the last slice below is a volume's short last slice */
	struct id child[NODE_FANOUT];
};

/**
 * node_parse(body, len, out, e): decode and check the form above.  Pure.
 * 0 or ERR_PROTO.
 */
int node_parse(
    const uint8_t *body, size_t len, struct node *out, struct err *e);

/**
 * node_print(n, body): encode into ${body} (NODE_LEN_MAX bytes); returns the
 * length.  Children from n->n on are ignored.
 */
size_t node_print(const struct node *n, uint8_t *body);

/** node_trim(n): set n->n from the NODE_FANOUT ids in n->child. */
void node_trim(struct node *n);

/** node_span(level): slices below one node of ${level}: 128^(level + 1). */
uint64_t node_span(unsigned level);

/** node_root_level(nslices): the level of the root over ${nslices} > 0. */
unsigned node_root_level(uint64_t nslices);

#endif
