/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/lane.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"

/*
 * Room for one frame of which the last byte is missing and one read of
 * LANE_WINDOW behind it.  Allocated at once, but the system backs a page only
 * when bytes arrive for it, and an empty buffer is filled from its start.
 */
enum { IN_CAP = FRAME_HEADER_LEN + FRAME_PAYLOAD_MAX + LANE_WINDOW };

/* Written at once where a meter watches: a slow wire is to be seen moving. */
enum { METER_PIECE = 64 << 10 };

/* How late a lane that waits to write notices that it was ended. */
enum { PACE_TICK_MS = 500 };

struct lane {
	const struct lane_ops *ops;
	void *t;
	char *peer;

	struct buf out;    /* complete frames, then the one that was begun */
	size_t begun_at;   /* where its header is */
	bool begun;        /* between lane_begin and lane_end */
	uint8_t type;      /* of the frame that was begun */
	uint32_t request;  /* of the frame that was begun */
	bool broken;       /* a write failed: what arrived is unknown */
	atomic_bool ended; /* by lane_shutdown, any thread */

	uint8_t *in;
	size_t in_off; /* the first byte that was not handed out */
	size_t in_end;
	uint32_t limit; /* of a frame's payload */

	uint64_t bytes_in;
	uint64_t bytes_out;
	struct lane_meter *meter; /* or NULL */
	struct lane_pace pace;    /* pay: or NULL */
	size_t owed;              /* arrived, and not paid for */
};

struct lane *
lane_new(const struct lane_ops *ops, void *t, const char *peer)
{
	struct lane *l = xcalloc(1, sizeof(*l));

	l->ops = ops;
	l->t = t;
	l->peer = xstrdup(peer);
	l->in = xmalloc(IN_CAP);
	l->limit = FRAME_PAYLOAD_MAX;
	return l;
}

const char *
lane_peer(const struct lane *l)
{
	return l->peer;
}

static int
name_peer(const struct lane *l, struct err *e)
{
	return err_prefix(e, "%s", l->peer);
}

static int
check_ended(const struct lane *l, struct err *e)
{
	if (atomic_load(&l->ended))
		return err_set(e, ERR_CLOSED,
		    "%s: the connection was ended on this side", l->peer);
	return 0;
}

struct buf *
lane_begin(struct lane *l, uint8_t type, uint32_t request)
{
	assert(!l->begun);
	l->begun = true;
	l->begun_at = l->out.len;
	l->type = type;
	l->request = request;
	buf_extend(&l->out, FRAME_HEADER_LEN);
	return &l->out;
}

/* How much of ${len} may leave now; 0: the lane was ended meanwhile. */
static size_t
pay_to_write(struct lane *l, size_t len)
{
	size_t n = 0;

	while (n == 0 && !atomic_load(&l->ended))
		n = l->pace.pay(l->pace.arg, len, PACE_TICK_MS);
	return n;
}

static int
write_all(struct lane *l, struct err *e)
{
	size_t done = 0, n;
	int rc = 0;

	if (l->meter != NULL)
		atomic_fetch_add(&l->meter->waiting, 1);
	while (rc == 0 && done < l->out.len) {
		n = l->out.len - done;
		if (l->meter != NULL && n > METER_PIECE)
			n = METER_PIECE;
		if (l->pace.pay != NULL)
			n = pay_to_write(l, n);
		if (n == 0) {
			rc = check_ended(l, e);
			break;
		}
		rc = l->ops->write(l->t, l->out.data + done, n, e);
		if (rc == 0 && l->meter != NULL)
			atomic_fetch_add(&l->meter->moved, n);
		if (rc == 0)
			l->bytes_out += n;
		done += n;
	}
	if (l->meter != NULL)
		atomic_fetch_sub(&l->meter->waiting, 1);
	return rc;
}

