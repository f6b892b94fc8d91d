/* SPDX-License-Identifier: Apache-2.0 */
/* console: what the commands of `backstay` share.  One thread. */
#ifndef REPO_CONSOLE_CONSOLE_H
#define REPO_CONSOLE_CONSOLE_H

#include <jansson.h>
#include <stdbool.h>

#include "proto/base/err.h"
#include "proto/lane.h"
#include "proto/version.h"

/* What a command ends with. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2, EXIT_DAMAGE = 3 };

struct console;

struct command {
	const char *name;
	const char *args;  /* behind the name, in the usage */
	const char *about; /* one line */
	const char *help;  /* what --help says below the usage; or NULL */
	int (*run)(struct console *c, int argc, char **argv);
};

struct console {
	const char *dir; /* the repository; or NULL: console_dir asks for it */
	const struct command *command;
	struct lane *lane; /* to the daemon, once console_call needed it */
	uint32_t request;
	int wait_ms; /* how long the daemon may wait in a call; -1: for ever */
};

/* The commands, one a file. */
int cmd_init(struct console *c, int argc, char **argv);
int cmd_audit(struct console *c, int argc, char **argv);
int cmd_key(struct console *c, int argc, char **argv);
int cmd_list(struct console *c, int argc, char **argv);
int cmd_show(struct console *c, int argc, char **argv);
int cmd_status(struct console *c, int argc, char **argv);
int cmd_jobs(struct console *c, int argc, char **argv);
int cmd_watch(struct console *c, int argc, char **argv);
int cmd_top(struct console *c, int argc, char **argv);
int cmd_history(struct console *c, int argc, char **argv);
int cmd_agents(struct console *c, int argc, char **argv);
int cmd_backup(struct console *c, int argc, char **argv);
int cmd_cancel(struct console *c, int argc, char **argv);
int cmd_restore(struct console *c, int argc, char **argv);
int cmd_export(struct console *c, int argc, char **argv);
int cmd_import(struct console *c, int argc, char **argv);
int cmd_fsck(struct console *c, int argc, char **argv);
int cmd_verify(struct console *c, int argc, char **argv);
int cmd_scrub(struct console *c, int argc, char **argv);
int cmd_delete(struct console *c, int argc, char **argv);
int cmd_prune(struct console *c, int argc, char **argv);
int cmd_protect(struct console *c, int argc, char **argv);
int cmd_unprotect(struct console *c, int argc, char **argv);
int cmd_lock(struct console *c, int argc, char **argv);
int cmd_schedule(struct console *c, int argc, char **argv);
int cmd_gc(struct console *c, int argc, char **argv);
int cmd_hold(struct console *c, int argc, char **argv);
int cmd_notify(struct console *c, int argc, char **argv);
int cmd_set(struct console *c, int argc, char **argv);

/** console_misuse(c, fmt, ...): what is wrong with the command line, and how
 * it is; returns EXIT_MISUSE. */
int console_misuse(const struct console *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** console_fail(e): say ${e} on stderr; returns EXIT_FAILED. */
int console_fail(const struct err *e);

/** console_help(c): the usage of its command on stdout; returns EXIT_DONE. */
int console_help(const struct console *c);

/** console_dir(c): the repository, by -r or BACKSTAY_REPO; NULL, and it was
 * said on stderr, where neither is given (EXIT_MISUSE). */
const char *console_dir(const struct console *c);

/**
 * console_plain(c, argc, argv, most, &json): for commands whose options are
 * --json and --help only.  The number of words left, from optind on, at most
 * ${most}; or -1: end with ${*status}.
 */
int console_plain(const struct console *c, int argc, char **argv, int most,
    bool *json, int *status);

/** console_wait(c, text): the value of --wait[=SECONDS], for the calls that
 * follow: they have the member "wait".  0, or EXIT_MISUSE: it was said. */
int console_wait(struct console *c, const char *text);

/**
 * console_call(c, ask, answer, e): connect to the daemon if that was not done,
 * say hello, and call.  ${ask} is consumed; ${answer} is the caller's
 * (json_decref).  What the daemon says, or ERR_NOENT: none is running.
 */
int console_call(
    struct console *c, json_t *ask, json_t **answer, struct err *e);

/** console_pages(c, ask, key, all, last, e): ask page by page, and append what
 * each answer has as ${key} to ${all}: also those before one that failed.
 * ${ask} is consumed; ${last}, or NULL, is the last answer, the caller's. */
int console_pages(struct console *c, json_t *ask, const char *key, json_t *all,
    json_t **last, struct err *e);

/** console_list(c, vm, incomplete, out, e): all that the call "list" answers,
 * page by page, as one array, the caller's.  ${vm} NULL: of all. */
int console_list(struct console *c, const char *vm, bool incomplete,
    json_t **out, struct err *e);

/** console_agents(c, list, e): append all that the call "agents" answers. */
int console_agents(struct console *c, json_t *list, struct err *e);

/** console_op(name): a question to fill and to call with. */
json_t *console_op(const char *name);

void console_close(struct console *c);

/** console_print_reclaim(r): the member "reclaim" of an answer, for people. */
void console_print_reclaim(const json_t *r);

/** console_print_rates(o): the member "bwlimit" of an answer, for people. */
void console_print_rates(const json_t *o);

/** console_print_json(j): readable, on stdout, with a newline. */
void console_print_json(const json_t *j);

/* Getters for answers of our own daemon: "" or 0 where it is missing. */
const char *answer_str(const json_t *j, const char *key);
uint64_t answer_u64(const json_t *j, const char *key);

#endif
