/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/gunzip.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "agent/pipeline/interrupt.h"
#include "proto/base/buf.h"

enum { WAIT_MS = 200 };
enum { ROOM = 256 << 10, GZIP_WINDOW = 15 + 16 };

struct gunzip {
	int fd;
	enum { FRESH, PLAIN, PACKED, OVER } state;
	bool between; /* one packed part has ended, and none has begun */
	const char *why;
	bool unread; /* it is not the bytes that are wrong */
	z_stream z;
	size_t held; /* in ${in}, of a file that is plain */
	uint8_t in[ROOM];
	uint8_t out[ROOM];
};

struct gunzip *
gunzip_new(int fd)
{
	struct gunzip *g = xcalloc(1, sizeof(*g));

	g->fd = fd;
	return g;
}

void
gunzip_free(struct gunzip *g)
{
	if (g == NULL)
		return;
	if (g->state == PACKED || g->state == OVER)
		inflateEnd(&g->z);
	free(g);
}

const char *
gunzip_error(const struct gunzip *g)
{
	return g->why != NULL ? g->why : "there is no more of it";
}

bool
gunzip_unread(const struct gunzip *g)
{
	return g->unread;
}

static ssize_t
fail(struct gunzip *g, const char *why)
{
	g->why = why;
	return -1;
}

static ssize_t
fetch(struct gunzip *g, size_t at)
{
	struct pollfd p = { .fd = g->fd, .events = POLLIN };
	ssize_t n;

	g->unread = true;
	do {
		/* A signal ends it also while nobody sends. */
		while (!interrupt_pending() && poll(&p, 1, WAIT_MS) == 0)
			;
		if (interrupt_pending())
			return fail(g, "stopped by a signal");
		n = read(g->fd, g->in + at, sizeof(g->in) - at);
	} while (n == -1 && (errno == EINTR || errno == EAGAIN));
	if (n == -1)
		return fail(g, strerror(errno));
	g->unread = false;
	return n;
}

/* Two bytes tell; a pipe may give one after the other. */
static int
begin(struct gunzip *g)
{
	while (g->held < 2) {
		ssize_t n = fetch(g, g->held);

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		g->held += (size_t)n;
	}
	g->state = PLAIN;
	if (g->held < 2 || g->in[0] != 0x1f || g->in[1] != 0x8b)
		return 0;
	if (inflateInit2(&g->z, GZIP_WINDOW) != Z_OK)
		return (int)fail(g, "zlib has no memory");
	g->state = PACKED;
	g->z.next_in = g->in;
	g->z.avail_in = (unsigned)g->held;
	return 0;
}

static ssize_t
plain(struct gunzip *g, const void **data)
{
	ssize_t n = (ssize_t)g->held;

	g->held = 0;
	*data = g->in;
	return n > 0 ? n : fetch(g, 0);
}

/* Behind a part may stand another, or zeroes that fill a block of a tape. */
static bool
is_end(struct gunzip *g)
{
	while (g->z.avail_in > 0 && *g->z.next_in == 0) {
		g->z.next_in++;
		g->z.avail_in--;
	}
	return g->z.avail_in == 0;
}

static ssize_t
unpack(struct gunzip *g, const void **data)
{
	ssize_t n;
	int rc;

	g->z.next_out = g->out;
	g->z.avail_out = sizeof(g->out);
	while (g->z.avail_out == sizeof(g->out)) {
		if (g->z.avail_in == 0) {
			n = fetch(g, 0);
			if (n < 0)
				return -1;
			if (n == 0 && !g->between)
				return fail(g, "gzip: it is cut off");
			if (n == 0) {
				g->state = OVER;
				return 0;
			}
			g->z.next_in = g->in;
			g->z.avail_in = (unsigned)n;
		}
		if (g->between) {
			if (is_end(g))
				continue;
			inflateReset(&g->z);
			g->between = false;
		}
		rc = inflate(&g->z, Z_NO_FLUSH);
		if (rc == Z_STREAM_END)
			g->between = true;
		else if (rc != Z_OK && rc != Z_BUF_ERROR)
			return fail(g,
			    g->z.msg != NULL ? g->z.msg
					     : "gzip: it is damaged");
	}
	*data = g->out;
	return (ssize_t)(sizeof(g->out) - g->z.avail_out);
}

ssize_t
gunzip_read(struct gunzip *g, const void **data)
{
	if (g->why != NULL)
		return -1;
	if (g->state == FRESH && begin(g) != 0)
		return -1;
	switch (g->state) {
	case PLAIN: return plain(g, data);
	case PACKED: return unpack(g, data);
	default: return 0;
	}
}
