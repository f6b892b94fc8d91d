/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaimer: the thread that gives space back, beside everything else.
 *
 * It sweeps and compacts whenever something was let go of.  Nothing of its
 * state is kept: a restart finds what is to be done in the index.  Any thread
 * may call what is here.
 */
#ifndef REPO_RECLAIM_RECLAIMER_H
#define REPO_RECLAIM_RECLAIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "repo/store/store.h"

enum { RECLAIM_LIVE_PERCENT = 50, RECLAIM_IDLE_MS = 10000 };

struct reclaim_options {
	uint64_t rate;         /* bytes a second copied; 0: no limit */
	unsigned live_percent; /* 0: RECLAIM_LIVE_PERCENT */
};

struct reclaimer;

/** reclaimer_start(s, o, out): its thread runs.  ERR_SYS.
 * reclaimer_stop(r): ends within a lot, joins, frees.  NULL is nothing. */
int reclaimer_start(
    struct store *s, const struct reclaim_options *o, struct reclaimer **out);
void reclaimer_stop(struct reclaimer *r);

/** reclaimer_wake(r): something was let go of. */
void reclaimer_wake(struct reclaimer *r);

/** reclaimer_pause(r, on): stop between two lots, until told otherwise. */
void reclaimer_pause(struct reclaimer *r, bool on);

/** reclaimer_hold(r, seconds): neither unlink nor rewrite a pack for so long,
 * so that packs can be copied (rule 30); 0 ends it.  On return nothing is
 * under way. */
void reclaimer_hold(struct reclaimer *r, uint64_t seconds);

/** reclaimer_rate(r, bytes_per_s): from now on. */
void reclaimer_rate(struct reclaimer *r, uint64_t rate);

/** reclaimer_live_percent(r, percent): from the next pass on. */
void reclaimer_live_percent(struct reclaimer *r, unsigned percent);

/**
 * reclaimer_wait(r, timeout_ms, e): until a pass that began after this call
 * has found no more to do, or so many were made that what was deleted before
 * the call is gone, whatever is deleted meanwhile; -1: for ever.  What running
 * backups still keep is not waited for.  ERR_TIMEOUT; ERR_BUSY (it is paused or
 * held); ERR_CLOSED (it stops); or why its last pass failed.
 */
int reclaimer_wait(struct reclaimer *r, int timeout_ms, struct err *e);

/** reclaimer_ask(r), reclaimer_wait_for(r, ticket, timeout_ms, e): the same in
 * two steps, so that one can wait in slices. */
uint64_t reclaimer_ask(struct reclaimer *r);
int reclaimer_wait_for(
    struct reclaimer *r, uint64_t ticket, int timeout_ms, struct err *e);

struct reclaim_status {
	bool running; /* in a pass */
	bool paused;
	uint64_t held_s; /* seconds that a hold still lasts */
	uint64_t rate;
	uint64_t dead; /* bytes in packs that nothing needs */
	/* Since the start of the daemon. */
	uint64_t passes;
	uint64_t entries; /* removed */
	uint64_t freed;   /* bytes of packs that were removed */
	uint64_t copied;  /* bytes rewritten */
	uint64_t busy_ms; /* in passes */
	int code;         /* how the last pass ended */
};
void reclaimer_status(struct reclaimer *r, struct reclaim_status *out);

#endif
