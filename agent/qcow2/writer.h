/* SPDX-License-Identifier: Apache-2.0 */
/* writer: a new qcow2 image (version 3, 16-bit refcounts), densely filled. */
#ifndef AGENT_QCOW2_WRITER_H
#define AGENT_QCOW2_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "agent/image/outfile.h"

struct qcow2_writer;

enum {
	QCOW2_CLUSTER_DEFAULT = 64 << 10,
	/* Writes begin at multiples of this. */
	QCOW2_WRITE_UNIT = 64 << 10
};

/**
 * qcow2_writer_new(f, size, cluster_size, out, e): write to ${f}, an empty file
 * open for reading and writing, which stays the caller's.  ${cluster_size} 0
 * means the default.  ${size} is rounded up to 512.  ERR_INVAL (no such cluster
 * size), ERR_LIMIT (too many clusters).
 */
int qcow2_writer_new(const struct outfile *f, uint64_t size,
    uint32_t cluster_size, struct qcow2_writer **out, struct err *e);

/** qcow2_writer_write(w, data, len, off, e): as sink_write.  Any thread. */
int qcow2_writer_write(struct qcow2_writer *w, const void *data, size_t len,
    uint64_t off, struct err *e);

/**
 * qcow2_writer_finish(w, e): the tables and the header; before it the file is
 * no image at all.  Once, writers done.  Does not sync.  As outfile_write.
 */
int qcow2_writer_finish(struct qcow2_writer *w, struct err *e);
void qcow2_writer_free(struct qcow2_writer *w);

#endif
