/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world: a small repository, what was done to it and acknowledged, and whether
 * a repository that is found later still keeps that word.
 *
 * Backups are of numbered chunks that compress well, packs are tiny: a few
 * dozen operations fill, seal, sweep and rewrite many of them.  A volume's name
 * says its first chunk, so that any manifest can be checked that turns up.
 */
#ifndef TESTS_CRASH_WORLD_H
#define TESTS_CRASH_WORLD_H

#include "repo/reclaim/reclaimer.h"
#include "repo/store/store.h"

enum {
	WORLD_TOLD_MAX = 64,
	WORLD_PACK_LIMIT = 16 << 10,
	WORLD_FAILED = 3,     /* exit status: something is wrong */
	WORLD_CANNOT_OPEN = 5 /* exit status: the store does not open */
};

struct world {
	const char *packs; /* URL of where they are to be, or NULL */
	const char *dir;
	int acks; /* the journal of what was acknowledged */
	struct store *store;
	struct store_lane *lane;
	struct reclaimer *reclaimer;
	struct manifest *told; /* by the last open */
	unsigned ntold;
	struct volume *(*wrap)(void *arg, struct volume *v); /* or NULL */
	void *wrap_arg;
	const char *later; /* to be armed when the store is open; or NULL */
};

/** world_begin(w, dir, journal): nothing is opened yet; the journal is made,
 * or added to. */
void world_begin(struct world *w, const char *dir, const char *journal);

/** world_open(w): with its reclaimer.  What the store said.
 * world_close(w): nothing if it is closed. */
int world_open(struct world *w);
void world_close(struct world *w);

/** world_ask(w, x, first, n): which chunks are there; at most 128. */
int world_ask(
    struct world *w, struct store_session *x, uint32_t first, unsigned n);

/** world_put(w, x, n, len): one chunk.  world_tree: a volume of ${nchunks}
 * whose last chunk has 1000 bytes; its root and size. */
int world_put(
    struct world *w, struct store_session *x, uint32_t n, uint32_t len);
int world_tree(struct world *w, struct store_session *x, uint32_t first,
    uint32_t nchunks, struct id *root, uint64_t *size);

/** world_commit(w, x, vm, first, nchunks, drop, out): put what is not there,
 * commit, drop ${drop} (or NULL: none) with it.  The session is over.
 * world_backup: the same with a session of its own. */
int world_commit(struct world *w, struct store_session *x, const char *vm,
    uint32_t first, uint32_t nchunks, const struct manifest *drop,
    struct manifest *out);
int world_backup(struct world *w, const char *vm, uint32_t first,
    uint32_t nchunks, const struct manifest *drop, struct manifest *out);

/** world_checkpoint(w, x, drop, out): hold what the session has. */
int world_checkpoint(struct world *w, struct store_session *x,
    const struct manifest *drop, struct manifest *out);

/** world_delete(w, m): at once.  world_hide: somebody builds on it;
 * world_delete_hidden: and now nobody does. */
int world_delete(struct world *w, const struct manifest *m);
int world_hide(struct world *w, const struct manifest *m);
int world_delete_hidden(struct world *w, const struct manifest *m);

/** world_gc(w): until the reclaimer finds no more to do. */
int world_gc(struct world *w);

/** world_rebuild(w): the store is closed; a new index. */
int world_rebuild(struct world *w);

/** world_read(w, m): all of it is there and right; 0 or a code. */
int world_read(struct world *w, const struct manifest *m, struct err *e);

/** world_verify(w, upto): the whole examination, for which the store must not
 * be open: what the journal says of a log of ${upto} bytes holds, and hold
 * after a start, a collection, a rebuild, and when all is deleted.  Exits with
 * WORLD_FAILED and a line on stderr if anything is wrong. */
void world_verify(struct world *w, uint64_t upto);

/** world_wrong(fmt, ...): says it and exits with WORLD_FAILED. */
_Noreturn void world_wrong(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

#endif
