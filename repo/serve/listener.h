/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: takes connections and gives each a thread; counts and ends them.
 *
 * One thread accepts, and once a second looks after silent jobs, changed keys
 * and threads that have ended.  No thread is ever left unjoined.
 */
#ifndef REPO_SERVE_LISTENER_H
#define REPO_SERVE_LISTENER_H

#include "repo/serve/serve.h"

enum { LISTEN_MAX = 16 };

struct listener_options {
	const char *const *addr; /* "ADDR:PORT", "[ADDR]:PORT", "PORT" */
	unsigned naddr;          /* 0: every address, port LANE_SSH_PORT */
	bool no_ssh;
	const char *dir;      /* the repository: for its socket */
	int dirfd;            /* the same; for the file "port" */
	const char *host_key; /* private key file */
};

struct listener;

/**
 * listener_start(srv, o, out, e): bind all, then accept.  The ports are in the
 * file REPO/port, one a line, while it runs.  Options are not kept but for
 * host_key.  ERR_INVAL (an address), ERR_BUSY (in use), ERR_SYS.
 */
int listener_start(struct serve *srv, const struct listener_options *o,
    struct listener **out, struct err *e);

/** listener_addresses(l): "0.0.0.0:7722, [::]:7722, REPO/socket". */
const char *listener_addresses(const struct listener *l);

/** listener_quiet_ms(l): how long ago the accepting thread last looked around,
 * which it does once a second where nothing keeps it.  Any thread. */
uint64_t listener_quiet_ms(struct listener *l);

/** listener_reload(l): look at the keys now.  Any thread. */
void listener_reload(struct listener *l);

/**
 * listener_stop(l, within_ms): accept no more, let lanes that have set
 * srv->stopping hear of it for a moment, cut off the others, join all.  False:
 * some were not gone in time; ${l} is then not freed.
 */
bool listener_stop(struct listener *l, unsigned within_ms);

#endif
