/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inifile: files of settings: [sections], KEY = VALUE, comments; every fault
 * told with its line.  The only user of inih.  Pure.
 */
#ifndef PROTO_BASE_INIFILE_H
#define PROTO_BASE_INIFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"

struct inifile {
	/* Set by the caller: */
	const char *path;     /* as faults name it */
	const char *sections; /* "[daemon] or [vm PATTERN]", to tell people */
	struct buf *wrong;    /* a line for each fault */
	/* What stands between the brackets. */
	void (*section)(void *arg, const char *name);
	/* Which section it stands in the caller remembers. */
	void (*key)(void *arg, const char *name, const char *value);
	void *arg;

	unsigned line; /* the one that is told of, from 1 */

	/* inifile.c's: */
	const char *at, *end;
	bool open; /* this line is a key's, and inih has not said so */
};

/** inifile_read(f, text, len): all lines of it, one after the other. */
void inifile_read(struct inifile *f, const char *text, size_t len);

/** inifile_wrong(f, fmt, ...): "PATH:LINE: ...", of the line under way. */
void inifile_wrong(struct inifile *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** inifile_complain(wrong, fmt, ...): one more line, printable. */
void inifile_complain(struct buf *wrong, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** inifile_distance(a, b): how many characters to add, to take out or to change
 * (Levenshtein): to find the word that was meant.  32: too many. */
unsigned inifile_distance(const char *a, const char *b);

/** inifile_comment(text, out): words as lines of a comment. */
void inifile_comment(const char *text, struct buf *out);

#endif
