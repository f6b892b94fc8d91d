/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ledger: the one writer of the index; the order of its operations is the
 * truth.  STORE.md 1 and 2; DESIGN.md says which rule is kept where.
 *
 * Lanes add operations to the open batch, coalesced by id.  The ledger's
 * thread closes it: makes the packs durable, decides over index and batch
 * together, writes one index batch, publishes it.  Meanwhile the next is open.
 */
#ifndef REPO_STORE_LEDGER_H
#define REPO_STORE_LEDGER_H

#include <pthread.h>

#include "proto/manifest.h"
#include "proto/node.h"
#include "repo/store/index.h"
#include "repo/store/pack.h"

enum {
	LEDGER_SESSIONS_MAX = 64,     /* a bit each */
	LEDGER_PENDING_MAX = 1 << 16, /* ids in a batch; at it lanes wait */
	LEDGER_BATCH_BYTES = 256 << 20,
	LEDGER_BATCH_MS = 2000
};

struct ledger;
struct ledger_session;

/** gate_init(gate): a lock that lanes hold to read all the time and whose
 * writer does not starve.  No thread may hold it to read twice. */
void gate_init(pthread_rwlock_t *gate);

/**
 * ledger_new(x, p, published, batch_ms): over an index and packs that were
 * rolled forward.  Both outlive it.
 * ledger_start(l): the thread runs.  ERR_SYS.
 * ledger_stop(l): sessions end with ERR_CLOSED, the last batch is closed, all
 * packs are sealed; the thread is joined.
 */
struct ledger *ledger_new(
    struct index *x, struct pack_set *p, unsigned batch_ms);
int ledger_start(struct ledger *l);
void ledger_stop(struct ledger *l);
void ledger_free(struct ledger *l);

/** ledger_begin(l, domain, out, e): a session whose start is published + 1.
 * ERR_LIMIT, ERR_CLOSED. */
int ledger_begin(struct ledger *l, uint32_t domain, struct ledger_session **out,
    struct err *e);

/** ledger_end(s): and free.  Nothing may be inside with it any more. */
void ledger_end(struct ledger_session *s);

/* What a session may know of an id. */
struct ledger_found {
	bool have;    /* it may rely on it (rule 2) */
	bool damaged; /* it is there, but a read found its record bad */
	/* Set with either: */
	uint8_t flags; /* INDEX_TAIL */
	struct place place;
};

/** ledger_published(l): a look-up that begins now sees this batch. */
uint64_t ledger_published(struct ledger *l);

/** ledger_find(s, kind, level, ids, n, out, e): ${n} ids of one kind, none a
 * hole.  Any thread.  ERR_CLOSED (with why the session ended), ERR_SYS. */
int ledger_find(struct ledger_session *s, uint8_t kind, uint8_t level,
    const struct id *ids, unsigned n, struct ledger_found *out, struct err *e);

/* One record to put. */
struct ledger_put {
	struct record *record;
	const void *payload;
	uint8_t level;
	uint8_t flags;           /* INDEX_TAIL */
	const struct node *node; /* of a RECORD_NODE: whose children count */
};

/**
 * ledger_put(s, p, &stored, e): append the record to the session's pack (a
 * node to the meta packs) and queue the put.  The caller has found every child
 * (rule 5).  Waits while the batch is full.  ERR_NOSPC, ERR_CLOSED, ERR_SYS.
 */
int ledger_put(struct ledger_session *s, const struct ledger_put *p,
    uint64_t *stored, struct err *e);

/* A backup to let go of. */
struct ledger_drop {
	uint8_t id[BACKUP_ID_LEN];
	/* A job builds on it: it gets its tombstone and is hidden, its roots
	 * count until it is dropped again with ${hidden}. */
	bool held;
	bool hidden;
};

/**
 * ledger_commit(s, m, d, n, e): the roots were found.  Sets id, seq and time
 * (the later of now and what m->time says); in the same batch the ${n} backups
 * of ${d} are dropped.  Returns when manifest, tombstones and index are
 * durable, or nothing of it happened.  If the manifest is not incomplete the
 * session is over in any case, but still the caller's to end.  ERR_MISSING,
 * ERR_NOENT (one to drop is not there), ERR_NOSPC, ERR_CLOSED, ERR_SYS.
 */
