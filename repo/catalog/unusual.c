/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/catalog/unusual.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "repo/catalog/catalog.h"

enum {
	LEAST_BYTES = 16 << 20,
	DENSE_PART = 20, /* one in so many of what the disks hold */
	FRESH_PART = 4,
	/* Few backups have not shown yet what there is. */
	FEW = 20,
	TIMES_THE_MOST_OF_FEW = 4,
	TIMES_THE_MOST = 2
};

/* Sizes vary by factors, so they are compared as logarithms; below a MiB all
 * are alike. */
static const double floor_bytes = 1 << 20;
/* Of a normal distribution's standard deviation to its MAD. */
static const double mad_to_sigma = 1.4826;
/* However alike they were: a factor of 1.4 is nothing to speak of. */
static const double sigma_least = 0.5;
static const double sigmas = 4;

static uint64_t
less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

void
unusual_count(
    uint64_t size, const struct manifest_stats *s, struct unusual_facts *out)
{
	out->used = less(size, s->holes);
	out->changed = less(out->used, s->unchanged);
	out->fresh = less(out->changed, s->deduplicated);
	/* Records have headers, and what a pass that began anew had sent is
	 * counted as stored and as deduplicated. */
	out->stored = s->stored < out->fresh ? s->stored : out->fresh;
	/* What shrinks to half is as text and programs are; of what does not
	 * shrink at all, all counts. */
	out->dense = less(out->stored, out->fresh - out->stored);
}

void
unusual_facts(const struct manifest *m, struct unusual_facts *out)
{
	*out = (struct unusual_facts){ .full = !m->has_parent };
	for (unsigned i = 0; i < m->nvolumes; i++)
		if (strcmp(m->volume[i].kind, "ram") == 0)
			out->ram = true;
	unusual_count(manifest_size(m), &m->stats, out);
}

void
unusual_add(struct unusual_history *h, const struct unusual_facts *f, bool ram)
{
	if (f->full || f->ram != ram)
		return;
	h->one[h->n++ % UNUSUAL_WINDOW] = *f;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double
level(uint64_t bytes)
{
	return log2((double)bytes + floor_bytes);
}

/* Whether ${x} is far above the ${n} values of ${v}, and above all of them. */
static bool
jumps(const uint64_t *v, unsigned n, uint64_t x, uint64_t *usual)
{
	unsigned times = n < FEW ? TIMES_THE_MOST_OF_FEW : TIMES_THE_MOST;
	double l[UNUSUAL_WINDOW] = { 0 }, mid, sigma;
	uint64_t most = 0;

	for (unsigned i = 0; i < n; i++) {
		l[i] = level(v[i]);
		if (v[i] > most)
			most = v[i];
	}
	mid = median(l, n);
	for (unsigned i = 0; i < n; i++)
		l[i] = fabs(level(v[i]) - mid);
	sigma = mad_to_sigma * median(l, n);
	if (sigma < sigma_least)
		sigma = sigma_least;
	*usual = (uint64_t)(exp2(mid) - floor_bytes + 0.5);
	/* The most, so that what comes once a week is seen to be usual. */
	return level(x) > mid + sigmas * sigma && x / times > most;
}

enum unusual
unusual_judge(const struct unusual_history *h, const struct unusual_facts *f,
    uint64_t *usual)
{
	unsigned n = h->n < UNUSUAL_WINDOW ? h->n : UNUSUAL_WINDOW;
	uint64_t fresh[UNUSUAL_WINDOW], dense[UNUSUAL_WINDOW];

	*usual = 0;
	if (n < UNUSUAL_LEAST)
		return UNUSUAL_NOT;
	for (unsigned i = 0; i < n; i++) {
		fresh[i] = h->one[i].fresh;
		dense[i] = h->one[i].dense;
	}
	if (f->dense >= LEAST_BYTES && f->dense >= f->used / DENSE_PART &&
	    jumps(dense, n, f->dense, usual))
		return UNUSUAL_INCOMPRESSIBLE;
	if (f->fresh >= LEAST_BYTES && f->fresh >= f->used / FRESH_PART &&
	    jumps(fresh, n, f->fresh, usual))
		return UNUSUAL_CHANGED;
	return UNUSUAL_NOT;
}

const char *
unusual_word(enum unusual u)
{
	static const char *const words[] = { "", "changed", "incompressible" };

	return words[u];
}
