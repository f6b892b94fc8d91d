/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every hot message and the frame header: what parses is printed again and
 * must be the same bytes.  Byte 0 says which message, byte 1 how many ids the
 * QUERY had that a HAVE answers; the rest is the payload.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/msg.h"

enum { FRAME_ITSELF = 0 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct err e;

/* Whether all of the payload could be taken, and what it prints to. */
static bool
put_again(const uint8_t *p, size_t len, struct buf *b)
{
	struct rd r = rd_over(p, len);
	struct msg_chunk c;

	while (r.left > 0) {
		if (msg_put_next(&r, &c, &e) != 0)
			return false;
		if (c.data < p || c.data + c.stored_len > p + len)
			abort();
		msg_put_add(b, &c);
	}
	return true;
}

static bool
frame_again(const uint8_t *p, size_t len, struct buf *b)
{
	struct frame f;

	if (len != FRAME_HEADER_LEN || frame_parse(p, &f, &e) != 0)
		return false;
	frame_print(&f, buf_extend(b, FRAME_HEADER_LEN));
	return true;
}

static bool
again(uint8_t type, unsigned n, const uint8_t *p, size_t len, struct buf *b)
{
	union {
		struct msg_query query;
		struct msg_have have;
		struct msg_put_done put_done;
		struct msg_node_done node_done;
		struct msg_tree tree;
		struct msg_read read;
		struct msg_data data;
		uint32_t ndata;
		struct err said;
	} m;

	switch (type) {
	case FRAME_ITSELF: return frame_again(p, len, b);
	case MSG_QUERY:
		if (msg_query_parse(p, len, &m.query, &e) != 0)
			return false;
		msg_query_print(b, m.query.leaf, m.query.n, m.query.id);
		return true;
	case MSG_HAVE:
		if (msg_have_parse(p, len, n, &m.have, &e) != 0)
			return false;
		msg_have_print(b, n, &m.have);
		return true;
	case MSG_PUT: return put_again(p, len, b);
	case MSG_PUT_DONE:
		if (msg_put_done_parse(p, len, &m.put_done, &e) != 0)
			return false;
		msg_put_done_print(b, &m.put_done);
		return true;
	case MSG_NODE_DONE:
		if (msg_node_done_parse(p, len, &m.node_done, &e) != 0)
			return false;
		msg_node_done_print(b, &m.node_done);
		return true;
	case MSG_TREE:
		if (msg_tree_parse(p, len, &m.tree, &e) != 0)
			return false;
		msg_tree_print(b, &m.tree);
		return true;
	case MSG_READ:
		if (msg_read_parse(p, len, &m.read, &e) != 0)
			return false;
		msg_read_print(b, &m.read);
		return true;
	case MSG_DATA:
		if (msg_data_parse(p, len, &m.data, &e) != 0)
			return false;
		msg_data_print(b, &m.data);
		return true;
	case MSG_READ_DONE:
		if (msg_read_done_parse(p, len, &m.ndata, &e) != 0)
			return false;
		msg_read_done_print(b, m.ndata);
		return true;
	case MSG_ERROR:
		if (msg_error_parse(p, len, &m.said) != 0)
			return false;
		msg_error_print(b, &m.said);
		return true;
	default: return false;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = { 0 };

	if (size < 2)
		return 0;
	if (again(data[0] % (MSG_ERROR + 1), data[1] % (MSG_QUERY_MAX + 1),
		data + 2, size - 2, &b)) {
		if (b.len != size - 2 ||
		    (b.len != 0 && memcmp(b.data, data + 2, b.len) != 0))
			abort();
	}
	buf_fini(&b);
	return 0;
}