static int
flush(struct lane *l, struct err *e)
{
	struct err local;
	int rc;

	if (e == NULL)
		e = &local;
	rc = check_ended(l, e);
	if (rc != 0)
		return rc;
	if (l->broken)
		return err_set(
		    e, ERR_CLOSED, "%s: the connection is broken", l->peer);
	if (l->out.len == 0)
		return 0;
	rc = write_all(l, e);
	if (rc != 0) {
		l->broken = true;
		l->out.len = 0;
		return atomic_load(&l->ended) ? check_ended(l, e)
					      : name_peer(l, e);
	}
	l->out.len = 0;
	return 0;
}

int
lane_end(struct lane *l, struct err *e)
{
	struct frame f = { .type = l->type, .request = l->request };

	assert(l->begun);
	assert(l->out.len >= l->begun_at + FRAME_HEADER_LEN);
	f.len = l->out.len - l->begun_at - FRAME_HEADER_LEN;
	frame_print(&f, l->out.data + l->begun_at);
	l->begun = false;
	if (l->out.len >= LANE_FLUSH_LEN)
		return flush(l, e);
	return 0;
}

void
lane_cancel(struct lane *l)
{
	assert(l->begun);
	l->begun = false;
	l->out.len = l->begun_at;
}

int
lane_send(struct lane *l, uint8_t type, uint32_t request, const void *data,
    size_t len, struct err *e)
{
	buf_add(lane_begin(l, type, request), data, len);
	return lane_end(l, e);
}

int
lane_flush(struct lane *l, struct err *e)
{
	assert(!l->begun);
	return flush(l, e);
}

/* Hand out the frame at the front if all of it is there; *whole says. */
static int
take_frame(struct lane *l, struct frame *f, bool *whole, struct err *e)
{
	size_t have = l->in_end - l->in_off;
	int rc;

	*whole = false;
	if (have < FRAME_HEADER_LEN)
		return 0;
	rc = frame_parse(l->in + l->in_off, f, e);
	if (rc != 0)
		return name_peer(l, e);
	if (f->len > l->limit)
		return err_set(e, ERR_LIMIT,
		    "%s: a frame of %zu bytes on a lane that takes %u", l->peer,
		    f->len, l->limit);
	if (have - FRAME_HEADER_LEN < f->len)
		return 0;
	f->payload = l->in + l->in_off + FRAME_HEADER_LEN;
	l->in_off += FRAME_HEADER_LEN + f->len;
	*whole = true;
	return 0;
}

/* False: what arrived last is not paid for in that time. */
static bool
settle(struct lane *l, int timeout_ms)
{
	uint64_t deadline = 0, now;
	int left = timeout_ms;

	if (timeout_ms > 0)
		deadline = now_ms() + (uint64_t)timeout_ms;
	while (l->owed > 0) {
		size_t n = l->pace.pay(
		    l->pace.arg, l->owed, left < 0 ? PACE_TICK_MS : left);

		l->owed -= n;
		if (n == 0 && (timeout_ms >= 0 || atomic_load(&l->ended)))
			return false;
		now = now_ms();
		if (timeout_ms > 0)
			left = now < deadline ? (int)(deadline - now) : 0;
	}
	return true;
}

