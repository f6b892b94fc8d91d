/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/backup_leaf.h"

#include <assert.h>
#include <string.h>

enum {
	PIECE = 512 << 10, /* hashed while the processor still has it near */
	HOLE_STEPS = 4096  /* then the lane looks to its other work */
};

static uint64_t
leaf_span(const struct backup *b)
{
	return (uint64_t)b->chunk_size * NODE_FANOUT;
}

/* Damage of the source is not damage of the store: another exit code. */
int
leaf_source_failed(const struct backup_volume *v, int rc, struct err *e)
{
	if (rc == ERR_CORRUPT)
		rc = ERR_INVAL;
	e->code = rc;
	return err_prefix(e, "disk %s", v->name);
}

int
leaf_hole_run(const struct backup *b, unsigned volume, uint64_t leaf,
    uint64_t *n, struct err *e)
{
	const struct backup_volume *v = &b->volume[volume];
	uint64_t off = leaf * leaf_span(b), len = 0;
	bool hole = false;
	int rc;

	*n = 0;
	rc = source_map(v->source, off, &len, &hole, e);
	if (rc != 0)
		return leaf_source_failed(v, rc, e);
	if (!hole)
		return 0;
	if (len >= v->source->size - off)
		*n = tree_nleaves(v->tree) - leaf;
	else
		*n = len / leaf_span(b);
	return 0;
}

uint64_t
leaf_bytes(const struct backup *b, unsigned volume, uint64_t leaf, uint64_t n)
{
	uint64_t size = b->volume[volume].source->size;
	uint64_t from = leaf * leaf_span(b), to = (leaf + n) * leaf_span(b);

	return n == 0 ? 0 : (to < size ? to : size) - from;
}

const struct slice_run *
leaf_damaged_run(const struct backup_volume *v, uint64_t slice)
{
	size_t from = 0, to = v->ndamaged;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (v->damaged[mid].first + v->damaged[mid].n > slice)
			to = mid;
		else
			from = mid + 1;
	}
	return from < v->ndamaged ? &v->damaged[from] : NULL;
}

static void
mark_damaged(struct leaf *l, const struct backup_volume *v)
{
	const struct slice_run *r = leaf_damaged_run(v, l->first);

	for (; r != NULL && r < v->damaged + v->ndamaged; r++) {
		uint64_t from = r->first > l->first ? r->first - l->first : 0;
		uint64_t to = r->first + r->n - l->first;

		for (; from < to && from < l->n; from++) {
			l->damaged[from / 8] |= (uint8_t)(1u << from % 8);
			l->any_damaged = true;
		}
		if (to >= l->n)
			break;
	}
}

void
leaf_init(
    struct leaf *l, const struct backup *b, unsigned volume, uint64_t index)
{
	uint64_t left;

	memset(l, 0, sizeof(*l));
	l->used = true;
	l->volume = volume;
	l->index = index;
	l->first = index * NODE_FANOUT;
	left = b->volume[volume].nslices - l->first;
	l->n = left < NODE_FANOUT ? (unsigned)left : NODE_FANOUT;
	mark_damaged(l, &b->volume[volume]);
}

uint32_t
window_slice_len(const struct window *w, const struct backup *b, unsigned i)
{
	const struct backup_volume *v = &b->volume[w->leaf->volume];

	return chunk_len(
	    v->source->size, b->chunk_size, w->leaf->first + w->at + i);
}

/* Which slices lie in holes whole; nobody asks about those of ${clean}. */
static int
map_holes(const struct window *w, const struct backup *b, const bool *clean,
    bool *hole, struct err *e)
{
	const struct backup_volume *v = &b->volume[w->leaf->volume];
	uint64_t cs = b->chunk_size, size = v->source->size;
	uint64_t start = (w->leaf->first + w->at) * cs;
	uint64_t end = start + w->n * cs, off = start, len, from, to;
	bool is_hole;
	int rc;

	if (end > size)
		end = size;
	memset(hole, 0, NODE_FANOUT * sizeof(*hole));
	for (; off < end; off += len) {
		if (clean[(off - start) / cs]) {
			len = cs - (off - start) % cs;
			continue;
		}
		rc = source_map(v->source, off, &len, &is_hole, e);
		if (rc != 0)
			return rc;
		assert(len > 0);
		if (len > end - off)
			len = end - off;
		if (!is_hole)
			continue;
		from = (off - start + cs - 1) / cs;
		to = off + len == size ? w->n : (off + len - start) / cs;
		for (; from < to; from++)
			hole[from] = !clean[from];
	}
	return 0;
}

