/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qstream: a qcow2 image as export writes them (FORMAT.md 10), out of a member
 * of an archive, read once and forward.  One thread at a time.
 */
#ifndef AGENT_ARCHIVE_QSTREAM_H
#define AGENT_ARCHIVE_QSTREAM_H

#include <stdbool.h>

#include "agent/archive/arcin.h"
#include "agent/archive/digest.h"

struct qstream;

enum qstream_kind { QSTREAM_NONE, QSTREAM_ZERO, QSTREAM_DATA };

/**
 * qstream_open(a, d, size, out, e): ${a} stands at the begin of the member,
 * and ${d} is told all of its bytes; both stay the caller's.  ${size}: of the
 * disk.  ERR_INVAL: it is no such image, or of another size; as arcin_read.
 */
int qstream_open(struct arcin *a, struct digest *d, uint64_t size,
    struct qstream **out, struct err *e);
void qstream_free(struct qstream *q);

/** qstream_map(q, off, &len, &kind, e): what is at ${off} for ${len} > 0 bytes;
 * QSTREAM_DATA also where it is not known before more was read.  In order, as
 * qstream_read(q, data, len, off, e), which is for QSTREAM_DATA and reads what
 * turns out to be none as zeroes; *none: some of it is QSTREAM_NONE. */
int qstream_map(struct qstream *q, uint64_t off, uint64_t *len,
    enum qstream_kind *kind, struct err *e);
int qstream_read(struct qstream *q, void *data, size_t len, uint64_t off,
    bool *none, struct err *e);

/** qstream_end(q, e): the rest of the member, for its checksum. */
int qstream_end(struct qstream *q, struct err *e);

#endif
