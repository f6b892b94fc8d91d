/* SPDX-License-Identifier: Apache-2.0 */
/* nbdmap: what an NBD server tells of its export, kept in bounded memory. */
#ifndef AGENT_SOURCE_NBDMAP_H
#define AGENT_SOURCE_NBDMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/source/nbdconn.h"

struct nbdmap;

enum {
	/* A bit stands for it: no slice of a volume is smaller. */
	NBDMAP_GRANULE = 64 << 10,
	NBDMAP_WINDOW = 1 << 30, /* asked for at once: a few milliseconds */
	NBDMAP_WINDOWS = 64      /* kept: 4 KiB each, however large the disk */
};

/** nbdmap_status_fn: as nbdconn_status, on whatever connection is free. */
typedef int nbdmap_status_fn(void *arg, uint64_t off, uint64_t len,
    nbdconn_extent_fn *fn, void *fn_arg, struct err *e);

struct nbdmap *nbdmap_new(uint64_t size, nbdmap_status_fn *ask, void *arg);
void nbdmap_free(struct nbdmap *m);

/**
 * nbdmap_get(m, context, off, &len, &yes, e): from ${off} (< size) on, ${len} >
 * 0 bytes read as zeroes, or are not dirty (*yes); or that is not known.  Any
 * thread; waits for the server where a window is not at hand.  As ${ask}.
 */
int nbdmap_get(struct nbdmap *m, enum nbdconn_context context, uint64_t off,
    uint64_t *len, bool *yes, struct err *e);

#endif
