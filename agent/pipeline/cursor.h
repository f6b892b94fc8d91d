/* SPDX-License-Identifier: Apache-2.0 */
/* cursor: hands the leaves of a job's volumes out to its lanes, in order. */
#ifndef AGENT_PIPELINE_CURSOR_H
#define AGENT_PIPELINE_CURSOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/manifest.h"

struct cursor_run {
	unsigned volume;
	uint64_t first;
	uint64_t n;
};

struct cursor {
	unsigned nvolumes; /* set before start, as is nleaves */
	uint64_t nleaves[MANIFEST_VOLUMES_MAX];
	pthread_mutex_t mu;
	unsigned volume; /* guarded by mu, with all below: the next */
	uint64_t leaf;
	struct cursor_run *back; /* given back; the last goes out first */
	size_t nback;
	size_t back_max;
};

/** cursor_init(c): add volumes to nleaves and count them in nvolumes, before
 * others use it. */
void cursor_init(struct cursor *c);
void cursor_fini(struct cursor *c);

/** cursor_rewind(c): from the first leaf on; while no lane runs. */
void cursor_rewind(struct cursor *c);

/** cursor_next(c, &volume, &leaf, &back): false when all were handed out.
 * ${back}: somebody had it before, and gave it back. */
bool cursor_next(
    struct cursor *c, unsigned *volume, uint64_t *leaf, bool *back);

/**
 * cursor_skip(c, volume, end, &first): who sees that the leaves of ${volume}
 * up to ${end} are alike, takes those that nobody has: returns how many, from
 * ${first} on.  May be 0.
 */
uint64_t cursor_skip(
    struct cursor *c, unsigned volume, uint64_t end, uint64_t *first);

/** cursor_give_back(c, volume, first, n): leaves that were taken, and are to be
 * handed out once more.  Whoever does so asks again. */
void cursor_give_back(
    struct cursor *c, unsigned volume, uint64_t first, uint64_t n);

/** cursor_left(c): whether there are leaves that nobody has. */
bool cursor_left(struct cursor *c);

#endif
