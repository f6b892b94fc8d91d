/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/subtree.h"

#include <stdlib.h>

#include "repo/store/joined.h"

enum {
	/* Nodes are few, and lie in few packs, but far apart where those have
	 * seen many days. */
	SPARE = 16 << 20,
	LOOKUP_MAX = 4 * NODE_FANOUT /* ids at once */
};

struct loader {
	struct store *s;
	struct store_lane *l;
	unsigned level;
	struct node *node;
};

/* One that a joined read had or not: then by itself, it may have moved, or
 * have a twin. */
static int
see_node(
    void *arg, const struct wanted *w, const uint8_t *payload, struct err *e)
{
	struct loader *o = arg;
	struct node *n = &o->node[w->at];
	struct id got;

	if (payload != NULL) {
		hasher_node(o->l->hasher, payload, w->place.stored_len, &got);
		if (id_equal(&got, w->id) &&
		    node_parse(payload, w->place.stored_len, n, NULL) == 0 &&
		    n->level == o->level)
			return 0;
	}
	return store_read_node(o->s, o->l, w->id, o->level, n, e);
}

/* Where they lie; one that is nowhere is for see_node to miss. */
static int
look_up(struct store *s, struct wanted *w, uint32_t n, struct err *e)
{
	struct index_entry *x = xmalloc(LOOKUP_MAX * sizeof(*x));
	struct id *ids = xmalloc(LOOKUP_MAX * sizeof(*ids));
	int rc = 0;

	for (uint32_t i = 0, k; rc == 0 && i < n; i += k) {
		k = n - i < LOOKUP_MAX ? n - i : LOOKUP_MAX;
		for (uint32_t m = 0; m < k; m++)
			ids[m] = *w[i + m].id;
		rc = index_get_many(s->index, ids, k, x);
		for (uint32_t m = 0; rc == 0 && m < k; m++)
			if (x[m].place.pack != 0)
				w[i + m].place = x[m].place;
	}
	free(ids);
	free(x);
	return rc == 0 ? 0 : err_set(e, rc, "the index cannot be read");
}

/* All nodes of a level, whose parents are there. */
static int
load_level(struct store *s, struct store_lane *l, const struct id *root,
    struct subtree *t, unsigned level, struct err *e)
{
	struct loader o = { .s = s, .l = l, .level = level };
	struct wanted *w = xmalloc(t->n[level] * sizeof(*w));
	uint32_t n = 0;
	int rc;

	o.node = t->node[level];
	for (uint32_t i = 0; i < t->n[level]; i++) {
		uint64_t index = t->first[level] + i;
		const struct node *up =
		    subtree_node(t, level + 1, index / NODE_FANOUT);
		const struct id *id = root;

		if (up != NULL && index % NODE_FANOUT >= up->n)
			continue; /* trailing holes are not there */
		if (up != NULL)
			id = &up->child[index % NODE_FANOUT];
		if (!id_is_hole(id))
			w[n++] = (struct wanted){ .at = i, .id = id };
	}
	rc = look_up(s, w, n, e);
	if (rc == 0) {
		joined_sort(w, n);
		rc = joined_read(s, l, w, n, joined_bounds(w, n, SPARE),
		    RECORD_NODE, see_node, &o, e);
	}
	free(w);
	return rc;
}

static void
make_level(struct subtree *t, unsigned level, uint64_t slice, uint32_t n)
{
	uint64_t span = node_span(level);

	t->first[level] = slice / span;
	t->n[level] = (uint32_t)((slice + n - 1) / span - slice / span) + 1;
	t->node[level] = xcalloc(t->n[level], sizeof(struct node));
}

int
subtree_load(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, struct subtree *out,
    struct err *e)
{
	unsigned top =
	    node_root_level(chunk_nslices(size, s->format.chunk_size));
	int rc = 0;

	*out = (struct subtree){ .n = { 0 } };
	if (n <= NODE_FANOUT) {
		make_level(out, 0, slice, n);
		for (uint32_t i = 0; rc == 0 && i < out->n[0]; i++)
			rc = store_tree_node(s, l, root, size, 0,
			    out->first[0] + i, &out->node[0][i], e);
		return rc;
	}
	for (unsigned level = top + 1; rc == 0 && level-- > 0;) {
		make_level(out, level, slice, n);
		rc = load_level(s, l, root, out, level, e);
	}
	return rc;
}

void
subtree_free(struct subtree *t)
{
	for (unsigned i = 0; i <= NODE_LEVEL_MAX; i++)
		free(t->node[i]);
}

const struct node *
subtree_node(const struct subtree *t, unsigned level, uint64_t index)
{
	if (level > NODE_LEVEL_MAX || index < t->first[level] ||
	    index - t->first[level] >= t->n[level])
		return NULL;
	return &t->node[level][index - t->first[level]];
}
