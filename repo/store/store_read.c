/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: nodes from the root down, and slices in joined reads. */
#include <stdlib.h>

#include "proto/base/log.h"
#include "proto/base/fault.h"
#include "repo/store/store_impl.h"

enum {
	RANGE_MAX = 4 << 20, /* of one joined read */
	GAP_MAX = 1 << 20    /* cheaper to read than to seek over */
};

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

/* A record that cannot be read is damage; a system that fails is not. */
static void
found_damage(
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
			found_damage(s, id, &x, e->code);
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

int
store_tree_node(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, unsigned level, uint64_t index, struct node *out,
    struct err *e)
{
	uint64_t nslices = chunk_nslices(size, s->format.chunk_size);
	unsigned at = nslices > 0 ? node_root_level(nslices) : 0;
	struct id id = *root;

	if (level > at || (at < NODE_LEVEL_MAX && index >= node_span(at)) ||
	    index * node_span(level) >= nslices)
		return err_set(e, ERR_INVAL, "no such place in the volume");
	for (;; at--) {
		struct node *n = &l->path.node[at];
		uint64_t child;

		if (id_is_hole(&id)) {
			*out = (struct node){ .level = (uint8_t)level };
			return 0;
		}
		if (!id_equal(&l->path.id[at], &id)) {
			int rc = store_read_node(s, l, &id, at, n, e);

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
		id = n->child[child]; /* beyond n->n they are holes */
	}
}

struct wanted {
	uint64_t slice;
	struct id id;
	struct place place;
};

static int
by_place(const void *a, const void *b)
{
	const struct place *x = &((const struct wanted *)a)->place;
	const struct place *y = &((const struct wanted *)b)->place;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static uint64_t
place_end(const struct place *p)
{
	return (uint64_t)p->off + RECORD_HEADER_LEN + p->stored_len;
}

/* Which chunks those slices are, and where they lie. */
static int
find_slices(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, struct wanted *want,
    uint32_t *nwant, struct err *e)
{
	struct index_entry entry[NODE_FANOUT];
	struct id ids[NODE_FANOUT];
	uint64_t end = slice + n;
	struct node leaf;
	int rc;

	*nwant = 0;
	while (slice < end) {
		struct wanted *first = want + *nwant;
		unsigned k = 0;

		rc = store_tree_node(
		    s, l, root, size, 0, slice / NODE_FANOUT, &leaf, e);
		if (rc != 0)
			return rc;
		do {
			unsigned i = (unsigned)(slice % NODE_FANOUT);

			if (i < leaf.n && !id_is_hole(&leaf.child[i])) {
				ids[k] = leaf.child[i];
				first[k].id = ids[k];
				first[k++].slice = slice;
			}
		} while (++slice < end && slice % NODE_FANOUT != 0);
		rc = index_get_many(s->index, ids, k, entry);
		if (rc != 0)
			return err_set(e, rc, "the index cannot be read");
		for (unsigned i = 0; i < k; i++) {
			if (entry[i].place.pack == 0)
				return err_set(e, ERR_CORRUPT,
				    "slice %llu is not in the index",
				    (unsigned long long)first[i].slice);
			first[i].place = entry[i].place;
		}
		*nwant += k;
	}
	return 0;
}

/* One record by itself, after the joined read failed: it may have moved. */
static int
read_alone(
    struct store *s, struct store_lane *l, struct wanted *w, struct err *e)
{
	struct index_entry x;
	int rc;

	rc = pack_read(s->packs, &w->place, RECORD_CHUNK, &w->id, &l->payload);
	while (rc != 0) {
		struct place tried = w->place;
		int why = rc;

		rc = index_get(s->index, &w->id, &x);
		if (rc != 0 && rc != ERR_NOENT)
			return err_set(e, rc, "the index cannot be read");
		if (rc == 0 && x.place.pack == tried.pack &&
		    x.place.off == tried.off)
			found_damage(s, &w->id, &x, why);
		if (rc == 0 && why == ERR_SYS)
			return err_set(e, ERR_SYS,
			    "pack %08x cannot be read; see the daemon's log",
			    tried.pack);
		if (rc == ERR_NOENT ||
		    (x.place.pack == tried.pack && x.place.off == tried.off))
			return err_set(e, ERR_CORRUPT,
			    "slice %llu is damaged in the repository (pack "
			    "%08x at %u)",
			    (unsigned long long)w->slice, tried.pack,
			    tried.off);
		w->place = x.place;
		rc = pack_read(
		    s->packs, &w->place, RECORD_CHUNK, &w->id, &l->payload);
	}
	return 0;
}

static int
visit_run(struct store *s, struct store_lane *l, struct wanted *w, uint32_t n,
    store_slice_visit *visit, void *arg, struct err *e)
{
	uint64_t from = w[0].place.off;
	uint64_t len = 0;
	bool read;

	for (uint32_t i = 0; i < n; i++)
		if (place_end(&w[i].place) - from > len)
			len = place_end(&w[i].place) - from;
	read = pack_read_range(
		   s->packs, w[0].place.pack, from, (size_t)len, l->range) == 0;
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *at = l->range + (w[i].place.off - from);
		const uint8_t *data = at + RECORD_HEADER_LEN;
		int rc;

		if (!read ||
		    pack_check(s->packs, &w[i].place, RECORD_CHUNK, &w[i].id,
			at) != 0) {
			rc = read_alone(s, l, &w[i], e);
			if (rc != 0)
				return rc;
			data = l->payload.data;
		}
		rc = visit(arg, w[i].slice, w[i].place.codec,
		    w[i].place.raw_len, data, w[i].place.stored_len, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
store_read_slices(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, store_slice_visit *visit,
    void *arg, struct err *e)
{
	uint64_t nslices = chunk_nslices(size, s->format.chunk_size);
	struct wanted *want;
	uint32_t nwant, i, k;
	int rc;

	if (slice >= nslices || n > nslices - slice)
		return err_set(e, ERR_INVAL, "no such slices in the volume");
	want = xmalloc(n * sizeof(*want));
	rc = find_slices(s, l, root, size, slice, n, want, &nwant, e);
	if (rc != 0)
		goto out;
	fault_pass(FAULT_READ_PLACED);
	if (l->range == NULL)
		l->range = aligned_new(
		    RANGE_MAX + RECORD_HEADER_LEN + RECORD_STORED_MAX);
	qsort(want, nwant, sizeof(*want), by_place);
	for (i = 0; i < nwant; i = k) {
		const struct place *first = &want[i].place;
		uint64_t end = place_end(first);

		for (k = i + 1; k < nwant; k++) {
			const struct place *p = &want[k].place;

			if (p->pack != first->pack || p->off > end + GAP_MAX ||
			    place_end(p) - first->off > RANGE_MAX)
				break;
			if (place_end(p) > end)
				end = place_end(p);
		}
		rc = visit_run(s, l, want + i, k - i, visit, arg, e);
		if (rc != 0)
			break;
	}
out:
	free(want);
	return rc;
}
