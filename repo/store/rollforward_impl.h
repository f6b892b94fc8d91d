/* SPDX-License-Identifier: Apache-2.0 */
/* rollforward_impl: what the parts of a start share. */
#ifndef REPO_STORE_ROLLFORWARD_IMPL_H
#define REPO_STORE_ROLLFORWARD_IMPL_H

#include "repo/store/idmap.h"
#include "repo/store/store_impl.h"

struct tail_pack {
	struct pack_info info;
	bool listed; /* the index's table has it */
	bool present;
	bool poisoned; /* by its name */
	bool scan;
	bool sealed;
	uint64_t end;
	int64_t live; /* what this start adds */
};

struct tail_node {
	struct id id;
	struct place place;
	struct node *node;
};

struct tail_manifest {
	struct id id;
	struct place place;
	struct buf payload;
};

struct roll {
	struct index *index;
	struct volume *volume;
	struct pack_set *packs;
	const struct store_format *format;
	struct err *e;

	struct tail_pack *pack; /* by number once sorted */
	size_t npacks;
	size_t nlisted; /* the first ones, sorted while packs are listed */

	struct index_batch *batch;
	struct idmap lot;     /* ids that the batch puts */
	struct idmap backups; /* manifests that the index knows */
	struct idmap tombs;
	uint64_t stamp;
	uint64_t unique_raw; /* in all */
	uint64_t sequence;

	struct tail_node *node;
	size_t nnodes;
	struct tail_manifest *manifest;
	size_t nmanifests;
	unsigned nchunks, ncommitted, ndropped, norphans;
};

/** roll_pack(r, number): that pack, or NULL. */
struct tail_pack *roll_pack(struct roll *r, uint32_t number);

/** roll_live(r, place, sign): a record lives (1) or died (-1).
 * roll_write_live(r): into the batch, with what made it so. */
void roll_live(struct roll *r, const struct place *place, int sign);
void roll_write_live(struct roll *r);

/** roll_flush(r): write the lot; roll_present(r, id): is it in the index or in
 * the lot?  0, ERR_NOENT, ERR_SYS. */
int roll_flush(struct roll *r);
int roll_present(struct roll *r, const struct id *id);

/* The steps, in their order; each explains its failure. */
int roll_look(struct roll *r);
int roll_sync(struct roll *r);
int roll_scan(struct roll *r);
int roll_nodes(struct roll *r);
int roll_manifests(struct roll *r);
int roll_seal(struct roll *r, uint32_t *greatest);

#endif
