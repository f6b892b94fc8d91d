/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <libnbd.h>
#include <stdlib.h>
#include <string.h>

#include "agent/source/nbdconn.h"
#include "agent/source/nbdconn_impl.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

/* Of one nbdconn_status: for a whole window in replies of 256 KiB. */
enum { ASKS_MAX = 4096 };

/* One request under way. */
struct request {
	bool used;
	bool done;
	bool odd; /* the reply is not what it may be */
	int error;
	uint64_t off;
	uint64_t end;
	uint64_t next; /* up to where data came */
};

/*
 * libnbd does not see to it that the pieces of a reply are apart and leave no
 * gap.  With DF there is one piece; without, they are demanded in order.
 */
static int
on_chunk(void *arg, const void *data, size_t len, uint64_t off, unsigned status,
    int *error)
{
	struct request *r = arg;

	(void)data;
	(void)error;
	if (status == LIBNBD_READ_ERROR)
		return 0;
	if (off != r->next || len == 0 || len > r->end - r->next)
		r->odd = true;
	else
		r->next += len;
	return 0;
}

/* Also called as the handle is closed; 1: nothing else has to be done. */
static int
on_done(void *arg, int *error)
{
	struct request *r = arg;

	r->done = true;
	r->error = *error;
	return 1;
}

/* Where the job of reading one range stands. */
struct reading {
	uint8_t *data;
	uint64_t off;
	uint64_t end;
	uint64_t next; /* not asked for from here on */
	unsigned nused;
	int error; /* the server's, of the request at ${bad} */
	uint64_t bad;
	struct request requests[NBDCONN_DEPTH];
};

static int
ask(struct nbdconn *c, struct reading *g, struct request *r, struct err *e)
{
	uint64_t end = (g->next / c->request + 1) * c->request;

	if (end > g->end)
		end = g->end;
	*r = (struct request){
		.used = true, .off = g->next, .next = g->next, .end = end
	};
	if (nbd_aio_pread_structured(c->h, g->data + (g->next - g->off),
		(size_t)(end - g->next), g->next,
		(nbd_chunk_callback){ .callback = on_chunk, .user_data = r },
		(nbd_completion_callback){
		    .callback = on_done, .user_data = r },
		c->df ? LIBNBD_CMD_FLAG_DF : 0) == -1)
		return nbdconn_lost(c, nbd_get_errno(), e);
	g->next = end;
	g->nused++;
	return 0;
}

/* Take what is answered off the list.  Returns whether there was any. */
static bool
settle(struct reading *g, int *rc)
{
	bool any = false;

	for (unsigned i = 0; i < NBDCONN_DEPTH; i++) {
		struct request *r = &g->requests[i];

		if (!r->used || !r->done)
			continue;
		if (r->error != 0 && g->error == 0) {
			g->error = r->error;
			g->bad = r->off;
		} else if (r->error == 0 && (r->odd || r->next != r->end)) {
			*rc = ERR_PROTO;
		}
		r->used = false;
		g->nused--;
		any = true;
	}
	return any;
}

static int
fill(struct nbdconn *c, struct reading *g, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0;
	     rc == 0 && i < NBDCONN_DEPTH && g->next < g->end && g->error == 0;
	     i++)
		if (!g->requests[i].used)
			rc = ask(c, g, &g->requests[i], e);
	return rc;
}

static int
read_aligned(
    struct nbdconn *c, uint8_t *data, size_t len, uint64_t off, struct err *e)
{
	struct reading g = {
		.data = data, .off = off, .next = off, .end = off + len
	};
	uint64_t deadline = 0;
	int rc = 0;

	for (bool any = true;;) {
		if (any) {
			rc = fill(c, &g, e);
			if (rc != 0 || g.nused == 0)
				break;
			deadline = now_ms() + (uint64_t)c->peer->timeout_ms;
		}
		rc = nbdconn_step(
		    c, deadline, c->peer->timeout_ms, "reading", e);
		if (rc != 0)
			return rc;
		any = settle(&g, &rc);
		if (rc != 0)
			return nbdconn_failed(c, e, rc,
			    "the server's reply to a read lacks some of it");
	}
	if (rc != 0 || g.error == 0)
		return rc;
	if (g.error == ESHUTDOWN)
		return nbdconn_failed(
		    c, e, ERR_CLOSED, "the server shuts down");
	errno = g.error;
	rc = log_sys("nbd %s: read of export \"%s\" at %llu", c->peer->socket,
	    c->peer->export, (unsigned long long)g.bad);
	return nbdconn_failed(c, e, rc,
	    "the server could not read at byte %llu: %s",
	    (unsigned long long)g.bad, strerror(g.error));
}

