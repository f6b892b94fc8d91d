/* SPDX-License-Identifier: Apache-2.0 */
/* bitmaps: persistent dirty bitmaps of a qcow2 image that is not in use. */
#ifndef AGENT_QCOW2_BITMAPS_H
#define AGENT_QCOW2_BITMAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/qcow2/reader.h"

struct bitmap;

enum {
	BITMAPS_MAX = 65535, /* of an image; this and all below as QEMU */
	BITMAPS_NAME_MAX = 1023,
	BITMAPS_DIR_MAX = BITMAPS_MAX * 1024,
	BITMAPS_GRANULARITY_BITS_MIN = 9,
	BITMAPS_GRANULARITY_BITS_MAX = 31,
	BITMAPS_DATA_MAX = 512 << 20 /* bytes of one */
};

/**
 * bitmaps_open(q, name, why, len): the bitmap ${name} of ${q}, if it tells all
 * that was written since it was made.  ${q} must be open, and held against
 * writers, for as long as it is used.
 *
 * NULL if it is not there or not to be relied on (not saved, not recording,
 * damaged, of another size): then ${why} of ${len} bytes has the reason, for a
 * person.  What is damaged is told by this, not while it is used.
 */
struct bitmap *bitmaps_open(
    struct qcow2 *q, const char *name, char *why, size_t len);
void bitmaps_close(struct bitmap *b);

/** bitmaps_granularity(b): bytes of the disk that one bit stands for. */
uint64_t bitmaps_granularity(const struct bitmap *b);

/** bitmaps_clean(b, off, &len, &clean, e): as source_clean.  Any thread. */
int bitmaps_clean(
    struct bitmap *b, uint64_t off, uint64_t *len, bool *clean, struct err *e);

#endif