/* Of the slices from ${i} to ${end}. */
static int
read_slices(const struct window *w, const struct backup *b, const bool *skip,
    unsigned i, unsigned end, uint64_t *nread, struct err *e)
{
	const struct backup_volume *v = &b->volume[w->leaf->volume];
	uint64_t cs = b->chunk_size;
	unsigned to;
	int rc;

	for (; i < end; i = to) {
		uint64_t off = (w->leaf->first + w->at + i) * cs;
		uint64_t len;

		for (to = i; to < end && skip[to] == skip[i]; to++)
			;
		if (skip[i])
			continue;
		len = (to - i) * cs;
		if (len > v->source->size - off)
			len = v->source->size - off;
		rc = source_read(
		    v->source, w->data + i * cs, (size_t)len, off, e);
		if (rc != 0)
			return rc;
		*nread += len;
	}
	return 0;
}

static bool
is_forced(const struct leaf *l, unsigned slice)
{
	return (l->force[slice / 8] & 1u << slice % 8) != 0;
}

static bool
is_damaged(const struct leaf *l, unsigned slice)
{
	return (l->damaged[slice / 8] & 1u << slice % 8) != 0;
}

static enum slice_kind
find_kind(const struct leaf *l, unsigned slice)
{
	const struct id *id = &l->node.child[slice];

	if (id_is_hole(id))
		return SLICE_HOLE;
	if (l->parent_state == PARENT_KNOWN && !is_forced(l, slice) &&
	    !is_damaged(l, slice) && id_equal(id, &l->parent.child[slice]))
		return SLICE_PARENT;
	/* 128 of them: a table would cost more than it saves. */
	for (unsigned i = 0; i < slice; i++)
		if (id_equal(id, &l->node.child[i]))
			return is_forced(l, slice) && !is_forced(l, i)
			    ? SLICE_FORCE
			    : SLICE_TWIN;
	if (is_forced(l, slice))
		return SLICE_FORCE;
	return SLICE_ASK;
}

static void
complete(struct window *w, const struct backup *b, struct hasher *h)
{
	struct leaf *l = w->leaf;
	uint8_t body[NODE_LEN_MAX];

	node_trim(&l->node);
	if (l->node.n == 0)
		return; /* its id is the hole's */
	/* Only the volume's last slice can be short; a hole is cut off. */
	l->node.tail = l->node.n == l->n &&
	    window_slice_len(w, b, w->n - 1) < b->chunk_size;
	hasher_node(h, body, node_print(&l->node, body), &l->id);
	w->reuse = l->attempt == 0 && !l->any_damaged &&
	    l->parent_state == PARENT_KNOWN && id_equal(&l->id, &l->parent_id);
}

/* Which slices are to be read (not ${skip}), and how the others are known. */
static int
map_window(const struct window *w, const struct backup *b, bool *skip,
    bool *clean, bool *sampled, struct err *e)
{
	int rc;

	rc = trust_slices(b, w->leaf, w->at, w->n, clean, sampled, e);
	if (rc == 0)
		rc = map_holes(w, b, clean, skip, e);
	for (unsigned i = 0; rc == 0 && i < w->n; i++)
		skip[i] = skip[i] || clean[i];
	return rc;
}

int
window_fill(struct window *w, struct backup *b, struct leaf *l,
    struct hasher *h, uint64_t *nread, struct err *e)
{
	unsigned most = BACKUP_WINDOW / b->chunk_size;
	unsigned piece = b->chunk_size < PIECE ? PIECE / b->chunk_size : 1;
	bool skip[NODE_FANOUT], clean[NODE_FANOUT], sampled[NODE_FANOUT];
	int rc;

