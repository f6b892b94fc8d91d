/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/nbdconn.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/source/nbdconn_impl.h"
#include "proto/base/io.h"

enum {
	LOOK_MS = 200, /* how soon ${stop} is seen */
	AGAIN_MS = 20, /* between attempts where a server's queue is full */
	DETAIL_MAX = 160,
	ALIGN_MAX = 64 << 10
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

int
nbdconn_failed(struct nbdconn *c, struct err *e, int code, const char *fmt, ...)
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

int
nbdconn_lost(struct nbdconn *c, int error, struct err *e)
{
	char text[DETAIL_MAX];

	detail(text);
	switch (error) {
	case ENOENT:
		return nbdconn_failed(c, e, ERR_NOENT,
		    "there is no such socket or export (%s)", text);
	case EACCES:
	case EPERM:
		return nbdconn_failed(
		    c, e, ERR_DENIED, "may not connect to it (%s)", text);
	case ECONNREFUSED:
		return nbdconn_failed(c, e, ERR_CLOSED,
		    "nobody listens there: the server has ended (%s)", text);
	default:
		return nbdconn_failed(c, e, ERR_CLOSED,
		    "the server closed the connection: has the guest, or the "
		    "job that exports its disk, ended? (%s)",
		    text);
	}
}

int
nbdconn_step(struct nbdconn *c, uint64_t deadline, int timeout_ms,
    const char *doing, struct err *e)
{
	uint64_t now = now_ms(), left = now < deadline ? deadline - now : 0;

	if (atomic_load(&c->peer->stop))
		return nbdconn_failed(
		    c, e, ERR_CLOSED, "%s was stopped", doing);
	if (left == 0)
		return nbdconn_failed(c, e, ERR_TIMEOUT,
		    "%s: no answer for %d.%d s: the server stands still, or "
		    "its storage does",
		    doing, timeout_ms / 1000, timeout_ms % 1000 / 100);
	if (nbd_poll(c->h, left < LOOK_MS ? (int)left : LOOK_MS) == -1 ||
	    nbd_aio_is_dead(c->h) > 0 || nbd_aio_is_closed(c->h) > 0)
		return nbdconn_lost(c, nbd_get_errno(), e);
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
		return nbdconn_lost(c, error, e);
	}
	return 0;
err:
	return nbdconn_failed(c, e, ERR_INVAL, "%s", detail(text));
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
			return nbdconn_failed(c, e, ERR_TIMEOUT,
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
		return nbdconn_failed(c, e, ERR_UNSUP,
		    "the server lacks structured replies: is it QEMU?");
	if (size < 0)
		return nbdconn_failed(
		    c, e, ERR_LIMIT, "a disk of 8 EiB or more");
	if (least > ALIGN_MAX || (most > 0 && most < ALIGN_MAX))
		return nbdconn_failed(c, e, ERR_PROTO,
		    "block sizes from %lld to %lld make no sense",
		    (long long)least, (long long)most);
	c->has[NBDCONN_ALLOCATION] =
	    nbd_can_meta_context(c->h, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	c->has[NBDCONN_DIRTY] =
	    dirty != NULL && nbd_can_meta_context(c->h, dirty) > 0;
	if (dirty != NULL && !c->has[NBDCONN_DIRTY])
		return nbdconn_failed(c, e, ERR_NOENT,
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
		rc = nbdconn_step(c, deadline, timeout_ms, "connecting", e);
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
