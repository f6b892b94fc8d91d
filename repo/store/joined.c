/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/joined.h"

#include <limits.h>
#include <stdlib.h>

enum {
	RANGE_MAX = 32 << 20, /* that one joined read keeps */
	SPAN_MAX = 128 << 20, /* of one, with what it passes over */
	/* A disk reads about 1 MiB while it seeks over that.  Seeks are worse
	 * for whoever else uses it, so more is read as long as that does not
	 * double what is read. */
	GAP_CHEAP = 1 << 20,
	GAP_MAX = 8 << 20,
	GAP_STEP = 64 << 10, /* so exactly are gaps told apart */
	GAP_KEPT = 16 << 10, /* shorter than that it is read as if wanted */
	PARTS_MAX = IOV_MAX, /* stretches that one call reads */
	JUNK_LEN = 256 << 10 /* what is passed over, one over the other */
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

void
joined_sort(struct wanted *w, uint32_t n)
{
	qsort(w, n, sizeof(*w), by_place);
}

static uint64_t
place_end(const struct place *p)
{
	return (uint64_t)p->off + RECORD_HEADER_LEN + p->stored_len;
}

/* Bytes of what all share, of which the first lanes get the large buffers and
 * those that come later what is left; 0: no more than every lane has. */
static uint64_t
take_share(struct store *s)
{
	uint64_t left = atomic_load(&s->ranges_left), len;

	do {
		len = left / 2 < RANGE_MAX ? left / 2 : RANGE_MAX;
		if (len < STORE_RANGE_MIN)
			return 0;
	} while (
	    !atomic_compare_exchange_weak(&s->ranges_left, &left, left - len));
	return len;
}

/* A buffer for reads of ${len} bytes, or as many as may be had: who reads but
 * a few nodes takes nothing from whoever restores. */
static void
make_range(struct store *s, struct store_lane *l, uint64_t len)
{
	uint64_t share = 0;

	if (l->range != NULL && (len <= l->range_len || l->range_shared > 0))
		return;
	if (len > STORE_RANGE_MIN)
		share = take_share(s);
	if (l->range != NULL && share == 0)
		return;
	free(l->range);
	l->store = s;
	l->range_shared = share;
	l->range_len = share > 0 ? share : STORE_RANGE_MIN;
	/* One record more than it joins: also a large one fits alone. */
	l->range = aligned_new(
	    JUNK_LEN + l->range_len + RECORD_HEADER_LEN + RECORD_STORED_MAX);
}

/* What reading them may keep, at most ${most}. */
static uint64_t
bytes_of(const struct wanted *w, uint32_t n, uint64_t most)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < n && len < most; i++)
		len += RECORD_HEADER_LEN + w[i].place.stored_len + GAP_KEPT;
	return len < most ? len : most;
}

void
joined_free(struct store_lane *l)
{
	if (l->range == NULL)
		return;
	atomic_fetch_add(&l->store->ranges_left, l->range_shared);
	free(l->range);
	l->range = NULL;
}

static uint32_t
gap_before(const struct place *p, uint64_t end)
{
	return p->off > end ? (uint32_t)(p->off - end) : 0;
}

struct joined
joined_bounds(const struct wanted *w, uint32_t n, uint64_t spare)
{
	uint64_t over[GAP_MAX / GAP_STEP] = { 0 }, left = spare, end = 0;
	struct joined j = { .most = RANGE_MAX };
	uint32_t step = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct place *p = &w[i].place;
		bool same = i > 0 && p->pack == w[i - 1].place.pack;
		uint32_t gap = same ? gap_before(p, end) : 0;

		if (same && place_end(p) <= end)
			continue; /* the same record once more */
		if (gap < GAP_MAX)
			over[gap / GAP_STEP] += gap;
		end = place_end(p);
		left += end - p->off;
	}
	/* The short ones first: they save most seeks. */
	for (; step < GAP_MAX / GAP_STEP && over[step] <= left; step++)
		left -= over[step];
	j.gap = step * GAP_STEP;
	if (j.gap < GAP_CHEAP)
		j.gap = GAP_CHEAP;
	return j;
}

