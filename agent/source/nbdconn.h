/* SPDX-License-Identifier: Apache-2.0 */
/* nbdconn: one connection to an NBD server on a Unix socket, for reading. */
#ifndef AGENT_SOURCE_NBDCONN_H
#define AGENT_SOURCE_NBDCONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

struct nbd_handle;

enum {
	/* Bytes of one read.  Half and twice of it were slower with QEMU. */
	NBDCONN_REQUEST = 256 << 10,
	NBDCONN_DEPTH = 16 /* under way at once: what QEMU takes */
};

enum nbdconn_context { NBDCONN_ALLOCATION, NBDCONN_DIRTY, NBDCONN_NCONTEXTS };

/* What all connections of a source share.  Constant, but for ${stop}. */
struct nbdconn_peer {
	char *socket;
	char *export;
	char *dirty; /* a context's name; NULL: none is wanted */
	int timeout_ms;
	atomic_bool stop; /* by any thread: all waits end with ERR_CLOSED */
};

/* Of one thread at a time. */
struct nbdconn {
	struct nbdconn_peer *peer;
	struct nbd_handle *h; /* NULL: it is no more */
	uint64_t size;
	uint32_t align;   /* reads begin and end at multiples of it */
	uint32_t request; /* bytes of one read */
	bool has[NBDCONN_NCONTEXTS];
	bool df;    /* the server can be told to answer in one piece */
	bool multi; /* further connections see the same */
};

/*
 * Whatever ends a connection (ERR_TIMEOUT, ERR_CLOSED, ERR_PROTO) closes it:
 * nothing is written into a caller's memory after a return, and ${h} is NULL.
 * Texts begin with socket and export.
 */

/**
 * nbdconn_open(c, peer, timeout_ms, e): connect and negotiate.
 * ERR_NOENT (no socket, no such export, or no such context), ERR_DENIED,
 * ERR_CLOSED, ERR_TIMEOUT, ERR_PROTO, ERR_UNSUP (lacks structured replies),
 * ERR_LIMIT, ERR_SYS.
 */
int nbdconn_open(struct nbdconn *c, struct nbdconn_peer *peer, int timeout_ms,
    struct err *e);

/**
 * nbdconn_read(c, data, len, off, e): exactly ${len} bytes, in many requests
 * at once; within the export.  No request goes unanswered for longer than
 * ${timeout_ms} of the peer.  ERR_TIMEOUT, ERR_CLOSED, ERR_PROTO; ERR_SYS: the
 * server could not read, the connection goes on.
 */
int nbdconn_read(
    struct nbdconn *c, void *data, size_t len, uint64_t off, struct err *e);

/* From ${off} on, in order and without gaps for each context. */
typedef void nbdconn_extent_fn(void *arg, enum nbdconn_context context,
    uint64_t off, uint64_t len, uint32_t flags);

/**
 * nbdconn_status(c, off, len, fn, arg, e): what the server's contexts say of
 * ${len} bytes (below 4 GiB) at ${off}.  A server that tells it in
 * unreasonably small pieces is asked a bounded number of times; ${fn} then
 * does not get to the end.  As nbdconn_read.
 */
int nbdconn_status(struct nbdconn *c, uint64_t off, uint64_t len,
    nbdconn_extent_fn *fn, void *arg, struct err *e);

/** nbdconn_close(c): does not wait.  Also of one that is no more. */
void nbdconn_close(struct nbdconn *c);

#endif
