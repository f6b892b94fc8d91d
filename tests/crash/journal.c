/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/journal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/io.h"

struct note {
	uint8_t what;
	uint8_t id[BACKUP_ID_LEN];
	uint64_t at; /* how long the log was */
};

enum { PAGE = 4096 };

static int watched = -1; /* set before it is used */

void
journal_watch(int log)
{
	watched = log;
}

static bool
is_answer(enum journal_what what)
{
	return what != JOURNAL_COMMIT && what != JOURNAL_DROP &&
	    what != JOURNAL_REBUILD;
}

/* Behind all that was ever written to it: zeroes that a file system asks for
 * (as ext4's lazy initialisation does) are holes in the midst of the log. */
static uint64_t
log_length(void)
{
	off_t at = 0, data;

	while ((data = lseek(watched, at, SEEK_DATA)) != -1)
		at = lseek(watched, data, SEEK_HOLE);
	return (uint64_t)at;
}

void
journal_note(int fd, enum journal_what what, const uint8_t *id)
{
	struct note n = { .what = (uint8_t)what };

	if (id != NULL)
		memcpy(n.id, id, sizeof(n.id));
	if (watched != -1) {
		/* It is told in pages: never too early for an answer, never
		 * too late for a question. */
		n.at = log_length();
		if (!is_answer(what))
			n.at = n.at > PAGE ? n.at - PAGE : 0;
	}
	if (write(fd, &n, sizeof(n)) != (ssize_t)sizeof(n))
		abort();
}

struct journal_backup *
journal_find(struct journal *j, const uint8_t *id)
{
	for (unsigned i = 0; i < j->n; i++)
		if (memcmp(j->backup[i].id, id, BACKUP_ID_LEN) == 0)
			return &j->backup[i];
	return NULL;
}

static void
read_one(struct journal *j, const struct note *n)
{
	struct journal_backup *b = journal_find(j, n->id);

	switch ((enum journal_what)n->what) {
	case JOURNAL_COMMIT: j->unanswered++; return;
	case JOURNAL_REFUSED: j->unanswered--; return;
	case JOURNAL_REBUILD: j->rebuilding = true; return;
	case JOURNAL_REBUILT: j->rebuilding = false; return;
	case JOURNAL_COMMITTED:
		j->unanswered--;
		if (j->n == JOURNAL_BACKUPS_MAX)
			abort();
		b = &j->backup[j->n++];
		memset(b, 0, sizeof(*b));
		memcpy(b->id, n->id, sizeof(b->id));
		return;
	default: break;
	}
	/* One that a start brought to light may be dropped too. */
	if (b == NULL) {
		b = &j->backup[j->n++];
		memset(b, 0, sizeof(*b));
		memcpy(b->id, n->id, sizeof(b->id));
	}
	b->dropping = n->what == JOURNAL_DROP;
	b->dropped = b->dropped || n->what == JOURNAL_DROPPED;
}

void
journal_read(int fd, uint64_t upto, struct journal *j)
{
	struct note n;

	memset(j, 0, sizeof(*j));
	for (uint64_t at = 0;; at += sizeof(n)) {
		if (pread_full(fd, &n, sizeof(n), at) != (ssize_t)sizeof(n))
			break;
		if (n.at <= upto)
			read_one(j, &n);
	}
}

uint64_t
journal_first(int fd)
{
	struct note n;

	for (uint64_t at = 0;; at += sizeof(n)) {
		if (pread_full(fd, &n, sizeof(n), at) != (ssize_t)sizeof(n))
			return UINT64_MAX;
		if (n.what == JOURNAL_COMMITTED)
			return n.at;
	}
}
