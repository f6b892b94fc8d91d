/* SPDX-License-Identifier: Apache-2.0 */
/* pack_counts: a signed number for each pack that is touched: bytes that came
 * alive less bytes that died.  Not thread-safe. */
#ifndef REPO_STORE_PACK_COUNTS_H
#define REPO_STORE_PACK_COUNTS_H

#include "repo/store/idmap.h"
#include "repo/store/pack.h"

struct pack_counts {
	struct idmap map;
};

void pack_counts_init(struct pack_counts *c);
void pack_counts_fini(struct pack_counts *c);

/** pack_counts_at(c, pack): its number, 0 at first; valid until the next call
 * names a new pack. */
int64_t *pack_counts_at(struct pack_counts *c, uint32_t pack);

/** pack_counts_add(c, p, sign): the record at ${p} lives (1) or died (-1). */
void pack_counts_add(struct pack_counts *c, const struct place *p, int sign);

/** pack_counts_next(c, &at, &pack): each in turn, from at = 0; or NULL. */
int64_t *pack_counts_next(
    const struct pack_counts *c, size_t *at, uint32_t *pack);

#endif
