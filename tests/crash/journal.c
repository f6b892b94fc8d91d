/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/journal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/io.h"

struct note {
	uint8_t what;
	uint8_t id[BACKUP_ID_LEN];
};

void
journal_note(int fd, enum journal_what what, const uint8_t *id)
{
	struct note n = { .what = (uint8_t)what };

	if (id != NULL)
		memcpy(n.id, id, sizeof(n.id));
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
	for (uint64_t at = 0; at + sizeof(n) <= upto; at += sizeof(n)) {
		if (pread_full(fd, &n, sizeof(n), at) != (ssize_t)sizeof(n))
			break;
		read_one(j, &n);
	}
}
