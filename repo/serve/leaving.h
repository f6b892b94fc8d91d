/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaving: backups of one VM that are let go of together: hidden first, then
 * dropped in the store, then forgotten.  STORE.md 4 and 8.  There is no other
 * way for a backup to go, and repo/retain/guard says which may.
 *
 *	leaving_init; leaving_add...; leaving_drop, or store_commit with l.drop
 *	and l.n; leaving_end
 */
#ifndef REPO_SERVE_LEAVING_H
#define REPO_SERVE_LEAVING_H

#include "repo/serve/serve.h"

/* One thread's. */
struct leaving {
	struct serve *srv;
	const char *vm; /* the caller's */
	struct store_drop *drop;
	unsigned n;
};

void leaving_init(struct leaving *l, struct serve *srv, const char *vm);

/** leaving_add(l, id, e): hide one more.  ERR_NOENT: it is not there, or
 * somebody else has it leave already; ERR_DENIED: it may not go, and why. */
int leaving_add(
    struct leaving *l, const uint8_t id[BACKUP_ID_LEN], struct err *e);

/** leaving_incomplete(l, before): the VM's incomplete ones whose time is
 * earlier than ${before}; those that leave already are passed over. */
void leaving_incomplete(struct leaving *l, uint64_t before);

/** leaving_drop(l, e): drop them in the store; as store_drop. */
int leaving_drop(struct leaving *l, struct err *e);

/** leaving_end(l, done): the drop is durable; or they are all back.  Frees what
 * ${l} holds and wakes the reclaimer. */
void leaving_end(struct leaving *l, bool done);

/** leaving_release(srv, vm, id): a job does not build on that backup any more;
 * if it was deleted meanwhile its space is let go of now. */
void leaving_release(
    struct serve *srv, const char *vm, const uint8_t id[BACKUP_ID_LEN]);

#endif
