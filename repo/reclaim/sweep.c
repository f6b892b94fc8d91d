/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/reclaim/sweep.h"

#include <stdlib.h>

#include "proto/base/fault.h"
#include "repo/store/store_impl.h"

/* A visit's way to end the listing; no code of err.h. */
enum { LOT_FULL = 1000 };

struct lot {
	struct store *s;
	struct ledger_dying *d;
	struct index_entry *entry;
	struct id *ids;
	unsigned n;
	uint64_t below; /* the horizon when they were listed */
	struct buf payload;
};

static int
see_dying(void *arg, uint64_t stamp, const struct id *id)
{
	struct lot *l = arg;

	if (l->n == SWEEP_LOT)
		return LOT_FULL;
	l->d[l->n++] = (struct ledger_dying){ .id = *id, .stamp = stamp };
	return 0;
}

static int
by_id(const void *a, const void *b)
{
	const struct ledger_dying *x = a, *y = b;

	return memcmp(x->id.b, y->id.b, ID_LEN);
}

/*
 * The children of a node that goes lose a reference.  Read here, outside of
 * the ledger; a node never changes.  One that cannot be read keeps its key and
 * its place until it is healed (rule 21).
 */
static bool
read_children(
    struct lot *l, struct ledger_dying *d, const struct index_entry *x)
{
	struct node n;

	if (pack_read(l->s->packs, &x->place, RECORD_NODE, &d->id,
		&l->payload) != 0 ||
	    node_parse(l->payload.data, l->payload.len, &n, NULL) != 0)
		return false;
	d->children = xmalloc(n.n * sizeof(struct id));
	for (unsigned i = 0; i < n.n; i++)
		if (!id_is_hole(&n.child[i]))
			d->children[d->nchildren++] = n.child[i];
	return true;
}

/* One lot: 0 with how many keys went, or ERR_CLOSED, ERR_SYS. */
static int
sweep_lot(struct lot *l, struct sweep_result *out, unsigned *ngone)
{
	struct ledger_removed removed;
	unsigned keep = 0;
	int rc;

	qsort(l->d, l->n, sizeof(*l->d), by_id);
	for (unsigned i = 0; i < l->n; i++)
		l->ids[i] = l->d[i].id;
	rc = index_get_many(l->s->index, l->ids, l->n, l->entry);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < l->n; i++) {
		const struct index_entry *x = &l->entry[i];

		/* Only a node that may go is worth reading; the ledger decides
		 * over all, and takes away the keys that mean nothing. */
		if (x->place.pack != 0 && x->kind == RECORD_NODE &&
		    x->refs == 0 && x->stamp == l->d[i].stamp &&
		    (x->flags & INDEX_UNCOUNTED) == 0 &&
		    !read_children(l, &l->d[i], x))
			continue;
		l->d[keep++] = l->d[i];
	}
	l->n = keep;
	fault_pass(FAULT_SWEEP_READ);
	rc = ledger_remove(l->s->ledger, l->d, l->n, l->below, &removed);
	for (unsigned i = 0; i < l->n; i++)
		free(l->d[i].children);
	*ngone = removed.keys;
	out->entries += removed.entries;
	out->bytes += removed.bytes;
	return rc;
}

int
sweep(struct store *s, atomic_bool *stop, struct sweep_result *out)
{
	struct lot l = { .s = s };
	unsigned ngone;
	int rc;

	l.d = xmalloc(SWEEP_LOT * sizeof(*l.d));
	l.ids = xmalloc(SWEEP_LOT * sizeof(*l.ids));
	l.entry = xmalloc(SWEEP_LOT * sizeof(*l.entry));
	do {
		l.n = 0;
		ngone = 0;
		l.below = ledger_horizon(s->ledger);
		rc = index_dying_each(s->index, 0, l.below, see_dying, &l);
		if (rc == LOT_FULL)
			rc = 0;
		if (rc == 0 && l.n > 0)
			rc = sweep_lot(&l, out, &ngone);
	} while (rc == 0 && ngone > 0 && !atomic_load(stop));
	buf_fini(&l.payload);
	free(l.entry);
	free(l.ids);
	free(l.d);
	return rc;
}
