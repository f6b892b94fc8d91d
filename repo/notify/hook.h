/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook: the thread that hands events to a program, one after the other.
 *
 * What the program does, or that it is not there, is logged and disturbs
 * nothing else.  Any thread may call what is here.
 */
#ifndef REPO_NOTIFY_HOOK_H
#define REPO_NOTIFY_HOOK_H

#include <stdbool.h>

#include "repo/notify/events.h"
#include "repo/notify/hook_run.h"

enum { HOOK_LAST_KEPT = 16 };

struct hook;

/** hook_start(v, repo, out): takes all events of ${v} from here on.  ${repo} is
 * the folder of the repository, for the program.  ERR_SYS. */
int hook_start(struct events *v, const char *repo, struct hook **out);

/** hook_stop(h, within_ms): closes ${v}, lets what waits be told for so long,
 * ends the program that still runs, joins, frees.  NULL is nothing. */
void hook_stop(struct hook *h, unsigned within_ms);

/** hook_set(h, command, timeout_s): from the next event on.  "": none. */
void hook_set(struct hook *h, const char *command, uint64_t timeout_s);

/* How an event was told. */
struct hook_outcome {
	enum event_kind kind;
	uint64_t number;
	uint64_t at; /* seconds since 1970 */
	unsigned ms;
	int code;                /* 0: the program has ended; see hook_run */
	int status;              /* of its exit */
	bool told;               /* there is a hook */
	char text[ERR_TEXT_MAX]; /* a line of the program, or why not */
};

struct hook_status {
	char *command; /* the caller's */
	uint64_t timeout_s;
	uint64_t runs;
	uint64_t failures; /* of them */
	uint64_t now;      /* number of the event that is being told, or 0 */
	unsigned nlast;
	struct hook_outcome last[HOOK_LAST_KEPT]; /* newest first */
};
void hook_status(struct hook *h, struct hook_status *out);

/** hook_wait(h, number, timeout_ms, out): how that event was told.
 * ERR_TIMEOUT; ERR_NOENT: that is too long ago. */
int hook_wait(
    struct hook *h, uint64_t number, int timeout_ms, struct hook_outcome *out);

#endif
