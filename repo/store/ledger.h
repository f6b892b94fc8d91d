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

#include "proto/manifest.h"
#include "proto/node.h"
#include "repo/store/index.h"
#include "repo/store/pack.h"

enum {
	LEDGER_SESSIONS_MAX = 64,     /* a bit each */
	LEDGER_PENDING_MAX = 1 << 16, /* ids in a batch; at it lanes wait */
	LEDGER_BATCH_BYTES = 256 << 20,
	LEDGER_BATCH_MS = 2000,
	LEDGER_FRONTIER_MAX = 16384
};

struct ledger;
struct ledger_session;

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
	bool have;     /* it may rely on it (rule 2); the rest is then set */
	uint8_t flags; /* INDEX_TAIL */
	struct place place;
};

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

/** ledger_frontier(s, add): count ids that no node holds yet (negative: that a
 * node took up).  ERR_LIMIT. */
int ledger_frontier(struct ledger_session *s, int add, struct err *e);

/**
 * ledger_commit(s, m, e): the roots were found.  Sets id, seq and time (the
 * later of now and what m->time says).  Returns when manifest and index are
 * durable, or nothing of it happened; the session is over in any case, but
 * still the caller's to end.  ERR_MISSING, ERR_NOSPC, ERR_CLOSED, ERR_SYS.
 */
int ledger_commit(struct ledger_session *s, struct manifest *m, struct err *e);

struct ledger_status {
	uint64_t published;
	uint64_t unique_raw;
	unsigned nsessions;
};
void ledger_status(struct ledger *l, struct ledger_status *out);

#endif
