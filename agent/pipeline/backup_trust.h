/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup_trust: what a source knows to be as it was in the parent: where that
 * is so, which of it is looked at all the same, and what to do when it was
 * wrong.  No network.
 */
#ifndef AGENT_PIPELINE_BACKUP_TRUST_H
#define AGENT_PIPELINE_BACKUP_TRUST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/node.h"

struct backup;
struct leaf;

/* Below a node of the parent's that was taken unread: some slices are to be
 * compared.  Of level 0: those of ${sample}; or ${nholes} leaves from ${index}
 * on are holes of the parent, and it is to be seen whether they still are. */
struct probe {
	unsigned volume;
	unsigned level;
	uint64_t index;
	uint64_t nholes;
	uint8_t sample[NODE_FANOUT / 8];
};

struct probes {
	pthread_mutex_t mu;
	pthread_cond_t cond;
	struct probe *list; /* guarded by mu, with all below; a stack */
	size_t n;
	size_t max;
	unsigned nopen; /* nodes that somebody is asking for */
};

void probes_init(struct probes *p);
void probes_fini(struct probes *p);

/** probes_clear(p): while no lane runs. */
void probes_clear(struct probes *p);
void probes_push(struct probes *p, const struct probe *probe);

/** probes_take(p, out): the last one; false: there is none now.  Who takes one
 * above level 0 says probes_done after having put those below it there. */
bool probes_take(struct probes *p, struct probe *out);
void probes_done(struct probes *p);

/** probes_wait(p): wait a little while others may still add some; false: none
 * will come. */
bool probes_wait(struct probes *p);

/* Why all is done once more, with nothing trusted. */
enum trust_lost {
	TRUST_KEPT,
	TRUST_CONDEMNED, /* something was said to be clean, and was not */
	TRUST_GONE       /* the store lost what was not read */
};

struct trust {
	bool used;       /* by any volume; set before start */
	uint64_t seed;   /* set before start */
	uint64_t below;  /* of 2^64 are looked at; 0: none; set before start */
	atomic_int lost; /* enum trust_lost */
	pthread_mutex_t mu;
	unsigned volume; /* guarded by mu: where it was first found wrong */
	uint64_t slice;  /* guarded by mu */
};

/** trust_init(t, percent): which share of what is clean is looked at. */
void trust_init(struct trust *t, double percent);
void trust_fini(struct trust *t);

/** trust_sampled(t, volume, slice): whether that one is. */
bool trust_sampled(const struct trust *t, unsigned volume, uint64_t slice);

/** trust_lose(t, why, volume, slice): the first one counts.  Any thread. */
void trust_lose(
    struct trust *t, enum trust_lost why, unsigned volume, uint64_t slice);

static inline bool
trust_is_lost(const struct trust *t)
{
	return atomic_load(&t->lost) != TRUST_KEPT;
}

/** trust_leaves(b, volume, leaf, &n, e): how many leaves from ${leaf} on are
 * as in the parent and sound there.  As source_clean. */
int trust_leaves(const struct backup *b, unsigned volume, uint64_t leaf,
    uint64_t *n, struct err *e);

/**
 * trust_slices(b, l, at, n, clean, sampled, e): which of the ${n} slices of
 * ${l} from ${at} on need not be read, and which are to be read and compared.
 * As source_clean.
 */
int trust_slices(const struct backup *b, const struct leaf *l, unsigned at,
    unsigned n, bool *clean, bool *sampled, struct err *e);

/** trust_sample(b, volume, leaf, sample): those of a leaf's slices that are
 * looked at; false: none. */
bool trust_sample(const struct backup *b, unsigned volume, uint64_t leaf,
    uint8_t sample[NODE_FANOUT / 8]);

#endif
