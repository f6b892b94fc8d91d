/* SPDX-License-Identifier: Apache-2.0 */
/* serve: what every lane of the daemon works with. */
#ifndef REPO_SERVE_SERVE_H
#define REPO_SERVE_SERVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/version.h"
#include "repo/catalog/catalog.h"
#include "repo/catalog/domain.h"
#include "repo/catalog/locks.h"
#include "repo/dispatch/queue.h"
#include "repo/notify/hook.h"
#include "repo/reclaim/reclaimer.h"
#include "repo/reclaim/scrub.h"
#include "repo/retain/guard.h"
#include "repo/serve/jobs.h"
#include "repo/serve/keyring.h"
#include "repo/settings/settings.h"
#include "repo/store/store.h"

enum {
	SERVE_LANES_MAX = 64,          /* that have work, in all */
	SERVE_LANES_CONSOLE = 4,       /* of which kept for the local socket */
	SERVE_UNKNOWN_MAX = 64,        /* connections not authenticated yet */
	SERVE_FRESH_MAX = 256,         /* authenticated; did not say what for */
	SERVE_AGENTS_MAX = AGENTS_MAX, /* lanes of connected agents */
	SERVE_AGENT_IDLE_MS = 60000,   /* one of these, between two calls */
	SERVE_HELLO_MS = 10000,        /* from there to the first call */
	SERVE_IDLE_MS = 120000,        /* a lane without a job */
	SERVE_LINGER_MS = 10000,       /* a lane whose job has ended */
	SERVE_FAREWELL_MS = 4000, /* for a peer to read why its lane ends */
	SERVE_TICK_MS = 500       /* a lane that waits looks around */
};

#define SERVE_PROGRAM "backstayd"

/* Set before the first lane starts; the parts are safe for any thread. */
struct serve {
	struct store *store;
	struct catalog *catalog;
	struct locks *locks;
	struct domains *domains;
	struct keyring *keyring;
	struct jobs *jobs;
	struct numbers *numbers;
	struct queue *queue;
	struct pace *pace;
	struct scheduler *scheduler;
	struct reclaimer *reclaimer;
	struct scrubber *scrubber;
	struct verifiers *verifiers;
	struct guard *guard;
	struct settings_now *settings;
	struct events *events; /* NULL: nobody is told */
	struct hook *hook;
	const int *audit; /* the repository's folder; NULL: nothing is noted */
	uint64_t since;   /* seconds since 1970 */
	_Atomic uint64_t keep_incomplete; /* seconds */
	_Atomic uint64_t drop_ms;         /* now_ms() of the last delete */
	_Atomic uint64_t until_ms;        /* a stop leaves time until then */
	/* Calls that were refused in that minute. */
	_Atomic uint64_t refused_minute;
	atomic_uint nrefused;
	_Atomic uint64_t bytes_in, bytes_out; /* of all lanes */
	atomic_uint nlanes;
	atomic_bool stopping;
};

/** serve_dropped(srv): backups were let go of: see that it is reclaimed. */
void serve_dropped(struct serve *srv);

/** serve_let_go(srv, j): what a job owns, for jobs_new. */
void serve_let_go(void *srv, struct job *j);

#endif
