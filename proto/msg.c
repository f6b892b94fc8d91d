/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/msg.h"

#include <assert.h>

#include "proto/codec.h"

enum {
	PUT_DONE_LEN = 12,
	NODE_DONE_LEN = 1 + NODE_FANOUT / 8,
	TREE_LEN = 12,
	READ_LEN = 16,
	READ_DONE_LEN = 4,
	ERROR_HEADER_LEN = 2
};

/* No volume has more slices than this, whatever its chunk size. */
#define SLICES_MAX (VOLUME_SIZE_MAX / CHUNK_SIZE_MIN)

const char *
msg_name(uint8_t type)
{
	switch (type) {
	case MSG_QUERY: return "QUERY";
	case MSG_HAVE: return "HAVE";
	case MSG_PUT: return "PUT";
	case MSG_PUT_DONE: return "PUT_DONE";
	case MSG_NODE: return "NODE";
	case MSG_NODE_DONE: return "NODE_DONE";
	case MSG_TREE: return "TREE";
	case MSG_TREE_NODE: return "TREE_NODE";
	case MSG_READ: return "READ";
	case MSG_DATA: return "DATA";
	case MSG_READ_DONE: return "READ_DONE";
	case MSG_CALL: return "CALL";
	case MSG_RESULT: return "RESULT";
	case MSG_ERROR: return "ERROR";
	default: return "unknown";
	}
}

static int
bad_len(uint8_t type, size_t len, struct err *e)
{
	return err_set(
	    e, ERR_PROTO, "%s: a payload of %zu bytes", msg_name(type), len);
}

static int
bad_reserved(uint8_t type, struct err *e)
{
	return err_set(e, ERR_PROTO,
	    "%s: bytes that must be zero are not: a newer protocol?",
	    msg_name(type));
}

/* Bits from ${n} on, in ${len} bytes. */
static bool
bits_beyond(const uint8_t *bits, unsigned n, size_t len)
{
	if (n % 8 != 0 && bits[n / 8] >> n % 8 != 0)
		return true;
	n = (n + 7) / 8;
	return !bytes_zero(bits + n, len - n);
}

static void
bits_fill(uint8_t *bits, unsigned n)
{
	memset(bits, 0xff, n / 8);
	if (n % 8 != 0)
		bits[n / 8] = (uint8_t)((1u << n % 8) - 1);
}

int
msg_query_parse(
    const uint8_t *p, size_t len, struct msg_query *out, struct err *e)
{
	if (len < ID_LEN || len % ID_LEN != 0)
		return bad_len(MSG_QUERY, len, e);
	if (len / ID_LEN - 1 > MSG_QUERY_MAX)
		return err_set(e, ERR_LIMIT,
		    "QUERY: %zu ids, and %d are the most", len / ID_LEN - 1,
		    MSG_QUERY_MAX);
	/* An id is an array of bytes: it may lie anywhere. */
	out->leaf = (const struct id *)p;
	out->n = (unsigned)(len / ID_LEN - 1);
	out->id = (const struct id *)(p + ID_LEN);
	return 0;
}

void
msg_query_print(
    struct buf *b, const struct id *leaf, unsigned n, const struct id *id)
{
	assert(n <= MSG_QUERY_MAX);
	buf_add(b, leaf, ID_LEN);
	buf_add(b, id, (size_t)n * ID_LEN);
}

int
msg_have_parse(const uint8_t *p, size_t len, unsigned n, struct msg_have *out,
    struct err *e)
{
	uint8_t all[MSG_QUERY_MAX / 8] = { 0 };

	assert(n <= MSG_QUERY_MAX);
	if (len != 1 + ((size_t)n + 7) / 8)
		return bad_len(MSG_HAVE, len, e);
	if (p[0] > 1)
		return bad_reserved(MSG_HAVE, e);
	*out = (struct msg_have){ .leaf = p[0] == 1 };
	memcpy(out->bits, p + 1, len - 1);
	if (bits_beyond(out->bits, n, len - 1))
		return err_set(e, ERR_PROTO,
		    "HAVE: bits beyond the %u ids that were asked for", n);
	bits_fill(all, n);
	if (out->leaf && memcmp(out->bits, all, sizeof(all)) != 0)
		return err_set(e, ERR_PROTO,
		    "HAVE: the leaf is there and a chunk of it is not");
	return 0;
}

void
msg_have_print(struct buf *b, unsigned n, const struct msg_have *m)
{
	uint8_t bits[MSG_QUERY_MAX / 8] = { 0 };

	assert(n <= MSG_QUERY_MAX);
	if (m->leaf) {
		bits_fill(bits, n);
	} else {
		memcpy(bits, m->bits, (n + 7) / 8);
		if (n % 8 != 0)
			bits[n / 8] &= (uint8_t)((1u << n % 8) - 1);
	}
	buf_u8(b, m->leaf);
	buf_add(b, bits, (n + 7) / 8);
}

