/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/nbdconn.h"

#include <assert.h>
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	LOOK_MS = 200, /* how soon ${stop} is seen */
	AGAIN_MS = 20, /* between attempts where a server's queue is full */
	DETAIL_MAX = 160,
	ALIGN_MAX = 64 << 10,
	/* Of one nbdconn_status: for a whole window in replies of 256 KiB. */
	ASKS_MAX = 4096
};

/* libnbd's words, which may be the server's: no control characters. */
static const char *
detail(char *out)
{
	const char *text = nbd_get_error();

	snprintf(out, DETAIL_MAX, "%s", text != NULL ? text : "no reason told");
	for (char *p = out; *p != 0; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	return out;
}

static int failed(struct nbdconn *c, struct err *e, int code, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

/* Says where; what ends a connection also closes it. */
static int
failed(struct nbdconn *c, struct err *e, int code, const char *fmt, ...)
{
	char what[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (code != ERR_SYS)
		nbdconn_close(c);
	return err_set(e, code, "NBD export \"%.64s\" at %.108s: %s",
	    c->peer->export, c->peer->socket, what);
}

/* The connection is gone, or never came to be. */
static int
lost(struct nbdconn *c, int error, struct err *e)
{
	char text[DETAIL_MAX];

	detail(text);
	switch (error) {
	case ENOENT:
		return failed(c, e, ERR_NOENT,
		    "there is no such socket or export (%s)", text);
	case EACCES:
	case EPERM:
		return failed(
		    c, e, ERR_DENIED, "may not connect to it (%s)", text);
	case ECONNREFUSED:
		return failed(c, e, ERR_CLOSED,
		    "nobody listens there: the server has ended (%s)", text);
	default:
		return failed(c, e, ERR_CLOSED,
		    "the server closed the connection: has the guest, or the "
		    "job that exports its disk, ended? (%s)",
		    text);
	}
}

/* Wait for the server, and do what it makes possible. */
static int
step(struct nbdconn *c, uint64_t deadline, int timeout_ms, const char *doing,
    struct err *e)
{
	uint64_t now = now_ms(), left = now < deadline ? deadline - now : 0;

	if (atomic_load(&c->peer->stop))
		return failed(c, e, ERR_CLOSED, "%s was stopped", doing);
	if (left == 0)
		return failed(c, e, ERR_TIMEOUT,
		    "%s: no answer for %d.%d s: the server stands still, or "
		    "its storage does",
		    doing, timeout_ms / 1000, timeout_ms % 1000 / 100);
	if (nbd_poll(c->h, left < LOOK_MS ? (int)left : LOOK_MS) == -1 ||
	    nbd_aio_is_dead(c->h) > 0 || nbd_aio_is_closed(c->h) > 0)
		return lost(c, nbd_get_errno(), e);
	return 0;
}

/* ERR_BUSY: to be tried again. */
static int
start(struct nbdconn *c, struct err *e)
{
	char text[DETAIL_MAX];
	int error;

	c->h = nbd_create();
	if (c->h == NULL)
		goto err;
	/* Answers are checked for gaps, so memory need not be cleared first. */
	if (nbd_set_export_name(c->h, c->peer->export) == -1 ||
	    nbd_add_meta_context(c->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
	    nbd_set_pread_initialize(c->h, false) == -1)
		goto err;
	if (c->peer->dirty != NULL &&
	    nbd_add_meta_context(c->h, c->peer->dirty) == -1)
		goto err;
	if (nbd_aio_connect_unix(c->h, c->peer->socket) == -1) {
		error = nbd_get_errno();
		if (error == EAGAIN)
			return ERR_BUSY;
		return lost(c, error, e);
	}
	return 0;
err:
	return failed(c, e, ERR_INVAL, "%s", detail(text));
}

/* A Unix socket whose queue is full says so at once instead of waiting. */
static int
connect_until(struct nbdconn *c, uint64_t deadline, struct err *e)
{
	for (;;) {
		int rc = start(c, e);

		if (rc != ERR_BUSY)
			return rc;
		nbdconn_close(c);
		if (now_ms() >= deadline || atomic_load(&c->peer->stop))
			return failed(c, e, ERR_TIMEOUT,
			    "the server does not take connections");
		poll(NULL, 0, AGAIN_MS);
	}
}

/* What was negotiated. */
static int
learn(struct nbdconn *c, struct err *e)
{
	int64_t size = nbd_get_size(c->h);
	int64_t least = nbd_get_block_size(c->h, LIBNBD_SIZE_MINIMUM);
	int64_t most = nbd_get_block_size(c->h, LIBNBD_SIZE_MAXIMUM);
	const char *dirty = c->peer->dirty;

	if (nbd_get_structured_replies_negotiated(c->h) <= 0)
		return failed(c, e, ERR_UNSUP,
		    "the server lacks structured replies: is it QEMU?");
	if (size < 0)
		return failed(c, e, ERR_LIMIT, "a disk of 8 EiB or more");
	if (least > ALIGN_MAX || (most > 0 && most < ALIGN_MAX))
		return failed(c, e, ERR_PROTO,
		    "block sizes from %lld to %lld make no sense",
		    (long long)least, (long long)most);
	c->has[NBDCONN_ALLOCATION] =
	    nbd_can_meta_context(c->h, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	c->has[NBDCONN_DIRTY] =
	    dirty != NULL && nbd_can_meta_context(c->h, dirty) > 0;
	if (dirty != NULL && !c->has[NBDCONN_DIRTY])
		return failed(c, e, ERR_NOENT,
		    "the server does not tell \"%.80s\"", dirty);
	c->size = (uint64_t)size;
	c->align = least > 0 ? (uint32_t)least : 1;
	c->request = NBDCONN_REQUEST;
	if (most > 0 && most < NBDCONN_REQUEST)
		c->request = (uint32_t)most & ~(uint32_t)(ALIGN_MAX - 1);
	c->df = nbd_can_df(c->h) > 0;
	c->multi = nbd_can_multi_conn(c->h) > 0;
	return 0;
}

int
nbdconn_open(
    struct nbdconn *c, struct nbdconn_peer *peer, int timeout_ms, struct err *e)
{
	uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
	int rc;

	memset(c, 0, sizeof(*c));
	c->peer = peer;
	rc = connect_until(c, deadline, e);
	while (rc == 0 && nbd_aio_is_ready(c->h) <= 0)
		rc = step(c, deadline, timeout_ms, "connecting", e);
	if (rc == 0)
		rc = learn(c, e);
	return rc;
}

void
nbdconn_close(struct nbdconn *c)
{
	if (c->h == NULL)
		return;
	if (nbd_aio_is_ready(c->h) > 0)
		nbd_aio_disconnect(c->h, 0); /* a courtesy: no answer comes */
	nbd_close(c->h);
	c->h = NULL;
}

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
		return lost(c, nbd_get_errno(), e);
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
		rc = step(c, deadline, c->peer->timeout_ms, "reading", e);
		if (rc != 0)
			return rc;
		any = settle(&g, &rc);
		if (rc != 0)
			return failed(c, e, rc,
			    "the server's reply to a read lacks some of it");
	}
	if (rc != 0 || g.error == 0)
		return rc;
	if (g.error == ESHUTDOWN)
		return failed(c, e, ERR_CLOSED, "the server shuts down");
	errno = g.error;
	rc = log_sys("nbd %s: read of export \"%s\" at %llu", c->peer->socket,
	    c->peer->export, (unsigned long long)g.bad);
	return failed(c, e, rc, "the server could not read at byte %llu: %s",
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
		return lost(c, nbd_get_errno(), e);
	while (rc == 0 && !a->done)
		rc = step(c, deadline, c->peer->timeout_ms,
		    "asking what is allocated", e);
	if (rc != 0)
		return rc;
	if (a->error == ESHUTDOWN)
		return failed(c, e, ERR_CLOSED, "the server shuts down");
	if (a->error != 0) {
		errno = a->error;
		rc = log_sys("nbd %s: block status of export \"%s\" at %llu",
		    c->peer->socket, c->peer->export,
		    (unsigned long long)a->off);
		return failed(c, e, rc,
		    "the server cannot tell what is allocated at byte %llu: %s",
		    (unsigned long long)a->off, strerror(a->error));
	}
	if (a->odd)
		return failed(c, e, ERR_PROTO,
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
			return failed(c, e, ERR_PROTO,
			    "the server does not tell what is allocated");
		if (a.off < a.end)
			rc = ask_once(&a, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}
