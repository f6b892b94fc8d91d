/* SPDX-License-Identifier: Apache-2.0 */
/*
 * effort: how hard the lanes of a backup compress.  Processors that idle while
 * the lanes wait for the wire make less of what it has to carry; busy ones get
 * out of the way of the guests.
 */
#ifndef AGENT_PIPELINE_EFFORT_H
#define AGENT_PIPELINE_EFFORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { EFFORT_AUTO = -1, EFFORT_MAX = 9 /* of its own accord */ };

struct effort {
	bool adapts; /* constant, as is nlanes */
	unsigned nlanes;
	_Atomic int level;          /* codec_new's */
	_Atomic uint64_t waited_ns; /* by all lanes, since the last look */
	pthread_mutex_t mu;
	uint64_t looked_ns; /* guarded by mu, with all below */
	uint64_t idle;      /* of the host's processors, as it counts */
	uint64_t ticks;     /* the same, idle or not */
};

/** effort_init(f, level, nlanes): that level for good, or EFFORT_AUTO. */
void effort_init(struct effort *f, int level, unsigned nlanes);
void effort_fini(struct effort *f);

/** effort_level(f): for the next chunk.  Any thread, as all below. */
int effort_level(const struct effort *f);

/** effort_begin(), effort_end(f, from): around a write to a lane: what of that
 * time was waiting counts. */
struct effort_clock {
	uint64_t wall_ns;
	uint64_t cpu_ns;
};
struct effort_clock effort_begin(void);
void effort_end(struct effort *f, struct effort_clock from);

/** effort_next(level, waited, idle): the level after a second in which lanes
 * waited for that share of their time, and processors were idle for that. */
int effort_next(int level, double waited, double idle);

#endif
