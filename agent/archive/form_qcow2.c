/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A qcow2 image that is written, and can be read, once and forward: header,
 * L1 table, refcount table, refcount blocks, and then for each L2 table in the
 * order of the disk the table and behind it its clusters, in their order.  No
 * cluster is free, none is used twice.  FORMAT.md 10.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/archive/form.h"
#include "agent/qcow2/header.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"

enum {
	BITS = 16,
	CLUSTER = 1 << BITS,
	ENTRIES = CLUSTER / 8,
	REFS = CLUSTER / 2, /* that a refcount block has */
	PER_L2 = WALK_REGION / CLUSTER
};
_Static_assert(PER_L2 == ENTRIES, "a region is what one L2 table covers");

#define COPIED (UINT64_C(1) << 63)
#define ZERO UINT64_C(1)

struct form_qcow2 {
	struct form f;
	char *backing; /* or NULL */
	uint64_t nregions;
	/* Of each: 0, or 1 + how many clusters of data it has. */
	uint16_t *count;
	uint64_t l1, table, blocks, first, total; /* clusters */
	uint64_t ntable, nblocks;
	uint64_t at;    /* the next cluster to be written */
	uint8_t *block; /* one cluster */
};

static uint64_t
ceil_div(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

static unsigned
clusters(const struct walk *w, unsigned i)
{
	return (unsigned)ceil_div(
	    chunk_len(w->size, w->chunk_size, walk_first(w) + i), CLUSTER);
}

static int
make_room(struct form_qcow2 *q, struct err *e)
{
	q->nregions = walk_nregions(q->f.walk);
	if (q->nregions > QCOW2_L1_MAX / 8)
		return err_set(e, ERR_LIMIT,
		    "volume %s: it is too large for a qcow2 image of 64 KiB "
		    "clusters: choose --format raw",
		    q->f.walk->name);
	if (q->count == NULL)
		q->count = xcalloc(q->nregions + 1, sizeof(*q->count));
	return 0;
}

static int
qcow2_plan(struct form *f, struct err *e)
{
	struct form_qcow2 *q = (struct form_qcow2 *)f;
	struct walk *w = f->walk;
	unsigned n = 0;
	bool any = false;
	int rc = make_room(q, e);

	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < w->count; i++) {
		enum walk_kind k = walk_kind(w, i);

		if (k == WALK_DATA)
			n += clusters(w, i);
		any |= k != WALK_SAME;
	}
	q->count[w->region] = any ? (uint16_t)(1 + n) : 0;
	return 0;
}

static int
qcow2_size(struct form *f, uint64_t *out, struct err *e)
{
	struct form_qcow2 *q = (struct form_qcow2 *)f;
	uint64_t body = 0, was;
	int rc = make_room(q, e);

	if (rc != 0)
		return rc;
	/* The table itself and its clusters. */
	for (uint64_t i = 0; i < q->nregions; i++)
		body += q->count[i];
	q->l1 = 1;
	q->table = q->l1 + ceil_div(q->nregions * 8, CLUSTER);
	q->total = q->table + body;
	/* Grows by less each time, for a block counts many clusters. */
	do {
		was = q->total;
		q->nblocks = ceil_div(was, REFS);
		q->ntable = ceil_div(q->nblocks * 8, CLUSTER);
		q->total = q->table + q->ntable + q->nblocks + body;
	} while (q->total != was);
	if (q->nblocks * 8 > QCOW2_REFTABLE_MAX)
		return err_set(e, ERR_LIMIT,
		    "volume %s: it has too much data for a qcow2 image of 64 "
		    "KiB clusters: choose --format raw",
		    f->walk->name);
	q->blocks = q->table + q->ntable;
	q->first = q->blocks + q->nblocks;
	*out = q->total << BITS;
	return 0;
}

static int
put_block(struct form_qcow2 *q, struct err *e)
{
	int rc = member_put(q->f.member, q->block, CLUSTER, e);

	memset(q->block, 0, CLUSTER);
	q->at++;
	return rc;
}

static void
set_backing(const struct form_qcow2 *q, uint8_t *h)
{
	uint8_t *p = h + QCOW2_V3_HEADER_LEN;
	size_t n = strlen(q->backing);

	put_be32(p, QCOW2_EXT_BACKING_FORMAT);
	put_be32(p + 4, 5);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): no string */
	memcpy(p + 8, "qcow2", 5);
	p += 16;
	p += 8; /* the end of extensions is zeroes */
	put_be64(h + 8, (uint64_t)(p - h));
	put_be32(h + 16, (uint32_t)n);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): no string */
	memcpy(p, q->backing, n);
}

