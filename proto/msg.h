/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg: the messages in frames: struct to bytes and back.  Pure.
 * PROTOCOL.md 5 (hot path) and 6 (calls).
 *
 * Parsers take a payload and check all of it: ERR_PROTO, ERR_LIMIT.  Pointers
 * in what they fill point into the payload.  Printers append to a frame's
 * buffer.
 */
#ifndef PROTO_MSG_H
#define PROTO_MSG_H

#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/json.h"
#include "proto/node.h"

enum { PROTOCOL_VERSION = 1 };

enum msg_type {
	MSG_QUERY = 0x01,     /* which of these do you have? */
	MSG_HAVE = 0x02,      /*   these */
	MSG_PUT = 0x03,       /* chunks */
	MSG_PUT_DONE = 0x04,  /*   taken */
	MSG_NODE = 0x05,      /* a node: payload is its body */
	MSG_NODE_DONE = 0x06, /*   taken, or children missing */
	MSG_TREE = 0x07,      /* the node at a place of the job's tree? */
	MSG_TREE_NODE = 0x08, /*   its body; empty: a hole */
	MSG_READ = 0x09,      /* slices of the job's backup */
	MSG_DATA = 0x0a,      /*   one of them; any order; holes are not sent */
	MSG_READ_DONE = 0x0b, /*   that was all */
	MSG_CALL = 0x10,      /* a JSON object with "op" */
	MSG_RESULT = 0x11,    /*   a JSON object */
	MSG_ERROR = 0x1f      /* the answer to any request that failed */
};

/** msg_name(type): "QUERY"; "unknown". */
const char *msg_name(uint8_t type);

enum {
	MSG_QUERY_MAX = NODE_FANOUT,
	MSG_READ_MAX = 512 * NODE_FANOUT, /* slices in one READ */
	MSG_PUT_BYTES = 1 << 20,          /* what an agent puts in one PUT */
	MSG_CALL_MAX = JSON_LEN_MAX,
	MSG_ERROR_TEXT_MAX = ERR_TEXT_MAX - 1
};

/*
 * QUERY: the leaf first (a hole: none is asked for), then chunks.  If the leaf
 * is there its chunks are not looked up, and HAVE says so for all of them.
 */
struct msg_query {
	const struct id *leaf;
	unsigned n; /* 0 to MSG_QUERY_MAX */
	const struct id *id;
};
int msg_query_parse(
    const uint8_t *p, size_t len, struct msg_query *out, struct err *e);
void msg_query_print(
    struct buf *b, const struct id *leaf, unsigned n, const struct id *id);

struct msg_have {
	bool leaf;
	uint8_t bits[MSG_QUERY_MAX / 8]; /* bit i % 8 of byte i / 8: id i */
};
int msg_have_parse(const uint8_t *p, size_t len, unsigned n,
    struct msg_have *out, struct err *e);
void msg_have_print(struct buf *b, unsigned n, const struct msg_have *m);

/* PUT: chunks one after another; iterate with msg_put_next until *more. */
struct msg_chunk {
	struct id id;
	uint8_t codec;
	uint32_t raw_len;
	uint32_t stored_len;
	const uint8_t *data;
};
enum { MSG_CHUNK_HEADER_LEN = 44 };
int msg_put_next(struct rd *r, struct msg_chunk *out, struct err *e);
void msg_put_add(struct buf *b, const struct msg_chunk *c);

struct msg_put_done {
	uint32_t nstored; /* chunks that were new */
	uint64_t stored;  /* their bytes in packs */
};
int msg_put_done_parse(
    const uint8_t *p, size_t len, struct msg_put_done *out, struct err *e);
void msg_put_done_print(struct buf *b, const struct msg_put_done *m);

struct msg_node_done {
	bool taken;
	uint8_t missing[NODE_FANOUT / 8]; /* if not: children to send first */
};
int msg_node_done_parse(
    const uint8_t *p, size_t len, struct msg_node_done *out, struct err *e);
void msg_node_done_print(struct buf *b, const struct msg_node_done *m);

/*
 * TREE: node ${index} of ${level} of volume ${volume}: it covers the slices
 * from index * node_span(level) on.  The tree is the parent's in a backup job
 * (volumes numbered as in begin), the backup's in a restore.
 */
struct msg_tree {
	uint16_t volume;
	uint8_t level;
	uint64_t index;
};
int msg_tree_parse(
    const uint8_t *p, size_t len, struct msg_tree *out, struct err *e);
void msg_tree_print(struct buf *b, const struct msg_tree *m);

/*
 * READ: a part of ${n} slices' data, as it lies in the store: what one pack
 * holds of them comes together.  Parts of the same slices are asked for by any
 * lanes of the job; together they are all.
 */
struct msg_read {
	uint16_t volume;
	uint8_t part;
	uint8_t nparts; /* at least 1 */
	uint64_t slice;
	uint32_t n;
};
int msg_read_parse(
    const uint8_t *p, size_t len, struct msg_read *out, struct err *e);
void msg_read_print(struct buf *b, const struct msg_read *m);

struct msg_data {
	uint64_t slice;
	uint8_t codec;
	uint32_t raw_len;
	const uint8_t *data;
	size_t len;
};
enum { MSG_DATA_HEADER_LEN = 16 };
int msg_data_parse(
    const uint8_t *p, size_t len, struct msg_data *out, struct err *e);
void msg_data_print(struct buf *b, const struct msg_data *m);

/* READ_DONE: how many DATA went before it. */
int msg_read_done_parse(
    const uint8_t *p, size_t len, uint32_t *ndata, struct err *e);
void msg_read_done_print(struct buf *b, uint32_t ndata);

/** ERROR: sets ${e} to what the peer said (code and text) and returns 0. */
int msg_error_parse(const uint8_t *p, size_t len, struct err *e);
void msg_error_print(struct buf *b, const struct err *e);

#endif