/* Read once behind what is there. */
static int
fill(struct lane *l, int timeout_ms, struct err *e)
{
	size_t got = 0, most = LANE_WINDOW, window;
	int rc;

	if (l->limit < FRAME_PAYLOAD_MAX)
		most = FRAME_HEADER_LEN + l->limit;
	if (l->pace.pay != NULL) {
		if (!settle(l, timeout_ms))
			return err_set(e, ERR_TIMEOUT,
			    "%s: its rate does not allow more yet", l->peer);
		window = l->pace.window(l->pace.arg);
		assert(window > 0);
		if (window < most)
			most = window;
	}
	if (l->in_off == l->in_end) {
		l->in_off = 0;
		l->in_end = 0;
	} else if (IN_CAP - l->in_end < LANE_WINDOW) {
		memmove(l->in, l->in + l->in_off, l->in_end - l->in_off);
		l->in_end -= l->in_off;
		l->in_off = 0;
	}
	assert(IN_CAP - l->in_end >= LANE_WINDOW);
	if (timeout_ms != 0 && l->meter != NULL)
		atomic_fetch_add(&l->meter->waiting, 1);
	rc = l->ops->read(l->t, l->in + l->in_end, most, timeout_ms, &got, e);
	if (timeout_ms != 0 && l->meter != NULL)
		atomic_fetch_sub(&l->meter->waiting, 1);
	if (rc == 0) {
		if (l->meter != NULL)
			atomic_fetch_add(&l->meter->moved, got);
		if (l->pace.pay != NULL)
			l->owed += got;
		l->bytes_in += got;
		l->in_end += got;
		return 0;
	}
	if (rc == ERR_TIMEOUT)
		return rc;
	if (atomic_load(&l->ended))
		return check_ended(l, e);
	if (rc == ERR_CLOSED && l->in_end != l->in_off)
		err_set(e, rc,
		    "the peer closed the connection in the middle of "
		    "a frame");
	return name_peer(l, e);
}

int
lane_recv(struct lane *l, int timeout_ms, struct frame *f, struct err *e)
{
	uint64_t deadline = 0;
	struct err local;
	bool whole;
	int rc, wait;

	if (e == NULL)
		e = &local;
	if (timeout_ms > 0)
		deadline = now_ms() + (uint64_t)timeout_ms;
	for (;;) {
		rc = check_ended(l, e);
		if (rc == 0)
			rc = take_frame(l, f, &whole, e);
		if (rc != 0 || whole)
			return rc;
		/* What is there already costs no flush. */
		rc = fill(l, 0, e);
		if (rc == 0)
			continue;
		if (rc != ERR_TIMEOUT)
			return rc;
		/* What the peer said before it went away was worth reading. */
		if (l->broken)
			return err_set(e, ERR_CLOSED,
			    "%s: the connection is broken", l->peer);
		wait = timeout_ms;
		if (timeout_ms > 0) {
			uint64_t now = now_ms();

			wait = now < deadline ? (int)(deadline - now) : 0;
		}
		if (wait == 0)
			return err_set(e, ERR_TIMEOUT,
			    "%s: no answer within %d ms", l->peer, timeout_ms);
		if (!l->begun) {
			rc = flush(l, e);
			if (rc != 0)
				return rc;
		}
		rc = fill(l, wait, e);
		if (rc != 0 && rc != ERR_TIMEOUT)
			return rc;
	}
}

int
lane_look(struct lane *l, struct err *e)
{
	int rc = check_ended(l, e);

	/* A peer that has sent so much without waiting is there. */
	if (rc != 0 || l->in_end - l->in_off > IN_CAP - LANE_WINDOW)
		return rc;
	rc = fill(l, 0, e);
	return rc == ERR_TIMEOUT ? 0 : rc;
}

void
lane_limit(struct lane *l, uint32_t len)
{
	l->limit = len;
}

void
lane_traffic(const struct lane *l, uint64_t *in, uint64_t *out)
{
	*in = l->bytes_in;
	*out = l->bytes_out;
}

void
lane_measure(struct lane *l, struct lane_meter *m)
{
	l->meter = m;
}

void
lane_pace(struct lane *l, const struct lane_pace *p)
{
	l->pace = *p;
}

void
lane_shutdown(struct lane *l)
{
	atomic_store(&l->ended, true);
	l->ops->shutdown(l->t);
}

void
lane_linger(struct lane *l, unsigned ms)
{
	if (flush(l, NULL) == 0)
		l->ops->linger(l->t, ms);
}

void
lane_close(struct lane *l)
{
	if (l == NULL)
		return;
	l->ops->close(l->t);
	buf_fini(&l->out);
	free(l->in);
	free(l->peer);
	free(l);
}
