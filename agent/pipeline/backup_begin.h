/* SPDX-License-Identifier: Apache-2.0 */
/* backup_begin: what a backup says to the daemon before its lanes start. */
#ifndef AGENT_PIPELINE_BACKUP_BEGIN_H
#define AGENT_PIPELINE_BACKUP_BEGIN_H

#include "agent/pipeline/backup_leaf.h"

/** backup_prepare(b, e): hold the VM; b->checkpoint is the parent's.  A daemon
 * that does not know this does it all at backup_begin.  What it says. */
int backup_prepare(struct backup *b, struct err *e);

/** backup_begin(b, consistency, checkpoint, since_used, e): as backup_send; the
 * volumes then know their parents, and whether they trust them. */
int backup_begin(struct backup *b, const char *consistency,
    const char *checkpoint, const char *since_used, struct err *e);

#endif
