/* SPDX-License-Identifier: Apache-2.0 */
/* target_nfs: a target on an NFS export; only for target.c. */
#ifndef AGENT_SINK_TARGET_NFS_H
#define AGENT_SINK_TARGET_NFS_H

#include "agent/sink/target.h"

/** All as target_open, target_finish, target_close; ${t} has its path and
 * force, and gets its names and file. */
int target_nfs_open(struct target *t, struct err *e);
int target_nfs_finish(struct target *t, struct err *e);
void target_nfs_close(struct target *t);

#endif
