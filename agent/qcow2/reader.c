/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/reader.h"

#include <stdlib.h>
#include <string.h>

#include "agent/qcow2/inflate.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"

/*
 * How far one call looks: entries of L1 or L2.  It must be bounded, since who
 * asks window by window would otherwise have the same gap walked many times,
 * and long enough that a huge hole takes few calls: 128 L1 entries are 64 GiB
 * with 64 KiB clusters.
 */
enum { LOOK = 128, GLANCE = 1024, SECTOR = 512 };

/* A glance at a table: GLANCE bytes around the last entry read. */
struct glance {
	uint64_t off;
	bool filled;
	uint8_t data[GLANCE];
};

int
qcow2_open(
    struct qcow2 *q, struct imgfile *f, struct metacache *cache, struct err *e)
{
	size_t len =
	    f->size < QCOW2_CLUSTER_MAX ? (size_t)f->size : QCOW2_CLUSTER_MAX;
	uint8_t *first = xmalloc(len + 1);
	int rc;

	rc = imgfile_read(f, first, len, 0, e);
	if (rc != 0)
		goto err_free;
	rc = qcow2_header_decode(first, len, &q->h, e);
	if (rc == 0 && q->h.l1_entries != 0 &&
	    (q->h.l1_offset > f->size ||
		f->size - q->h.l1_offset < (uint64_t)q->h.l1_entries * 8))
		rc = err_set(e, ERR_CORRUPT,
		    "the L1 table reaches beyond the end of the file: was it "
		    "copied completely?");
	if (rc != 0) {
		if (e != NULL)
			err_prefix(e, "%s", f->path);
		goto err_free;
	}
	free(first);
	q->file = f;
	q->data = f;
	q->cache = cache;
	return 0;
err_free:
	free(first);
	return rc;
}

/* The entry of a table at ${off}; entries never straddle glances. */
static int
entry_at(struct qcow2 *q, struct glance *g, uint64_t off, const uint8_t **entry,
    struct err *e)
{
	uint64_t base = off - off % GLANCE;

	if (!g->filled || g->off != base) {
		int rc =
		    metacache_read(q->cache, q->file, g->data, GLANCE, base, e);

		if (rc != 0)
			return rc;
		g->off = base;
		g->filled = true;
	}
	*entry = g->data + off % GLANCE;
	return 0;
}

static int
beyond(const struct imgfile *f, const char *what, uint64_t off, struct err *e)
{
	return err_set(e, ERR_CORRUPT,
	    "%s at offset %llu lies beyond the end of %s: was that copied "
	    "completely?",
	    what, (unsigned long long)off, f->path);
}

/* ${len} bytes of an image at ${off} must be in the file, up to its sector. */
static bool
within(const struct imgfile *f, uint64_t off, uint64_t len)
{
	uint64_t size = f->size + SECTOR - 1;

	size -= size % SECTOR;
	return off < size && len <= size - off;
}

/* What one entry of L1 or L2 says of ${off}. */
static int
look(struct qcow2 *q, struct glance *g, uint64_t off, struct qcow2_extent *x,
    struct err *e)
{
	const struct qcow2_header *h = &q->h;
	uint32_t shift = h->cluster_bits + h->l2_bits;
	uint64_t cluster = UINT64_C(1) << h->cluster_bits, l2, i;
	const uint8_t *entry;
	int rc;

	rc = entry_at(q, &g[0], h->l1_offset + (off >> shift) * 8, &entry, e);
	if (rc == 0)
		rc = qcow2_l1_decode(h, get_be64(entry), &l2, e);
	if (rc != 0)
		return rc;
	if (l2 == 0) {
		*x = (struct qcow2_extent){ .kind = QCOW2_UNALLOCATED };
		x->len = (UINT64_C(1) << shift) -
		    (off & ((UINT64_C(1) << shift) - 1));
		return 0;
	}
	if (l2 > q->file->size || q->file->size - l2 < cluster)
		return beyond(q->file, "an L2 table", l2, e);
	i = off >> h->cluster_bits & ((UINT64_C(1) << h->l2_bits) - 1);
	rc = entry_at(q, &g[1], l2 + i * qcow2_entry_len(h), &entry, e);
	if (rc != 0)
		return rc;
	return qcow2_l2_decode(h, entry, (uint32_t)(off & (cluster - 1)), x, e);
}

static bool
goes_on(const struct qcow2_extent *x, const struct qcow2_extent *next)
{
	if (x->kind != next->kind || x->kind == QCOW2_COMPRESSED)
		return false;
	return x->kind != QCOW2_DATA || x->host + x->len == next->host;
}

int
qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_extent *x,
    struct err *e)
{
	struct glance g[2];
	struct qcow2_extent next;
	int rc;

	g[0].filled = g[1].filled = false;
	x->len = 0;
	for (int n = 0; n < LOOK && x->len < len; n++) {
		rc = look(q, g, off + x->len, &next, e);
		if (rc != 0)
			goto err;
		if (n == 0)
			*x = next;
		else if (goes_on(x, &next))
			x->len += next.len;
		else
			break;
	}
	if (x->len > len)
		x->len = len;
	if (x->kind == QCOW2_DATA && !within(q->data, x->host, x->len)) {
		rc = beyond(q->data, "a cluster", x->host, e);
		goto err;
	}
	/* How long a packed cluster is is only known to its last sector. */
	if (x->kind == QCOW2_COMPRESSED && x->host >= q->file->size) {
		rc = beyond(q->file, "a compressed cluster", x->host, e);
		goto err;
	}
	return 0;
err:
	if (e != NULL && rc == ERR_CORRUPT)
		err_prefix(e, "%s", q->file->path);
	return rc;
}

int
qcow2_unpack(struct qcow2 *q, const struct qcow2_extent *x, uint8_t *data,
    size_t len, struct err *e)
{
	size_t cluster = (size_t)1 << q->h.cluster_bits;
	/* A whole cluster can be unpacked where it is wanted. */
	bool direct = x->inner == 0 && len == cluster;
	uint8_t *packed = xmalloc(x->packed_len), *out = data;
	int rc;

	if (!direct)
		out = xmalloc(cluster);
	rc = imgfile_read(q->file, packed, x->packed_len, x->host, e);
	if (rc != 0)
		goto out;
	rc = qcow2_inflate(
	    q->h.compression, packed, x->packed_len, out, cluster);
	if (rc != 0)
		err_set(e, rc,
		    "%s: the compressed cluster at offset %llu is damaged",
		    q->file->path, (unsigned long long)x->host);
	else if (!direct)
		memcpy(data, out + x->inner, len);
out:
	if (!direct)
		free(out);
	free(packed);
	return rc;
}
