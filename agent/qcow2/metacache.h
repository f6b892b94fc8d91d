/* SPDX-License-Identifier: Apache-2.0 */
/* metacache: recently used parts of images' tables, within bounded memory. */
#ifndef AGENT_QCOW2_METACACHE_H
#define AGENT_QCOW2_METACACHE_H

#include <stddef.h>
#include <stdint.h>

#include "agent/image/imgfile.h"

/*
 * One for all images of a chain.  Tables are looked at through it and never
 * held as a whole, so memory does not grow with the disk.
 */
struct metacache;

enum {
	METACACHE_SLICE = 16 << 10,
	METACACHE_WAYS = 4,
	METACACHE_SETS = 64, /* 4 MiB in all */
};

struct metacache *metacache_new(void);
void metacache_free(struct metacache *c);

/**
 * metacache_read(c, f, data, len, off, e): as imgfile_read, from the cache; the
 * bytes must not cross a multiple of METACACHE_SLICE.  Any thread.
 */
int metacache_read(struct metacache *c, struct imgfile *f, void *data,
    size_t len, uint64_t off, struct err *e);

#endif
