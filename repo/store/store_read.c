/* SPDX-License-Identifier: Apache-2.0 */
/* Reading nodes, from the root down; slices are in store_plan.c. */
#include <string.h>

#include "proto/base/log.h"
#include "repo/store/joined.h"

int
store_node_at(struct store *s, struct store_lane *l, const struct id *id,
    const struct place *place, unsigned level, struct node *out, struct err *e)
{
	struct id got;
	int rc;

	rc = pack_read(s->packs, place, RECORD_NODE, id, &l->payload);
	if (rc != 0)
		return err_set(e, rc,
		    "a node in pack %08x at %u cannot be read", place->pack,
		    place->off);
	hasher_node(l->hasher, l->payload.data, l->payload.len, &got);
	if (!id_equal(&got, id) ||
	    node_parse(l->payload.data, l->payload.len, out, NULL) != 0 ||
	    out->level != level)
		return err_set(e, ERR_CORRUPT,
		    "a node in pack %08x at %u is not what was stored",
		    place->pack, place->off);
	return 0;
}

void
store_found_damage(
    struct store *s, const struct id *id, const struct index_entry *x, int code)
{
	if ((code != ERR_CORRUPT && code != ERR_NOENT) ||
	    (x->flags & INDEX_DAMAGED) != 0)
		return;
	log_error("pack %08x at %u: a %s is damaged", x->place.pack,
	    x->place.off, x->kind == RECORD_NODE ? "node" : "chunk");
	ledger_damaged(s->ledger, id, &x->place);
}

/*
 * A record may move under a reader.  A failed read counts only if a fresh
 * look-up still names the same place (rule 21).
 */
int
store_read_node(struct store *s, struct store_lane *l, const struct id *id,
    unsigned level, struct node *out, struct err *e)
{
	struct index_entry x;
	struct place tried = { 0 };
	int rc;

	for (;;) {
		rc = index_get(s->index, id, &x);
		if (rc != 0)
			return err_set(e, rc,
			    rc == ERR_NOENT ? "a node is not in the index"
					    : "the index cannot be read");
		if (x.place.pack == tried.pack && x.place.off == tried.off) {
			store_found_damage(s, id, &x, e->code);
			/* Whoever asks next shall know: nodes are few, and
			 * what a backup reuses hangs on them. */
			if (e->code == ERR_CORRUPT &&
			    (x.flags & INDEX_DAMAGED) == 0)
				ledger_settle(s->ledger);
			return e->code;
		}
		tried = x.place;
		rc = store_node_at(s, l, id, &x.place, level, out, e);
		if (rc == 0)
			return 0;
	}
}

/* A leaf of a joined read, if it is what its parent names. */
static int
see_leaf(
    void *arg, const struct wanted *w, const uint8_t *payload, struct err *e)
{
	struct store_lane *l = arg;
	struct leaf_group *g = l->group;
	struct id got;

	(void)e;
	if (payload == NULL)
		return 0;
	hasher_node(l->hasher, payload, w->place.stored_len, &got);
	g->have[w->at] = id_equal(&got, w->id) &&
	    node_parse(payload, w->place.stored_len, &g->leaf[w->at], NULL) ==
		0 &&
	    g->leaf[w->at].level == 0;
	return 0;
}

/* All leaves of ${parent} that can be had at once; what cannot is for who reads
 * it alone to find out. */
static const struct leaf_group *
load_group(struct store *s, struct store_lane *l, const struct id *id,
    const struct node *parent)
{
	struct index_entry entry[NODE_FANOUT];
	struct leaf_group *g = l->group;
	struct id ids[NODE_FANOUT];
	struct wanted w[NODE_FANOUT];
	unsigned n = 0, k = 0;

	if (g == NULL)
		l->group = g = xmalloc(sizeof(*g));
	g->of = *id;
	memset(g->have, 0, sizeof(g->have));
	for (unsigned i = 0; i < parent->n; i++)
		if (!id_is_hole(&parent->child[i])) {
			w[n].at = i;
			ids[n++] = parent->child[i];
		}
	if (index_get_many(s->index, ids, n, entry) != 0)
		return g;
	for (unsigned i = 0; i < n; i++)
		if (entry[i].place.pack != 0)
			w[k++] = (struct wanted){ .at = w[i].at,
				.id = &ids[i],
				.place = entry[i].place };
	joined_sort(w, k);
	joined_read(
	    s, l, w, k, joined_bounds(w, k, 0), RECORD_NODE, see_leaf, l, NULL);
	return g;
}

/* Whoever asks for a second leaf of ${parent} will want the others: NULL, or
 * the leaf. */
static const struct node *
from_group(struct store *s, struct store_lane *l, const struct id *id,
    const struct node *parent, unsigned child)
{
	const struct leaf_group *g = l->group;

	if (!id_equal(&l->group_of, id)) {
		l->group_of = *id;
		return NULL;
	}
	if (g == NULL || !id_equal(&g->of, id))
		g = load_group(s, l, id, parent);
	return g->have[child] ? &g->leaf[child] : NULL;
}

int
store_tree_place(struct store *s, uint64_t size, unsigned level, uint64_t index,
    uint64_t *slice, struct err *e)
{
	uint64_t nslices = chunk_nslices(size, s->format.chunk_size);
	unsigned top = nslices > 0 ? node_root_level(nslices) : 0;

	if (level > top || (top < NODE_LEVEL_MAX && index >= node_span(top)) ||
	    index * node_span(level) >= nslices)
		return err_set(e, ERR_INVAL, "no such place in the volume");
	*slice = index * node_span(level);
	return 0;
}

int
store_tree_node(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, unsigned level, uint64_t index, struct node *out,
    struct err *e)
{
	uint64_t nslices = chunk_nslices(size, s->format.chunk_size);
	unsigned at = nslices > 0 ? node_root_level(nslices) : 0;
	struct id id = *root;
	uint64_t slice;
	int rc;

	rc = store_tree_place(s, size, level, index, &slice, e);
	if (rc != 0)
		return rc;
	for (;; at--) {
		struct node *n = &l->path.node[at];
		uint64_t child;

		if (id_is_hole(&id)) {
			*out = (struct node){ .level = (uint8_t)level };
			return 0;
		}
		if (!id_equal(&l->path.id[at], &id)) {
			rc = store_read_node(s, l, &id, at, n, e);
			l->path.id[at] = id;
			if (rc != 0) {
				l->path.id[at] = (struct id){ { 0 } };
				return rc;
			}
		}
		if (at == level) {
			*out = *n;
			return 0;
		}
		child =
		    index * node_span(level) / node_span(at - 1) % NODE_FANOUT;
		if (at == 1 && !id_is_hole(&n->child[child])) {
			const struct node *leaf = from_group(
			    s, l, &l->path.id[1], n, (unsigned)child);

			if (leaf != NULL) {
				*out = *leaf;
				return 0;
			}
		}
		id = n->child[child]; /* beyond n->n they are holes */
	}
}
