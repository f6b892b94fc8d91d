/* SPDX-License-Identifier: Apache-2.0 */
/* scenario: what is done to a store while it is hit. */
#ifndef TESTS_CRASH_SCENARIO_H
#define TESTS_CRASH_SCENARIO_H

#include "tests/crash/world.h"

/* How a store was left that a scenario begins with. */
enum scenario_left {
	LEFT_COMMITTING, /* killed: manifest and tombstone are in the packs, and
			    not in the index */
	LEFT_UNSYNCED,   /* killed: chunks and nodes are in packs whose bytes
			    are not on disk yet */
	LEFT_DEAD,       /* killed: a pack is dead in the index, and there */
	LEFT_POISONED,   /* a sync failed, then it was killed */
	LEFT_WAYS
};

const char *scenario_left_name(enum scenario_left left);

/** scenario_prepare(w, left): a new store in w->dir, left that way; ends the
 * process by a signal. */
_Noreturn void scenario_prepare(struct world *w, enum scenario_left left);

/** scenario_run(w): start, backups, checkpoints, deletes, a collection, a
 * restart, a rebuild.  Goes on after failures.  Exits with 0, or
 * WORLD_CANNOT_OPEN, or WORLD_FAILED if the store does not work again once
 * nothing fails any more; or is hit on the way. */
_Noreturn void scenario_run(struct world *w);

#endif
