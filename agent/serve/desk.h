/* SPDX-License-Identifier: Apache-2.0 */
/*
 * desk: tasks in hand, between the thread that talks to the daemon and the main
 * thread, which alone has children.  A task stays from the moment it is given
 * until the daemon was told of its end, so that at each moment its list is what
 * "running" says.  Any thread; nothing waits under its lock.
 */
#ifndef AGENT_SERVE_DESK_H
#define AGENT_SERVE_DESK_H

#include "agent/serve/task.h"

enum { DESK_TASKS_MAX = 128 };

struct desk;

struct desk *desk_new(void);
void desk_free(struct desk *d);

/** desk_fd(d): readable when there is something for the main thread to look
 * at, until desk_seen(d). */
int desk_fd(const struct desk *d);
void desk_seen(struct desk *d);

/** desk_wake(d): have the main thread look. */
void desk_wake(struct desk *d);

/* --- by the thread that talks */

/** desk_give(d, t): a new one; what ${t} has is the desk's from here on. False:
 * it is there already, or there are too many; ${t} is the caller's. */
bool desk_give(struct desk *d, struct task *t);

/** desk_cancel(d, token): an unknown one is nothing. */
void desk_cancel(struct desk *d, const char *token);

/** desk_running(d): tokens of all; the caller's. */
json_t *desk_running(struct desk *d);

/* One that has ended. */
struct desk_end {
	char token[TASK_TOKEN_LEN + 1];
	bool ok;
	char text[TASK_TEXT_MAX];
};

/** desk_ended(d, out): some task that has ended; false: there is none.
 * desk_told(d, token): the daemon knows; forget it. */
bool desk_ended(struct desk *d, struct desk_end *out);
void desk_told(struct desk *d, const char *token);

/* --- by the main thread */

/** desk_start(d, out): the oldest that waits now runs; false: none waits.
 * ${out} is the caller's. */
bool desk_start(struct desk *d, struct task *out);

/** desk_to_stop(d, token): one that runs and was cancelled, each once; false:
 * there is none.  Those that waited have ended by then. */
bool desk_to_stop(struct desk *d, char token[TASK_TOKEN_LEN + 1]);

/** desk_end(d, token, ok, text): it has ended. */
void desk_end(struct desk *d, const char *token, bool ok, const char *text);

/** desk_close(d, text): nothing is given any more; what waits ends with that
 * text. */
void desk_close(struct desk *d, const char *text);

/** desk_counts(d, n, nrunning): of all, and of those that run or wait. */
void desk_counts(struct desk *d, unsigned *n, unsigned *nrunning);

#endif