/* A read that is being joined. */
struct extent {
	uint64_t start, end; /* in the pack */
	uint64_t kept;       /* bytes */
	unsigned nparts;     /* stretches, kept ones and others */
};

static void
begin(struct extent *x, const struct place *p)
{
	*x = (struct extent){ .start = p->off,
		.end = place_end(p),
		.kept = place_end(p) - p->off,
		.nparts = 1 };
}

/* One more: at or behind the last one's start. */
static void
extend(struct extent *x, const struct place *p)
{
	uint32_t gap = gap_before(p, x->end);

	if (gap > GAP_KEPT) {
		x->nparts += (gap + JUNK_LEN - 1) / JUNK_LEN + 1;
		x->kept -= gap;
	}
	if (place_end(p) > x->end) {
		x->kept += place_end(p) - x->end;
		x->end = place_end(p);
	}
}

uint32_t
joined_count(const struct wanted *w, uint32_t n, struct joined j)
{
	struct extent x;
	uint32_t k;

	begin(&x, &w[0].place);
	for (k = 1; k < n; k++) {
		const struct place *p = &w[k].place;

		if (p->pack != w[0].place.pack || gap_before(p, x.end) >= j.gap)
			break;
		extend(&x, p);
		if (x.kept > j.most || x.nparts > PARTS_MAX ||
		    x.end - x.start > SPAN_MAX)
			break;
	}
	return k;
}

/* Read all ${k} of them; *iov is for PARTS_MAX. */
static bool
read_extent(struct store *s, struct store_lane *l, const struct wanted *w,
    uint32_t k, struct iovec *iov)
{
	uint8_t *to = l->range + JUNK_LEN;
	struct extent x, before;
	struct iovec *last = iov;

	begin(&x, &w[0].place);
	if (x.kept > RECORD_HEADER_LEN + RECORD_STORED_MAX)
		return false; /* there is no such record */
	*last = (struct iovec){ .iov_base = to };
	for (uint32_t m = 1; m < k; m++) {
		uint32_t gap = gap_before(&w[m].place, x.end);

		before = x;
		extend(&x, &w[m].place);
		if (x.nparts == before.nparts)
			continue;
		last->iov_len =
		    before.kept - (size_t)((uint8_t *)last->iov_base - to);
		for (; gap > 0; gap -= (uint32_t)last->iov_len) {
			*++last = (struct iovec){ .iov_base = l->range,
				.iov_len = gap < JUNK_LEN ? gap : JUNK_LEN };
		}
		*++last = (struct iovec){ .iov_base = to + before.kept };
	}
	last->iov_len = x.kept - (size_t)((uint8_t *)last->iov_base - to);
	return pack_read_range(s->packs, w[0].place.pack, x.start, iov,
		   (int)(last - iov) + 1) == 0;
}

int
joined_read(struct store *s, struct store_lane *l, const struct wanted *w,
    uint32_t n, struct joined j, uint8_t kind, joined_visit *visit, void *arg,
    struct err *e)
{
	struct iovec iov[PARTS_MAX];
	uint32_t k;

	if (n == 0)
		return 0;
	make_range(s, l, bytes_of(w, n, j.most));
	if (j.most > l->range_len)
		j.most = l->range_len;
	for (; n > 0; w += k, n -= k) {
		struct extent x;
		bool read;

		k = joined_count(w, n, j);
		read = read_extent(s, l, w, k, iov);
		begin(&x, &w[0].place);
		for (uint32_t m = 0; m < k; m++) {
			const struct place *p = &w[m].place;
			const uint8_t *at = l->range + JUNK_LEN;
			bool sound;
			int rc;

			if (m > 0)
				extend(&x, p);
			at += x.kept - (x.end - p->off);
			sound = read &&
			    pack_check(s->packs, p, kind, w[m].id, at) == 0;
			rc = visit(arg, &w[m],
			    sound ? at + RECORD_HEADER_LEN : NULL, e);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}