int
nbdconn_read(
    struct nbdconn *c, void *data, size_t len, uint64_t off, struct err *e)
{
	uint64_t from = off - off % c->align, to = off + len;
	uint8_t *whole;
	int rc;

	assert(c->h != NULL && off <= c->size && len <= c->size - off);
	if (len == 0)
		return 0;
	if (to % c->align != 0)
		to += c->align - to % c->align;
	if (from == off && to == off + len)
		return read_aligned(c, data, len, off, e);
	/* Only a disk's last chunk: its size need not be a multiple. */
	if (to > c->size)
		to = c->size;
	whole = xmalloc((size_t)(to - from));
	rc = read_aligned(c, whole, (size_t)(to - from), from, e);
	if (rc == 0)
		memcpy(data, whole + (off - from), len);
	free(whole);
	return rc;
}

/* One nbdconn_status in work. */
struct asking {
	struct nbdconn *c;
	nbdconn_extent_fn *fn;
	void *arg;
	uint64_t off; /* of the question under way */
	uint64_t end;
	uint64_t at[NBDCONN_NCONTEXTS]; /* known up to there */
	bool odd;
	bool done;
	int error;
};

/* ${entries}: pairs of length and flags. */
static int
on_extents(void *arg, const char *name, uint64_t off, uint32_t *entries,
    size_t n, int *error)
{
	struct asking *a = arg;
	const char *dirty = a->c->peer->dirty;
	enum nbdconn_context x;

	(void)error;
	if (strcmp(name, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0)
		x = NBDCONN_ALLOCATION;
	else if (dirty != NULL && strcmp(name, dirty) == 0)
		x = NBDCONN_DIRTY;
	else
		return 0;
	a->odd |= off != a->off || n % 2 != 0;
	for (size_t i = 0; !a->odd && i + 1 < n && off < a->end; i += 2) {
		uint64_t to = off + entries[i];

		a->odd |= entries[i] == 0;
		if (to > a->end)
			to = a->end;
		if (to > a->at[x]) {
			a->fn(
			    a->arg, x, a->at[x], to - a->at[x], entries[i + 1]);
			a->at[x] = to;
		}
		off = to;
	}
	return 0;
}

static int
on_answered(void *arg, int *error)
{
	struct asking *a = arg;

	a->done = true;
	a->error = *error;
	return 1;
}

static int
ask_once(struct asking *a, struct err *e)
{
	struct nbdconn *c = a->c;
	uint64_t deadline = now_ms() + (uint64_t)c->peer->timeout_ms;
	int rc = 0;

	a->done = false;
	if (nbd_aio_block_status(c->h, a->end - a->off, a->off,
		(nbd_extent_callback){ .callback = on_extents, .user_data = a },
		(nbd_completion_callback){
		    .callback = on_answered, .user_data = a },
		0) == -1)
		return nbdconn_lost(c, nbd_get_errno(), e);
	while (rc == 0 && !a->done)
		rc = nbdconn_step(c, deadline, c->peer->timeout_ms,
		    "asking what is allocated", e);
	if (rc != 0)
		return rc;
	if (a->error == ESHUTDOWN)
		return nbdconn_failed(
		    c, e, ERR_CLOSED, "the server shuts down");
	if (a->error != 0) {
		errno = a->error;
		rc = log_sys("nbd %s: block status of export \"%s\" at %llu",
		    c->peer->socket, c->peer->export,
		    (unsigned long long)a->off);
		return nbdconn_failed(c, e, rc,
		    "the server cannot tell what is allocated at byte %llu: %s",
		    (unsigned long long)a->off, strerror(a->error));
	}
	if (a->odd)
		return nbdconn_failed(c, e, ERR_PROTO,
		    "the server's reply to what is allocated makes no sense");
	return 0;
}

int
nbdconn_status(struct nbdconn *c, uint64_t off, uint64_t len,
    nbdconn_extent_fn *fn, void *arg, struct err *e)
{
	struct asking a = { .c = c, .fn = fn, .arg = arg };

	assert(c->h != NULL && off <= c->size && len <= c->size - off);
	a.off = off;
	a.end = off + len;
	for (int i = 0; i < NBDCONN_NCONTEXTS; i++)
		a.at[i] = c->has[i] ? off : a.end;
	for (int asked = 0; a.off < a.end && asked < ASKS_MAX; asked++) {
		uint64_t was = a.off;
		int rc = 0;

		a.off = a.end;
		for (int i = 0; i < NBDCONN_NCONTEXTS; i++)
			if (a.at[i] < a.off)
				a.off = a.at[i];
		if (asked > 0 && a.off == was)
			return nbdconn_failed(c, e, ERR_PROTO,
			    "the server does not tell what is allocated");
		if (a.off < a.end)
			rc = ask_once(&a, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}
