/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feed: rates of jobs, out of two and more answers to "jobs": what the daemon
 * tells is counts, what people want to know is how fast.  Pure; one thread.
 */
#ifndef REPO_CONSOLE_FEED_H
#define REPO_CONSOLE_FEED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define FEED_NO_ETA UINT64_MAX

enum { FEED_LANES_MAX = 64 };

struct feed_lane {
	unsigned number;
	uint64_t in; /* so far, to the daemon */
	uint64_t out;
	uint64_t now; /* both, bytes a second, smoothed */
};

struct feed_job {
	uint64_t id;
	bool running;
	uint64_t done; /* of the job's bytes, at ${done_ms} */
	uint64_t done_ms;
	uint64_t seen_ms;
	bool measured;  /* ${speed} is of something */
	double speed;   /* smoothed */
	uint64_t now;   /* bytes a second of the job's bytes, */
	uint64_t mean;  /* and since it began */
	uint64_t eta_s; /* or FEED_NO_ETA */
	uint64_t wire;  /* bytes a second over all of its lanes */
	unsigned nlanes;
	struct feed_lane lane[FEED_LANES_MAX];
};

/* Zero-initialise. */
struct feed {
	struct feed_job *job;
	unsigned n;
	uint64_t wire; /* over all jobs, bytes a second */
};

/** feed_take(f, jobs, now_ms): the member "jobs" of an answer that came now. */
void feed_take(struct feed *f, const json_t *jobs, uint64_t now_ms);

/** feed_find(f, id): of one that the last answer had; or NULL. */
const struct feed_job *feed_find(const struct feed *f, uint64_t id);

/** feed_fini(f): it is empty, and usable again. */
void feed_fini(struct feed *f);

#endif
