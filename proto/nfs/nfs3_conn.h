/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nfs3_conn: one connection to the server, in a thread of its own: libnfs's
 * contexts belong to one thread.  It sends calls, as many at once as are
 * there, and sends them again over a new connection if the old one breaks.
 * A part of nfs3.
 */
#ifndef PROTO_NFS_NFS3_CONN_H
#define PROTO_NFS_NFS3_CONN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

/* In this order. */
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

#include "proto/nfs/nfs3.h"

/*
 * Calls under way on one connection: few where answers come at once, as what
 * waits in a queue has left the processors' caches until it is sent; more for
 * each millisecond of the way.
 */
enum {
	NFS3_CONNS = 4,
	NFS3_FLYING_MIN = 4,
	NFS3_FLYING_PER_MS = 2,
	NFS3_FLYING_MAX = NFS3_WAY_MAX / NFS3_IO_SIZE / NFS3_CONNS
};

/* A call; whoever makes it keeps it until ${done}. */
struct nfs3_op {
	TAILQ_ENTRY(nfs3_op) link;
	struct nfs3_conn *conn;
	/* Hand it to libnfs, with ${cb} and ${op}; not 0: no memory. */
	int (*send)(struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op);
	/* ${res} is libnfs's answer, which begins with its nfsstat3; NULL: the
	 * deadline has come, or, with ${fenced}, changes are refused for good.
	 * In the connection's thread: must not wait. */
	void (*done)(struct nfs3_op *op, const void *res);
	bool changes; /* goes by nfs3_changes_until */
	bool fenced;
	uint64_t deadline_ms;   /* UINT64_MAX: none */
	uint64_t not_before_ms; /* the server asked for some time */
	uint64_t sent_ms;
	bool again; /* it was sent before, and may have been done */
};

/* Of all connections of a client: how the server is waited for, and what is
 * known against it. */
struct nfs3_limits {
	atomic_uint stall_ms; /* so long no answer: connect anew */
	/* now_ms() from which on nothing is sent that changes something;
	 * UINT64_MAX: never, NFS3_FENCED: all of that is given up. */
	_Atomic uint64_t changes_until;
	_Atomic uint64_t all_until; /* from then on every call is given up */
	pthread_mutex_t mu;
	char trouble[160]; /* guarded by mu: since the last answer */
	atomic_bool troubled;
};

#define NFS3_FENCED 0

TAILQ_HEAD(nfs3_ops, nfs3_op);

struct nfs3_conn {
	const struct nfs3_url *url;
	struct nfs3_limits *limits;
	pthread_t thread;
	int wake;
	atomic_uint load; /* calls given and not done */
	atomic_bool stop;
	pthread_mutex_t mu;
	struct nfs3_ops inbox;  /* guarded by mu */
	struct nfs3_conn *next; /* the client's, in a ring; set before start */
	/* It was refused: until then calls go by others, if one is not. */
	_Atomic uint64_t bad_until_ms;

	/* The thread's: */
	struct nfs_context *ctx;
	struct rpc_context *rpc;
	bool up;     /* else, with ctx: being connected */
	bool broken; /* to be given up after rpc_service */
	bool served; /* this connection has had an answer */
	struct nfs3_ops flying;
	unsigned nflying;
	uint64_t passed_ms; /* when what was answered was sent, at the latest */
	uint64_t way_ms;    /* the quickest answer of this connection took */
	uint64_t heard_ms;
	uint64_t next_try_ms;
	unsigned backoff_ms;
	struct nfs3_ops todo;
};

/** nfs3_conn_start(c, url, limits): ${c} is zero but for ${next}.  ERR_SYS.
 * nfs3_conn_stop(c): all calls are done. */
int nfs3_conn_start(struct nfs3_conn *c, const struct nfs3_url *url,
    struct nfs3_limits *limits);
void nfs3_conn_stop(struct nfs3_conn *c);

/** nfs3_conn_give(c, op): any thread.  nfs3_conn_wake(c): to look again. */
void nfs3_conn_give(struct nfs3_conn *c, struct nfs3_op *op);
void nfs3_conn_wake(struct nfs3_conn *c);

/* libnfs has statics that contexts and connections change. */
extern pthread_mutex_t nfs3_libnfs_mu;

#endif
