/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/partial.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/serve/leaving.h"

enum {
	/* A delete goes down its trees level by level, and at each level waits
	 * for the starts of all sessions: for so long they move faster. */
	HURRY_MS = 120000
};

/* One takes the place of the one before. */
static int
publish(
    struct serve *srv, struct job *j, struct store_lane *tools, struct err *e)
{
	struct manifest m = j->manifest;
	struct leaving l;
	int rc;

	m.imported = false;
	m.time = catalog_next_time(srv->catalog, m.vm, (uint64_t)time(NULL));
	leaving_init(&l, srv, m.vm);
	/* Somebody may have deleted it: that harms nobody, since until the next
	 * one the session's start protects what it held. */
	if (j->has_partial)
		leaving_add(&l, j->partial, NULL);
	rc = store_checkpoint(j->session, tools, &m, l.drop, l.n, e);
	leaving_end(&l, rc == 0);
	if (rc != 0)
		return rc;
	catalog_add(srv->catalog, &m);
	j->has_partial = true;
	memcpy(j->partial, m.id, sizeof(j->partial));
	log_debug("job %" PRIu64 ": what it stored is safe", j->face.id);
	return 0;
}

static bool
is_wanted(struct serve *srv)
{
	uint64_t dropped = atomic_load(&srv->drop_ms);

	return dropped != 0 && now_ms() - dropped < HURRY_MS;
}

void
partial_tick(struct serve *srv, struct job *j, struct store_lane *tools)
{
	struct err e = { 0 };
	int rc;

	if (!store_checkpoint_due(j->session, is_wanted(srv)))
		return;
	rc = publish(srv, j, tools, &e);
	if (rc == 0 || rc == ERR_NOENT)
		reclaimer_wake(srv->reclaimer);
	else
		log_info("job %" PRIu64 ": what it stored until now would "
			 "have to be sent again: %s",
		    j->face.id, e.text);
}

void
partial_last(struct serve *srv, struct job *j)
{
	uint64_t until = atomic_load(&srv->until_ms);
	struct store_lane *tools;
	struct err e = { 0 };

	/* What was refused leaves nothing; a long one has its ticks. */
	if (j->manifest.imported || !store_checkpoint_wanted(j->session) ||
	    (until != 0 && now_ms() >= until))
		return;
	tools = store_lane_new(srv->store, domain_key(&j->domain));
	if (publish(srv, j, tools, &e) == 0)
		log_info("job %" PRIu64 ": what it stored is kept for the "
			 "next backup of %s",
		    j->face.id, j->face.vm);
	else
		log_debug("job %" PRIu64 ": what it stored is not kept: %s",
		    j->face.id, e.text);
	store_lane_free(tools);
}

static void
expire_of_vm(struct serve *srv, const char *vm, uint64_t before)
{
	struct err e = { 0 };
	struct leaving l;
	int rc;

	leaving_init(&l, srv, vm);
	leaving_incomplete(&l, before);
	if (l.n == 0)
		return;
	rc = leaving_drop(&l, &e);
	if (rc == 0)
		log_info("%s: %u interrupted backups were not taken up again "
			 "in time, and are forgotten",
		    vm, l.n);
	else
		log_info("%s: interrupted backups cannot be forgotten: %s", vm,
		    e.text);
	leaving_end(&l, rc == 0);
	if (rc == 0)
		serve_dropped(srv);
}

void
partial_expire(struct serve *srv)
{
	struct catalog_cursor cur = { .incomplete = true };
	uint64_t now = (uint64_t)time(NULL), before = 0;
	uint64_t keep = atomic_load(&srv->keep_incomplete);
	struct manifest m;

	if (keep == 0)
		before = UINT64_MAX; /* a time may lie a little ahead */
	else if (now > keep)
		before = now - keep;
	while (catalog_next(srv->catalog, &cur, &m) == 0) {
		expire_of_vm(srv, m.vm, before);
		cur.seq = UINT64_MAX;
	}
}
