/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own_source: the members of an archive of ours as sources of a backup, read
 * once, forward, one after another (struct backup_options, forward).  One
 * thread at a time.
 */
#ifndef AGENT_ARCHIVE_OWN_SOURCE_H
#define AGENT_ARCHIVE_OWN_SOURCE_H

#include "agent/archive/arcin.h"
#include "agent/archive/head.h"
#include "agent/source/source.h"

struct own;

/** own_new(a, h): ${a} stands at the first member; both stay the caller's. */
struct own *own_new(struct arcin *a, struct head *h);

/** own_source(o, k): of member ${k}; it does not own ${o}. */
struct source *own_source(struct own *o, unsigned k);

/** own_end(o, e): all was read: the rest of the archive, and whether all
 * checksums are those that it has.  ERR_INVAL. */
int own_end(struct own *o, struct err *e);
void own_free(struct own *o);

#endif
