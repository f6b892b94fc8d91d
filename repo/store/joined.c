/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/joined.h"

#include <stdlib.h>

enum {
	RANGE_MAX = 32 << 20, /* of one joined read */
	/* A disk reads about 1 MiB while it seeks over that.  Seeks are worse
	 * for whoever else uses it, so more is read as long as that does not
	 * double what is read. */
	GAP_CHEAP = 1 << 20,
	GAP_MAX = 4 << 20,
	/* A long list may begin where little is wanted. */
	CREDIT = 32 << 20,
	CREDIT_FROM = 512
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

/* The first lanes get the large buffers, those that come later what is left,
 * and never less than one that does its work. */
static void
make_range(struct store *s, struct store_lane *l)
{
	uint64_t left = atomic_load(&s->ranges_left), len;

	do {
		len = left / 2 < RANGE_MAX ? left / 2 : RANGE_MAX;
		if (len < STORE_RANGE_MIN)
			len = 0; /* not of what all share */
	} while (
	    !atomic_compare_exchange_weak(&s->ranges_left, &left, left - len));
	l->store = s;
	l->range_shared = len;
	l->range_len = len > 0 ? len : STORE_RANGE_MIN;
	/* One record more than it joins: also a large one fits alone. */
	l->range =
	    aligned_new(l->range_len + RECORD_HEADER_LEN + RECORD_STORED_MAX);
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

/* Bytes so far. */
struct tally {
	uint64_t read;
	uint64_t wanted;
};

/* How many of them one read takes, and how long it is. */
static uint32_t
join(const struct wanted *w, uint32_t n, uint64_t most, struct tally *t,
    size_t *len)
{
	const struct place *first = &w[0].place;
	uint64_t end = place_end(first);
	uint32_t k;

	t->wanted += end - first->off;

	for (k = 1; k < n; k++) {
		const struct place *p = &w[k].place;
		uint64_t all = place_end(p) - first->off;

		if (p->pack != first->pack || p->off > end + GAP_MAX ||
		    all > most)
			break;
		if (place_end(p) <= end)
			continue; /* the same record once more */
		if (p->off > end + GAP_CHEAP && t->read + all > 2 * t->wanted)
			break;
		t->wanted += place_end(p) - p->off;
		end = place_end(p);
	}
	t->read += end - first->off;
	*len = (size_t)(end - first->off);
	return k;
}

int
joined_read(struct store *s, struct store_lane *l, const struct wanted *w,
    uint32_t n, uint8_t kind, joined_visit *visit, void *arg, struct err *e)
{
	struct tally t = { .wanted = n >= CREDIT_FROM ? CREDIT : 0 };
	uint32_t i, k;

	if (l->range == NULL)
		make_range(s, l);
	for (i = 0; i < n; i += k) {
		size_t len;
		bool read;

		k = join(w + i, n - i, l->range_len, &t, &len);
		read = pack_read_range(s->packs, w[i].place.pack,
			   w[i].place.off, len, l->range) == 0;
		for (uint32_t m = i; m < i + k; m++) {
			const uint8_t *at =
			    l->range + (w[m].place.off - w[i].place.off);
			bool sound = read &&
			    pack_check(
				s->packs, &w[m].place, kind, &w[m].id, at) == 0;
			int rc = visit(arg, &w[m],
			    sound ? at + RECORD_HEADER_LEN : NULL, e);

			if (rc != 0)
				return rc;
		}
	}
	return 0;
}