/*
 * What PUT and DATA have in common.  Compressed bytes are never more than the
 * plain ones: who would have to send more sends them plain.
 */
static int
check_coded(uint8_t type, uint8_t codec, uint32_t raw_len, size_t stored_len,
    struct err *e)
{
	if (raw_len > CHUNK_SIZE_MAX)
		return err_set(e, ERR_LIMIT, "%s: a chunk of %u bytes",
		    msg_name(type), raw_len);
	if (raw_len == 0 || stored_len == 0 || stored_len > raw_len ||
	    (codec == CODEC_PLAIN && stored_len != raw_len))
		return err_set(e, ERR_PROTO,
		    "%s: a chunk of %u bytes in %zu bytes", msg_name(type),
		    raw_len, stored_len);
	if (codec != CODEC_PLAIN && codec != CODEC_ZSTD)
		return err_set(e, ERR_PROTO, "%s: unknown codec %u",
		    msg_name(type), codec);
	return 0;
}

int
msg_put_next(struct rd *r, struct msg_chunk *out, struct err *e)
{
	const uint8_t *h = rd_bytes(r, MSG_CHUNK_HEADER_LEN);
	int rc;

	if (h == NULL)
		return err_set(e, ERR_PROTO, "PUT: ends inside a header");
	memcpy(out->id.b, h, ID_LEN);
	out->codec = h[32];
	out->raw_len = get_le32(h + 36);
	out->stored_len = get_le32(h + 40);
	if (!bytes_zero(h + 33, 3))
		return bad_reserved(MSG_PUT, e);
	rc = check_coded(MSG_PUT, out->codec, out->raw_len, out->stored_len, e);
	if (rc != 0)
		return rc;
	if (id_is_hole(&out->id))
		return err_set(e, ERR_PROTO, "PUT: a hole has no bytes");
	out->data = rd_bytes(r, out->stored_len);
	if (out->data == NULL)
		return err_set(e, ERR_PROTO, "PUT: ends inside a chunk");
	return 0;
}

void
msg_put_add(struct buf *b, const struct msg_chunk *c)
{
	uint8_t *h = buf_extend(b, MSG_CHUNK_HEADER_LEN);

	memcpy(h, c->id.b, ID_LEN);
	h[32] = c->codec;
	memset(h + 33, 0, 3);
	put_le32(h + 36, c->raw_len);
	put_le32(h + 40, c->stored_len);
	buf_add(b, c->data, c->stored_len);
}

int
msg_put_done_parse(
    const uint8_t *p, size_t len, struct msg_put_done *out, struct err *e)
{
	if (len != PUT_DONE_LEN)
		return bad_len(MSG_PUT_DONE, len, e);
	out->nstored = get_le32(p);
	out->stored = get_le64(p + 4);
	return 0;
}

void
msg_put_done_print(struct buf *b, const struct msg_put_done *m)
{
	buf_u32(b, m->nstored);
	buf_u64(b, m->stored);
}

int
msg_node_done_parse(
    const uint8_t *p, size_t len, struct msg_node_done *out, struct err *e)
{
	if (len != NODE_DONE_LEN)
		return bad_len(MSG_NODE_DONE, len, e);
	if (p[0] > 1)
		return bad_reserved(MSG_NODE_DONE, e);
	out->taken = p[0] == 1;
	memcpy(out->missing, p + 1, sizeof(out->missing));
	/* A refusal without a reason would be sent again for ever. */
	if (out->taken != bytes_zero(out->missing, sizeof(out->missing)))
		return err_set(e, ERR_PROTO,
		    out->taken ? "NODE_DONE: taken, with children missing"
			       : "NODE_DONE: refused, with nothing missing");
	return 0;
}

void
msg_node_done_print(struct buf *b, const struct msg_node_done *m)
{
	buf_u8(b, m->taken);
	if (m->taken)
		memset(
		    buf_extend(b, sizeof(m->missing)), 0, sizeof(m->missing));
	else
		buf_add(b, m->missing, sizeof(m->missing));
}

int
msg_tree_parse(
    const uint8_t *p, size_t len, struct msg_tree *out, struct err *e)
{
	if (len != TREE_LEN)
		return bad_len(MSG_TREE, len, e);
	if (p[3] != 0)
		return bad_reserved(MSG_TREE, e);
	out->volume = get_le16(p);
	out->level = p[2];
	out->index = get_le64(p + 4);
	if (out->level > NODE_LEVEL_MAX)
		return err_set(e, ERR_LIMIT, "TREE: level %u", out->level);
	if (out->index > (SLICES_MAX - 1) / node_span(out->level))
		return err_set(e, ERR_LIMIT,
		    "TREE: node %llu of level %u is beyond any volume",
		    (unsigned long long)out->index, out->level);
	return 0;
}