	w->leaf = l;
	w->at = l->nfilled;
	w->n = l->n - l->nfilled < most ? l->n - l->nfilled : most;
	w->last = w->at + w->n == l->n;
	w->reuse = false;
	w->waiting = false;
	w->nask = 0;
	*nread = 0;
	rc = map_window(w, b, skip, clean, sampled, e);
	for (unsigned i = 0; rc == 0 && i < w->n; i++) {
		const uint8_t *data = w->data + (size_t)i * b->chunk_size;
		uint32_t len = window_slice_len(w, b, i);
		struct id *id = &l->node.child[w->at + i];
		const struct id *was = &l->parent.child[w->at + i];

		if (i % piece == 0)
			rc = read_slices(w, b, skip, i,
			    i + piece < w->n ? i + piece : w->n, nread, e);
		if (rc != 0)
			break;
		if (clean[i])
			*id = *was;
		else if (!skip[i] && !bytes_zero(data, len))
			hasher_chunk(h, data, len, id);
		if (sampled[i] && !id_equal(id, was))
			trust_lose(&b->trust, TRUST_CONDEMNED, l->volume,
			    l->first + w->at + i);
		w->kind[i] = (uint8_t)find_kind(l, w->at + i);
		if (w->kind[i] == SLICE_ASK)
			w->nask++;
	}
	if (rc != 0)
		return leaf_source_failed(&b->volume[l->volume], rc, e);
	l->nfilled += w->n;
	if (w->last)
		complete(w, b, h);
	return 0;
}

/* What was written where the parent has nothing is data: holes are told
 * without being read. */
static int
probe_hole(struct backup *b, unsigned volume, uint64_t slice, uint8_t *data,
    uint64_t *nread, struct err *e)
{
	const struct backup_volume *v = &b->volume[volume];
	uint32_t len = chunk_len(v->source->size, b->chunk_size, slice);
	uint64_t off = slice * b->chunk_size, run;
	bool hole;
	int rc;

	rc = source_map(v->source, off, &run, &hole, e);
	if (rc == 0 && hole && run >= len)
		return 0;
	if (rc == 0)
		rc = source_read(v->source, data, len, off, e);
	if (rc != 0)
		return leaf_source_failed(v, rc, e);
	*nread += len;
	if (!bytes_zero(data, len))
		trust_lose(&b->trust, TRUST_CONDEMNED, volume, slice);
	return 0;
}

int
leaf_probe(struct backup *b, const struct leaf *l, struct hasher *h,
    uint8_t *data, uint64_t *nread, struct err *e)
{
	const struct backup_volume *v = &b->volume[l->volume];
	int rc;

	*nread = 0;
	for (unsigned i = 0; i < l->n && !trust_is_lost(&b->trust); i++) {
		uint64_t slice = l->first + i;
		uint32_t len = chunk_len(v->source->size, b->chunk_size, slice);
		struct id id = { { 0 } };

		if ((l->sample[i / 8] & 1u << i % 8) == 0)
			continue;
		if (id_is_hole(&l->parent.child[i])) {
			rc = probe_hole(b, l->volume, slice, data, nread, e);
			if (rc != 0)
				return rc;
			continue;
		}
		rc =
		    source_read(v->source, data, len, slice * b->chunk_size, e);
		if (rc != 0)
			return leaf_source_failed(v, rc, e);
		*nread += len;
		if (!bytes_zero(data, len))
			hasher_chunk(h, data, len, &id);
		if (!id_equal(&id, &l->parent.child[i]))
			trust_lose(
			    &b->trust, TRUST_CONDEMNED, l->volume, slice);
	}
	return 0;
}

int
leaf_probe_holes(struct backup *b, const struct leaf *l, uint8_t *data,
    uint64_t *nread, struct err *e)
{
	const struct backup_volume *v = &b->volume[l->volume];
	uint64_t off = leaf_bytes(b, l->volume, 0, l->index);
	uint64_t end = leaf_bytes(b, l->volume, 0, l->index + l->nholes), len;
	unsigned steps = 0;
	bool hole;
	int rc;

	*nread = 0;
	for (; off < end && !trust_is_lost(&b->trust); off += len) {
		struct probe rest = { .volume = l->volume,
			.index = off / leaf_span(b) };

		if (++steps > HOLE_STEPS && rest.index > l->index) {
			rest.nholes = l->index + l->nholes - rest.index;
			probes_push(&b->probes, &rest);
			break;
		}
		rc = source_map(v->source, off, &len, &hole, e);
		if (rc != 0)
			return leaf_source_failed(v, rc, e);
		if (hole)
			continue;
		/* To the next slice. */
		len = b->chunk_size - off % b->chunk_size;
		if (!trust_sampled(&b->trust, l->volume, off / b->chunk_size))
			continue;
		rc = probe_hole(
		    b, l->volume, off / b->chunk_size, data, nread, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}
