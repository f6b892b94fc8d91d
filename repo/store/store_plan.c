/* SPDX-License-Identifier: Apache-2.0 */
/* Reading slices: which records they are in, and those in joined reads. */
#include <stdlib.h>

#include "proto/base/fault.h"
#include "repo/store/joined.h"
#include "repo/store/subtree.h"

struct store_plan {
	struct subtree tree; /* has the ids of what is wanted */
	uint32_t n;
	uint64_t bytes; /* of all records */
	struct wanted *want;
	struct joined bounds;
};

/* The chunks of the slices from *slice to the end of its leaf, or to ${end}. */
static int
add_leaf(struct store *s, struct store_plan *p, const struct node *leaf,
    uint64_t *slice, uint64_t end, struct err *e)
{
	struct wanted *first = p->want + p->n;
	struct index_entry entry[NODE_FANOUT];
	struct id ids[NODE_FANOUT];
	unsigned k = 0;
	int rc;

	do {
		unsigned i = (unsigned)(*slice % NODE_FANOUT);

		if (i < leaf->n && !id_is_hole(&leaf->child[i])) {
			ids[k] = leaf->child[i];
			first[k].id = &leaf->child[i];
			first[k++].at = *slice;
		}
	} while (++*slice < end && *slice % NODE_FANOUT != 0);
	rc = index_get_many(s->index, ids, k, entry);
	if (rc != 0)
		return err_set(e, rc, "the index cannot be read");
	for (unsigned i = 0; i < k; i++) {
		if (entry[i].place.pack == 0)
			return err_set(e, ERR_CORRUPT,
			    "slice %llu is not in the index",
			    (unsigned long long)first[i].at);
		first[i].place = entry[i].place;
		p->bytes += RECORD_HEADER_LEN + entry[i].place.stored_len;
	}
	p->n += k;
	return 0;
}

int
store_plan_new(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, struct store_plan **out,
    struct err *e)
{
	uint64_t nslices = chunk_nslices(size, s->format.chunk_size);
	uint64_t end = slice + n;
	struct store_plan *p;
	int rc;

	if (slice >= nslices || n > nslices - slice)
		return err_set(e, ERR_INVAL, "no such slices in the volume");
	p = xcalloc(1, sizeof(*p));
	p->want = xmalloc(n * sizeof(*p->want));
	rc = subtree_load(s, l, root, size, slice, n, &p->tree, e);
	while (rc == 0 && slice < end)
		rc = add_leaf(s, p,
		    subtree_node(&p->tree, 0, slice / NODE_FANOUT), &slice, end,
		    e);
	if (rc != 0) {
		store_plan_free(p);
		return rc;
	}
	joined_sort(p->want, p->n);
	p->bounds = joined_bounds(p->want, p->n, 0);
	*out = p;
	return 0;
}

void
store_plan_free(struct store_plan *p)
{
	if (p == NULL)
		return;
	free(p->want);
	subtree_free(&p->tree);
	free(p);
}

const struct node *
store_plan_node(const struct store_plan *p, unsigned level, uint64_t index)
{
	return subtree_node(&p->tree, level, index);
}

/* One record by itself, after the joined read failed: it may have moved. */
static int
read_alone(
    struct store *s, struct store_lane *l, struct wanted *w, struct err *e)
{
	struct index_entry x;
	int rc;

	rc = pack_read(s->packs, &w->place, RECORD_CHUNK, w->id, &l->payload);
	while (rc != 0) {
		struct place tried = w->place;
		int why = rc;

		rc = index_get(s->index, w->id, &x);
		if (rc != 0 && rc != ERR_NOENT)
			return err_set(e, rc, "the index cannot be read");
		if (rc == 0 && x.place.pack == tried.pack &&
		    x.place.off == tried.off)
			store_found_damage(s, w->id, &x, why);
		if (rc == 0 && why == ERR_SYS)
			return err_set(e, ERR_SYS,
			    "pack %08x cannot be read; see the daemon's log",
			    tried.pack);
		if (rc == ERR_NOENT ||
		    (x.place.pack == tried.pack && x.place.off == tried.off))
			return err_set(e, ERR_CORRUPT,
			    "slice %llu is damaged in the repository (pack "
			    "%08x at %u)",
			    (unsigned long long)w->at, tried.pack, tried.off);
		w->place = x.place;
		rc = pack_read(
		    s->packs, &w->place, RECORD_CHUNK, w->id, &l->payload);
	}
	return 0;
}

struct reader {
	struct store *s;
	struct store_lane *l;
	store_slice_visit *visit;
	void *arg;
};

static int
see_record(
    void *arg, const struct wanted *w, const uint8_t *payload, struct err *e)
{
	struct reader *r = arg;
	struct wanted alone = *w;
	int rc;

	if (payload == NULL) {
		rc = read_alone(r->s, r->l, &alone, e);
		if (rc != 0)
			return rc;
		payload = r->l->payload.data;
	}
	return r->visit(r->arg, w->at, alone.place.codec, alone.place.raw_len,
	    payload, alone.place.stored_len, e);
}

/* The bytes of an even part, and a record's, so that it is one read if it can
 * be. */
static struct joined
part_bounds(const struct store_plan *p, unsigned nparts)
{
	uint64_t even = p->bytes / nparts + p->bytes / (p->n + 1) + 1;
	struct joined j = p->bounds;

	if (j.most > even)
		j.most = even;
	return j;
}

int
store_plan_read(struct store *s, struct store_lane *l,
    const struct store_plan *p, unsigned part, unsigned nparts,
    store_slice_visit *visit, void *arg, struct err *e)
{
	struct reader r = { .s = s, .l = l, .visit = visit, .arg = arg };
	struct joined j = part_bounds(p, nparts);
	uint32_t from = 0, n = 0;
	uint64_t seen = 0;

	/* Whole reads: each is of the part that has its middle. */
	for (uint32_t i = 0, k; i < p->n; i += k) {
		uint64_t len = 0, at;

		k = joined_count(p->want + i, p->n - i, j);
		for (uint32_t m = i; m < i + k; m++)
			len += RECORD_HEADER_LEN + p->want[m].place.stored_len;
		at = (seen + len / 2) * nparts / p->bytes;
		seen += len;
		if (at > part)
			break;
		if (at < part)
			from = i + k;
		else
			n += k;
	}
	fault_pass(FAULT_READ_PLACED);
	return joined_read(
	    s, l, p->want + from, n, j, RECORD_CHUNK, see_record, &r, e);
}

int
store_read_slices(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t slice, uint32_t n, store_slice_visit *visit,
    void *arg, struct err *e)
{
	struct store_plan *p;
	int rc;

	rc = store_plan_new(s, l, root, size, slice, n, &p, e);
	if (rc != 0)
		return rc;
	rc = store_plan_read(s, l, p, 0, 1, visit, arg, e);
	store_plan_free(p);
	return rc;
}
