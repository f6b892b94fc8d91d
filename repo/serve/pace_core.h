/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace_core: who may move bytes next, so that rates hold and jobs share.
 *
 * Three levels: all, each key below it, each job below its key.  A lane asks
 * for what it has moved or wants to move; an ask is granted when no rate on the
 * way up is in debt; then all of them are.  Among those that could be granted
 * the job that had least comes first, however many lanes it has.  So a rate is
 * kept over any time to PACE_BURST_NS worth of it and one piece.
 *
 * Pure: times are told, in nanoseconds; the caller keeps it from other threads.
 */
#ifndef REPO_SERVE_PACE_CORE_H
#define REPO_SERVE_PACE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_NEVER UINT64_MAX

enum {
	PACE_BURST_NS = 100000000, /* what an idle rate may make up for */
	PACE_LAG_NS = 250000000,   /* and a job, among others */
	PACE_PIECE_MIN = 16 << 10,
	PACE_PIECE_MAX = 1 << 20
};

struct pace_meter {
	uint64_t rate;   /* bytes a second; 0: none */
	uint64_t due_ns; /* when all that was granted is paid for */
};

/* The caller's memory, from pace_core_ask to its grant or taking back. */
struct pace_ask {
	struct pace_ask *next;
	uint64_t nbytes; /* at most PACE_PIECE_MAX */
	bool granted;
};

struct pace_job {
	struct pace_job *next; /* of the same key */
	struct pace_key *key;
	struct pace_meter meter;
	uint64_t of_all;        /* bytes it had, as others see it: */
	uint64_t of_key;        /* all jobs; those of its key */
	struct pace_ask *first; /* its lanes take turns */
	struct pace_ask **last;
};

struct pace_key {
	struct pace_key *next;
	struct pace_job *job;
	struct pace_meter meter;
	uint64_t clock; /* of_key of who was granted last, the greatest */
	bool exempt;    /* from the rate of all */
};

struct pace_core {
	struct pace_key *key;
	struct pace_meter meter;
	uint64_t clock; /* of_all, likewise */
};

/** pace_meter_rate(m, rate, now_ns): another rate from now on; what is owed
 * stays owed. */
void pace_meter_rate(struct pace_meter *m, uint64_t rate, uint64_t now_ns);

/** pace_core_join(c, k, j): ${j} is ${k}'s, which is in ${c->key}, from here
 * on, and has had as much as others.  pace_core_leave(j): it asks no more.
 */
void pace_core_join(
    struct pace_core *c, struct pace_key *k, struct pace_job *j);
void pace_core_leave(struct pace_job *j);

/** pace_core_rate(c, j): the least rate on the way up; 0: none. */
uint64_t pace_core_rate(const struct pace_core *c, const struct pace_job *j);

/** pace_core_piece(rate): what to ask for at once, so that turns are short. */
uint64_t pace_core_piece(uint64_t rate);

/** pace_core_ask(j, a, nbytes): behind those of ${j} that wait already.
 * pace_core_take_back(j, a): it was not granted, and shall not be. */
void pace_core_ask(struct pace_job *j, struct pace_ask *a, uint64_t nbytes);
void pace_core_take_back(struct pace_job *j, struct pace_ask *a);

/** pace_core_step(c, now_ns): grant what may be by now; when to come again, or
 * PACE_NEVER: nobody waits.  ${granted} is told of each. */
uint64_t pace_core_step(
    struct pace_core *c, uint64_t now_ns, void (*granted)(struct pace_ask *a));

#endif
