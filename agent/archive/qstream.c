/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/qstream.h"

#include <stdlib.h>
#include <string.h>

#include "agent/qcow2/header.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"

enum {
	BITS = 16,
	CLUSTER = 1 << BITS,
	ENTRIES = CLUSTER / 8,
	REGION_BITS = 29,
	HEADER_MIN = QCOW2_V3_HEADER_LEN
};
#define COPIED (UINT64_C(1) << 63)
#define ZERO UINT64_C(1)

struct qstream {
	struct arcin *a;
	struct digest *d;
	uint64_t size; /* of the disk */
	uint64_t nregions;
	uint64_t *l1;    /* where the L2 table of each lies; 0: it has none */
	uint64_t at;     /* all of the member before was read */
	uint64_t region; /* whose table is loaded; nregions: none yet */
	unsigned used;   /* entries of it that are done with */
	uint64_t entry[ENTRIES];
	uint8_t cluster[CLUSTER];
};

static int
take(struct qstream *q, void *data, size_t len, struct err *e)
{
	int rc = arcin_read(q->a, data, len, q->at, e);

	if (rc != 0)
		return rc;
	digest_add(q->d, data, len);
	q->at += len;
	return 0;
}

static int
bad(const struct qstream *q, struct err *e, const char *why)
{
	return arcin_fail(q->a, ERR_INVAL, e,
	    "it is no image as backstay export writes them: %s", why);
}

/* Up to ${off}, which is a cluster further on. */
static int
forward(struct qstream *q, uint64_t off, struct err *e)
{
	int rc = 0;

	if (off < q->at || off % CLUSTER != 0)
		return bad(q, e, "its clusters are not in order");
	while (rc == 0 && q->at < off)
		rc = take(q, q->cluster, CLUSTER, e);
	return rc;
}

static int
read_header(struct qstream *q, struct err *e)
{
	const uint8_t *h = q->cluster;
	int rc = take(q, q->cluster, CLUSTER, e);

	if (rc != 0)
		return rc;
	if (memcmp(h, QCOW2_MAGIC, QCOW2_MAGIC_LEN) != 0 ||
	    get_be32(h + 4) != 3 || get_be32(h + 20) != BITS)
		return bad(q, e, "its header");
	if (get_be32(h + 32) != 0 || get_be32(h + 60) != 0 ||
	    get_be64(h + 72) != 0 || get_be64(h + 88) != 0)
		return bad(q, e, "it is encrypted, or has other features");
	if (get_be64(h + 24) != ((q->size + 511) & ~UINT64_C(511)))
		return bad(q, e, "it is of another size than its disk");
	if (get_be32(h + 36) != q->nregions || get_be64(h + 40) != CLUSTER)
		return bad(q, e, "its L1 table");
	return 0;
}

static int
read_l1(struct qstream *q, struct err *e)
{
	uint64_t last = CLUSTER;
	int rc = 0;

	q->l1 = xcalloc(q->nregions + 1, sizeof(*q->l1));
	for (uint64_t i = 0; rc == 0 && i < q->nregions; i++) {
		uint64_t entry;

		if (i % ENTRIES == 0)
			rc = take(q, q->cluster, CLUSTER, e);
		if (rc != 0)
			break;
		entry = get_be64(q->cluster + i % ENTRIES * 8);
		if (entry == 0)
			continue;
		q->l1[i] = entry & ~COPIED;
		if ((entry & COPIED) == 0 || q->l1[i] % CLUSTER != 0 ||
		    q->l1[i] <= last)
			return bad(q, e, "its L1 table");
		last = q->l1[i];
	}
	return rc;
}

int
qstream_open(struct arcin *a, struct digest *d, uint64_t size,
    struct qstream **out, struct err *e)
{
	struct qstream *q = xcalloc(1, sizeof(*q));
	uint64_t region = UINT64_C(1) << REGION_BITS;
	int rc;

	q->a = a;
	q->d = d;
	q->size = size;
	q->nregions = size / region + (size % region != 0);
	q->region = q->nregions;
	if (q->nregions > QCOW2_L1_MAX / 8)
		rc = bad(q, e, "its disk is too large");
	else
		rc = read_header(q, e);
	if (rc == 0)
		rc = read_l1(q, e);
	if (rc != 0) {
		qstream_free(q);
		return rc;
	}
	*out = q;
	return 0;
}

void
qstream_free(struct qstream *q)
{
	if (q == NULL)
		return;
	free(q->l1);
	free(q);
}

