/* SPDX-License-Identifier: Apache-2.0 */
/* sweep: remove what nothing references any more.  STORE.md 4 and 19. */
#ifndef REPO_RECLAIM_SWEEP_H
#define REPO_RECLAIM_SWEEP_H

#include <stdatomic.h>
#include <stdint.h>

#include "repo/store/store.h"

enum { SWEEP_LOT = 8192 }; /* dying keys at a time: bounds its memory */

struct sweep_result {
	uint64_t entries; /* removed */
	uint64_t bytes;   /* of their records */
};

/**
 * sweep(s, stop, out): every entry that is due, with the cascade to its
 * children, as far as the horizon lets it.  Ends early when ${stop} is set.
 * ${out} is added to as it goes.  ERR_CLOSED, ERR_SYS.
 */
int sweep(struct store *s, atomic_bool *stop, struct sweep_result *out);

#endif
