/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cached: which pages of a file the page cache has, so that who reads all of it
 * can leave the cache as it was.
 *
 * Not RWF_DONTCACHE, which is younger than the kernels we run on, and not
 * O_DIRECT, which would have others' pages written and dropped, and bind
 * buffers and offsets.
 */
#ifndef REPO_STORE_CACHED_H
#define REPO_STORE_CACHED_H

#include <stdint.h>
#include <sys/types.h>

/* All zero: nothing is known. */
struct cached {
	uint64_t size;  /* of the file, as of then */
	uint8_t *there; /* a byte a page: mincore's */
	uint64_t bytes; /* of a page */
};

/** cached_note(c, fd): as it is now.  Where that cannot be found out, it is as
 * if all of it were cached. */
void cached_note(struct cached *c, int fd);

/** cached_restore(c, fd): what of it was not cached then need not be now.  What
 * is not on disk yet stays. */
void cached_restore(const struct cached *c, int fd);

void cached_fini(struct cached *c);

#endif
