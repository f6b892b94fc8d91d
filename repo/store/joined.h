/* SPDX-License-Identifier: Apache-2.0 */
/*
 * joined: many records in the order in which they lie, in few large reads.
 * What lies near one another is one read, with what is between: a disk seeks
 * for longer than it reads that.  STORE.md 24.
 *
 * Only what is wanted takes memory: what lies between goes where the next such
 * stretch overwrites it.
 */
#ifndef REPO_STORE_JOINED_H
#define REPO_STORE_JOINED_H

#include "repo/store/store_impl.h"

/* A record that is wanted, and where it was last seen. */
struct wanted {
	uint64_t at;         /* the caller's: which slice, which child */
	const struct id *id; /* the caller's */
	struct place place;
};

/* How far reads go. */
struct joined {
	uint64_t most; /* bytes that one keeps */
	uint32_t gap;  /* bytes between two records that it passes over */
};

/** joined_sort(w, n): as they lie, pack by pack. */
void joined_sort(struct wanted *w, uint32_t n);

/** joined_bounds(w, n, spare): for these, sorted.  What is passed over beyond
 * what costs less than a seek is no more than they are, and ${spare}. */
struct joined joined_bounds(const struct wanted *w, uint32_t n, uint64_t spare);

/** joined_count(w, n, j): how many of them, from the first on, are one read;
 * at least one. */
uint32_t joined_count(const struct wanted *w, uint32_t n, struct joined j);

/* ${payload} is valid during the call; NULL: it is not what is to be there, or
 * cannot be read: it may have moved.  Anything but 0 ends the reading. */
typedef int joined_visit(
    void *arg, const struct wanted *w, const uint8_t *payload, struct err *e);

/**
 * joined_read(s, l, w, n, j, kind, visit, arg, e): sorted records of one kind,
 * each checked by its CRC and id and then visited.  The buffer is the lane's,
 * made at its first call: as large as others have left of what the store
 * spends on them.  Returns what the visit said.
 */
int joined_read(struct store *s, struct store_lane *l, const struct wanted *w,
    uint32_t n, struct joined j, uint8_t kind, joined_visit *visit, void *arg,
    struct err *e);

/** joined_free(l): what the lane has of the store's. */
void joined_free(struct store_lane *l);

#endif
