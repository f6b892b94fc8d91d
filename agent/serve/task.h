/* SPDX-License-Identifier: Apache-2.0 */
/* task: what the daemon wants this host to do, and with what command. */
#ifndef AGENT_SERVE_TASK_H
#define AGENT_SERVE_TASK_H

#include "agent/serve/inventory.h"

enum {
	TASK_TOKEN_LEN = 32, /* hex digits */
	TASK_WORDS_MAX = 256,
	TASK_TEXT_MAX = ERR_TEXT_MAX
};

struct task {
	char token[TASK_TOKEN_LEN + 1];
	uint64_t job; /* its number, for people */
	bool restore; /* else a backup */
	char vm[VM_NAME_MAX + 1];
	json_t *options; /* an object; the task's */
};

/** task_parse(j, out, e): the answer to a `next` that has one.  ERR_PROTO,
 * ERR_UNSUP (a kind that we do not know).  ${out} has token and job as far as
 * they could be read; task_fini it in any case. */
int task_parse(const json_t *j, struct task *out, struct err *e);
void task_fini(struct task *t);

/** task_token_ok(s): TASK_TOKEN_LEN lower-case hex digits. */
bool task_token_ok(const char *s);

/* A command: "backstay-agent", "backup", ..., NULL. */
struct task_words {
	char *word[TASK_WORDS_MAX + 1];
	unsigned n;
};

/**
 * task_command(t, c, repo, v, out, e): the command that does it.  What this
 * host decides (which files are a VM's) comes from ${c} and ${v}; of what the
 * daemon says each word is checked.  ERR_NOENT (no such VM here), ERR_DENIED
 * (`restores`), ERR_UNSUP, ERR_INVAL, ERR_PROTO.  task_words_fini in any case.
 */
int task_command(const struct task *t, const struct conf *c, const char *repo,
    const struct inventory *v, struct task_words *out, struct err *e);
void task_words_fini(struct task_words *w);

#endif
