/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hot: the hot messages of one lane, with many questions in flight.  Keeps
 * what each answer will be needed for.  The lane's own thread only.
 */
#ifndef AGENT_PIPELINE_HOT_H
#define AGENT_PIPELINE_HOT_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/lane.h"
#include "proto/node.h"

enum { HOT_MAX = 256 }; /* a power of two; more than a node has leaves */

/* A question that was asked.  All but the first two are the asker's. */
struct hot_ask {
	uint8_t want;     /* the answer's type; 0: a free place */
	uint32_t request; /* its number */
	unsigned volume;
	unsigned level;
	unsigned attempt;
	bool tail;
	uint64_t index;
	uint32_t first;
	uint32_t n;
	struct id id;
	void *ptr;
};

struct hot {
	struct lane *lane;
	unsigned n; /* in flight */
	uint32_t serial;
	struct hot_ask ask[HOT_MAX];
};

void hot_init(struct hot *h, struct lane *l);

/** hot_room(h): how many more questions may be asked. */
unsigned hot_room(const struct hot *h);

/** hot_ask(h, want): a place for a question whose answer is of type ${want};
 * there is room.  Then send it under ->request. */
struct hot_ask *hot_ask(struct hot *h, uint8_t want);

/**
 * hot_recv(h, ask, f, e): the next answer, and a copy of its question, whose
 * place is free again, but for MSG_DATA, which comes before its READ_DONE.
 * 0: f->type is ask->want, or DATA, or MSG_ERROR (the caller decides).
 * ERR_TIMEOUT (nothing within LANE_STALL_MS), ERR_PROTO (an answer to nothing
 * that was asked), and what the lane says.
 */
int hot_recv(
    struct hot *h, struct hot_ask *ask, struct frame *f, struct err *e);

/** hot_error(h, f, e): the peer's code and text, with its name. */
int hot_error(struct hot *h, const struct frame *f, struct err *e);

#endif
