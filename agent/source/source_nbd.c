/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/source_nbd.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/source/nbdconn.h"
#include "agent/source/nbdmap.h"
#include "proto/base/buf.h"
#include "proto/base/log.h"

enum {
	/* For each connection after the first: the server may be full. */
	FURTHER_MS = 3000
};

/* A connection, and whether a thread has it. */
struct place {
	struct nbdconn c;
	bool busy; /* mu */
};

struct source_nbd {
	struct source s;
	struct nbdconn_peer peer;
	struct nbdmap *map;
	char *format;
	pthread_mutex_t mu;
	pthread_cond_t idle; /* a connection is, or ${failed} is set */
	struct err failed;   /* mu: code 0, or what ended the first */
	unsigned nplaces;    /* set before start */
	struct place places[SOURCE_NBD_CONNECTIONS_MAX];
};

/*
 * A connection for this thread alone.  Whoever has one gives it back in
 * bounded time, so this wait is bounded too.
 */
static int
take(struct source_nbd *n, struct place **out, struct err *e)
{
	struct place *p = NULL;
	int rc;

	pthread_mutex_lock(&n->mu);
	for (;;) {
		if (n->failed.code != 0)
			break;
		for (unsigned i = 0; p == NULL && i < n->nplaces; i++)
			if (!n->places[i].busy)
				p = &n->places[i];
		if (p != NULL)
			break;
		pthread_cond_wait(&n->idle, &n->mu);
	}
	rc = n->failed.code;
	if (rc != 0)
		err_set(e, rc, "%s", n->failed.text);
	else
		p->busy = true;
	pthread_mutex_unlock(&n->mu);
	*out = p;
	return rc;
}

/*
 * ${why} is what was the matter, if the connection is no more.  The others end
 * with it: each need not find out by itself.
 */
static int
give(struct source_nbd *n, struct place *p, int rc, struct err *why)
{
	pthread_mutex_lock(&n->mu);
	p->busy = false;
	if (p->c.h == NULL) {
		if (n->failed.code == 0)
			n->failed = *why;
		*why = n->failed;
		rc = why->code;
		atomic_store(&n->peer.stop, true);
		pthread_cond_broadcast(&n->idle);
	} else {
		pthread_cond_signal(&n->idle);
	}
	pthread_mutex_unlock(&n->mu);
	return rc;
}

static int
nbd_source_read(
    struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	struct source_nbd *n = (struct source_nbd *)s;
	struct err why = { 0 };
	struct place *p;
	int rc;

	rc = take(n, &p, e);
	if (rc != 0)
		return rc;
	rc = nbdconn_read(&p->c, data, len, off, &why);
	rc = give(n, p, rc, &why);
	if (rc != 0)
		err_set(e, rc, "%s", why.text);
	return rc;
}

/* What the map asks: see nbdmap_status_fn. */
static int
status(void *arg, uint64_t off, uint64_t len, nbdconn_extent_fn *fn,
    void *fn_arg, struct err *e)
{
	struct source_nbd *n = arg;
	struct err why = { 0 };
	struct place *p;
	int rc;

	rc = take(n, &p, e);
	if (rc != 0)
		return rc;
	rc = nbdconn_status(&p->c, off, len, fn, fn_arg, &why);
	rc = give(n, p, rc, &why);
	if (rc != 0)
		err_set(e, rc, "%s", why.text);
	return rc;
}

static int
nbd_source_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	struct source_nbd *n = (struct source_nbd *)s;

	return nbdmap_get(n->map, NBDCONN_ALLOCATION, off, len, hole, e);
}

static int
nbd_source_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	struct source_nbd *n = (struct source_nbd *)s;

	return nbdmap_get(n->map, NBDCONN_DIRTY, off, len, clean, e);
}

static void
nbd_source_close(struct source *s)
{
	struct source_nbd *n = (struct source_nbd *)s;

	for (unsigned i = 0; i < n->nplaces; i++)
		nbdconn_close(&n->places[i].c);
	nbdmap_free(n->map);
	pthread_cond_destroy(&n->idle);
	pthread_mutex_destroy(&n->mu);
	free(n->peer.socket);
	free(n->peer.export);
	free(n->peer.dirty);
	free(n->format);
	free(n);
}

static const struct source_ops nbd_ops = {
	.read = nbd_source_read,
	.map = nbd_source_map,
	.clean = nbd_source_clean,
	.close = nbd_source_close,
};

static const struct source_ops nbd_ops_no_dirty = {
	.read = nbd_source_read,
	.map = nbd_source_map,
	.close = nbd_source_close,
};

/* All must show the same; the first tells what that is. */
static int
connect_all(struct source_nbd *n, unsigned wanted, struct err *e)
{
	const struct nbdconn *first = &n->places[0].c;
	int timeout_ms = n->peer.timeout_ms;
	int rc;

	rc = nbdconn_open(&n->places[0].c, &n->peer, timeout_ms, e);
	if (rc != 0)
		return rc;
	n->nplaces = 1;
	if (!first->multi)
		return 0; /* not told to be coherent */
	if (timeout_ms > FURTHER_MS)
		timeout_ms = FURTHER_MS;
	while (n->nplaces < wanted) {
		struct nbdconn *c = &n->places[n->nplaces].c;
		struct err why;

		rc = nbdconn_open(c, &n->peer, timeout_ms, &why);
		if (rc != 0) {
			log_debug("%s: going on with %u connections", why.text,
			    n->nplaces);
			break;
		}
		n->nplaces++;
		if (c->size != first->size || c->align != first->align)
			return err_set(e, ERR_PROTO,
			    "NBD export \"%.64s\" at %.108s: its size changes "
			    "from one connection to the next",
			    n->peer.export, n->peer.socket);
	}
	return 0;
}

int
source_nbd_open(
    const struct source_nbd_options *o, struct source **out, struct err *e)
{
	unsigned wanted =
	    o->connections != 0 ? o->connections : SOURCE_NBD_CONNECTIONS;
	struct source_nbd *n;
	int rc;

	n = xcalloc(1, sizeof(*n));
	n->peer.socket = xstrdup(o->socket);
	n->peer.export = xstrdup(o->export != NULL ? o->export : "");
	n->peer.dirty = o->dirty != NULL ? xstrdup(o->dirty) : NULL;
	n->peer.timeout_ms =
	    o->timeout_ms > 0 ? o->timeout_ms : SOURCE_NBD_TIMEOUT_MS;
	n->format = xstrdup(o->format != NULL ? o->format : "raw");
	pthread_mutex_init(&n->mu, NULL);
	pthread_cond_init(&n->idle, NULL);
	n->s.ops = o->dirty != NULL ? &nbd_ops : &nbd_ops_no_dirty;
	rc = connect_all(n,
	    wanted < SOURCE_NBD_CONNECTIONS_MAX ? wanted
						: SOURCE_NBD_CONNECTIONS_MAX,
	    e);
	if (rc != 0) {
		nbd_source_close(&n->s);
		return rc;
	}
	n->s.size = n->places[0].c.size;
	n->s.format = n->format;
	n->s.cluster_size = o->cluster_size;
	n->map = nbdmap_new(n->s.size, status, n);
	*out = &n->s;
	return 0;
}

void
source_nbd_stop(struct source *s)
{
	struct source_nbd *n = (struct source_nbd *)s;

	assert(s->ops == &nbd_ops || s->ops == &nbd_ops_no_dirty);
	atomic_store(&n->peer.stop, true);
}
