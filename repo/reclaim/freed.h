/* SPDX-License-Identifier: Apache-2.0 */
/* freed: what deleting some backups gives back, before it is done. */
#ifndef REPO_RECLAIM_FREED_H
#define REPO_RECLAIM_FREED_H

#include <stdint.h>

#include "repo/store/store.h"

/**
 * freed(s, m, n, &bytes, e): bytes of packs that only those ${n} backups need,
 * together: their records, nodes and manifests twice as they are stored.
 * Exact for the moment of the question.  Reads only the nodes that would go.
 * ERR_LIMIT: more chunks are shared among them than it can count in memory;
 * ERR_CORRUPT, ERR_SYS.
 */
int freed(struct store *s, const struct manifest *m, unsigned n,
    uint64_t *bytes, struct err *e);

/** freed_within(s, m, n, within_ms, &bytes, e): the same; ERR_TIMEOUT if it
 * takes longer. */
int freed_within(struct store *s, const struct manifest *m, unsigned n,
    uint64_t within_ms, uint64_t *bytes, struct err *e);

#endif
