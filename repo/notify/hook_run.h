/* SPDX-License-Identifier: Apache-2.0 */
/* hook_run: run a program once, and see it end in time. */
#ifndef REPO_NOTIFY_HOOK_RUN_H
#define REPO_NOTIFY_HOOK_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

enum {
	HOOK_WORDS_MAX = 16, /* of the command */
	HOOK_LINE_MAX = 256, /* of its stderr's last line that is kept */
	HOOK_GRACE_MS = 2000 /* from SIGTERM to SIGKILL */
};

struct hook_call {
	const char *command;     /* a path and words, with blanks between */
	const char *const *args; /* more words, then NULL */
	const char *const *env;  /* "NAME=VALUE", then NULL */
	const char *input;       /* for its stdin */
	unsigned timeout_ms;
	int wake; /* readable: end it now, as if the time were over; or -1 */
};

struct hook_result {
	int status;                   /* of its exit, or 128 and the signal */
	unsigned ms;                  /* that it took */
	char line[HOOK_LINE_MAX + 1]; /* last one on its stderr, or "" */
};

/**
 * hook_run(c, out, e): the program in a process group of its own, with these
 * words and this environment, stdout at /dev/null, no other file open, signals
 * as after a login, in the folder /.  There is no shell.  It need not read its
 * stdin.  0: it ended by itself, whatever its status; ERR_TIMEOUT: it had to be
 * killed, and its whole group with it; ERR_NOENT, ERR_DENIED, ERR_SYS: it could
 * not be started.  SIGPIPE is ignored by the caller.
 */
int hook_run(const struct hook_call *c, struct hook_result *out, struct err *e);

/** hook_check(command, e): is it a program that can be run?  ERR_INVAL,
 * ERR_NOENT, ERR_DENIED. */
int hook_check(const char *command, struct err *e);

#endif
