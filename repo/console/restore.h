/* SPDX-License-Identifier: Apache-2.0 */
/* restore: what the files of `backstay restore` share.  One thread. */
#ifndef REPO_CONSOLE_RESTORE_H
#define REPO_CONSOLE_RESTORE_H

#include "proto/manifest.h"
#include "repo/console/console.h"

/* What is to be done; strings are whoever's that filled it. */
struct restore_wish {
	const char *backup; /* NULL: it is to be picked */
	/* One of these two. */
	const char *to;
	const char *host;

	/* To a folder. */
	const char *format;
	const char *volume[MANIFEST_VOLUMES_MAX];
	unsigned nvolumes; /* 0: all disks */
	const char *wait;  /* as the agent has it, or NULL, as is the next */
	const char *nfs_timeout;

	/* Onto a host. */
	const char *disk[MANIFEST_VOLUMES_MAX]; /* NAME[=PATH] */
	unsigned ndisks;
	const char *onto, *as; /* or NULL */
	bool keep_old;
	bool later, no_wait, quiet, json;

	bool force;
};

/** restore_nfs_folder(w, m, e): the folder ${w->to} of an NFS export is there,
 * and, unless forced, has no files by the names of these disks.  As nfs3_open;
 * ERR_EXIST. */
int restore_nfs_folder(
    const struct restore_wish *w, const struct manifest *m, struct err *e);

/** restore_target(to, m, i, format): what the agent is to write disk ${i} to,
 * in the folder or NFS folder ${to}; the caller's. */
char *restore_target(
    const char *to, const struct manifest *m, unsigned i, const char *format);

/** restore_host(c, w): by a connected agent, onto disks of its host; waits for
 * its end unless told not to.  The exit code. */
int restore_host(struct console *c, const struct restore_wish *w);

/**
 * restore_pick(c, w): have somebody at the terminal choose and confirm.
 * EXIT_DONE: ${w} is what he wants, its strings allocated for good; -1: he
 * left; others: it was said why.
 */
int restore_pick(struct console *c, struct restore_wish *w);

#endif
