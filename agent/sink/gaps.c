/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sink/gaps.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "proto/base/buf.h"

enum { UNITS = GAPS_REGION / GAPS_UNIT };

/* Which units of one region have been or are being written. */
struct map {
	uint64_t region;
	uint32_t left; /* units not written */
	uint8_t bits[UNITS / 8];
	struct map *next; /* younger */
};

enum state { UNTOUCHED, MAPPED, SETTLED };

/* All guarded by mu but for what is constant after new. */
struct gaps {
	pthread_mutex_t mu;
	uint64_t size;      /* constant */
	gaps_zero_fn *zero; /* constant */
	void *arg;          /* constant */
	size_t max_maps;    /* constant */
	size_t nmaps;
	struct map *oldest, **tail;
	struct map *last; /* the one used last; most writes go on there */
	uint8_t *states;  /* enum state of each region */
};

struct gaps *
gaps_new(uint64_t size, size_t max_maps, gaps_zero_fn *zero, void *arg)
{
	struct gaps *g = xcalloc(1, sizeof(*g));

	pthread_mutex_init(&g->mu, NULL);
	g->size = size;
	g->zero = zero;
	g->arg = arg;
	g->max_maps = max_maps;
	g->tail = &g->oldest;
	g->states = xcalloc((size_t)(size / GAPS_REGION + 1), 1);
	return g;
}

void
gaps_free(struct gaps *g)
{
	if (g == NULL)
		return;
	while (g->oldest != NULL) {
		struct map *m = g->oldest;

		g->oldest = m->next;
		free(m);
	}
	pthread_mutex_destroy(&g->mu);
	free(g->states);
	free(g);
}

static uint64_t
region_len(const struct gaps *g, uint64_t region)
{
	uint64_t left = g->size - region * GAPS_REGION;

	return left < GAPS_REGION ? left : GAPS_REGION;
}

static uint32_t
units_of(uint64_t len)
{
	return (uint32_t)((len + GAPS_UNIT - 1) / GAPS_UNIT);
}

/* Zero the units from ${from} up to ${to} of a region. */
static int
zero_units(
    struct gaps *g, uint64_t region, uint32_t from, uint32_t to, struct err *e)
{
	uint64_t begin = (uint64_t)from * GAPS_UNIT;
	uint64_t end = (uint64_t)to * GAPS_UNIT;

	if (end > region_len(g, region))
		end = region_len(g, region);
	return g->zero(g->arg, region * GAPS_REGION + begin, end - begin, e);
}

static int
zero_gaps(struct gaps *g, const struct map *m, struct err *e)
{
	uint32_t n = units_of(region_len(g, m->region)), i = 0;

	while (i < n) {
		uint32_t from = i;
		int rc;

		while (i < n && (m->bits[i / 8] & 1 << i % 8) == 0)
			i++;
		if (i > from) {
			rc = zero_units(g, m->region, from, i, e);
			if (rc != 0)
				return rc;
		}
		while (i < n && (m->bits[i / 8] & 1 << i % 8) != 0)
			i++;
	}
	return 0;
}

/* Forget the oldest map, after zeroing what it still leaves open. */
static int
settle_oldest(struct gaps *g, struct err *e)
{
	struct map *m = g->oldest;

	assert(m != NULL); /* nmaps counts them */
	if (m->left > 0) {
		int rc = zero_gaps(g, m, e);

		if (rc != 0)
			return rc;
	}
	g->states[m->region] = SETTLED;
	g->oldest = m->next;
	if (g->oldest == NULL)
		g->tail = &g->oldest;
	if (g->last == m)
		g->last = NULL;
	g->nmaps--;
	free(m);
	return 0;
}

/* The map of a region that is not settled; made if there is none. */
static int
map_of(struct gaps *g, uint64_t region, struct map **out, struct err *e)
{
	struct map *m = g->last;

	if (m == NULL || m->region != region)
		for (m = g->oldest; m != NULL && m->region != region;)
			m = m->next;
	if (m == NULL) {
		if (g->nmaps == g->max_maps) {
			int rc = settle_oldest(g, e);

			if (rc != 0)
				return rc;
		}
		m = xcalloc(1, sizeof(*m));
		m->region = region;
		m->left = units_of(region_len(g, region));
		*g->tail = m;
		g->tail = &m->next;
		g->nmaps++;
		g->states[region] = MAPPED;
	}
	g->last = m;
	*out = m;
	return 0;
}

static int
note(struct gaps *g, uint64_t off, uint64_t len, struct err *e)
{
	uint32_t i = (uint32_t)(off % GAPS_REGION / GAPS_UNIT);
	uint32_t end = i + units_of(len);
	struct map *m;
	int rc;

	if (g->states[off / GAPS_REGION] == SETTLED)
		return 0;
	rc = map_of(g, off / GAPS_REGION, &m, e);
	if (rc != 0)
		return rc;
	for (; i < end; i++) {
		m->left -= (m->bits[i / 8] & 1 << i % 8) == 0;
		m->bits[i / 8] |= (uint8_t)(1 << i % 8);
	}
	/* A full map is of no more use; it goes when it is the oldest. */
	while (g->oldest != NULL && g->oldest->left == 0)
		settle_oldest(g, e);
	return 0;
}

int
gaps_written(struct gaps *g, uint64_t off, uint64_t len, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&g->mu);
	while (rc == 0 && len > 0) {
		uint64_t n = GAPS_REGION - off % GAPS_REGION;

		n = n < len ? n : len;
		rc = note(g, off, n, e);
		off += n;
		len -= n;
	}
	pthread_mutex_unlock(&g->mu);
	return rc;
}

int
gaps_finish(struct gaps *g, struct err *e)
{
	uint64_t n = (g->size + GAPS_REGION - 1) / GAPS_REGION;
	int rc = 0;

	pthread_mutex_lock(&g->mu);
	while (rc == 0 && g->oldest != NULL)
		rc = settle_oldest(g, e);
	for (uint64_t i = 0; rc == 0 && i < n; i++)
		if (g->states[i] == UNTOUCHED)
			rc = zero_units(g, i, 0, units_of(region_len(g, i)), e);
	pthread_mutex_unlock(&g->mu);
	return rc;
}
