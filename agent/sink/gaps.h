/* SPDX-License-Identifier: Apache-2.0 */
/* gaps: zeroes what nobody writes of a device, in bounded memory. */
#ifndef AGENT_SINK_GAPS_H
#define AGENT_SINK_GAPS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/*
 * A device's old content shows wherever a volume's holes are, so these have to
 * be zeroed.  Which chunks were written is noted per region of 1 GiB, and for
 * so many regions at once only; the oldest is then settled early: its gaps
 * are zeroed, and later writes into it just overwrite zeroes.
 */
struct gaps;

enum {
	GAPS_UNIT = 64 << 10,
	GAPS_REGION = 1 << 30,
	GAPS_MAPS_MAX = 1024, /* of 2 KiB */
};

/* Zero ${len} bytes at ${off}; nobody writes there at that time. */
typedef int gaps_zero_fn(void *arg, uint64_t off, uint64_t len, struct err *e);

/** gaps_new(size, max_maps, zero, arg): for a volume of ${size} bytes. */
struct gaps *gaps_new(
    uint64_t size, size_t max_maps, gaps_zero_fn *zero, void *arg);
void gaps_free(struct gaps *g);

/**
 * gaps_written(g, off, len, e): to be called before writing ${len} bytes at
 * ${off}, a multiple of GAPS_UNIT.  Any thread.  Results of the zero function.
 */
int gaps_written(struct gaps *g, uint64_t off, uint64_t len, struct err *e);

/** gaps_finish(g, e): zero all that is still open.  Once, writers done. */
int gaps_finish(struct gaps *g, struct err *e);

#endif
