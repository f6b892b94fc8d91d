/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/tables.h"

#include "proto/base/bytes.h"

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COMPRESSED (UINT64_C(1) << 62)
#define ALL_ZERO UINT64_C(1)
enum { SECTOR = 512 };

static int
bad(struct err *e, const char *what, uint64_t entry)
{
	return err_set(e, ERR_CORRUPT,
	    "damaged qcow2 tables: %s (entry 0x%016llx); see what qemu-img "
	    "check says",
	    what, (unsigned long long)entry);
}

int
qcow2_l1_decode(const struct qcow2_header *h, uint64_t entry,
    uint64_t *l2_offset, struct err *e)
{
	*l2_offset = entry & OFFSET_MASK;
	if ((*l2_offset & ((UINT64_C(1) << h->cluster_bits) - 1)) != 0)
		return bad(e, "an L2 table is not aligned", entry);
	return 0;
}

static int
compressed(const struct qcow2_header *h, uint64_t entry, uint32_t inner,
    struct qcow2_extent *x, struct err *e)
{
	uint32_t shift = 62 - (h->cluster_bits - 8);
	uint64_t sectors;

	if (h->data_file)
		return bad(e, "a compressed cluster beside a data file", entry);
	sectors = (entry & ~(COMPRESSED | QCOW2_COPIED)) >> shift;
	x->kind = QCOW2_COMPRESSED;
	x->host = entry & ((UINT64_C(1) << shift) - 1);
	x->packed_len =
	    (uint32_t)((sectors + 1) * SECTOR - (x->host & (SECTOR - 1)));
	x->inner = inner;
	return 0;
}

/* What subcluster ${i} is, where the cluster as a whole is ${plain}. */
static int
subcluster(uint64_t bitmap, uint32_t i, enum qcow2_kind plain)
{
	if ((bitmap >> 32 >> i & 1) != 0)
		return QCOW2_ZERO;
	if (plain == QCOW2_DATA && (bitmap >> i & 1) == 0)
		return QCOW2_UNALLOCATED;
	return (int)plain;
}

static int
extended(const struct qcow2_header *h, uint64_t entry, uint64_t bitmap,
    uint32_t inner, struct qcow2_extent *x, struct err *e)
{
	uint32_t bits = h->cluster_bits - 5, i = inner >> bits;
	enum qcow2_kind plain = x->kind;
	uint32_t alloc = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);
	uint32_t end;

	if (plain == QCOW2_UNALLOCATED && alloc != 0)
		return bad(e, "subclusters allocated nowhere", entry);
	if ((alloc & zero) != 0)
		return bad(e, "a subcluster both zero and allocated", entry);
	x->kind = (enum qcow2_kind)subcluster(bitmap, i, plain);
	for (end = i + 1; end < QCOW2_SUBCLUSTERS; end++)
		if (subcluster(bitmap, end, plain) != (int)x->kind)
			break;
	x->len = ((uint64_t)end << bits) - inner;
	return 0;
}

int
qcow2_l2_decode(const struct qcow2_header *h, const uint8_t *entry_bytes,
    uint32_t inner, struct qcow2_extent *x, struct err *e)
{
	uint64_t entry = get_be64(entry_bytes), host = entry & OFFSET_MASK;

	x->len = (UINT64_C(1) << h->cluster_bits) - inner;
	x->host = host + inner;
	x->packed_len = 0;
	x->inner = 0;
	if ((entry & COMPRESSED) != 0)
		return compressed(h, entry, inner, x, e);
	if ((host & ((UINT64_C(1) << h->cluster_bits) - 1)) != 0)
		return bad(e, "a cluster is not aligned", entry);
	/* Only in an external data file a cluster may lie at offset 0. */
	if (host != 0 || (h->data_file && (entry & QCOW2_COPIED) != 0))
		x->kind = QCOW2_DATA;
	else
		x->kind = QCOW2_UNALLOCATED;
	if (h->extended_l2)
		return extended(
		    h, entry, get_be64(entry_bytes + 8), inner, x, e);
	if ((entry & ALL_ZERO) != 0) {
		if (h->version < 3)
			return bad(e, "a zero cluster in version 2", entry);
		x->kind = QCOW2_ZERO;
	}
	return 0;
}
