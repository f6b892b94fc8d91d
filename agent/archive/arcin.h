/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arcin: an archive from outside, read once, forward.  The only user of
 * libarchive's reader.  One thread at a time.
 */
#ifndef AGENT_ARCHIVE_ARCIN_H
#define AGENT_ARCHIVE_ARCIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct arcin;

enum { ARCIN_NAME_MAX = 1023 };

/* 1990: what is said to be older is what packers say that know no time. */
#define ARCIN_MTIME_MIN UINT64_C(631152000)

struct arcin_member {
	char name[ARCIN_NAME_MAX + 1]; /* checked: relative, no "..", printable
					*/
	uint64_t size;                 /* with its holes */
	bool has_size;                 /* else it is known at its end only */
	uint64_t data;                 /* of ${size}, outside of its holes */
	uint64_t mtime;                /* seconds since 1970; 0: not told */
};

/**
 * arcin_open(fd, what, &a, e): ${fd} stays the caller's and may be a pipe;
 * ${what} is for messages.  *a is NULL where it is no archive at all: then
 * nothing is said about what was read.  ERR_SYS.
 */
int arcin_open(int fd, const char *what, struct arcin **out, struct err *e);
void arcin_close(struct arcin *a);

/**
 * arcin_next(a, e): go to the next regular file; what is left of the one
 * before is read and counted.  Folders are passed over.  ERR_NOENT: that was
 * the last.  ERR_UNSUP, without a text: it is no archive.  ERR_INVAL: damaged,
 * cut off, a name or a kind of member that is not taken; ERR_LIMIT; ERR_SYS.
 * arcin_member(a): where it stands; NULL: nowhere yet.
 */
int arcin_next(struct arcin *a, struct err *e);
const struct arcin_member *arcin_member(const struct arcin *a);

/** arcin_began(a): it had a member, or a folder. */
bool arcin_began(const struct arcin *a);

/**
 * arcin_read(a, data, len, off, e): exactly those bytes of the member; ${off}
 * is never before the end of the read before.  What lies between is passed
 * over.  Holes read as zeroes.  ERR_INVAL: it ends before; as arcin_next.
 */
int arcin_read(
    struct arcin *a, void *data, size_t len, uint64_t off, struct err *e);

/** arcin_map(a, off, &len, &hole, e): from ${off} on, which is as in
 * arcin_read, ${len} > 0 bytes are known to be in no block of the archive, or
 * may be data.  Reads no further than what was used up.  ERR_INVAL: the member
 * has no byte there. */
int arcin_map(
    struct arcin *a, uint64_t off, uint64_t *len, bool *hole, struct err *e);

/** arcin_drain(a, e): read to the end of the member, which must have the size
 * that it says. */
int arcin_drain(struct arcin *a, struct err *e);

/** arcin_text(a, max, out, e): the whole member, ERR_LIMIT over ${max}. */
struct buf;
int arcin_text(struct arcin *a, size_t max, struct buf *out, struct err *e);

/** arcin_fail(a, code, e, fmt...): with what it is about before it. */
int arcin_fail(const struct arcin *a, int code, struct err *e, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

#endif