void
msg_tree_print(struct buf *b, const struct msg_tree *m)
{
	buf_u16(b, m->volume);
	buf_u8(b, m->level);
	buf_u8(b, 0);
	buf_u64(b, m->index);
}

int
msg_read_parse(
    const uint8_t *p, size_t len, struct msg_read *out, struct err *e)
{
	if (len != READ_LEN)
		return bad_len(MSG_READ, len, e);
	out->volume = get_le16(p);
	out->part = p[2];
	out->nparts = p[3];
	out->n = get_le32(p + 4);
	out->slice = get_le64(p + 8);
	if (out->n == 0)
		return err_set(e, ERR_PROTO, "READ: of no slices");
	if (out->n > MSG_READ_MAX)
		return err_set(e, ERR_LIMIT,
		    "READ: of %u slices; %d are the most", out->n,
		    MSG_READ_MAX);
	if (out->part >= out->nparts)
		return err_set(e, ERR_PROTO, "READ: part %u of %u", out->part,
		    out->nparts);
	if (out->slice > SLICES_MAX - out->n)
		return err_set(e, ERR_LIMIT,
		    "READ: slice %llu is beyond any volume",
		    (unsigned long long)out->slice);
	return 0;
}

void
msg_read_print(struct buf *b, const struct msg_read *m)
{
	buf_u16(b, m->volume);
	buf_u8(b, m->part);
	buf_u8(b, m->nparts);
	buf_u32(b, m->n);
	buf_u64(b, m->slice);
}

int
msg_data_parse(
    const uint8_t *p, size_t len, struct msg_data *out, struct err *e)
{
	if (len < MSG_DATA_HEADER_LEN)
		return bad_len(MSG_DATA, len, e);
	if (!bytes_zero(p + 9, 3))
		return bad_reserved(MSG_DATA, e);
	out->slice = get_le64(p);
	out->codec = p[8];
	out->raw_len = get_le32(p + 12);
	out->data = p + MSG_DATA_HEADER_LEN;
	out->len = len - MSG_DATA_HEADER_LEN;
	if (out->slice >= SLICES_MAX)
		return err_set(e, ERR_LIMIT,
		    "DATA: slice %llu is beyond any volume",
		    (unsigned long long)out->slice);
	return check_coded(MSG_DATA, out->codec, out->raw_len, out->len, e);
}

void
msg_data_print(struct buf *b, const struct msg_data *m)
{
	uint8_t *h = buf_extend(b, MSG_DATA_HEADER_LEN);

	put_le64(h, m->slice);
	h[8] = m->codec;
	memset(h + 9, 0, 3);
	put_le32(h + 12, m->raw_len);
	buf_add(b, m->data, m->len);
}

int
msg_read_done_parse(
    const uint8_t *p, size_t len, uint32_t *ndata, struct err *e)
{
	if (len != READ_DONE_LEN)
		return bad_len(MSG_READ_DONE, len, e);
	*ndata = get_le32(p);
	if (*ndata > MSG_READ_MAX)
		return err_set(
		    e, ERR_PROTO, "READ_DONE: after %u DATA", *ndata);
	return 0;
}

void
msg_read_done_print(struct buf *b, uint32_t ndata)
{
	buf_u32(b, ndata);
}

/* The text goes to terminals and logs: no control characters either way. */
static bool
is_control(uint8_t c)
{
	return c < ' ' || c == 0x7f;
}

int
msg_error_parse(const uint8_t *p, size_t len, struct err *e)
{
	size_t n = len - ERROR_HEADER_LEN;
	struct err said = { 0 };

	if (len < ERROR_HEADER_LEN)
		return bad_len(MSG_ERROR, len, e);
	if (n > MSG_ERROR_TEXT_MAX)
		return err_set(e, ERR_LIMIT, "ERROR: a text of %zu bytes", n);
	/* A code that a newer peer knows is passed on as it is. */
	said.code = get_le16(p);
	if (said.code == 0)
		return err_set(e, ERR_PROTO, "ERROR: without a code");
	for (size_t i = 0; i < n; i++) {
		if (is_control(p[ERROR_HEADER_LEN + i]))
			return err_set(
			    e, ERR_PROTO, "ERROR: its text is not text");
		said.text[i] = (char)p[ERROR_HEADER_LEN + i];
	}
	if (e != NULL)
		*e = said;
	return 0;
}

void
msg_error_print(struct buf *b, const struct err *e)
{
	size_t n = strnlen(e->text, MSG_ERROR_TEXT_MAX);
	uint8_t *text;

	assert(e->code > 0 && e->code <= UINT16_MAX);
	buf_u16(b, (uint16_t)e->code);
	text = buf_extend(b, n);
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)e->text[i];

		text[i] = is_control(c) ? '?' : c;
	}
}
