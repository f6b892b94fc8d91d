/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_closing: the work on one batch, in the ledger's thread. */
#ifndef REPO_STORE_LEDGER_CLOSING_H
#define REPO_STORE_LEDGER_CLOSING_H

#include "repo/store/ledger_impl.h"
#include "repo/store/pack_counts.h"

/* What one batch does to one id. */
struct change {
	struct index_entry op;
	int64_t refs_before; /* of what was put */
	bool fresh;
	bool dying; /* lost a reference */
};

struct closing {
	struct ledger *l;
	struct batch *b;
	struct ledger_writer **writers; /* as of the swap */
	unsigned nwriters;
	struct idmap changes; /* struct change */
	struct pack_counts live;
	int64_t unique_raw;
	uint64_t nflagged; /* entries that came to be damaged, */
	uint64_t nhealed;  /* and that ceased to be */
	struct index_batch *ib;
};

/** ledger_fatal(what): there is no way on: what is durable is unknown.  The
 * store is built to be killed at any point; opening it again finds out. */
_Noreturn void ledger_fatal(const char *what);

/** closing_change(c, id): valid until the next call names a new id. */
struct change *closing_change(struct closing *c, const struct id *id);

/** closing_flag(c, id, damaged): its entry comes to be damaged or ceases to;
 * the caller sets or clears the flag itself. */
void closing_flag(struct closing *c, const struct id *id, bool damaged);

/** closing_unref(c, id): one reference less (rules 3 and 19). */
void closing_unref(struct closing *c, const struct id *id);

/** closing_commit(c): append manifests and tombstones and make them durable:
 * 0, or why the meta packs could not be synced.
 * closing_bury(c): after a failure, durable tombstones for those manifests.
 * closing_apply(c): what all requests do to the index. */
int closing_commit(struct closing *c);
void closing_bury(struct closing *c);
void closing_apply(struct closing *c);

/** ledger_sync_writers(w, n): all at once.  Marks those that failed bad. */
int ledger_sync_writers(struct ledger_writer **w, unsigned n);

#endif
