/* SPDX-License-Identifier: Apache-2.0 */
/* store_fixture: a real repository in a temporary folder, and volumes made of
 * numbered chunks, for the tests of the store. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "repo/store/store.h"

enum { FIXTURE_CHUNK = CHUNK_SIZE_MIN };

struct fixture {
	char dir[64];
	struct store *store;
	struct store_lane *lane;
	struct manifest backups[64]; /* as the last open told them */
	unsigned nbackups;
};

/** fixture_make(f): init and open.  fixture_remove(f): close and delete. */
void fixture_make(struct fixture *f);
void fixture_remove(struct fixture *f);

/** fixture_open / fixture_close: the store, with batches of 20 ms. */
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f);

/** fixture_chunk(n, len, id, data): bytes that depend on ${n} only. */
void fixture_chunk(
    uint32_t n, uint32_t len, struct id *id, uint8_t data[FIXTURE_CHUNK]);

/** fixture_put(f, x, n, len, &stored): put that chunk; what the store said. */
int fixture_put(struct fixture *f, struct store_session *x, uint32_t n,
    uint32_t len, uint64_t *stored);

/** fixture_tree(f, x, first, nchunks, tail_len, root): put a volume of
 * ${nchunks} chunks, numbered from ${first}; the last is ${tail_len} long.
 * Returns the volume's size. */
uint64_t fixture_tree(struct fixture *f, struct store_session *x,
    uint32_t first, uint32_t nchunks, uint32_t tail_len, struct id *root);

/** fixture_backup(f, vm, first, nchunks, m): a whole backup, committed. */
void fixture_backup(struct fixture *f, const char *vm, uint32_t first,
    uint32_t nchunks, struct manifest *m);

/** fixture_verify(f, m, first): every slice of volume 0 reads back. */
void fixture_verify(
    struct fixture *f, const struct manifest *m, uint32_t first);

/** fixture_fsck(f, rebuild): the store is closed; nothing may be wrong. */
void fixture_fsck(struct fixture *f, bool rebuild);

#endif
