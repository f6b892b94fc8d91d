/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub: the thread that reads the whole store now and then, pack by pack,
 * before somebody needs what has rotted.
 *
 * How far it is lies in REPO/scrub.json, which is written after each pack, so
 * a pass survives restarts.  Damage is flagged in the store; of two twins one
 * of which is bad a new pair is made.  Any thread may call what is here.
 */
#ifndef REPO_RECLAIM_SCRUB_H
#define REPO_RECLAIM_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "repo/store/store.h"

enum {
	SCRUB_INTERVAL_DAYS = 30,
	SCRUB_RATE = 50 << 20,  /* bytes a second */
	SCRUB_RETRY_MS = 600000 /* after a pass that the system failed */
};

struct scrub_options {
	uint64_t interval_s; /* from one pass to the next; 0: only when told */
	uint64_t rate;       /* bytes a second; 0: SCRUB_RATE */
	/* The key of a domain's ids; *keyed false where it has none.  0, or it
	 * cannot be told, and its chunks are checked by their CRCs only. */
	int (*key)(
	    void *arg, uint32_t domain, uint8_t key[HASH_KEY_LEN], bool *keyed);
	void *arg;
};

struct scrubber;

/** scrubber_start(s, o, out): its thread runs.  A repository without
 * scrub.json counts as just read.  ERR_SYS.
 * scrubber_stop(r): ends within a MiB, joins, frees.  NULL is nothing. */
int scrubber_start(
    struct store *s, const struct scrub_options *o, struct scrubber **out);
void scrubber_stop(struct scrubber *r);

/** scrubber_begin(r): a pass now; nothing if one is under way, but that it is
 * no longer paused. */
void scrubber_begin(struct scrubber *r);

/** scrubber_pause(r, on): stop where it is, also over restarts. */
void scrubber_pause(struct scrubber *r, bool on);

/** scrubber_rate(r, bytes_per_s): from now on, until a restart. */
void scrubber_rate(struct scrubber *r, uint64_t rate);

/** scrubber_interval(r, seconds): from now on; 0: only when told. */
void scrubber_interval(struct scrubber *r, uint64_t seconds);

struct scrub_status {
	bool running; /* a pass is under way */
	bool paused;
	uint64_t rate;
	uint64_t interval_s;
	uint64_t began; /* the last pass, seconds since 1970; 0: never */
	uint64_t finished;
	/* Of the pass that runs, or the last. */
	uint64_t read;    /* bytes */
	uint64_t total;   /* as it was estimated at its begin */
	uint64_t damaged; /* records that were found bad */
	uint64_t healed;  /* of those, with a good twin */
	int code;         /* why the last try stopped; 0: nothing did */
};
void scrubber_status(struct scrubber *r, struct scrub_status *out);

#endif
