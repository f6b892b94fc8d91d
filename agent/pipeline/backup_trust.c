/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/backup_trust.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/backup_leaf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"

enum { WAIT_MS = 50 };

void
probes_init(struct probes *p)
{
	memset(p, 0, sizeof(*p));
	pthread_mutex_init(&p->mu, NULL);
	cond_init(&p->cond);
}

void
probes_fini(struct probes *p)
{
	free(p->list);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mu);
}

void
probes_clear(struct probes *p)
{
	pthread_mutex_lock(&p->mu);
	p->n = 0;
	p->nopen = 0;
	pthread_mutex_unlock(&p->mu);
}

void
probes_push(struct probes *p, const struct probe *probe)
{
	pthread_mutex_lock(&p->mu);
	if (p->n == p->max) {
		p->max = 2 * p->max + NODE_FANOUT;
		p->list = xrealloc(p->list, p->max * sizeof(p->list[0]));
	}
	p->list[p->n++] = *probe;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->mu);
}

bool
probes_take(struct probes *p, struct probe *out)
{
	bool found;

	pthread_mutex_lock(&p->mu);
	found = p->n > 0;
	if (found) {
		*out = p->list[--p->n];
		if (out->level > 0)
			p->nopen++;
	}
	pthread_mutex_unlock(&p->mu);
	return found;
}

void
probes_done(struct probes *p)
{
	pthread_mutex_lock(&p->mu);
	assert(p->nopen > 0);
	if (--p->nopen == 0)
		pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->mu);
}

bool
probes_wait(struct probes *p)
{
	bool more;

	pthread_mutex_lock(&p->mu);
	if (p->n == 0 && p->nopen > 0)
		cond_wait_until(&p->cond, &p->mu, now_ms() + WAIT_MS);
	more = p->n > 0 || p->nopen > 0;
	pthread_mutex_unlock(&p->mu);
	return more;
}

void
trust_init(struct trust *t, double percent)
{
	const char *fixed = getenv("BACKSTAY_SAMPLE_SEED"); /* for tests */

	memset(t, 0, sizeof(*t));
	pthread_mutex_init(&t->mu, NULL);
	/* A guest must not know where nobody looks. */
	random_bytes(&t->seed, sizeof(t->seed));
	if (fixed != NULL)
		t->seed = strtoull(fixed, NULL, 0);
	if (percent >= 100)
		t->below = UINT64_MAX;
	else if (percent > 0)
		t->below = (uint64_t)(percent / 100 * 0x1p64);
}

void
trust_fini(struct trust *t)
{
	pthread_mutex_destroy(&t->mu);
}

/* By its place alone, so that it does not matter which lane asks, or when. */
bool
trust_sampled(const struct trust *t, unsigned volume, uint64_t slice)
{
	uint64_t x = t->seed ^ (slice << 6 | volume); /* below 2^50 */

	for (unsigned i = 0; i < 2; i++) {
		x += 0x9e3779b97f4a7c15;
		x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
		x = (x ^ x >> 27) * 0x94d049bb133111eb;
		x ^= x >> 31;
	}
	return t->below != 0 && x <= t->below;
}

void
trust_lose(
    struct trust *t, enum trust_lost why, unsigned volume, uint64_t slice)
{
	pthread_mutex_lock(&t->mu);
	/* That a guest's records are wrong is worse, and told. */
	if (!trust_is_lost(t) ||
	    (why == TRUST_CONDEMNED &&
		atomic_load(&t->lost) != TRUST_CONDEMNED)) {
		t->volume = volume;
		t->slice = slice;
		atomic_store(&t->lost, why);
	}
	pthread_mutex_unlock(&t->mu);
}

int
trust_leaves(const struct backup *b, unsigned volume, uint64_t leaf,
    uint64_t *n, struct err *e)
{
	const struct backup_volume *v = &b->volume[volume];
	uint64_t off = leaf * NODE_FANOUT * b->chunk_size, slice, len;
	uint64_t size = v->source->size, stop = size;
	const struct slice_run *r;
	bool clean;
	int rc;

	*n = 0;
	if (!v->trusted)
		return 0;
	r = leaf_damaged_run(v, leaf * NODE_FANOUT);
	if (r != NULL && r->first < v->nslices)
		stop = r->first * b->chunk_size; /* maybe before ${off} */
	while (off < stop) {
		rc = source_clean(v->source, off, &len, &clean, e);
		if (rc != 0)
			return leaf_source_failed(v, rc, e);
		if (!clean)
			break;
		off += len;
	}
	if (off >= stop)
		off = stop;
	slice = off / b->chunk_size;
	if (off == size)
		*n = tree_nleaves(v->tree) - leaf;
	else if (slice / NODE_FANOUT > leaf)
		*n = slice / NODE_FANOUT - leaf;
	return 0;
}

bool
trust_sample(const struct backup *b, unsigned volume, uint64_t leaf,
    uint8_t sample[NODE_FANOUT / 8])
{
	uint64_t first = leaf * NODE_FANOUT;
	uint64_t left = b->volume[volume].nslices - first;
	bool any = false;

	memset(sample, 0, NODE_FANOUT / 8);
	for (unsigned i = 0; i < NODE_FANOUT && i < left; i++)
		if (trust_sampled(&b->trust, volume, first + i)) {
			sample[i / 8] |= (uint8_t)(1u << i % 8);
			any = true;
		}
	return any;
}

/* Of the bytes from ${from} to ${to}, which are all clean. */
static void
mark_clean(const struct backup_volume *v, uint64_t cs, uint64_t start,
    unsigned n, uint64_t from, uint64_t to, bool *clean)
{
	uint64_t i = (from - start + cs - 1) / cs;
	uint64_t end = to == v->source->size ? n : (to - start) / cs;

	for (; i < end; i++)
		clean[i] = true;
}

/* What the source says, slice by slice. */
static int
map_clean(const struct backup *b, const struct leaf *l, unsigned at, unsigned n,
    bool *clean, struct err *e)
{
	const struct backup_volume *v = &b->volume[l->volume];
	uint64_t cs = b->chunk_size, size = v->source->size;
	uint64_t start = (l->first + at) * cs, end = start + n * cs;
	uint64_t off, len, from = start; /* of the run that ${off} ends */
	bool is;
	int rc;

	if (end > size)
		end = size;
	for (off = start; off < end; off += len) {
		rc = source_clean(v->source, off, &len, &is, e);
		if (rc != 0)
			return rc;
		assert(len > 0);
		if (len > end - off)
			len = end - off;
		if (is)
			continue;
		mark_clean(v, cs, start, n, from, off, clean);
		from = off + len;
	}
	if (from < end)
		mark_clean(v, cs, start, n, from, end, clean);
	return 0;
}

int
trust_slices(const struct backup *b, const struct leaf *l, unsigned at,
    unsigned n, bool *clean, bool *sampled, struct err *e)
{
	int rc;

	memset(clean, 0, n * sizeof(*clean));
	memset(sampled, 0, n * sizeof(*sampled));
	if (!b->volume[l->volume].trusted || l->parent_state != PARENT_KNOWN ||
	    l->attempt > 0)
		return 0;
	rc = map_clean(b, l, at, n, clean, e);
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		unsigned k = at + i;

		if (clean[i] && (l->damaged[k / 8] & 1u << k % 8) != 0)
			clean[i] = false;
		/* A hole that still is one costs no read. */
		if (!clean[i] ||
		    !trust_sampled(&b->trust, l->volume, l->first + k))
			continue;
		clean[i] = false;
		sampled[i] = true;
	}
	return rc;
}
