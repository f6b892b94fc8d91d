/* SPDX-License-Identifier: Apache-2.0 */
/* backup_sender: what one lane of a backup has at hand.  Owner thread only. */
#ifndef AGENT_PIPELINE_BACKUP_SENDER_H
#define AGENT_PIPELINE_BACKUP_SENDER_H

#include "agent/pipeline/backup_leaf.h"
#include "agent/pipeline/hot.h"
#include "proto/codec.h"

enum {
	AHEAD_MAX = 4,              /* leaves whose parent was asked for */
	LEAVES_MAX = AHEAD_MAX + 3, /* and those that the windows are in */
};

/* A leaf to be sent again: the store lacked children of it. */
struct redo {
	unsigned volume;
	unsigned attempt;
	uint64_t index;
	uint8_t force[NODE_FANOUT / 8];
};

struct sender {
	struct backup *b;
	struct job *job;
	struct hot hot;
	struct hasher *hasher;
	struct codec *codec;
	uint8_t *packed;  /* one chunk, compressed */
	size_t put_max;   /* of one PUT */
	uint64_t counted; /* of the lane's traffic, in the job's counter */
	struct leaf leaf[LEAVES_MAX];
	struct leaf *ahead[AHEAD_MAX]; /* oldest first */
	unsigned nahead;
	unsigned ahead_max;
	struct leaf *cur;
	struct window window[2];
	struct redo redo[HOT_MAX + 2]; /* from each node under way */
	unsigned nredo;
	/* The parent's node that was told last: runs lie side by side. */
	bool has_told;
	unsigned told_volume;
	uint64_t told_index;
	struct node told;
};

static inline struct lane *
sender_lane(const struct sender *s)
{
	return s->hot.lane;
}

/* Nothing new is to be begun: the job ends, or begins anew. */
static inline bool
sender_stopped(const struct sender *s)
{
	return job_stopped(s->job) || trust_is_lost(&s->b->trust);
}

/**
 * sender_trust(s, volume, first, n, e): take leaves of the parent unread, as
 * the largest subtrees that they make, and see to it that some slices are
 * compared.  What the lane says.
 * sender_told(s, a, f, e): an answer that it needs.  The peer's error.
 */
int sender_trust(struct sender *s, unsigned volume, uint64_t first, uint64_t n,
    struct err *e);
int sender_told(struct sender *s, const struct hot_ask *a,
    const struct frame *f, struct err *e);

/** sender_open_probe(s, p, e): find the leaves below that have slices to be
 * compared.  What the lane says. */
int sender_open_probe(struct sender *s, const struct probe *p, struct err *e);

/** sender_node_failed(s, volume, level, index, e): where it is, for a person.
 * Returns the code. */
int sender_node_failed(struct sender *s, unsigned volume, unsigned level,
    uint64_t index, struct err *e);

/** sender_node(s, volume, index, n, attempt, e): send a node; there is room
 * for the question.  What the lane says. */
int sender_node(struct sender *s, unsigned volume, uint64_t index,
    const struct node *n, unsigned attempt, struct err *e);

/** sender_ready(s, volume, e): send nodes whose children are all in the store
 * by now, whoever sent those, as far as there is room.  What the lane says. */
int sender_ready(struct sender *s, unsigned volume, struct err *e);

/**
 * sender_pump(s, e): wait for an answer to any of the questions, and do what
 * it means.  What the peer or the lane says; ERR_MISSING: the store goes on
 * losing parts.  sender_room(s, e): so often that a question may be asked.
 */
int sender_pump(struct sender *s, struct err *e);
int sender_room(struct sender *s, struct err *e);

#endif
