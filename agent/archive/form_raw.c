/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes themselves.  Where an archive can leave out holes it has to be
 * told of all of them first; there are never more than EXTENTS_MAX: the
 * smallest gaps are then written.
 */
#include <assert.h>
#include <stdlib.h>

#include "agent/archive/form.h"
#include "proto/base/buf.h"

enum { EXTENTS_MAX = 32768 };

struct form_raw {
	struct form f;
	bool sparse;
	struct arcout_extent *x;
	size_t n;
	uint64_t gap; /* shorter ones are no holes */
	uint64_t at;  /* all before was written */
};

static void
coarsen(struct form_raw *r)
{
	size_t to = 0;

	assert(r->x != NULL);
	r->gap = r->gap == 0 ? r->f.walk->chunk_size : 2 * r->gap;
	for (size_t i = 1; i < r->n; i++) {
		struct arcout_extent *last = &r->x[to];

		if (r->x[i].off - (last->off + last->len) <= r->gap)
			last->len = r->x[i].off + r->x[i].len - last->off;
		else
			r->x[++to] = r->x[i];
	}
	r->n = to + 1;
}

static void
add(struct form_raw *r, uint64_t off, uint64_t len)
{
	struct arcout_extent *last = r->n > 0 ? &r->x[r->n - 1] : NULL;

	assert(r->x != NULL);
	if (last != NULL && off - (last->off + last->len) <= r->gap) {
		last->len = off + len - last->off;
		return;
	}
	while (r->n == EXTENTS_MAX)
		coarsen(r);
	r->x[r->n++] = (struct arcout_extent){ off, len };
}

static int
raw_plan(struct form *f, struct err *e)
{
	struct form_raw *r = (struct form_raw *)f;
	struct walk *w = f->walk;

	(void)e;
	for (unsigned i = 0; r->sparse && i < w->count; i++) {
		uint64_t slice = walk_first(w) + i;

		if (walk_kind(w, i) == WALK_DATA)
			add(r, slice * w->chunk_size,
			    chunk_len(w->size, w->chunk_size, slice));
	}
	return 0;
}

static int
raw_size(struct form *f, uint64_t *out, struct err *e)
{
	struct form_raw *r = (struct form_raw *)f;

	(void)e;
	*out = f->walk->size;
	if (!r->sparse || *out == 0)
		return 0;
	/* None at all would mean that there are no holes. */
	if (r->n == 0)
		r->x[r->n++] = (struct arcout_extent){ *out, 0 };
	f->extent = r->x;
	f->nextents = r->n;
	return 0;
}

static int
raw_nothing(struct form *f, struct err *e)
{
	(void)f;
	(void)e;
	return 0;
}

static int
fill(struct form_raw *r, uint64_t to, struct err *e)
{
	static const uint8_t zeroes[4096];
	int rc = 0;

	if (r->f.member->blocks) {
		rc = member_hole(r->f.member, to - r->at, e);
		r->at = to;
	}
	while (rc == 0 && r->at < to) {
		size_t n = to - r->at < sizeof(zeroes) ? (size_t)(to - r->at)
						       : sizeof(zeroes);

		rc = member_put(r->f.member, zeroes, n, e);
		r->at += n;
	}
	return rc;
}

static int
raw_slice(struct form *f, unsigned i, const uint8_t *data, uint32_t len,
    struct err *e)
{
	struct form_raw *r = (struct form_raw *)f;
	uint64_t off = (walk_first(f->walk) + i) * f->walk->chunk_size;
	int rc = fill(r, off, e);

	if (rc != 0)
		return rc;
	if (f->member->blocks)
		digest_blocks(f->member->digest, off, data, len);
	r->at = off + len;
	return member_put(f->member, data, len, e);
}

static int
raw_end(struct form *f, struct err *e)
{
	return fill((struct form_raw *)f, f->walk->size, e);
}

static void
raw_free(struct form *f)
{
	free(((struct form_raw *)f)->x);
	free(f);
}

static const struct form_ops raw_ops = {
	.plan = raw_plan,
	.size = raw_size,
	.head = raw_nothing,
	.region = raw_nothing,
	.slice = raw_slice,
	.region_end = raw_nothing,
	.end = raw_end,
	.free = raw_free,
};

static struct form *
new_raw(struct walk *w, const char *word, bool sparse)
{
	struct form_raw *r = xcalloc(1, sizeof(*r));

	r->f.ops = &raw_ops;
	r->f.word = word;
	r->f.walk = w;
	r->sparse = sparse;
	if (sparse)
		r->x = xcalloc(EXTENTS_MAX, sizeof(*r->x));
	return &r->f;
}

struct form *
form_raw_new(struct walk *w, bool sparse)
{
	return new_raw(w, "raw", sparse);
}

struct form *
form_file_new(struct walk *w)
{
	return new_raw(w, "file", false);
}
