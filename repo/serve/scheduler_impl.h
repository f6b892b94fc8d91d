/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler_impl: what the files of the scheduler share. */
#ifndef REPO_SERVE_SCHEDULER_IMPL_H
#define REPO_SERVE_SCHEDULER_IMPL_H

#include <pthread.h>

#include "repo/dispatch/schedule_file.h"
#include "repo/serve/scheduler.h"

enum {
	SCHEDULER_TICK_MS = 1000,
	SCHEDULER_REFRESH_MS = 2000,   /* which VMs there are: of agents, */
	SCHEDULER_CATALOG_MS = 10000,  /* of the catalog */
	SCHEDULER_FORGET_MS = 86400000 /* one that is nowhere any more */
};

/* A VM that is known: to an agent, by a backup, or by its name in the
 * settings. */
struct scheduled {
	struct schedule_vm v;
	enum schedule_state state;
	uint64_t until;  /* look again then, by the wall clock; 0: now */
	uint64_t job;    /* while v.runs */
	uint64_t missed; /* to be told of; 0 */
	bool made_up;
	uint64_t seen_ms; /* it was known then, by now_ms() */
};

/* A job that has ended. */
struct scheduler_end {
	struct scheduler_end *next;
	uint64_t job;
	enum job_state state;
	char text[ERR_TEXT_MAX];
};

struct pruner;

struct scheduler {
	struct serve *srv;
	int dirfd;
	pthread_t thread;
	struct pruner *pruner;

	/* The thread's. */
	const struct settings *settings; /* that it looked by */
	bool derive;                     /* there was no file */
	bool failed;                     /* it could not be written */
	uint64_t saved_ms;
	uint64_t refreshed_ms, catalog_ms;
	uint64_t last_wall, last_ms;
	atomic_bool unsaved;     /* any thread sets it */
	_Atomic uint64_t looked; /* by the wall clock; any thread reads */

	/* By VM.  The thread alone changes it, with mu; it reads without. */
	pthread_mutex_t mu;
	struct scheduled **vm;
	size_t n, cap;

	pthread_mutex_t ends_mu; /* guards all below; under no other */
	pthread_cond_t changed;
	struct scheduler_end *ends, **ends_last;
	bool stopping;
};

/** scheduler_find(s, vm): or NULL. */
struct scheduled *scheduler_find(struct scheduler *s, const char *vm);

/** scheduler_refresh(s): VMs that are new, and those that are gone. */
void scheduler_refresh(struct scheduler *s);

/** scheduler_pruned(s, vm, now, removed, stopped): told by the pruner. */
void scheduler_pruned(struct scheduler *s, const char *vm, uint64_t now,
    uint64_t removed, const char *stopped);

/** pruner_start(s, out): a thread for scheduler_pruned.  ERR_SYS.
 * pruner_add(p, vm): that VM's rules are to be applied.
 * pruner_stop(p): it has ended, and is freed. */
int pruner_start(struct scheduler *s, struct pruner **out);
void pruner_add(struct pruner *p, const char *vm);
void pruner_stop(struct pruner *p);

#endif
