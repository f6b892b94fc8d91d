/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a start does before anything else (STORE.md 13): the packs are the
 * truth, and may hold more than the index knows of.
 *
 * 1. Every pack of the index's table is there, with its tag and at least its
 *    known length; otherwise index and packs are of different days.
 * 2. Unsealed and unknown packs are synced: what is in memory only, after a
 *    kill, must not be named by the index either.
 * 3. What they hold beyond that is put: chunks, then nodes from the leaves up,
 *    then manifests without a tombstone; then tombstones are applied.
 * 4. They are sealed at their last valid record and never written again.
 *
 * All of it may be repeated: a put of what is there changes nothing, each lot
 * takes along what it adds to its packs' live bytes, and the packs' known
 * lengths move only in the last batch.
 */
#include <stdlib.h>

#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "repo/store/rollforward_impl.h"
static int
finish(struct roll *r)
{
	uint64_t numbers, n;
	uint32_t greatest;
	int rc;

	roll_write_live(r);
	rc = roll_seal(r, &greatest);
	if (rc != 0)
		return rc;
	if (index_number(r->index, INDEX_NUMBERS_END, &numbers) != 0 ||
	    index_number(r->index, INDEX_SEQUENCE, &n) != 0)
		return err_set(r->e, ERR_SYS, "the index cannot be read");
	if (greatest >= numbers)
		index_batch_number(
		    r->batch, INDEX_NUMBERS_END, (uint64_t)greatest + 1);
	if (r->sequence > n)
		index_batch_number(r->batch, INDEX_SEQUENCE, r->sequence);
	index_batch_number(r->batch, INDEX_PUBLISHED, r->stamp);
	fault_pass(FAULT_START_FINISH);
	rc = index_batch_write(r->batch, true);
	if (rc != 0)
		return err_set(r->e, rc, "the index cannot be written");
	fault_pass(FAULT_START_DONE);
	if (r->nchunks + r->nnodes + r->nmanifests + r->tombs.n > 0)
		log_info("rolled forward: %u chunks and %zu nodes that the "
			 "index did not know (%u of them useless), %u backups "
			 "committed, %u deleted",
		    r->nchunks, r->nnodes, r->norphans, r->ncommitted,
		    r->ndropped);
	return 0;
}

int
rollforward(struct index *x, struct volume *v, struct pack_set *p,
    const struct store_format *format, struct err *e)
{
	struct roll r = {
		.index = x, .volume = v, .packs = p, .format = format, .e = e
	};
	int rc;

	e->code = 0;
	idmap_init(&r.lot, sizeof(uint64_t));
	idmap_init(&r.backups, sizeof(uint64_t));
	idmap_init(&r.tombs, sizeof(uint64_t));
	r.batch = index_batch_new(x);
	rc = index_number(x, INDEX_PUBLISHED, &r.stamp);
	if (rc == 0)
		rc = index_number(x, INDEX_UNIQUE_RAW, &r.unique_raw);
	if (rc != 0) {
		err_set(e, rc, "the index cannot be read");
		goto out;
	}
	r.stamp++;
	if ((rc = roll_look(&r)) != 0 || (rc = roll_sync(&r)) != 0 ||
	    (rc = roll_scan(&r)) != 0 || (rc = roll_nodes(&r)) != 0)
		goto out;
	rc = roll_manifests(&r);
	if (rc == 0)
		rc = finish(&r);
out:
	for (size_t i = 0; i < r.nnodes; i++)
		free(r.node[i].node);
	for (size_t i = 0; i < r.nmanifests; i++)
		buf_fini(&r.manifest[i].payload);
	free(r.node);
	free(r.manifest);
	free(r.pack);
	idmap_fini(&r.tombs);
	idmap_fini(&r.backups);
	idmap_fini(&r.lot);
	index_batch_free(r.batch);
	return rc;
}
