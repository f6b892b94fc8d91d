/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: connections with their threads: how many there may be, and how they
 * are ended from outside.  A part of the listener.
 */
#ifndef REPO_SERVE_CONN_H
#define REPO_SERVE_CONN_H

#include <pthread.h>

#include "repo/serve/serve.h"

struct conn;

struct conns {
	struct serve *srv;
	const char *host_key;
	int wake; /* eventfd: told when a thread has ended */
	pthread_mutex_t mu;
	pthread_cond_t gone;
	struct conn *first; /* guarded by mu, with all below */
	unsigned nunknown;  /* not authenticated yet */
	unsigned nfresh;    /* authenticated; did not say what for */
	unsigned nssh;      /* that work */
	unsigned nlocal;    /* likewise, of the local socket */
	unsigned nagents;   /* of connected agents */
};

void conns_init(
    struct conns *c, struct serve *srv, const char *host_key, int wake);
void conns_fini(struct conns *c);

/** conns_full(c): so many have not said who they are that no more are taken
 * for now: they wait in the system's queue, and many lanes that one agent opens
 * at once are none the worse for it.  ${c->wake} is told when that changes. */
bool conns_full(struct conns *c);

/** conns_hurry(c, within_ms): end those that have not said who they are for
 * longer: while others wait for their places. */
void conns_hurry(struct conns *c, uint64_t within_ms);

/** conns_start(c, fd, local): a thread for the accepted socket. */
void conns_start(struct conns *c, int fd, bool local);

/** conn_works(k, e): the lane is one that works from here on; conn_serves: an
 * agent's.  ERR_LIMIT.  Its own thread. */
int conn_works(struct conn *k, struct err *e);
int conn_serves(struct conn *k, struct err *e);

/** conns_reap(c): join those that have ended.  Accepting thread only. */
void conns_reap(struct conns *c);

/** conns_cut_changed(c): end the lanes of keys that are not as they were when
 * the lane began.  conns_cut_all(c): every lane. */
void conns_cut_changed(struct conns *c);
void conns_cut_all(struct conns *c);

/** conns_wait(c, until_ms): join until none is left, or the time has come:
 * false.  After the accepting thread has ended. */
bool conns_wait(struct conns *c, uint64_t until_ms);

#endif
