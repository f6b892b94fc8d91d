/* SPDX-License-Identifier: Apache-2.0 */
/* compact: give back the space of what was removed.  STORE.md 20. */
#ifndef REPO_RECLAIM_COMPACT_H
#define REPO_RECLAIM_COMPACT_H

#include <stdatomic.h>
#include <stdint.h>

#include "repo/store/store.h"

struct compact_options {
	/* Packs with less that lives are rewritten; others too while less than
	 * a tenth of the volume is free. */
	unsigned live_percent;
	/* Called between lots with what was copied since the last call, to
	 * slow down, wait while paused, or stop.  false: stop now. */
	bool (*pace)(void *arg, uint64_t copied);
	void *arg;
};

struct compact_result {
	uint64_t packs;  /* removed */
	uint64_t freed;  /* their bytes */
	uint64_t copied; /* bytes of live records */
};

/**
 * compact(s, o, out): remove packs in which nothing lives, then rewrite those
 * that are mostly dead, emptiest first, and remove them too.  ${out} is added
 * to as it goes.  Needs room for one pack.  ERR_CLOSED, ERR_NOSPC, ERR_SYS.
 */
int compact(struct store *s, const struct compact_options *o,
    struct compact_result *out);

/** compact_dead(s): bytes in packs that nothing needs. */
uint64_t compact_dead(struct store *s);

#endif