/* Whether all clusters of the loaded table were read. */
static bool
done_with(struct qstream *q)
{
	while (q->used < ENTRIES && q->entry[q->used] <= ZERO)
		q->used++;
	return q->region == q->nregions || q->used == ENTRIES;
}

static int
load(struct qstream *q, uint64_t region, struct err *e)
{
	int rc = forward(q, q->l1[region], e);

	if (rc == 0)
		rc = take(q, q->cluster, CLUSTER, e);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < ENTRIES; i++) {
		uint64_t x = get_be64(q->cluster + (size_t)i * 8);

		if (x != 0 && x != ZERO &&
		    ((x & COPIED) == 0 || (x & ~COPIED) % CLUSTER != 0 ||
			(x & ~COPIED) == 0))
			return bad(q, e, "an L2 table");
		q->entry[i] = x;
	}
	q->region = region;
	q->used = 0;
	return 0;
}

/* From ${off} on, past regions without a table. */
static uint64_t
empty_regions(const struct qstream *q, uint64_t off)
{
	uint64_t region = off >> REGION_BITS, end;

	while (region < q->nregions && q->l1[region] == 0)
		region++;
	end = region == q->nregions ? q->size : region << REGION_BITS;
	return end - off;
}

static enum qstream_kind
kind_of(uint64_t entry)
{
	return entry == 0   ? QSTREAM_NONE
	    : entry == ZERO ? QSTREAM_ZERO
			    : QSTREAM_DATA;
}

int
qstream_map(struct qstream *q, uint64_t off, uint64_t *len,
    enum qstream_kind *kind, struct err *e)
{
	uint64_t region = off >> REGION_BITS, end;
	unsigned i = (unsigned)(off >> BITS) % ENTRIES;
	int rc;

	if (q->l1[region] == 0) {
		*kind = QSTREAM_NONE;
		*len = empty_regions(q, off);
		return 0;
	}
	if (q->region != region && done_with(q)) {
		rc = load(q, region, e);
		if (rc != 0)
			return rc;
	}
	end = (region + 1) << REGION_BITS;
	*kind = QSTREAM_DATA;
	if (q->region == region) {
		*kind = kind_of(q->entry[i]);
		while (++i < ENTRIES && kind_of(q->entry[i]) == *kind)
			;
		end = (region << REGION_BITS) + ((uint64_t)i << BITS);
	}
	*len = (end < q->size ? end : q->size) - off;
	return 0;
}

/* ${len} bytes that lie in one cluster. */
static int
read_in(struct qstream *q, uint8_t *data, size_t len, uint64_t off, bool *none,
    struct err *e)
{
	uint64_t region = off >> REGION_BITS, entry = 0;
	unsigned i = (unsigned)(off >> BITS) % ENTRIES;
	int rc = 0;

	if (q->l1[region] != 0 && q->region != region)
		rc = load(q, region, e);
	if (rc != 0)
		return rc;
	if (q->l1[region] != 0)
		entry = q->entry[i];
	if (entry <= ZERO) {
		*none |= entry == 0;
		memset(data, 0, len);
		return 0;
	}
	if (off % CLUSTER != 0)
		return bad(q, e, "a part of a cluster was asked for");
	rc = forward(q, entry & ~COPIED, e);
	if (rc == 0)
		rc = take(q, data, len, e);
	/* The disk ends within it. */
	if (rc == 0 && len < CLUSTER)
		rc = take(q, q->cluster, CLUSTER - len, e);
	q->used = i + 1;
	return rc;
}

int
qstream_read(struct qstream *q, void *data, size_t len, uint64_t off,
    bool *none, struct err *e)
{
	uint8_t *p = data;
	int rc = 0;

	*none = false;
	while (rc == 0 && len > 0) {
		size_t n = CLUSTER - (size_t)(off % CLUSTER);

		if (n > len)
			n = len;
		rc = read_in(q, p, n, off, none, e);
		p += n;
		off += n;
		len -= n;
	}
	return rc;
}

int
qstream_end(struct qstream *q, struct err *e)
{
	int rc = 0;

	for (;;) {
		uint64_t len;
		bool hole;
		const struct arcin_member *m = arcin_member(q->a);

		if (m->has_size && q->at == m->size)
			return arcin_drain(q->a, e);
		rc = arcin_map(q->a, q->at, &len, &hole, e);
		/* Without a size of its own its end is where there is no more.
		 */
		if (rc != 0)
			return m->has_size && q->at == m->size ? 0 : rc;
		rc = take(
		    q, q->cluster, len < CLUSTER ? (size_t)len : CLUSTER, e);
		if (rc != 0)
			return rc;
	}
}
