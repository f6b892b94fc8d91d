/* SPDX-License-Identifier: Apache-2.0 */
/* audit_impl: what appends and what checks share.  FORMAT.md 7. */
#ifndef REPO_AUDIT_AUDIT_IMPL_H
#define REPO_AUDIT_AUDIT_IMPL_H

#include <stddef.h>

#include "repo/audit/audit.h"

enum { AUDIT_HEAD_LEN = 256 };

/* audit.head. */
struct audit_head {
	bool there;
	uint64_t n;    /* number of the last line */
	uint64_t size; /* of the log, in bytes */
	char hash[AUDIT_HASH_LEN + 1];
};

/** audit_head_read(dirfd, out, e): one that makes no sense counts as not
 * there.  audit_head_write(dirfd, h, e): durable on return. */
int audit_head_read(int dirfd, struct audit_head *out, struct err *e);
int audit_head_write(int dirfd, const struct audit_head *h, struct err *e);

/** audit_hash(before, text, len, out): of a line, by the hash before it. */
void audit_hash(const char before[AUDIT_HASH_LEN + 1], const char *text,
    size_t len, char out[AUDIT_HASH_LEN + 1]);

/** audit_sum(data, len, out): SHA-256, as hex. */
void audit_sum(const void *data, size_t len, char out[AUDIT_HASH_LEN + 1]);

/* The hash before the first line. */
extern const char audit_none[AUDIT_HASH_LEN + 1];

/* Files that are full: the numbers of their last lines, ascending. */
struct audit_files {
	uint64_t *last;
	size_t n;
};

enum { AUDIT_NAME_MAX = 40 };

/** audit_files_list(dirfd, out, e): 0 or ERR_SYS.  audit_files_name(last,
 * name): "audit.log.LAST". */
int audit_files_list(int dirfd, struct audit_files *out, struct err *e);
void audit_files_fini(struct audit_files *f);
void audit_files_name(uint64_t last, char name[AUDIT_NAME_MAX]);

/** audit_files_end(dirfd, n, hash, e): number and hash of the line that
 * audit.log goes on behind: the last one of the newest full file; 0 and
 * audit_none where there is none.  A file that does not end with a line has
 * audit_none, which no line follows.  ERR_SYS. */
int audit_files_end(
    int dirfd, uint64_t *n, char hash[AUDIT_HASH_LEN + 1], struct err *e);

/* Where a scan is, and at its end what it has found. */
struct audit_scan {
	const char *file; /* how it is called */
	bool newest;      /* the head is of it */
	audit_visit *visit;
	audit_fault *fault;
	void *arg;
	struct audit_head head;
	const char *witness; /* a hash that must be met; or NULL */
	struct audit_report r;
	uint64_t line; /* of the file, from 1 on */
	bool met;      /* the head's line is where and what the head says */
	/* A line that is none; it may be the end that a crash tore. */
	uint64_t bad_line; /* 0: there is none */
	size_t bad_len;
	char bad_sum[AUDIT_HASH_LEN + 1];
	size_t rest;     /* bytes after the last newline */
	bool rest_sound; /* which lack only that */
	char rest_sum[AUDIT_HASH_LEN + 1];
};

/** audit_scan(fd, size, s, e): the first ${size} bytes; ${s} has file, newest,
 * visit, fault, arg and head set, maybe witness, and in r what the file before
 * it has left: last and hash. */
int audit_scan(int fd, uint64_t size, struct audit_scan *s, struct err *e);

#endif
