/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/leaving.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/log.h"

void
leaving_init(struct leaving *l, struct serve *srv, const char *vm)
{
	*l = (struct leaving){ .srv = srv, .vm = vm };
}

int
leaving_add(struct leaving *l, const uint8_t id[BACKUP_ID_LEN], struct err *e)
{
	struct store_drop d = { .held = false };
	int rc;

	rc = guard_hide(l->srv->guard, l->vm, id, &d.held, e);
	if (rc != 0)
		return rc;
	memcpy(d.id, id, sizeof(d.id));
	l->drop = xrealloc(l->drop, (l->n + 1) * sizeof(*l->drop));
	l->drop[l->n++] = d;
	return 0;
}

void
leaving_incomplete(struct leaving *l, uint64_t before)
{
	struct catalog_cursor cur = { .incomplete = true };
	struct manifest m;

	memcpy(cur.vm, l->vm, strlen(l->vm) + 1);
	while (catalog_next(l->srv->catalog, &cur, &m) == 0 &&
	    strcmp(m.vm, l->vm) == 0)
		if (m.time < before)
			leaving_add(l, m.id, NULL);
}

int
leaving_drop(struct leaving *l, struct err *e)
{
	return store_drop(l->srv->store, l->drop, l->n, e);
}

/* The second half of a drop of what was held. */
static void
drop_again(struct serve *srv, const char *vm, const uint8_t id[BACKUP_ID_LEN])
{
	struct store_drop d = { .hidden = true };
	struct err e = { 0 };

	memcpy(d.id, id, sizeof(d.id));
	if (store_drop(srv->store, &d, 1, &e) != 0)
		/* It has its tombstone: the next start does it. */
		log_info("a deleted backup of %s gives its space back at the "
			 "next start of the daemon only: %s",
		    vm, e.text);
}

void
leaving_end(struct leaving *l, bool done)
{
	for (unsigned i = 0; i < l->n; i++)
		if (catalog_hidden(l->srv->catalog, l->vm, l->drop[i].id, done))
			drop_again(l->srv, l->vm, l->drop[i].id);
	if (done && l->n > 0)
		reclaimer_wake(l->srv->reclaimer);
	free(l->drop);
	l->drop = NULL;
	l->n = 0;
}

void
leaving_release(
    struct serve *srv, const char *vm, const uint8_t id[BACKUP_ID_LEN])
{
	if (!catalog_release(srv->catalog, vm, id))
		return;
	drop_again(srv, vm, id);
	serve_dropped(srv);
}
