/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: REPO/audit.log: who did what to the repository.  FORMAT.md 7.
 *
 * A line of JSON for each deed, numbered and chained: each carries the SHA-256
 * of the hash of the line before and its own text.  REPO/audit.head has the
 * number, the hash and the length of the file, so that a cut at the end shows.
 * A file that has grown large becomes audit.log.N, N being its last line's
 * number, and the chain goes on in a new one.
 * Daemon and console append, one at a time by a lock on the file; any thread.
 */
#ifndef REPO_AUDIT_AUDIT_H
#define REPO_AUDIT_AUDIT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define AUDIT_FILE "audit.log"
#define AUDIT_HEAD "audit.head"

enum {
	AUDIT_LINE_MAX = 768 << 10,
	AUDIT_FULL = 16 << 20, /* a new file is begun */
	AUDIT_HASH_LEN = 64    /* hex */
};

struct audit_entry {
	const char *who;     /* name of a key, "uid 0", "daemon" */
	const char *from;    /* address, "console", or NULL */
	const char *op;      /* "delete", "restore", "key add", ... */
	json_t *what;        /* an object, borrowed; or NULL */
	const char *outcome; /* "begun", "done", "failed: why" */
	uint64_t of;         /* number of the "begun" that this ends, or 0 */
};

/**
 * audit_append(dirfd, a, number, e): durable on return.  What a crash left
 * behind is completed and noted first, as is a log that is not what its head
 * says.  ${number} may be NULL.  ERR_NOSPC, ERR_LIMIT (too long), ERR_SYS.
 */
int audit_append(
    int dirfd, const struct audit_entry *a, uint64_t *number, struct err *e);

/** audit_last(dirfd, number, e): of the last line; 0: there is none.  Waits for
 * nobody.  ERR_SYS. */
int audit_last(int dirfd, uint64_t *number, struct err *e);

/* What a check of the whole chain finds. */
struct audit_report {
	uint64_t lines; /* sound ones */
	uint64_t last;  /* number of the last one */
	char hash[AUDIT_HASH_LEN + 1];
	unsigned faults;
	unsigned torn; /* ends that a crash tore, and that were noted */
};

/* One sound line, as JSON; it is the callee's during the call. */
typedef void audit_visit(void *arg, json_t *line);
/* A fault, with its file and the line in it, for a person. */
typedef void audit_fault(
    void *arg, const char *file, uint64_t line, const char *text);

/**
 * audit_read(dirfd, visit, fault, arg, witness, out, e): all lines, checked on
 * the way; ${visit} and ${fault} may be NULL.  ${witness}: a hash that some
 * line must have, which somebody noted elsewhere; or NULL.  No log at all is an
 * empty one.  0 also with faults, which ${out} counts; ERR_SYS.
 */
int audit_read(int dirfd, audit_visit *visit, audit_fault *fault, void *arg,
    const char *witness, struct audit_report *out, struct err *e);

/** audit_read_newest(dirfd, visit, fault, arg, out, e): the same of audit.log
 * alone, behind what the file before it ends with: bounded by AUDIT_FULL. */
int audit_read_newest(int dirfd, audit_visit *visit, audit_fault *fault,
    void *arg, struct audit_report *out, struct err *e);

#endif
