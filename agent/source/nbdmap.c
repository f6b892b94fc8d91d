/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/nbdmap.h"

#include <assert.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

enum {
	BITS = NBDMAP_WINDOW / NBDMAP_GRANULE,
	WORDS = BITS / 64,
	/* How many windows one answer covers at most: what is alike beyond is
	 * another question. */
	LOOK = 16
};

enum window_state { WINDOW_EMPTY, WINDOW_LOADING, WINDOW_READY };

/* While it is loading, ${bits} are the loader's. */
struct window {
	enum window_state state; /* mu */
	uint64_t no;             /* mu */
	uint64_t used;           /* mu: tick of the last use */
	uint64_t bits[NBDCONN_NCONTEXTS][WORDS];
};

struct nbdmap {
	uint64_t size; /* constant, as the next two */
	nbdmap_status_fn *ask;
	void *arg;
	pthread_mutex_t mu;
	pthread_cond_t changed; /* a window is no longer loading */
	uint64_t tick;          /* mu */
	struct window windows[NBDMAP_WINDOWS];
};

struct nbdmap *
nbdmap_new(uint64_t size, nbdmap_status_fn *ask, void *arg)
{
	struct nbdmap *m = xcalloc(1, sizeof(*m));

	m->size = size;
	m->ask = ask;
	m->arg = arg;
	pthread_mutex_init(&m->mu, NULL);
	pthread_cond_init(&m->changed, NULL);
	return m;
}

void
nbdmap_free(struct nbdmap *m)
{
	if (m == NULL)
		return;
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->mu);
	free(m);
}

/* A stretch that is alike so far: extents may meet within a granule. */
struct run {
	uint64_t from;
	uint64_t to;
	bool yes;
};

struct loading {
	const struct nbdmap *m;
	struct window *w;
	uint64_t start;
	struct run runs[NBDCONN_NCONTEXTS];
};

/* Only granules that are alike as a whole. */
static void
flush(struct loading *l, enum nbdconn_context x)
{
	struct run *r = &l->runs[x];
	uint64_t from, to;

	if (!r->yes || r->from == r->to)
		return;
	from = (r->from - l->start + NBDMAP_GRANULE - 1) / NBDMAP_GRANULE;
	to = r->to - l->start;
	if (r->to == l->m->size)
		to += NBDMAP_GRANULE - 1;
	to /= NBDMAP_GRANULE;
	for (; from < to; from++)
		l->w->bits[x][from / 64] |= UINT64_C(1) << from % 64;
}

/*
 * A hole that does not promise zeroes may hold anything.  Of a dirty bitmap
 * only bit 0 is defined; what has any other is not taken for clean either.
 */
static void
on_extent(void *arg, enum nbdconn_context x, uint64_t off, uint64_t len,
    uint32_t flags)
{
	struct loading *l = arg;
	struct run *r = &l->runs[x];
	bool yes = x == NBDCONN_ALLOCATION ? (flags & LIBNBD_STATE_ZERO) != 0
					   : flags == 0;

	if (r->to != off || r->yes != yes) {
		flush(l, x);
		*r = (struct run){ .from = off, .yes = yes };
	}
	r->to = off + len;
}

static int
load(struct nbdmap *m, struct window *w, uint64_t no, struct err *e)
{
	struct loading l = { .m = m, .w = w, .start = no * NBDMAP_WINDOW };
	uint64_t len = m->size - l.start;
	int rc;

	memset(w->bits, 0, sizeof(w->bits));
	if (len > NBDMAP_WINDOW)
		len = NBDMAP_WINDOW;
	rc = m->ask(m->arg, l.start, len, on_extent, &l, e);
	for (int i = 0; i < NBDCONN_NCONTEXTS; i++)
		flush(&l, (enum nbdconn_context)i);
	return rc;
}

/* With mu held: window ${no}, or the one to put it into, or NULL: all load. */
static struct window *
choose(struct nbdmap *m, uint64_t no)
{
	struct window *oldest = NULL;

	for (size_t i = 0; i < NBDMAP_WINDOWS; i++) {
		struct window *w = &m->windows[i];

		if (w->state != WINDOW_EMPTY && w->no == no)
			return w;
		if (w->state == WINDOW_LOADING)
			continue;
		if (oldest == NULL || w->used < oldest->used)
			oldest = w;
	}
	return oldest;
}

/* With mu held, which is let go of while the server is asked. */
static int
get_window(struct nbdmap *m, uint64_t no, struct window **out, struct err *e)
{
	struct window *w;
	int rc;

	for (;;) {
		w = choose(m, no);
		if (w != NULL && w->state != WINDOW_LOADING)
			break;
		pthread_cond_wait(&m->changed, &m->mu);
	}
	*out = w;
	w->used = ++m->tick;
	if (w->state == WINDOW_READY && w->no == no)
		return 0;
	w->state = WINDOW_LOADING;
	w->no = no;
	pthread_mutex_unlock(&m->mu);
	rc = load(m, w, no, e);
	pthread_mutex_lock(&m->mu);
	w->state = rc == 0 ? WINDOW_READY : WINDOW_EMPTY;
	pthread_cond_broadcast(&m->changed);
	return rc;
}

static bool
bit(const uint64_t *bits, unsigned i)
{
	return (bits[i / 64] >> i % 64 & 1) != 0;
}

/* The first from ${i} on that is not ${yes}, or BITS. */
static unsigned
run_end(const uint64_t *bits, unsigned i, bool yes)
{
	uint64_t alike = yes ? UINT64_MAX : 0;

	while (i < BITS) {
		if (i % 64 == 0 && bits[i / 64] == alike)
			i += 64;
		else if (bit(bits, i) == yes)
			i++;
		else
			break;
	}
	return i;
}

int
nbdmap_get(struct nbdmap *m, enum nbdconn_context context, uint64_t off,
    uint64_t *len, bool *yes, struct err *e)
{
	uint64_t at = off - off % NBDMAP_GRANULE;
	int rc = 0;

	assert(off < m->size);
	pthread_mutex_lock(&m->mu);
	for (int n = 0; n < LOOK && at < m->size; n++) {
		unsigned i = (unsigned)(at % NBDMAP_WINDOW / NBDMAP_GRANULE);
		uint64_t start = at - at % NBDMAP_WINDOW;
		struct window *w;
		unsigned end;

		rc = get_window(m, at / NBDMAP_WINDOW, &w, e);
		if (rc != 0)
			break;
		if (n == 0)
			*yes = bit(w->bits[context], i);
		end = run_end(w->bits[context], i, *yes);
		at = start + (uint64_t)end * NBDMAP_GRANULE;
		/* What has to be read need not be known far ahead. */
		if (end < BITS || !*yes)
			break;
	}
	pthread_mutex_unlock(&m->mu);
	if (rc != 0)
		return rc;
	*len = (at < m->size ? at : m->size) - off;
	return 0;
}
