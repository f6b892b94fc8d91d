/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nfs3: a folder of an NFSv3 export, without a mount and without root, by the
 * raw calls of libnfs.
 *
 * libnfs has no threads, and its files do not compare the server's write
 * verifier.  So each connection has a thread of its own here, which carries
 * any number of calls at once, and nfs3_file keeps what it wrote until the
 * server has said, with the same verifier, that it is on disk.
 *
 * A server that is gone or stalled is waited for: connections are made anew,
 * calls are sent again.  A call that was sent twice may find its own work done;
 * those below see to that.  Any thread may use all of this.
 */
#ifndef PROTO_NFS_NFS3_H
#define PROTO_NFS_NFS3_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

enum {
	NFS3_FH_MAX = 64,
	NFS3_NAME_MAX = 255,
	NFS3_PATH_MAX = 1024,
	NFS3_IO_SIZE = 256 << 10,
	NFS3_IO_MAX =
	    1 << 20, /* bytes of a read or write; libnfs has no more */
	NFS3_WAY_MAX = 32 << 20, /* of all calls under way */
	NFS3_PATIENCE_MS = 300000
};

/* A file or folder, as the server calls it; good over restarts of both. */
struct nfs3_fh {
	uint32_t len;
	char data[NFS3_FH_MAX];
};

struct nfs3_attr {
	bool dir;
	bool regular;
	uint32_t mode;
	uint32_t uid, gid;
	uint64_t size;
	uint64_t used; /* bytes on disk */
	uint64_t fileid;
	uint64_t mtime_ns;
};

/* nfs://HOST/PATH?nfsport=N&mountport=N&uid=N&gid=N&version=3 */
struct nfs3_url {
	char host[NFS3_NAME_MAX + 1];
	char path[NFS3_PATH_MAX + 1]; /* begins with '/' */
	int nfsport;                  /* 0: ask the port mapper */
	int mountport;
	int uid, gid; /* -1: those of this process */
};

bool nfs3_is_url(const char *text);

/** nfs3_url_parse(text, out, e): ERR_INVAL says what is not understood;
 * ERR_UNSUP: another version than 3. */
int nfs3_url_parse(const char *text, struct nfs3_url *out, struct err *e);

/** nfs3_url_split(u, name): cut the last part of the path off, into ${name},
 * of NFS3_NAME_MAX + 1 bytes.  ERR_INVAL: there is none. */
int nfs3_url_split(struct nfs3_url *u, char *name, struct err *e);

struct nfs3;

struct nfs3_options {
	unsigned patience_ms; /* how long a call waits for a server; 0: the
				 above */
	bool make;            /* folders of the path that are missing */
	bool bounded; /* what changes names and sizes is given up, too: what
			 became of it is then not known */
};

/** nfs3_open(u, o, out, e): find the folder of that path.  The longest part of
 * it that the server lets us mount is mounted.  ERR_NOENT, ERR_DENIED,
 * ERR_TIMEOUT, ERR_SYS, with the reason. */
int nfs3_open(const struct nfs3_url *u, const struct nfs3_options *o,
    struct nfs3 **out, struct err *e);

/** nfs3_close(n): no call is under way.  NULL is nothing. */
void nfs3_close(struct nfs3 *n);

const struct nfs3_fh *nfs3_root(const struct nfs3 *n);

/** nfs3_patience(n, ms): from the next call on.  nfs3_deadline(n): now_ms() at
 * which a call that begins now is given up. */
void nfs3_patience(struct nfs3 *n, unsigned ms);
uint64_t nfs3_deadline(struct nfs3 *n);

/**
 * nfs3_changes_until(n, ms): from now_ms() ${ms} on nothing is sent, or sent
 * again, that changes something, and what is under way then is cut off, so that
 * it does not arrive later; it waits until ${ms} is set anew.  UINT64_MAX, as
 * at first: no end.  0: all of that, and what comes, is given up: ERR_BUSY.
 */
void nfs3_changes_until(struct nfs3 *n, uint64_t ms);

/** nfs3_hurry(n, ms): so long from now on every call is given up, also of what
 * would wait without end: ERR_TIMEOUT. */
void nfs3_hurry(struct nfs3 *n, unsigned ms);

/** nfs3_trouble(n, out, len): why the server cannot be reached, for a person;
 * "" if nothing is known against it since it last answered. */
const char *nfs3_trouble(struct nfs3 *n, char *out, size_t len);

/*
 * Calls.  They answer 0; ERR_NOENT, ERR_EXIST, ERR_NOSPC (or over quota),
 * ERR_DENIED, ERR_CORRUPT (the server's disk cannot read it), ERR_CLOSED (what
 * the handle led to is gone: removed, or not exported any more); ERR_TIMEOUT:
 * the server did not answer for as long as patience lasts; ERR_BUSY: see
 * nfs3_changes_until; ERR_SYS: else, logged.
 * What they change is durable when they answer.
 */
int nfs3_lookup(struct nfs3 *n, const struct nfs3_fh *dir, const char *name,
    struct nfs3_fh *out, struct nfs3_attr *attr);
int nfs3_getattr(
    struct nfs3 *n, const struct nfs3_fh *fh, struct nfs3_attr *attr);

/** nfs3_mkdir: ERR_EXIST is not told: ${out} is then the one that is there. */
int nfs3_mkdir(struct nfs3 *n, const struct nfs3_fh *dir, const char *name,
    uint32_t mode, struct nfs3_fh *out);

/** nfs3_create: a new empty file; ERR_EXIST. */
int nfs3_create(struct nfs3 *n, const struct nfs3_fh *dir, const char *name,
    uint32_t mode, struct nfs3_fh *out);

bool nfs3_same(const struct nfs3_fh *a, const struct nfs3_fh *b);

/** nfs3_remove, nfs3_rename: unless the client is bounded they wait for the
 * server without end: half done, they would have to be done again anyway.
 * ${what}, or NULL: the file that is renamed, to tell whether a call that had
 * no answer has done it; without it, any file of that name will do. */
int nfs3_remove(struct nfs3 *n, const struct nfs3_fh *dir, const char *name);
int nfs3_rename(struct nfs3 *n, const struct nfs3_fh *from_dir,
    const char *from, const struct nfs3_fh *to_dir, const char *to,
    const struct nfs3_fh *what);

/** nfs3_truncate: without end, too. */
int nfs3_truncate(struct nfs3 *n, const struct nfs3_fh *fh, uint64_t size);

/** nfs3_put(n, fh, data, len): a small record at the beginning of a file,
 * durable.  It does not go by nfs3_changes_until: for the record of who may
 * change things. */
int nfs3_put(
    struct nfs3 *n, const struct nfs3_fh *fh, const void *data, uint32_t len);

/** nfs3_own(n, fh, like): owner, group and permissions as ${like} has them.
 * Whoever may not give files away still sets the permissions. */
int nfs3_own(
    struct nfs3 *n, const struct nfs3_fh *fh, const struct nfs3_attr *like);

/** nfs3_list: each name but "." and ".."; a visit's result other than 0 ends it
 * and is returned. */
int nfs3_list(struct nfs3 *n, const struct nfs3_fh *dir,
    int (*visit)(void *arg, const char *name), void *arg);

/** nfs3_space: bytes that this user may still write, beside what is on its way
 * already, and in all. */
int nfs3_space(struct nfs3 *n, uint64_t *avail, uint64_t *total);

#endif
