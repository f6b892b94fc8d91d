/* SPDX-License-Identifier: Apache-2.0 */
/*
 * migrate: QEMU's migration to and from a file, with its settings put back
 * afterwards, so that an ordinary migration later is not changed by us.
 *
 * The settings from before are kept in QEMU itself, in an object that does
 * nothing, so that they are found even if this process is killed.
 */
#ifndef AGENT_RAM_MIGRATE_H
#define AGENT_RAM_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/guest/guest.h"

/* What migrate_setup is to switch on; all else is off. */
struct migrate_caps {
	bool ignore_shared;
	bool snapshot;
	bool mapped;
	unsigned
	    channels; /* with mapped: how many write at once; 0 or 1: one */
};

/** migrate_idle(g, e): ERR_BUSY if it migrates already. */
int migrate_idle(struct guest *g, struct err *e);

/** migrate_setup(g, c, e): note the settings, change them.  ERR_UNSUP: this
 * QEMU cannot do that, or not with this guest; nothing is changed then. */
int migrate_setup(struct guest *g, const struct migrate_caps *c, struct err *e);

/** migrate_restore(g, found, e): put back what was noted, if it was; ${found}
 * (or NULL): whether it was. */
int migrate_restore(struct guest *g, bool *found, struct err *e);

/** migrate_start(g, fd, seekable, e): to file ${fd}.  ${seekable}: QEMU writes
 * to places in it (mapped).  ${fd} stays the caller's. */
int migrate_start(struct guest *g, int fd, bool seekable, struct err *e);

/** migrate_incoming(g, fd, seekable, e): the same, from it. */
int migrate_incoming(struct guest *g, int fd, bool seekable, struct err *e);

/** migrate_wait(g, e): until it is done.  ERR_TIMEOUT: nothing moved for
 * MIGRATE_STALL_MS, and it was cancelled; ERR_SYS: it failed. */
enum { MIGRATE_STALL_MS = 60000 };
int migrate_wait(struct guest *g, struct err *e);

/** migrate_failed(g, e): 0 while it goes on or when it is done; ERR_SYS. */
int migrate_failed(struct guest *g, struct err *e);

/** migrate_begun(g, begun, e): did it write pages?  As migrate_failed. */
int migrate_begun(struct guest *g, bool *begun, struct err *e);

/** migrate_cancel(g): and wait until it has ended, some seconds at most. */
void migrate_cancel(struct guest *g);

/** migrate_running(g, running, e): do the processors run?
 * migrate_waits(g, waits, e): does it wait for a migration to come in? */
int migrate_running(struct guest *g, bool *running, struct err *e);
int migrate_waits(struct guest *g, bool *waits, struct err *e);

#endif
