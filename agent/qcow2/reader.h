/* SPDX-License-Identifier: Apache-2.0 */
/* reader: one qcow2 image, without what its backing image adds. */
#ifndef AGENT_QCOW2_READER_H
#define AGENT_QCOW2_READER_H

#include "agent/image/imgfile.h"
#include "agent/qcow2/metacache.h"
#include "agent/qcow2/tables.h"

/* Constant after open. */
struct qcow2 {
	struct qcow2_header h;
	struct imgfile *file;
	struct imgfile *data; /* ${file}, or the external data file */
	struct metacache *cache;
};

/**
 * qcow2_open(q, f, cache, e): decode and check the header of ${f}.  The caller
 * goes on to own both, and sets ${q}->data where the header asks for it.
 * ERR_CORRUPT, ERR_UNSUP, ERR_LIMIT, ERR_SYS.
 */
int qcow2_open(
    struct qcow2 *q, struct imgfile *f, struct metacache *cache, struct err *e);

/**
 * qcow2_map(q, off, len, x, e): what this image has at ${off}, for ${len} > 0
 * bytes at most, all within its size.  Neighbours that go on alike (data: at
 * following places) are joined as far as a bounded look goes.  Any thread.
 * ERR_CORRUPT, ERR_SYS.
 */
int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len,
    struct qcow2_extent *x, struct err *e);

/**
 * qcow2_unpack(q, x, data, len, e): ${len} bytes from the beginning of the
 * compressed extent ${x}.  Any thread.  ERR_CORRUPT, ERR_SYS.
 */
int qcow2_unpack(struct qcow2 *q, const struct qcow2_extent *x, uint8_t *data,
    size_t len, struct err *e);

#endif
