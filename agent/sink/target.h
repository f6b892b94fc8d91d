/* SPDX-License-Identifier: Apache-2.0 */
/* target: the file that a sink makes, under another name until it is whole. */
#ifndef AGENT_SINK_TARGET_H
#define AGENT_SINK_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/image/outfile.h"

struct target_nfs;

/* Constant after open but for ${finished}, which is the finishing thread's. */
struct target {
	struct outfile out;     /* the temporary file, locked as by a writer */
	struct target_nfs *nfs; /* it is on an NFS export; else NULL */
	int fd;                 /* -1 there, as are the next */
	int dirfd;              /* the folder of both names */
	int old_fd;             /* what is to be replaced, locked too; or -1 */
	bool force;
	bool held; /* to be swapped (swap.h): it keeps its temporary name */
	bool finished;
	char *path; /* for messages */
	char *dir;  /* from the root; NULL on NFS */
	char *name; /* in the folder, as is ${tmp} */
	char *tmp;
	char *kept; /* where a swap has put the old one, or NULL */
};

/**
 * target_open(t, path, force, e): make ".NAME.restoring" beside ${path}, empty;
 * one that a killed restore left is taken over, but for one that a swap is to
 * finish (swap_recover): ERR_EXIST.  ${path} may be nfs://HOST/EXPORT/PATH:
 * what a killed restore left there can not be told from what another one
 * writes, and is taken away only with ${force}: ERR_BUSY. Results as sink_open.
 */
int target_open(struct target *t, const char *path, bool force, struct err *e);

/** target_finish(t, e): sync, rename (unless it is held), sync the folder; as
 * sink_finish. */
int target_finish(struct target *t, struct err *e);

/** target_close(t): unless finished, the temporary file goes. */
void target_close(struct target *t);

#endif
