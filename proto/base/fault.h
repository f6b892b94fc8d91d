/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: named points at which a test makes things go wrong.
 *
 * Only a build with FAULT=1 has them; in any other they are constants that the
 * compiler throws away.  A point stands before, or behind, each step that is
 * made durable, and where two threads' order matters.  What happens there is
 * said by fault_arm, or for a program by the environment:
 *
 *   BACKSTAY_FAULT="pack.sync:3=kill,index.write=eio"
 *
 * POINT[:N[+]]=WHAT: at the N-th time that the point is passed (1 if not
 * said), and with + from then on.  WHAT is
 *
 *   kill    SIGKILL
 *   cut     what fault_on_cut was given is called first: the power fails
 *   eio, enospc   the step fails so; where a point says that it can
 *   short   half of a write is done, then ENOSPC
 *   tear    half of a write is done, then SIGKILL
 *   block   wait there for fault_release
 */
#ifndef PROTO_BASE_FAULT_H
#define PROTO_BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_point {
	/* volume_dir: files and folders */
	FAULT_PACK_CREATE,
	FAULT_PACK_CREATED,
	FAULT_PACK_RESERVE,
	FAULT_PACK_WRITE,
	FAULT_PACK_WRITTEN,
	FAULT_PACK_READ,
	FAULT_PACK_SYNC,
	FAULT_PACK_SYNCED,
	FAULT_PACK_CUT,
	FAULT_FOLDER_SYNC,
	FAULT_FOLDER_SYNCED,
	FAULT_PACK_UNLINK,
	FAULT_PACK_UNLINKED,
	FAULT_PACK_POISON,
	FAULT_PACK_POISONED,
	/* packs */
	FAULT_FOOTER_WRITE,
	FAULT_TAIL_SEAL,
	FAULT_TAIL_CUT,
	/* the index */
	FAULT_INDEX_WRITE,
	FAULT_INDEX_WRITTEN,
	/* the ledger, in the order of a batch */
	FAULT_LEDGER_GRANT,
	FAULT_BATCH_SWAPPED,
	FAULT_BATCH_SYNCED,
	FAULT_MANIFEST_APPEND,
	FAULT_TOMBSTONE_APPEND,
	FAULT_COMMIT_SYNC,
	FAULT_COMMIT_SYNCED,
	FAULT_BATCH_WRITE,
	FAULT_BATCH_PUBLISH,
	FAULT_BATCH_PUBLISHED,
	FAULT_SYNC_FAILED,
	/* a session moves on */
	FAULT_ANSWER,
	FAULT_CHECKPOINT_TURN,
	FAULT_CHECKPOINT_COMMIT,
	FAULT_CHECKPOINT_ADVANCE,
	/* the reclaimer */
	FAULT_SWEEP_READ,
	FAULT_MOVE_COPY,
	FAULT_MOVE_COPIED,
	FAULT_MOVE_MANIFEST,
	FAULT_MOVE_ENTRIES,
	FAULT_TOMBSTONE_CARRY,
	FAULT_PACK_FORGET,
	FAULT_PACK_FORGOTTEN,
	FAULT_PACK_GONE,
	/* a read has its place, and not yet its bytes */
	FAULT_READ_PLACED,
	FAULT_ROOT_PLACED,
	/* what a start does */
	FAULT_START_LOCK,
	FAULT_START_BURY,
	FAULT_START_SYNC,
	FAULT_START_SCAN,
	FAULT_START_LOT,
	FAULT_START_LOT_WRITTEN,
	FAULT_START_SEAL,
	FAULT_START_FINISH,
	FAULT_START_DONE,
	/* fsck puts a new index in place */
	FAULT_REBUILD_SETTLE,
	FAULT_REBUILD_ASIDE,
	FAULT_REBUILD_SWAP,
	FAULT_REBUILD_SYNC,
	FAULT_REBUILD_DESTROY,
	FAULT_POINTS
};

#ifdef FAULT

/** fault_fails(p): at a point before a step: true with errno if the step is to
 * fail.  fault_pass(p): where nothing can fail. */
bool fault_fails(enum fault_point p);
void fault_pass(enum fault_point p);

/** fault_write(p, len): before a write: how much of it is to be done.  If less
 * than ${len}, fault_torn() follows: it sets errno, or ends the process. */
size_t fault_write(enum fault_point p, size_t len);
void fault_torn(enum fault_point p);

/** fault_name(p): as in BACKSTAY_FAULT.  fault_can(p, what): may it fail so, or
 * be torn?  All points can do the rest. */
const char *fault_name(enum fault_point p);
bool fault_can(enum fault_point p, const char *what);

/** fault_arm(spec): replaces what was armed; counts begin anew.  "" or NULL
 * disarms and lets go of all that wait.  false: not understood. */
bool fault_arm(const char *spec);

/** fault_disarm(): nothing goes wrong any more; counts go on. */
void fault_disarm(void);

/** fault_hits(p): how often it was passed since fault_arm, by this process and
 * those forked from it.  fault_fired(): whether anything armed happened. */
unsigned fault_hits(enum fault_point p);
bool fault_fired(void);

/** fault_on_cut(cut, arg): what a power cut does to files; never returns to
 * whoever is cut. */
void fault_on_cut(void (*cut)(void *arg), void *arg);

/** fault_await(p): until a thread waits at ${p}; false after 10 s.
 * fault_release(p): let it go on, and all that come. */
bool fault_await(enum fault_point p);
void fault_release(enum fault_point p);

#else

static inline bool
fault_fails(enum fault_point p)
{
	(void)p;
	return false;
}

static inline void
fault_pass(enum fault_point p)
{
	(void)p;
}

static inline size_t
fault_write(enum fault_point p, size_t len)
{
	(void)p;
	return len;
}

static inline void
fault_torn(enum fault_point p)
{
	(void)p;
}

#endif
#endif
