/* SPDX-License-Identifier: Apache-2.0 */
/* The examination of a store that was left by a crash. */
#include <stdio.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "repo/store/fsck.h"
#include "tests/crash/journal.h"
#include "tests/crash/world.h"

static void
say(void *arg, const char *line)
{
	fprintf(stderr, "fsck %s: %s\n", (const char *)arg, line);
}

static void
check(struct world *w, const char *when)
{
	struct fsck_options o = { .data = true };
	struct fsck_report r;
	struct err e = { 0 };
	char text[64];
	int rc;

	snprintf(text, sizeof(text), "%s", when);
	rc = fsck(w->dir, &o, say, text, &r, &e);
	if (rc != 0)
		world_wrong("fsck %s: %s", when, e.text);
	if (!fsck_clean(&r))
		world_wrong("fsck %s is not clean", when);
}

static bool
is_told(struct world *w, const uint8_t *id)
{
	for (unsigned i = 0; i < w->ntold; i++)
		if (memcmp(w->told[i].id, id, BACKUP_ID_LEN) == 0)
			return true;
	return false;
}

/* What an open store tells and holds, against the journal. */
static void
compare(struct world *w, struct journal *j, const char *when)
{
	unsigned unknown = 0;
	struct err e;

	for (unsigned i = 0; i < j->n; i++) {
		const struct journal_backup *b = &j->backup[i];
		bool told = is_told(w, b->id);

		if (b->dropped && told)
			world_wrong("%s: a deleted backup is back: %08x", when,
			    get_be32(b->id));
		if (!b->dropped && !b->dropping && !told)
			world_wrong("%s: an acknowledged backup is gone: "
				    "%08x",
			    when, get_be32(b->id));
	}
	for (unsigned i = 0; i < w->ntold; i++) {
		unknown += journal_find(j, w->told[i].id) == NULL;
		if (world_read(w, &w->told[i], &e) != 0)
			world_wrong("%s: %s %s: %s", when, w->told[i].vm,
			    w->told[i].volume[0].name, e.text);
	}
	if (unknown > j->unanswered)
		world_wrong("%s: %u backups that nobody committed, %u commits "
			    "have no answer",
		    when, unknown, j->unanswered);
}

static void
open_it(struct world *w, const char *when)
{
	if (world_open(w) != 0)
		world_wrong("%s: does not open", when);
}

static uint64_t
collected(struct world *w, const char *when)
{
	struct store_status st;
	int rc = world_gc(w);

	if (rc != 0)
		world_wrong("%s: gc: %s", when, err_name(rc));
	if (store_status(w->store, &st) != 0)
		world_wrong("%s: no status", when);
	/* What is open, and tombstones, are not worth a rewrite. */
	if (st.stored > 2 * st.live + 12 * (uint64_t)WORLD_PACK_LIMIT)
		world_wrong("%s: %llu bytes of packs for %llu that live", when,
		    (unsigned long long)st.stored, (unsigned long long)st.live);
	return st.unique_raw;
}

/* From here on what turned up counts as acknowledged, or as gone. */
static void
settle(struct world *w, struct journal *j)
{
	for (unsigned i = 0; i < j->n; i++) {
		if (j->backup[i].dropping)
			j->backup[i].dropped = !is_told(w, j->backup[i].id);
		j->backup[i].dropping = false;
	}
	for (unsigned i = 0; i < w->ntold; i++) {
		if (journal_find(j, w->told[i].id) != NULL)
			continue;
		memset(&j->backup[j->n], 0, sizeof(j->backup[0]));
		memcpy(j->backup[j->n++].id, w->told[i].id, BACKUP_ID_LEN);
	}
	j->unanswered = 0;
}

static void
delete_all(struct world *w, struct journal *j)
{
	for (unsigned i = 0; i < w->ntold; i++) {
		struct store_drop d = { .held = false };
		struct err e = { 0 };

		memcpy(d.id, w->told[i].id, sizeof(d.id));
		if (store_drop(w->store, &d, 1, &e) != 0)
			world_wrong("a backup cannot be deleted: %s", e.text);
		journal_find(j, d.id)->dropped = true;
	}
}

void
world_verify(struct world *w, uint64_t upto)
{
	struct journal j;
	uint64_t raw;

	journal_read(w->acks, upto, &j);
	/* Between its two renames a rebuild leaves no index; the start says
	 * what to do. */
	if (j.rebuilding && world_open(w) != 0 && world_rebuild(w) != 0)
		world_wrong("a rebuild cannot be done again");
	world_close(w);
	check(w, "after the crash");
	open_it(w, "after the crash");
	compare(w, &j, "after the crash");
	settle(w, &j);
	raw = collected(w, "after the crash");
	world_close(w);
	check(w, "after a start");
	if (world_rebuild(w) != 0)
		world_wrong("no rebuild");
	check(w, "after a rebuild");
	open_it(w, "after a rebuild");
	compare(w, &j, "after a rebuild");
	if (collected(w, "after a rebuild") != raw)
		world_wrong("the distinct bytes were counted wrong");
	delete_all(w, &j);
	if (collected(w, "when all is deleted") != 0)
		world_wrong("something is left when all is deleted");
	world_close(w);
	check(w, "when all is deleted");
	if (world_rebuild(w) != 0)
		world_wrong("no rebuild of nothing");
	open_it(w, "when all is deleted");
	compare(w, &j, "when all is deleted");
	if (w->ntold != 0)
		world_wrong("deleted backups came back with a rebuild");
	world_close(w);
}
