/* SPDX-License-Identifier: Apache-2.0 */
/* journal: what was asked of a store, and what it acknowledged.  Each line is
 * in the file before anything else is asked; it lies outside of what fails. */
#ifndef TESTS_CRASH_JOURNAL_H
#define TESTS_CRASH_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/manifest.h"

enum { JOURNAL_BACKUPS_MAX = 256 };

enum journal_what {
	JOURNAL_COMMIT = 1, /* asked; the id is not known yet */
	JOURNAL_COMMITTED,
	JOURNAL_REFUSED, /* the commit that was asked last failed */
	JOURNAL_DROP,    /* asked */
	JOURNAL_DROPPED,
	JOURNAL_KEPT, /* the drop failed */
	JOURNAL_REBUILD,
	JOURNAL_REBUILT
};

void journal_note(int fd, enum journal_what what, const uint8_t *id);

struct journal_backup {
	uint8_t id[BACKUP_ID_LEN];
	bool dropping; /* asked, without an answer */
	bool dropped;
};

struct journal {
	struct journal_backup backup[JOURNAL_BACKUPS_MAX];
	unsigned n;
	unsigned unanswered; /* commits */
	bool rebuilding;
};

/** journal_watch(log): from here on each note says how long that file was: the
 * log of all writes to the disk.  journal_first(fd): how long at the first
 * answer. */
void journal_watch(int log);
uint64_t journal_first(int fd);

/** journal_read(fd, upto, j): what was asked and answered when the log was no
 * longer than ${upto}; UINT64_MAX: all. */
void journal_read(int fd, uint64_t upto, struct journal *j);

struct journal_backup *journal_find(struct journal *j, const uint8_t *id);

#endif
