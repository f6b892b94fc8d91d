/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume: where packs lie.  The store knows packs by number only; a local
 * folder is the first implementation, others follow behind the same calls.
 *
 * Any number of threads may use one volume and one file at once.
 */
#ifndef REPO_STORE_VOLUME_H
#define REPO_STORE_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/base/err.h"

/* A pack's name: its number, and whether a failed sync condemned it. */
struct volume_name {
	uint32_t number;
	bool poisoned;
};

struct volume;
struct volume_file;

struct volume_ops {
	int (*create)(
	    struct volume *v, uint32_t number, struct volume_file **out);
	int (*open)(struct volume *v, uint32_t number, bool writing,
	    struct volume_file **out);
	int (*each)(struct volume *v,
	    int (*visit)(void *arg, const struct volume_name *name), void *arg);
	int (*remove)(struct volume *v, uint32_t number);
	int (*poison)(struct volume *v, uint32_t number);
	int (*space)(struct volume *v, uint64_t *avail, uint64_t *total);
	void (*close)(struct volume *v);
};

struct volume_file_ops {
	int (*reserve)(struct volume_file *f, uint64_t upto);
	int (*write)(
	    struct volume_file *f, struct iovec *iov, int n, uint64_t off);
	int (*flush)(struct volume_file *f, uint64_t off, uint64_t len);
	int (*sync)(struct volume_file *f);
	int (*read)(struct volume_file *f, struct iovec *iov, int n,
	    uint64_t off, size_t *got);
	int (*size)(struct volume_file *f, uint64_t *size);
	int (*cut)(struct volume_file *f, uint64_t size);
	void (*note_cache)(struct volume_file *f); /* or NULL, as the next */
	void (*forget)(struct volume_file *f);
	void (*close)(struct volume_file *f);
};

struct volume {
	const struct volume_ops *ops;
};

struct volume_file {
	const struct volume_file_ops *ops;
};

/**
 * volume_dir_init(dirfd, e): make the folder "packs" in the repository's.
 * volume_dir_open(dirfd, out, e): a volume over it; ${dirfd} stays the
 * caller's.  ERR_NOENT, ERR_SYS.
 */
int volume_dir_init(int dirfd, struct err *e);
int volume_dir_open(int dirfd, struct volume **out, struct err *e);

struct volume_nfs_options {
	unsigned
	    patience_ms; /* for a server that does not answer; 0: default */
	bool make;       /* the folders of the path */
};

/**
 * volume_nfs_open(url, dirfd, o, out, e): packs in the folder that ${url} names
 * (proto/nfs/nfs3.h), with the lease of the repository ${dirfd}.  What was
 * written waits for a server that is away without end, other calls as long as
 * patience lasts: ERR_SYS then.  ERR_BUSY: another daemon has these packs.
 */
int volume_nfs_open(const char *url, int dirfd,
    const struct volume_nfs_options *o, struct volume **out, struct err *e);

/** volume_create: a new empty pack, opened for writing.  It and the folders
 * made for it are durable after the first volume_sync of the file.  ERR_EXIST,
 * ERR_NOSPC, ERR_SYS. */
int volume_create(struct volume *v, uint32_t number, struct volume_file **out);

/** volume_open: a pack that is there, poisoned or not.  Writing is for sealing
 * after a crash only.  ERR_NOENT, ERR_SYS. */
int volume_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out);

/** volume_each: every pack, in no order; a visit's result other than 0 ends it
 * and is returned.  Foreign files are ignored with a warning.  ERR_SYS. */
int volume_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg);

/** volume_remove: durable on return.  ERR_NOENT, ERR_SYS. */
int volume_remove(struct volume *v, uint32_t number);

/** volume_poison: rename to ".poisoned", durably; open files stay usable. */
int volume_poison(struct volume *v, uint32_t number);

/** volume_space: bytes that may still be written, and in all. */
int volume_space(struct volume *v, uint64_t *avail, uint64_t *total);

void volume_close(struct volume *v);

/** volume_reserve: make sure that the file can grow to ${upto} bytes without
 * running out of space; its size stays.  ERR_NOSPC (nothing changed), ERR_SYS.
 */
int volume_reserve(struct volume_file *f, uint64_t upto);

/** volume_write: all parts one after another at ${off}; ${iov} is used up.
 * Packs only ever write at their end.  ERR_NOSPC, ERR_SYS. */
int volume_write(struct volume_file *f, struct iovec *iov, int n, uint64_t off);

/** volume_flush: start writing that range to disk, without waiting; a hint. */
int volume_flush(struct volume_file *f, uint64_t off, uint64_t len);

/** volume_sync: all that was written is durable, the file's name and folders
 * included.  A failure says nothing about what is on disk and is never
 * retried: ERR_SYS, ERR_NOSPC. */
int volume_sync(struct volume_file *f);

/** volume_read: up to ${len} bytes; fewer only at the end.
 * ERR_CORRUPT: the disk cannot read it; ERR_NOENT: it was removed meanwhile,
 * and the volume has no files without a name; ERR_SYS. */
int volume_read(
    struct volume_file *f, void *data, size_t len, uint64_t off, size_t *got);

/** volume_readv: the same into all parts one after another; at most IOV_MAX of
 * them; ${iov} is used up. */
int volume_readv(
    struct volume_file *f, struct iovec *iov, int n, uint64_t off, size_t *got);

int volume_size(struct volume_file *f, uint64_t *size);

/** volume_cut: to ${size} bytes, and give back what was reserved beyond. */
int volume_cut(struct volume_file *f, uint64_t size);

/**
 * volume_note_cache(f): before all of it is read once; one thread.
 * volume_forget(f): what has been read since need not stay in the cache, but
 * for what was in it before.  Hints.
 */
void volume_note_cache(struct volume_file *f);
void volume_forget(struct volume_file *f);

void volume_file_close(struct volume_file *f);

#endif
