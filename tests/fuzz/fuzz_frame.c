/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of any kind as the stream of a lane, in pieces of sizes that the input
 * chooses.  What was decoded is sent again; it must be the bytes that came.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/lane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	const uint8_t *in;
	size_t left;
	size_t piece; /* at most so much a read */
	struct buf out;
};

static int
memory_read(
    void *t, void *data, size_t len, int timeout_ms, size_t *got, struct err *e)
{
	struct memory *m = t;
	size_t n = m->left;

	(void)timeout_ms;
	if (n == 0)
		return err_set(e, ERR_CLOSED, "the end");
	if (n > m->piece)
		n = m->piece;
	if (n > len)
		n = len;
	memcpy(data, m->in, n);
	m->in += n;
	m->left -= n;
	*got = n;
	return 0;
}

static int
memory_write(void *t, const void *data, size_t len, struct err *e)
{
	struct memory *m = t;

	(void)e;
	buf_add(&m->out, data, len);
	return 0;
}

static void
memory_nothing(void *t)
{
	(void)t;
}

static void
memory_linger(void *t, unsigned ms)
{
	(void)t;
	(void)ms;
}

static const struct lane_ops memory_ops = { .read = memory_read,
	.write = memory_write,
	.shutdown = memory_nothing,
	.linger = memory_linger,
	.close = memory_nothing };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory m;
	struct lane *l;
	struct frame f;
	struct err e;
	uint64_t in, out;
	int rc;

	if (size == 0)
		return 0;
	m = (struct memory){
		.in = data + 1, .left = size - 1, .piece = (size_t)data[0] + 1
	};
	l = lane_new(&memory_ops, &m, "fuzz");
	while ((rc = lane_recv(l, -1, &f, &e)) == 0) {
		rc = lane_send(l, f.type, f.request, f.payload, f.len, &e);
		if (rc != 0)
			abort();
	}
	if (rc != ERR_CLOSED && rc != ERR_PROTO && rc != ERR_LIMIT)
		abort();
	if (lane_flush(l, &e) != 0)
		abort();
	lane_traffic(l, &in, &out);
	if (in < out || in > size - 1 || m.out.len != out ||
	    (out != 0 && memcmp(m.out.data, data + 1, m.out.len) != 0))
		abort();
	lane_close(l);
	buf_fini(&m.out);
	return 0;
}
