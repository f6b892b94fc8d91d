/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: the processes that do tasks: this program again, one for each, so that
 * one that crashes takes no other with it.  Main thread only, which must live
 * as long as the process: a child is told to end (SIGTERM) when the thread
 * that started it does, however that comes.
 */
#ifndef AGENT_SERVE_CHILD_H
#define AGENT_SERVE_CHILD_H

#include <poll.h>

#include "agent/serve/task.h"

enum {
	CHILD_MAX = CONF_JOBS_MAX,
	CHILD_KILL_MS = 20000, /* SIGKILL so long after SIGTERM */
	/* Pipes of children that ended, whose guards go on (guard.h) and may
	 * have something to say. */
	CHILD_LEFT_MAX = 32,
	CHILD_FDS_MAX = CHILD_MAX + CHILD_LEFT_MAX
};

struct children;

/** children_new(program, kill_ms): what to run; NULL: this program. */
struct children *children_new(const char *program, unsigned kill_ms);

/** children_free(c): none is left. */
void children_free(struct children *c);

/**
 * children_start(c, t, w, e): run ${w} with BACKSTAY_AGENT_TASK; its stderr
 * goes to our log, with the job's number.  ERR_LIMIT, ERR_SYS.
 */
int children_start(struct children *c, const struct task *t,
    const struct task_words *w, struct err *e);

/** children_count(c): how many run. */
unsigned children_count(const struct children *c);

/** children_stop(c, token): SIGTERM, and SIGKILL later; NULL: all. */
void children_stop(struct children *c, const char *token);

/** children_fds(c, out): what they can be heard by, CHILD_FDS_MAX at most.
 * children_read(c): what is there now. */
unsigned children_fds(struct children *c, struct pollfd *out);
void children_read(struct children *c);

/** children_kill(c): those that were to end and did not.  Returns in how many
 * ms to ask again; -1: not at all. */
int children_kill(struct children *c);

/* One has ended. */
typedef void children_ended(
    void *arg, const char *token, bool ok, const char *text);

/** children_reap(c, fn, arg): after SIGCHLD, or now and then. */
void children_reap(struct children *c, children_ended *fn, void *arg);

#endif