static int
put_header(struct form_qcow2 *q, struct err *e)
{
	uint8_t *h = q->block;

	memcpy(h, QCOW2_MAGIC, QCOW2_MAGIC_LEN);
	put_be32(h + 4, 3);
	put_be32(h + 20, BITS);
	put_be64(h + 24, (q->f.walk->size + 511) & ~UINT64_C(511));
	put_be32(h + 36, (uint32_t)q->nregions);
	put_be64(h + 40, q->l1 << BITS);
	put_be64(h + 48, q->table << BITS);
	put_be32(h + 56, (uint32_t)q->ntable);
	put_be32(h + 96, 4); /* refcounts of 16 bits */
	put_be32(h + 100, QCOW2_V3_HEADER_LEN);
	if (q->backing != NULL)
		set_backing(q, h);
	return put_block(q, e);
}

static int
put_l1(struct form_qcow2 *q, struct err *e)
{
	uint64_t next = q->first;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < q->nregions; i++) {
		if (q->count[i] > 0)
			put_be64(
			    q->block + i % ENTRIES * 8, next << BITS | COPIED);
		next += q->count[i];
		if (i % ENTRIES == ENTRIES - 1 || i == q->nregions - 1)
			rc = put_block(q, e);
	}
	return rc;
}

static int
put_refcounts(struct form_qcow2 *q, struct err *e)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < q->nblocks; i++) {
		put_be64(q->block + i % ENTRIES * 8, (q->blocks + i) << BITS);
		if (i % ENTRIES == ENTRIES - 1 || i == q->nblocks - 1)
			rc = put_block(q, e);
	}
	for (uint64_t i = 0; rc == 0 && i < q->nblocks; i++) {
		uint64_t left = q->total - i * REFS;

		for (unsigned k = 0; k < REFS && k < left; k++)
			put_be16(q->block + k * 2, 1);
		rc = put_block(q, e);
	}
	return rc;
}

static int
qcow2_head(struct form *f, struct err *e)
{
	struct form_qcow2 *q = (struct form_qcow2 *)f;
	int rc;

	q->block = xcalloc(1, CLUSTER);
	q->at = 0;
	rc = put_header(q, e);
	if (rc == 0)
		rc = put_l1(q, e);
	return rc != 0 ? rc : put_refcounts(q, e);
}

static int
qcow2_region(struct form *f, struct err *e)
{
	struct form_qcow2 *q = (struct form_qcow2 *)f;
	struct walk *w = f->walk;
	unsigned per = w->chunk_size / CLUSTER;
	uint64_t next = q->at + 1;

	if (q->count[w->region] == 0)
		return 0;
	for (unsigned i = 0; i < w->count; i++) {
		enum walk_kind k = walk_kind(w, i);
		uint8_t *entry = q->block + (size_t)i * per * 8;

		for (unsigned c = 0; k != WALK_SAME && c < clusters(w, i); c++)
			put_be64(entry + (size_t)c * 8,
			    k == WALK_ZERO ? ZERO : next++ << BITS | COPIED);
	}
	return put_block(q, e);
}

static int
qcow2_slice(struct form *f, unsigned i, const uint8_t *data, uint32_t len,
    struct err *e)
{
	struct form_qcow2 *q = (struct form_qcow2 *)f;
	unsigned n = clusters(f->walk, i);
	int rc = member_put(f->member, data, len, e);

	q->at += n;
	/* Its block is all zeroes between tables. */
	if (rc == 0 && len % CLUSTER != 0)
		rc =
		    member_put(f->member, q->block, CLUSTER - len % CLUSTER, e);
	return rc;
}

static int
qcow2_nothing(struct form *f, struct err *e)
{
	(void)f;
	(void)e;
	return 0;
}

static void
qcow2_free(struct form *f)
{
	struct form_qcow2 *q = (struct form_qcow2 *)f;

	free(q->backing);
	free(q->count);
	free(q->block);
	free(q);
}

static const struct form_ops qcow2_ops = {
	.plan = qcow2_plan,
	.size = qcow2_size,
	.head = qcow2_head,
	.region = qcow2_region,
	.slice = qcow2_slice,
	.region_end = qcow2_nothing,
	.end = qcow2_nothing,
	.free = qcow2_free,
};

struct form *
form_qcow2_new(struct walk *w, const char *backing)
{
	struct form_qcow2 *q = xcalloc(1, sizeof(*q));

	q->f.ops = &qcow2_ops;
	q->f.word = "qcow2";
	q->f.walk = w;
	q->backing = backing != NULL ? xstrdup(backing) : NULL;
	return &q->f;
}
