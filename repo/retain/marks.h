/* SPDX-License-Identifier: Apache-2.0 */
/*
 * marks: what people said of single backups: protected, and why; locked for
 * longer.  They are kept by the backup's id in REPO/marks.json (FORMAT.md 8),
 * apart from manifests, which never change.  Any thread.
 *
 * A file that is damaged, or older than one that was there before, does not
 * tell what is protected: until it is mended everything is.
 */
#ifndef REPO_RETAIN_MARKS_H
#define REPO_RETAIN_MARKS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/manifest.h"

#define MARKS_FILE "marks.json"

enum {
	MARKS_MAX = 100000, /* marks, 300 to 700 bytes each in the file */
	MARKS_FILE_MAX = 128 << 20,
	MARK_NOTE_MAX = 255
};

struct mark {
	uint8_t id[BACKUP_ID_LEN];
	bool is_protected;
	char note[MARK_NOTE_MAX + 1];
	char by[NAME_PART_MAX + 1]; /* name of a key: who protected it */
	uint64_t at;                /* and when, by the repository's time */
	uint64_t locked_until;      /* 0: no longer than its manifest says */
};

struct marks;

/**
 * marks_open(dirfd, least, out): ${dirfd} stays the caller's and outlives it;
 * ${least}: the greatest number that marks_set told.  Always opens; see
 * marks_doubt.
 */
struct marks *marks_open(int dirfd, uint64_t least);
void marks_close(struct marks *m);

/** marks_doubt(m, why): false; or the file does not tell what is protected, and
 * why, for a person: ERR_TEXT_MAX bytes, or NULL. */
bool marks_doubt(struct marks *m, char *why);

/** marks_get(m, id, out): what was said of it; all zero but the id: nothing. */
void marks_get(
    struct marks *m, const uint8_t id[BACKUP_ID_LEN], struct mark *out);

/**
 * marks_set(m, x, n, now, &number, e): in place of what was said of those
 * ${n} backups; durable on return, else as before.  Of others only locks that
 * ended before ${now} are forgotten.  ${number} is greater than any before:
 * to be kept elsewhere.  Refused while there is doubt: ERR_CORRUPT;
 * ERR_LIMIT, ERR_NOSPC, ERR_SYS.
 */
int marks_set(struct marks *m, const struct mark *x, unsigned n, uint64_t now,
    uint64_t *number, struct err *e);

/** marks_mend(m, x, n, now, &number, e): the same where there is doubt, which
 * ends; of what the file said all that could be read stays, but for the ${n}.
 */
int marks_mend(struct marks *m, const struct mark *x, unsigned n, uint64_t now,
    uint64_t *number, struct err *e);

/** mark_note_ok(s): short enough, and without control characters. */
bool mark_note_ok(const char *s);

#endif
