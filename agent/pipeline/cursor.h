/* SPDX-License-Identifier: Apache-2.0 */
/* cursor: hands the leaves of a job's volumes out to its lanes, in order. */
#ifndef AGENT_PIPELINE_CURSOR_H
#define AGENT_PIPELINE_CURSOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/manifest.h"

struct cursor {
	unsigned nvolumes; /* set before start, as is nleaves */
	uint64_t nleaves[MANIFEST_VOLUMES_MAX];
	pthread_mutex_t mu;
	unsigned volume; /* guarded by mu: the next to hand out */
	uint64_t leaf;   /* guarded by mu */
};

/** cursor_init(c): add volumes to nleaves and count them in nvolumes, before
 * others use it. */
void cursor_init(struct cursor *c);
void cursor_fini(struct cursor *c);

/** cursor_next(c, &volume, &leaf): false when all were handed out. */
bool cursor_next(struct cursor *c, unsigned *volume, uint64_t *leaf);

/**
 * cursor_skip(c, volume, end, &first): who sees that the leaves of ${volume}
 * up to ${end} are alike holes, takes those that nobody has: returns how
 * many, from ${first} on.  May be 0.
 */
uint64_t cursor_skip(
    struct cursor *c, unsigned volume, uint64_t end, uint64_t *first);

#endif
