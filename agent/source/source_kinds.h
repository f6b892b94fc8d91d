/* SPDX-License-Identifier: Apache-2.0 */
/* source_kinds: how each kind of source is opened; only for source.c. */
#ifndef AGENT_SOURCE_SOURCE_KINDS_H
#define AGENT_SOURCE_SOURCE_KINDS_H

#include "agent/image/imgfile.h"
#include "agent/source/source.h"

/** source_raw_new(f): takes over ${f}; the bytes as they lie there. */
struct source *source_raw_new(struct imgfile *f);

/**
 * source_qcow2_open(f, follow, out, e): takes over ${f} also when it fails.
 * Unless ${follow}, an image that names further files is refused.
 * Results as source_open.
 */
int source_qcow2_open(
    struct imgfile *f, bool follow, struct source **out, struct err *e);

/**
 * source_qcow2_bitmap(s, name, why, len): source_clean of ${s}, which is of
 * source_qcow2_open, tells what its bitmap ${name} says.  As bitmaps_open: if
 * not, ${why} has the reason.  Before ${s} is used.
 */
void source_qcow2_bitmap(
    struct source *s, const char *name, char *why, size_t len);

#endif