int ledger_commit(struct ledger_session *s, struct manifest *m,
    const struct ledger_drop *d, unsigned n, struct err *e);

/** ledger_drop(l, d, n, e): the same without a manifest and a session. */
int ledger_drop(
    struct ledger *l, const struct ledger_drop *d, unsigned n, struct err *e);

/**
 * Moving a session's start (rule 8).  ledger_turn(s): from here on answers are
 * given as to a session that begins now; returns that start.  Whoever calls it
 * sees to it that no answer is on its way.  ledger_advance(s, start): all that
 * was answered before is held by a committed manifest: the horizon may pass.
 */
uint64_t ledger_turn(struct ledger_session *s);
void ledger_advance(struct ledger_session *s, uint64_t start);

/*
 * What the reclaimer asks of the ledger.  Each call waits for the batch that
 * decides; it closes at once when nobody ingests.  ERR_CLOSED when the ledger
 * stops.
 */

/** ledger_horizon(l): stamps below it may be removed.  ledger_sessions(l):
 * how many there are. */
uint64_t ledger_horizon(struct ledger *l);

/* A dying key; of a node, its children. */
struct ledger_dying {
	struct id id;
	uint64_t stamp;
	struct id *children; /* the caller's; no holes */
	unsigned nchildren;
};

struct ledger_removed {
	uint64_t entries;
	uint64_t bytes; /* of records that died */
	unsigned keys;  /* dying keys that are gone */
};

/** ledger_remove(l, d, n, below, out): remove those that are due (rule 4), take
 * away the keys of those that are not dying any more; the rest stays.
 * ${below}: the horizon when they were listed. */
int ledger_remove(struct ledger *l, const struct ledger_dying *d, unsigned n,
    uint64_t below, struct ledger_removed *out);

/* A record that was copied. */
struct ledger_move {
	struct id id;
	uint8_t kind; /* RECORD_CHUNK, _NODE, _MANIFEST or _TOMBSTONE */
	struct place from;
	struct place to;
};

/** ledger_copy(l, domain, r, payload, out): append a record for a move, to a
 * pack of the ledger's own.  ledger_move(l, m, n): each entry that still names
 * ${from} names ${to}.  ERR_MISSING: a sync failed since and took copies with
 * it; what they were copies of stays where it is. */
int ledger_copy(struct ledger *l, uint32_t domain, struct record *r,
    const void *payload, struct place *out);
int ledger_move(struct ledger *l, const struct ledger_move *m, unsigned n);

/**
 * ledger_damaged(l, id, place): a read failed and a fresh look-up still names
 * ${place}: flag the entry if it still does (rule 21).  ledger_sound(l, id,
 * place): what was flagged reads well after all.  Both are done with one of
 * the next batches; ledger_settle(l) waits for that.  Any thread.
 */
void ledger_damaged(
    struct ledger *l, const struct id *id, const struct place *place);
void ledger_sound(
    struct ledger *l, const struct id *id, const struct place *place);
void ledger_settle(struct ledger *l);

/* How many entries are flagged, how often any came to be, and how often the
 * set changed, as published. */
struct ledger_damage {
	uint64_t n;
	uint64_t found;
	uint64_t changed;
};
void ledger_damage(struct ledger *l, struct ledger_damage *out);

/** ledger_retire(l, packs, n): of those that are open the ones that no session
 * has are sealed with the next batch, so that they can be reclaimed. */
int ledger_retire(struct ledger *l, const uint32_t *packs, unsigned n);

/** ledger_forget(l, packs, n): those without live bytes are marked dead, and
 * may be unlinked when this returns (rule 12); ${packs} is zeroed where one is
 * not.  ledger_gone(l, packs, n): they are unlinked. */
int ledger_forget(struct ledger *l, uint32_t *packs, unsigned n);
int ledger_gone(struct ledger *l, const uint32_t *packs, unsigned n);

struct ledger_status {
	uint64_t published;
	uint64_t unique_raw;
	unsigned nsessions;
};
void ledger_status(struct ledger *l, struct ledger_status *out);

/** ledger_waiting_ms(l, &ms): how long the oldest operation waits that is not
 * published yet; 0: there is none.  Writes nothing and waits for nothing:
 * ERR_BUSY, if the ledger's lock is not to be had just now. */
int ledger_waiting_ms(struct ledger *l, uint64_t *ms);

#endif
