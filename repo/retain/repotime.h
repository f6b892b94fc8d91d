/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repotime: the repository's own time, by which backups grow old and locks
 * end; nothing else uses it.  STORE.md 28; the file REPO/clock: FORMAT.md 8.
 *
 * While the daemon runs it goes by a steady clock and not by the wall clock,
 * so setting that changes nothing.  At a start the wall clock is asked how
 * long the daemon did not run: it is believed up to a bound ahead of the
 * greatest time that was ever seen, and never back.  Any thread.
 */
#ifndef REPO_RETAIN_REPOTIME_H
#define REPO_RETAIN_REPOTIME_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

#define REPOTIME_FILE "clock"

enum {
	REPOTIME_JUMP_D = 30,        /* days, the default bound */
	REPOTIME_JUMP_MAX_D = 36500, /* the most that it may be set to */
	REPOTIME_OFF_S = 86400,      /* so far off is reported */
	REPOTIME_KEEP_MS = 600000    /* so often what was seen is kept */
};

/* Where time comes from; seconds since 1970, and milliseconds that go on. */
struct repotime_source {
	uint64_t (*wall_s)(void);
	uint64_t (*steady_ms)(void);
};

struct repotime_options {
	int dirfd;       /* REPO; stays the caller's and outlives it */
	uint64_t floor;  /* where nothing was kept: time of the newest backup */
	uint64_t jump_s; /* the bound */
	const struct repotime_source *source; /* NULL: the system's */
};

struct repotime;

/** repotime_open(o): goes on from what was kept.  A file that cannot be read is
 * reported and counts as none; so is one that cannot be written, since a full
 * disk must not keep the daemon from starting. */
struct repotime *repotime_open(const struct repotime_options *o);

/** repotime_close(t): keeps what was seen.  NULL is nothing. */
void repotime_close(struct repotime *t);

/** repotime_now(t): never less than it was before. */
uint64_t repotime_now(struct repotime *t);

/** repotime_tick(t): now and then: keep what was seen, report a wall clock
 * that is off and was not before, or is right again. */
void repotime_tick(struct repotime *t);

/** repotime_is_off(t): the wall clock is off by more than REPOTIME_OFF_S.
 * repotime_off(t): how far the wall clock is ahead of it, in seconds;
 * negative: behind. */
bool repotime_is_off(struct repotime *t);
int64_t repotime_off(struct repotime *t);

/*
 * What else must not be taken back by an older copy of its file keeps its
 * number here: repotime_number(t) is the greatest ever given to
 * repotime_count(t, number), which is durable on return.  ERR_NOSPC, ERR_SYS.
 */
uint64_t repotime_number(struct repotime *t);
int repotime_count(struct repotime *t, uint64_t number);

#endif
