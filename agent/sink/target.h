/* SPDX-License-Identifier: Apache-2.0 */
/* target: the file that a sink makes, under another name until it is whole. */
#ifndef AGENT_SINK_TARGET_H
#define AGENT_SINK_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* Constant after open but for ${finished}, which is the finishing thread's. */
struct target {
	int fd;     /* the temporary file, locked as by a writer */
	int dirfd;  /* the folder of both names */
	int old_fd; /* what is to be replaced, locked too; or -1 */
	bool force;
	bool held; /* to be swapped (swap.h): it keeps its temporary name */
	bool finished;
	char *path; /* for messages */
	char *dir;  /* from the root */
	char *name; /* in the folder, as is ${tmp} */
	char *tmp;
	char *kept; /* where a swap has put the old one, or NULL */
};

/**
 * target_open(t, path, force, e): make ".NAME.restoring" beside ${path}, empty;
 * one that a killed restore left is taken over, but for one that a swap is to
 * finish (swap_recover): ERR_EXIST.
 * Results as sink_open.
 */
int target_open(struct target *t, const char *path, bool force, struct err *e);

/** target_resize(t, size, e): ERR_NOSPC, ERR_SYS. */
int target_resize(struct target *t, uint64_t size, struct err *e);

/** target_write(t, data, len, off, e): any thread.  ERR_NOSPC, ERR_SYS. */
int target_write(struct target *t, const void *data, size_t len, uint64_t off,
    struct err *e);

/** target_finish(t, e): sync, rename (unless it is held), sync the folder; as
 * sink_finish. */
int target_finish(struct target *t, struct err *e);

/** target_close(t): unless finished, the temporary file goes. */
void target_close(struct target *t);

#endif
