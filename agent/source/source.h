/* SPDX-License-Identifier: Apache-2.0 */
/* source: what a volume is read from, one interface for all kinds. */
#ifndef AGENT_SOURCE_SOURCE_H
#define AGENT_SOURCE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct source;

struct source_ops {
	int (*read)(struct source *s, void *data, size_t len, uint64_t off,
	    struct err *e);
	int (*map)(struct source *s, uint64_t off, uint64_t *len, bool *hole,
	    struct err *e);
	int (*clean)(struct source *s, uint64_t off, uint64_t *len, bool *clean,
	    struct err *e); /* NULL: nothing is known to be clean */
	/* NULL: it is held against writers. */
	int (*still)(struct source *s, struct err *e);
	void (*close)(struct source *s);
};

/* What every source begins with; the kind's own struct embeds it first. */
struct source {
	const struct source_ops *ops;
	uint64_t size;      /* bytes a guest sees; set before start */
	const char *format; /* "raw", "qcow2": told in the manifest */
	/* Format facts worth keeping for a restore; 0 where there are none. */
	uint32_t cluster_size;
};

/**
 * source_open(spec, out, e): open "PATH", "raw:PATH" or "qcow2:PATH" for
 * reading; PATH is a regular file, also by nfs://HOST/EXPORT/PATH, or a block
 * device.
 *
 * Without a prefix the format is found by the magic at its start.  A guest can
 * write that magic into a raw disk of its own, so an image that names further
 * files (backing, external data) is then refused; "qcow2:" allows them.
 *
 * ERR_NOENT, ERR_DENIED (permissions), ERR_BUSY (somebody writes to it),
 * ERR_UNSUP (encrypted, unknown feature), ERR_CORRUPT, ERR_INVAL, ERR_LIMIT,
 * ERR_CLOSED (the NFS server does not answer), ERR_SYS.  The text names the
 * file and says what to do.
 */
int source_open(const char *spec, struct source **out, struct err *e);

/**
 * source_open_chain(path, place, arg, out, e): a qcow2 image, and nothing else,
 * whose backing images are where ${place} says (see chain_open_by).
 */
typedef int source_place(
    void *arg, const char *image, const char *name, char **out, struct err *e);
int source_open_chain(const char *path, source_place *place, void *arg,
    struct source **out, struct err *e);

/** source_open_as(spec, name, out, e): as source_open; messages say ${name} in
 * place of the path, which tells nobody anything. */
int source_open_as(
    const char *spec, const char *name, struct source **out, struct err *e);

/**
 * source_open_vmdk(path, name, out, e): a streamOptimized VMDK, as an OVA has
 * it.  source_open never takes a file for one.  As source_open_as, but
 * ERR_INVAL where it is damaged, also of source_read.
 */
int source_open_vmdk(
    const char *path, const char *name, struct source **out, struct err *e);

/** source_path(spec): that file or device, without what says the format. */
const char *source_path(const char *spec);

/**
 * source_open_bitmap(spec, bitmap, out, why, len, e): as source_open; of a
 * qcow2 image that holds the persistent dirty bitmap ${bitmap}, source_clean
 * tells what that says.  Where it cannot be relied on the source opens all the
 * same, and ${why} of ${len} bytes has the reason, for a person; else "".
 * Bitmaps of backing images are not looked for.
 */
int source_open_bitmap(const char *spec, const char *bitmap,
    struct source **out, char *why, size_t len, struct err *e);

/**
 * source_read(s, data, len, off, e): exactly ${len} bytes of the guest's view;
 * off + len <= size.  Any number of threads at once.  ERR_SYS, ERR_CORRUPT.
 */
int source_read(
    struct source *s, void *data, size_t len, uint64_t off, struct err *e);

/**
 * source_map(s, off, &len, &hole, e): from ${off} (< size) on, ${len} > 0
 * bytes read as zeroes without being read (*hole), or may hold data.  Never
 * past the end.  Any number of threads.  ERR_SYS, ERR_CORRUPT.
 */
int source_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e);

/**
 * source_clean(s, off, &len, &clean, e): from ${off} (< size) on, ${len} > 0
 * bytes are known to be as they were when the parent was taken (*clean), or
 * that is not known.  Never past the end.  Any number of threads.  ERR_SYS,
 * ERR_CORRUPT, and of a source behind a socket ERR_TIMEOUT, ERR_CLOSED.
 */
int source_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e);

/** source_still(s, e): when all was read: ERR_BUSY if what could not be held
 * against writers was written to meanwhile; as source_read. */
int source_still(struct source *s, struct err *e);

/** source_close(s): NULL is nothing. */
void source_close(struct source *s);

#endif
