/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_impl: what ledger.c (the lanes' side) and ledger_close.c (the
 * ledger's thread) share.  Locks: gate before mu; DESIGN.md 4. */
#ifndef REPO_STORE_LEDGER_IMPL_H
#define REPO_STORE_LEDGER_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "repo/store/idmap.h"
#include "repo/store/ledger.h"

/* A record that was put since the last published batch: value in an idmap. */
struct pending {
	struct place place;  /* of the first that put it */
	uint64_t by;         /* slots of the sessions that put it */
	struct id *children; /* of a node: owned */
	uint8_t nchildren;
	uint8_t kind;
	uint8_t level;
	uint8_t flags;
};

enum request_kind {
	REQUEST_COMMIT, /* also a drop without a manifest */
	REQUEST_REMOVE,
	REQUEST_MOVE,
	REQUEST_SETTLE, /* waits, nothing else */
	REQUEST_FORGET,
	REQUEST_GONE,
	REQUEST_RETIRE
};

/* A backup that is being dropped. */
struct drop_work {
	struct ledger_drop drop;
	struct index_backup backup;
	struct buf data; /* its manifest */
	struct manifest *m;
	struct place tombstone; /* once appended; pack 0 before */
};

/* On the stack of who waits for it. */
struct request {
	struct request *next;
	enum request_kind kind;
	struct err why; /* code 0: it was done */
	bool done;      /* guarded by mu */

	/* REQUEST_COMMIT */
	struct ledger_session *session; /* or NULL */
	struct manifest *m;             /* or NULL */
	struct place place;             /* once appended; pack 0 before */
	struct buf payload;
	struct drop_work *drops;
	unsigned ndrops;

	/* The others. */
	const struct ledger_dying *dying;
	struct ledger_removed *removed;
	uint64_t below; /* the horizon when ${dying} was listed */
	const struct ledger_move *moves;
	unsigned nlost; /* moves whose copy is gone */
	uint32_t *packs;
	unsigned n;
};

/* What a read found of a record: value in an idmap. */
struct read_note {
	struct place place;
	bool sound;
};

struct batch {
	uint64_t number;
	struct idmap ops;         /* struct pending */
	struct idmap notes;       /* struct read_note */
	struct request *requests; /* newest first */
	bool urgent;              /* somebody waits who should not */
	uint64_t bytes;
	uint64_t opened_ms; /* of its first operation; 0: none yet */
};

/* A pack writer and who has it; packs outlive jobs, so that small backups
 * share one.  Removed and freed by the ledger's thread only. */
struct ledger_writer {
	struct ledger_writer *next;
	struct pack_writer *w;
	uint32_t domain;
	bool meta;
	bool copies;     /* what the reclaimer moves goes here */
	bool busy;       /* a session has it; guarded by mu */
	bool finished;   /* no more appends; guarded by mu */
	bool sealing;    /* was finished at the last swap; the thread's */
	bool poisoned;   /* condemned; its infos wait for a batch; mu */
	bool touched;    /* took a manifest or tombstone of this batch; the
			    thread's */
	atomic_bool bad; /* a write failed: never trust it again */
};

struct ledger_session {
	struct ledger *l;
	struct ledger_writer *data;
	unsigned slot;
	uint64_t start;   /* the horizon stays below; guarded by mu */
	uint64_t answers; /* stamps from here on are had; guarded by mu */
	struct err over;  /* code 0: alive; guarded by mu */
};

struct ledger {
	struct index *index;
	struct pack_set *packs;
	unsigned batch_ms;
	pthread_t thread;
	bool started;

	/* Lanes hold it to read over append and queue, the thread to write
	 * while it swaps batches: so what a pack holds at the swap is exactly
	 * what this and earlier batches name, and may be called known. */
	pthread_rwlock_t gate;

	pthread_mutex_t mu;
	pthread_cond_t work;  /* something for the thread */
	pthread_cond_t space; /* the open batch has room again */
	pthread_cond_t done;  /* a batch was published or thrown away */

	/* Guarded by mu. */
	struct batch *open;
	struct batch *closing; /* or NULL; its ops are frozen */
	uint64_t published;
	uint64_t unique_raw;
	struct ledger_damage damage;
	struct ledger_session *session[LEDGER_SESSIONS_MAX];
	uint64_t slot_free_after[LEDGER_SESSIONS_MAX];
	struct ledger_writer *writers;
	struct ledger_writer *meta; /* the one new nodes go to */
	const uint32_t *retire; /* packs to seal at the next swap, or NULL */
	unsigned nretire;
	bool stopping;

	/* The thread's own. */
	uint64_t sequence;
	uint64_t numbers_end;
};

struct batch *batch_new(uint64_t number);
void batch_free(struct batch *b);

/** ledger_writer_new(l, type, domain): mu is held; it is in l->writers. */
struct ledger_writer *ledger_writer_new(
    struct ledger *l, enum pack_type type, uint32_t domain);

/** ledger_meta(l): the writer of nodes and manifests; mu is held. */
struct ledger_writer *ledger_meta(struct ledger *l);

/** ledger_horizon_locked(l): as ledger_horizon; mu is held. */
uint64_t ledger_horizon_locked(const struct ledger *l);

/** ledger_touch(l): the open batch holds something: it closes in time.  mu is
 * held. */
void ledger_touch(struct ledger *l);

/** ledger_close(l): close the open batch, whatever is in it.  The thread. */
void ledger_close(struct ledger *l);

/** ledger_grant(l): make sure there are pack numbers; before start. */
int ledger_grant(struct ledger *l);

#endif
