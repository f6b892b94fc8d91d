/* SPDX-License-Identifier: Apache-2.0 */
/* cmd: what the commands of backstay-agent share.  Main thread only. */
#ifndef AGENT_CMD_H
#define AGENT_CMD_H

#include <stdbool.h>
#include <stdio.h>

#include "agent/pipeline/job.h"
#include "proto/manifest.h"
#include "proto/version.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2, EXIT_DAMAGE = 3 };

/* A command: argv[0] is its name; returns the exit code. */
int cmd_keygen(int argc, char **argv);
int cmd_enroll(int argc, char **argv);
int cmd_backup(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_delete(int argc, char **argv);
int cmd_serve(int argc, char **argv);

/** cmd_misuse(cmd, fmt, ...): one line and where to read more; EXIT_MISUSE. */
int cmd_misuse(const char *cmd, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** cmd_bad_option(cmd, argv): what getopt_long returned ':' or '?' for. */
int cmd_bad_option(const char *cmd, char **argv, int how);

/** cmd_failed(what, e): one line; EXIT_DAMAGE if the store is damaged, else
 * EXIT_FAILED. */
int cmd_failed(const char *what, const struct err *e);

/** cmd_print_json(j): one line on stdout; ${j} is used up.  EXIT_DONE, or
 * EXIT_FAILED if it could not be written. */
int cmd_print_json(json_t *j);

/** cmd_done(): flush stdout; EXIT_DONE, or EXIT_FAILED. */
int cmd_done(void);

/* "NAME=REST" of a --disk. */
struct cmd_disk {
	char name[NAME_PART_MAX + 1];
	const char *rest;
};

/** cmd_add_disk(cmd, text, disk, &n): "NAME=REST" or, with a NULL for it,
 * "NAME"; one more, at most MANIFEST_VOLUMES_MAX;
 * EXIT_DONE, or EXIT_MISUSE: said what is wrong. */
int cmd_add_disk(
    const char *cmd, const char *text, struct cmd_disk *disk, unsigned *n);

/* The options that all commands with a repository have. */
struct cmd_common {
	const char *repo; /* --repo or $BACKSTAY_AGENT_REPO */
	struct repo_url url;
	struct identity id;
	unsigned lanes;
	uint64_t bwlimit;
	int wait_ms; /* for locks; 0: not, -1: for ever */
	bool quiet;
	bool json;
};

void cmd_common_init(struct cmd_common *c);

/* Values of cmd_common's options for getopt_long, which is to have them in
 * its table by CMD_COMMON_OPTIONS. */
enum { OPT_HELP = 'h', OPT_REPO = 'r', OPT_QUIET = 'q' };
enum { OPT_LANES = 256, OPT_BWLIMIT, OPT_NFS, OPT_JSON, OPT_WAIT, OPT_OWN };

#define CMD_HELP_OPTION                                                        \
	{                                                                      \
		"help", no_argument, NULL, OPT_HELP                            \
	}
#define CMD_REPO_OPTIONS                                                       \
	{ "repo", required_argument, NULL, OPT_REPO },                         \
	{                                                                      \
		"json", no_argument, NULL, OPT_JSON                            \
	}
#define CMD_WAIT_OPTION                                                        \
	{                                                                      \
		"wait", optional_argument, NULL, OPT_WAIT                      \
	}
#define CMD_JOB_OPTIONS                                                        \
	{ "lanes", required_argument, NULL, OPT_LANES },                       \
	    { "bwlimit", required_argument, NULL, OPT_BWLIMIT },               \
	    { "nfs-timeout", required_argument, NULL, OPT_NFS },               \
	{                                                                      \
		"quiet", no_argument, NULL, OPT_QUIET                          \
	}

/** cmd_common_option(c, cmd, opt, arg): take one of those.  EXIT_DONE or
 * EXIT_MISUSE. */
int cmd_common_option(
    struct cmd_common *c, const char *cmd, int opt, const char *arg);

/** cmd_common_end(c, cmd): after the options: find repository and identity.
 * EXIT_DONE, EXIT_MISUSE, EXIT_FAILED.  cmd_common_fini undoes. */
int cmd_common_end(struct cmd_common *c, const char *cmd);
void cmd_common_fini(struct cmd_common *c);

/** cmd_job_options(c): what a job needs of them. */
struct job_options cmd_job_options(const struct cmd_common *c);

#endif
