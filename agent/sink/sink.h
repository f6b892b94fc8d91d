/* SPDX-License-Identifier: Apache-2.0 */
/* sink: what a volume is restored to, one interface for all kinds. */
#ifndef AGENT_SINK_SINK_H
#define AGENT_SINK_SINK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct sink;
struct target;

struct sink_ops {
	int (*write)(struct sink *s, const void *data, size_t len, uint64_t off,
	    struct err *e);
	int (*finish)(struct sink *s, struct err *e);
	void (*close)(struct sink *s);
};

/* What every sink begins with; the kind's own struct embeds it first. */
struct sink {
	const struct sink_ops *ops;
	uint64_t size;
	int fd;                     /* what is written; -1: on NFS */
	struct target *target;      /* its file; NULL: it is a device */
	_Atomic uint64_t unflushed; /* bytes since writeback was last started */
};

struct sink_options {
	const char *path;
	const char *format;    /* "qcow2" or "raw" */
	uint64_t size;         /* bytes of the volume */
	uint32_t cluster_size; /* of a qcow2; 0: 64 KiB */
	bool force;            /* may replace what is there */
	bool held; /* sink_finish leaves the file under its temporary name,
		      for swap_run */
};

/**
 * sink_open(o, out, e): a regular file is written under a temporary name in
 * the same folder, so the target is never half written.  A block device
 * (raw only) is written in place, needs ${force}, must be unmounted, unused
 * and large enough, and is zeroed where the volume has holes.  A file on an NFS
 * export (path: nfs://HOST/EXPORT/PATH) is no other, but has no locks, and
 * cannot be ${held}.
 *
 * ERR_EXIST (and no force), ERR_NOSPC (device too small, or the file system
 * cannot have a file that large; holes take no room, so more is not asked in
 * advance), ERR_BUSY (somebody uses the target, or restores to it), ERR_NOENT
 * (no folder), ERR_DENIED, ERR_INVAL, ERR_LIMIT (cluster_size too small for
 * ${size}), ERR_UNSUP (held, on NFS), ERR_CLOSED (the NFS server does not
 * answer; also of all calls below), ERR_SYS.
 */
int sink_open(const struct sink_options *o, struct sink **out, struct err *e);

/** sink_no_swap(path, e): why a file on NFS cannot be held; ERR_UNSUP. */
int sink_no_swap(const char *path, struct err *e);

/**
 * sink_write(s, data, len, off, e): each byte at most once, in any order, from
 * any number of threads.  What is never written reads as zeroes.  ${off} is a
 * multiple of 64 KiB, ${len} too but for the volume's last bytes.  All-zero
 * data need not be written.  ERR_NOSPC, ERR_SYS.
 */
int sink_write(
    struct sink *s, const void *data, size_t len, uint64_t off, struct err *e);

/**
 * sink_finish(s, e): all writers are done: write what is left of the format,
 * sync, rename over the target, sync the folder.  Once.  ERR_NOSPC, ERR_EXIST
 * (somebody made the target meanwhile, and no force), ERR_SYS.
 */
int sink_finish(struct sink *s, struct err *e);

/** sink_close(s): unless finished, the temporary file goes.  NULL: nothing. */
void sink_close(struct sink *s);

#endif
