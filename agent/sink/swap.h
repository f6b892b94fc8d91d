/* SPDX-License-Identifier: Apache-2.0 */
/*
 * swap: new disks, whole and synced under temporary names, take the places of
 * old ones.  Whatever ends this process when: each name is that of the old
 * disk, whole, or of the new one, whole; and either all of them get the new
 * disks, or none.
 *
 * Beside each disk lies a journal, ".NAME.swap", that names all of them.  That
 * of the first one is written last and removed first: while it is there the
 * swap is to be finished, and else undone.  Then the old disks get second names
 * (".NAME.replaced"), then the new ones theirs, then the old ones go.
 *
 * Any thread, but one for each disk: image locks see to that.
 */
#ifndef AGENT_SINK_SWAP_H
#define AGENT_SINK_SWAP_H

#include "agent/sink/target.h"

/**
 * swap_run(t, n, stamp, e): all of these targets, which are held and finished.
 * ${stamp}: old disks are kept, as NAME.old-STAMP; NULL: they go.
 *
 * ERR_SYS, ERR_NOSPC: none was swapped, unless the text says that the swap is
 * to be finished.
 */
int swap_run(
    struct target *const *t, unsigned n, const char *stamp, struct err *e);

/** swap_pending(path): a swap of that disk was interrupted: it may be the old
 * one, and those that belong to it new.  swap_refuse(path, e): say so;
 * ERR_EXIST. */
bool swap_pending(const char *path);
int swap_refuse(const char *path, struct err *e);

/**
 * swap_recover(path, what, len, e): finish, or undo, what an interrupted swap
 * left of the disk ${path} and of those that belong to it.  ${what}: that, for
 * a person; "": there was nothing.  ERR_BUSY: somebody uses one of them;
 * ERR_CORRUPT: files are not where the journal says, nothing was touched;
 * ERR_SYS.
 */
int swap_recover(const char *path, char *what, size_t len, struct err *e);

/** swap_journal_name(name): of the disk ${name}; the caller's. */
char *swap_journal_name(const char *name);

#endif
