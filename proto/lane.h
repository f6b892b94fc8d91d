/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane: frames over one byte stream; how agent, console and daemon talk.
 *
 * A lane belongs to one thread for its whole life: who opened it uses it and
 * closes it.  The one exception is lane_shutdown.
 *
 * Frames are built in the lane's own send buffer and leave together: when the
 * buffer passes LANE_FLUSH_LEN, at lane_flush, or when lane_recv would have to
 * wait.  So pipelined requests and their answers cost few system calls.
 */
#ifndef PROTO_LANE_H
#define PROTO_LANE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/frame.h"

enum {
	LANE_FLUSH_LEN = 256 << 10,
	/* Receive buffer, and so the SSH window: bounds memory a lane. */
	LANE_WINDOW = 4 << 20
};

struct lane;

/*
 * A transport.  Each call returns 0 or sets ${e} and returns its code.
 * read: wait up to ${timeout_ms} (-1: for ever, 0: do not wait) for at least
 * one byte, store at most ${len}, tell how many: ERR_TIMEOUT, ERR_CLOSED (the
 * peer ended or was cut off), ERR_SYS.  write: all of it, or ERR_CLOSED,
 * ERR_TIMEOUT (the peer took nothing for LANE_STALL_MS), ERR_SYS.
 */
struct lane_ops {
	int (*read)(void *t, void *data, size_t len, int timeout_ms,
	    size_t *got, struct err *e);
	int (*write)(void *t, const void *data, size_t len, struct err *e);
	void (*shutdown)(void *t); /* any thread: the others then fail */
	void (*linger)(void *t, unsigned ms); /* only close comes after it */
	void (*close)(void *t);               /* and free */
};

enum { LANE_STALL_MS = 120000 };

/**
 * lane_new(ops, t, peer): a lane over transport ${t}, which is the lane's
 * from here on.  ${peer} is copied: who is there, for messages.
 */
struct lane *lane_new(const struct lane_ops *ops, void *t, const char *peer);

/** lane_peer(l): who is at the other end, for messages. */
const char *lane_peer(const struct lane *l);

/**
 * lane_begin(l, type, request): start a frame; append its payload to the
 * buffer returned (append only), then lane_end.  Exactly one frame is built
 * at a time.
 */
struct buf *lane_begin(struct lane *l, uint8_t type, uint32_t request);

/** lane_end(l, e): the frame is complete.  0 or what the transport said. */
int lane_end(struct lane *l, struct err *e);

/** lane_cancel(l): forget the frame that was begun. */
void lane_cancel(struct lane *l);

/** lane_send(l, type, request, data, len, e): begin, append, end. */
int lane_send(struct lane *l, uint8_t type, uint32_t request, const void *data,
    size_t len, struct err *e);

/** lane_flush(l, e): everything built so far leaves now. */
int lane_flush(struct lane *l, struct err *e);

/**
 * lane_recv(l, timeout_ms, f, e): the next frame.  Flushes first if it has to
 * wait.  f->payload is valid until the next lane_recv.  0; ERR_TIMEOUT (the
 * lane is still good); ERR_CLOSED; ERR_PROTO and ERR_LIMIT (garbage: close
 * it); ERR_SYS.  The text names the peer.
 */
int lane_recv(struct lane *l, int timeout_ms, struct frame *f, struct err *e);

/** lane_look(l, e): whether the peer is still there, while an answer to it is
 * being made: 0, or ERR_CLOSED and what the transport says.  The payload of the
 * last frame is gone, as after lane_recv. */
int lane_look(struct lane *l, struct err *e);

/** lane_traffic(l, &in, &out): payload and header bytes that arrived and left
 * so far, be it in the middle of a frame. */
void lane_traffic(const struct lane *l, uint64_t *in, uint64_t *out);

/** lane_limit(l, len): from here on a frame may have so many bytes of payload
 * at most (ERR_LIMIT), and little more than one is read ahead. */
void lane_limit(struct lane *l, uint32_t len);

/* Whether bytes move: told by any number of lanes, read by any thread. */
struct lane_meter {
	atomic_uint_fast64_t moved; /* bytes, as the transport took them */
	atomic_uint waiting;        /* lanes that want to write, or to read */
};

/** lane_measure(l, m): from here on ${l} tells ${m}, which outlives it. */
void lane_measure(struct lane *l, struct lane_meter *m);

/*
 * Keeps a lane to a pace.  pay: wait up to ${timeout_ms} for leave to have
 * moved some of ${len} bytes, in or out: how many; 0: not yet.  window: how
 * much the peer should be let send ahead, at most LANE_WINDOW.
 */
struct lane_pace {
	size_t (*pay)(void *arg, size_t len, int timeout_ms);
	size_t (*window)(void *arg);
	void *arg;
};

/** lane_pace(l, p): from here on.  What arrived is paid for before more is
 * read, what leaves before it does; lane_recv returns ERR_TIMEOUT meanwhile, as
 * if nothing came. */
void lane_pace(struct lane *l, const struct lane_pace *p);

/** lane_shutdown(l): any thread; its owner's calls then return ERR_CLOSED. */
void lane_shutdown(struct lane *l);

/**
 * lane_linger(l, ms): for the end that had the last word, before it closes:
 * flush, then drop what still comes until the peer has closed, for ${ms} at
 * most.  Without it a peer that is still sending may never read that word.
 */
void lane_linger(struct lane *l, unsigned ms);

/** lane_close(l): flush nothing, end the connection, free.  NULL is nothing. */
void lane_close(struct lane *l);

#endif
