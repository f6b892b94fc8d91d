/* SPDX-License-Identifier: Apache-2.0 */
/* tables: what the entries of qcow2's L1 and L2 tables say.  Pure. */
#ifndef AGENT_QCOW2_TABLES_H
#define AGENT_QCOW2_TABLES_H

#include <stdint.h>

#include "agent/qcow2/header.h"

#define QCOW2_COPIED (UINT64_C(1) << 63) /* refcount is exactly one */

enum qcow2_kind {
	QCOW2_UNALLOCATED, /* as the backing image says, or zeroes */
	QCOW2_ZERO,
	QCOW2_DATA,      /* at ${host} of the data file */
	QCOW2_COMPRESSED /* the whole cluster, packed, at ${host} */
};

/* A stretch of the guest's disk within one image. */
struct qcow2_extent {
	enum qcow2_kind kind;
	uint64_t len;
	uint64_t host;
	uint32_t packed_len; /* compressed: how many bytes at most */
	uint32_t inner;      /* compressed: where in the cluster it begins */
};

/** qcow2_entry_len(h): bytes of one L2 entry. */
static inline uint32_t
qcow2_entry_len(const struct qcow2_header *h)
{
	return h->extended_l2 ? 16 : 8;
}

/**
 * qcow2_l1_decode(h, entry, l2_offset, e): where the L2 table lies; 0 if there
 * is none.  ERR_CORRUPT.
 */
int qcow2_l1_decode(const struct qcow2_header *h, uint64_t entry,
    uint64_t *l2_offset, struct err *e);

/**
 * qcow2_l2_decode(h, entry, inner, x, e): what lies at byte ${inner} of the
 * cluster described by the qcow2_entry_len bytes at ${entry}, and for how long
 * within that cluster.  ERR_CORRUPT.
 */
int qcow2_l2_decode(const struct qcow2_header *h, const uint8_t *entry,
    uint32_t inner, struct qcow2_extent *x, struct err *e);

#endif
