/* SPDX-License-Identifier: Apache-2.0 */
/* idmap: a hash table from ids to values of one size.  Not thread-safe. */
#ifndef REPO_STORE_IDMAP_H
#define REPO_STORE_IDMAP_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/chunk.h"

struct idmap {
	uint8_t *slots; /* id, then the value; a hole marks a free slot */
	size_t value_len;
	size_t cap;
	size_t n;
};

/** idmap_init(m, value_len): empty; takes no memory until the first add. */
void idmap_init(struct idmap *m, size_t value_len);
void idmap_fini(struct idmap *m);

/** idmap_find(m, id): the value, or NULL.  Valid until the next add. */
void *idmap_find(const struct idmap *m, const struct id *id);

/** idmap_add(m, id, &fresh): the value, all zero if it was not there.  ${id}
 * is no hole.  Moves other values if it was not there. */
void *idmap_add(struct idmap *m, const struct id *id, bool *fresh);

/** idmap_remove(m, id): nothing if it is not there.  Moves other values. */
void idmap_remove(struct idmap *m, const struct id *id);

/**
 * idmap_next(m, &at, &id): the next value; ${at} begins at 0.  NULL at the
 * end.  No order; nothing may be added meanwhile.
 */
void *idmap_next(const struct idmap *m, size_t *at, const struct id **id);

#endif
