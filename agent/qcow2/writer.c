/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/qcow2/tables.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

/*
 * The file: header, L1 table, then L2 tables and data as they come, then the
 * refcount table and its blocks.  Clusters are handed out once and in order,
 * so the refcount of each is 1, and all that was not written reads as zero.
 * L2 tables live in the file only: their entries are written in place.
 */
enum {
	BATCH = 64, /* clusters that are mapped in one go */
	REFCOUNT_ORDER = 4,
	REFCOUNT_LEN = 2,
	L1_OUT = 64 << 10
};

struct qcow2_writer {
	const struct outfile *f; /* constant */
	struct qcow2_header h;   /* constant */
	uint64_t l1_clusters;    /* constant */
	bool partial; /* constant: a write may be part of a cluster */
	pthread_mutex_t mu;
	uint64_t next; /* mu: the first cluster never handed out */
	uint64_t *l1;  /* mu: host offsets of L2 tables, or 0 */
};

static uint64_t
ceil_div(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

static int
check_limits(const struct qcow2_writer *w, struct err *e)
{
	uint64_t cluster = UINT64_C(1) << w->h.cluster_bits;
	/* Data, an L2 table for each L1 entry, and a little more than all. */
	uint64_t most = ceil_div(w->h.size, cluster) + w->h.l1_entries;
	uint64_t blocks = ceil_div(most + most / 64, cluster / REFCOUNT_LEN);

	if (blocks * 8 <= QCOW2_REFTABLE_MAX)
		return 0;
	return err_set(e, ERR_LIMIT,
	    "%s: clusters of %llu bytes are too small for a disk of %llu bytes",
	    w->f->path, (unsigned long long)cluster,
	    (unsigned long long)w->h.size);
}

static int
set_geometry(
    struct qcow2_writer *w, uint64_t size, uint32_t cluster_size, struct err *e)
{
	uint64_t entries;

	if (cluster_size < 1 << QCOW2_CLUSTER_BITS_MIN ||
	    cluster_size > QCOW2_CLUSTER_MAX ||
	    (cluster_size & (cluster_size - 1)) != 0)
		return err_set(e, ERR_INVAL,
		    "%s: cluster size %u: must be a power of two from 512 to "
		    "2097152",
		    w->f->path, cluster_size);
	if (size > INT64_MAX - 511)
		return err_set(
		    e, ERR_LIMIT, "%s: a disk of 8 EiB or more", w->f->path);
	w->h.version = 3;
	w->h.size = (size + 511) & ~UINT64_C(511);
	w->h.cluster_bits = (uint32_t)__builtin_ctz(cluster_size);
	w->h.l2_bits = w->h.cluster_bits - 3;
	w->h.l1_offset = cluster_size;
	entries = ceil_div(
	    w->h.size, UINT64_C(1) << (w->h.cluster_bits + w->h.l2_bits));
	if (entries > QCOW2_L1_MAX / 8)
		return err_set(e, ERR_LIMIT,
		    "%s: clusters of %u bytes are too small for a disk of %llu "
		    "bytes",
		    w->f->path, cluster_size, (unsigned long long)size);
	w->h.l1_entries = (uint32_t)entries;
	w->l1_clusters = ceil_div(entries * 8, cluster_size);
	w->next = 1 + w->l1_clusters;
	w->partial = cluster_size > QCOW2_WRITE_UNIT;
	return check_limits(w, e);
}

int
qcow2_writer_new(const struct outfile *f, uint64_t size, uint32_t cluster_size,
    struct qcow2_writer **out, struct err *e)
{
	struct qcow2_writer *w = xcalloc(1, sizeof(*w));
	int rc;

	w->f = f;
	rc = set_geometry(w, size,
	    cluster_size != 0 ? cluster_size : QCOW2_CLUSTER_DEFAULT, e);
	if (rc != 0) {
		free(w);
		return rc;
	}
	w->l1 = xcalloc(w->h.l1_entries + 1, sizeof(*w->l1));
	pthread_mutex_init(&w->mu, NULL);
	*out = w;
	return 0;
}

void
qcow2_writer_free(struct qcow2_writer *w)
{
	if (w == NULL)
		return;
	pthread_mutex_destroy(&w->mu);
	free(w->l1);
	free(w);
}

static int
put(struct qcow2_writer *w, const void *data, size_t len, uint64_t off,
    struct err *e)
{
	return outfile_write(w->f, data, len, off, e);
}

/* Some clusters that one L2 table describes, and the caller's bytes for them.
 */
struct batch {
	const uint8_t *data;
	uint64_t off;
	size_t len;
	size_t n;             /* clusters touched, the first and last in part */
	size_t from, to;      /* those between hold all that is not zero */
	bool zero[BATCH];     /* the caller's bytes for it are all zero */
	uint64_t host[BATCH]; /* where it lies; 0: nowhere */
};

/* The part of the caller's bytes that belongs to cluster ${i}. */
static size_t
part(const struct qcow2_writer *w, const struct batch *b, size_t i, size_t *len)
{
	size_t cluster = (size_t)1 << w->h.cluster_bits;
	size_t inner = (size_t)(b->off & (cluster - 1));
	size_t begin = i == 0 ? 0 : i * cluster - inner;
	size_t end = (i + 1) * cluster - inner;

	*len = (end < b->len ? end : b->len) - begin;
	return begin;
}

static void
batch_over(const struct qcow2_writer *w, struct batch *b, const uint8_t *data,
    size_t len, uint64_t off)
{
	uint64_t first = off >> w->h.cluster_bits, last, end;
	uint64_t per_table = UINT64_C(1) << w->h.l2_bits;

	last = (off + len - 1) >> w->h.cluster_bits;
	end = (first & ~(per_table - 1)) + per_table;
	if (last >= end)
		last = end - 1;
	if (last >= first + BATCH)
		last = first + BATCH - 1;
	b->data = data;
	b->off = off;
	b->n = (size_t)(last - first + 1);
	b->len = (size_t)(((last + 1) << w->h.cluster_bits) - off);
	if (b->len > len)
		b->len = len;
	b->from = b->n;
	b->to = 0;
	for (size_t i = 0; i < b->n; i++) {
		size_t n, at = part(w, b, i, &n);

		b->host[i] = 0;
		b->zero[i] = bytes_zero(data + at, n);
		if (b->zero[i])
			continue;
		if (b->from == b->n)
			b->from = i;
		b->to = i + 1;
	}
}

/* With mu held: find or hand out a place for each cluster with data. */
static int
map_batch(struct qcow2_writer *w, struct batch *b, struct err *e)
{
	uint64_t cluster = b->off >> w->h.cluster_bits, at;
	uint64_t *l2 = &w->l1[cluster >> w->h.l2_bits];
	uint8_t entries[BATCH * 8];
	size_t len = (b->to - b->from) * 8;
	bool changed = false;
	int rc;

	memset(entries, 0, len);
	cluster += b->from;
	if (*l2 == 0)
		*l2 = w->next++ << w->h.cluster_bits;
	at = *l2 + (cluster & ((UINT64_C(1) << w->h.l2_bits) - 1)) * 8;
	if (w->partial && (rc = outfile_read(w->f, entries, len, at, e)) != 0)
		return rc;
	for (size_t i = b->from; i < b->to; i++) {
		uint8_t *entry = entries + (i - b->from) * 8;

		b->host[i] = get_be64(entry) & ~QCOW2_COPIED;
		if (b->zero[i] || b->host[i] != 0)
			continue;
		b->host[i] = w->next++ << w->h.cluster_bits;
		put_be64(entry, b->host[i] | QCOW2_COPIED);
		changed = true;
	}
	return changed ? put(w, entries, len, at, e) : 0;
}

/* Neighbours in the file go in one write. */
static int
write_batch(struct qcow2_writer *w, const struct batch *b, struct err *e)
{
	uint64_t cluster = UINT64_C(1) << w->h.cluster_bits;
	size_t i = b->from;

	while (i < b->to) {
		size_t n, at = part(w, b, i, &n), first = i++;
		int rc;

		if (b->zero[first])
			continue;
		for (; i < b->to && !b->zero[i] &&
		     b->host[i] == b->host[i - 1] + cluster;
		     i++) {
			size_t more;

			part(w, b, i, &more);
			n += more;
		}
		rc = put(w, b->data + at, n,
		    b->host[first] + ((b->off + at) & (cluster - 1)), e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
qcow2_writer_write(struct qcow2_writer *w, const void *data, size_t len,
    uint64_t off, struct err *e)
{
	const uint8_t *p = data;
	struct batch b;
	int rc;

	for (; len > 0; p += b.len, off += b.len, len -= b.len) {
		batch_over(w, &b, p, len, off);
		if (b.from == b.n)
			continue;
		pthread_mutex_lock(&w->mu);
		rc = map_batch(w, &b, e);
		pthread_mutex_unlock(&w->mu);
		if (rc == 0)
			rc = write_batch(w, &b, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
write_l1(struct qcow2_writer *w, struct err *e)
{
	uint8_t *out = xmalloc(L1_OUT);
	size_t per = L1_OUT / 8;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < w->h.l1_entries; i += per) {
		size_t n = w->h.l1_entries - i;

		n = n < per ? n : per;
		for (size_t j = 0; j < n; j++) {
			uint64_t l2 = w->l1[i + j];

			put_be64(out + j * 8, l2 != 0 ? l2 | QCOW2_COPIED : 0);
		}
		if (!bytes_zero(out, n * 8))
			rc = put(w, out, n * 8, w->h.l1_offset + i * 8, e);
	}
	free(out);
	return rc;
}

/* Where the refcounts lie, in clusters; they count themselves too. */
struct refcounts {
	uint64_t table, table_len, blocks, nblocks, total;
};

static struct refcounts
plan_refcounts(const struct qcow2_writer *w)
{
	uint64_t cluster = UINT64_C(1) << w->h.cluster_bits, was;
	struct refcounts r = { .table = w->next, .total = w->next };

	/* Grows by less each time, for a block counts many clusters. */
	do {
		was = r.total;
		r.nblocks = ceil_div(was, cluster / REFCOUNT_LEN);
		r.table_len = ceil_div(r.nblocks * 8, cluster);
		r.total = w->next + r.table_len + r.nblocks;
	} while (r.total != was);
	r.blocks = r.table + r.table_len;
	return r;
}

static int
write_refcounts(
    struct qcow2_writer *w, const struct refcounts *r, struct err *e)
{
	uint32_t bits = w->h.cluster_bits;
	size_t cluster = (size_t)1 << bits, n;
	uint8_t *block = xmalloc(cluster), entry[8];
	uint64_t left = r->total, per = cluster / REFCOUNT_LEN;
	int rc = 0;

	for (size_t i = 0; i < per; i++)
		put_be16(block + i * REFCOUNT_LEN, 1);
	for (uint64_t i = 0; rc == 0 && i < r->nblocks; i++) {
		n = (size_t)(left < per ? left : per);
		memset(block + n * REFCOUNT_LEN, 0, cluster - n * REFCOUNT_LEN);
		put_be64(entry, (r->blocks + i) << bits);
		rc = put(w, entry, 8, (r->table << bits) + i * 8, e);
		if (rc == 0)
			rc = put(w, block, cluster, (r->blocks + i) << bits, e);
		left -= n;
	}
	free(block);
	return rc;
}

static int
write_header(struct qcow2_writer *w, const struct refcounts *r, struct err *e)
{
	uint8_t h[QCOW2_V3_HEADER_LEN] = { 0 };

	memcpy(h, QCOW2_MAGIC, QCOW2_MAGIC_LEN);
	put_be32(h + 4, w->h.version);
	put_be32(h + 20, w->h.cluster_bits);
	put_be64(h + 24, w->h.size);
	put_be32(h + 36, w->h.l1_entries);
	put_be64(h + 40, w->h.l1_offset);
	put_be64(h + 48, r->table << w->h.cluster_bits);
	put_be32(h + 56, (uint32_t)r->table_len);
	put_be32(h + 96, REFCOUNT_ORDER);
	put_be32(h + 100, QCOW2_V3_HEADER_LEN);
	return put(w, h, sizeof(h), 0, e);
}

int
qcow2_writer_finish(struct qcow2_writer *w, struct err *e)
{
	struct refcounts r = plan_refcounts(w);
	int rc;

	/* The last cluster handed out may not be filled to its end. */
	rc = outfile_resize(w->f, r.total << w->h.cluster_bits, e);
	if (rc == 0)
		rc = write_l1(w, e);
	if (rc == 0)
		rc = write_refcounts(w, &r, e);
	if (rc == 0)
		rc = write_header(w, &r, e);
	return rc;
}
