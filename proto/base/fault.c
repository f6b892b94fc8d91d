/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/fault.h"

#ifdef FAULT

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ARMED_MAX = 16, AWAIT_S = 10 };

enum what { KILL, CUT, EIO_, ENOSPC_, SHORT, TEAR, BLOCK, WHATS, NOTHING };

static const char *const what_names[WHATS] = { "kill", "cut", "eio", "enospc",
	"short", "tear", "block" };

enum { CAN_FAIL = 1, CAN_TEAR = 2 };

static const struct {
	const char *name;
	int can;
} points[FAULT_POINTS] = {
	[FAULT_PACK_CREATE] = { "pack.create", CAN_FAIL },
	[FAULT_PACK_CREATED] = { "pack.created", 0 },
	[FAULT_PACK_RESERVE] = { "pack.reserve", CAN_FAIL },
	[FAULT_PACK_WRITE] = { "pack.write", CAN_FAIL | CAN_TEAR },
	[FAULT_PACK_WRITTEN] = { "pack.written", 0 },
	[FAULT_PACK_READ] = { "pack.read", CAN_FAIL },
	[FAULT_PACK_SYNC] = { "pack.sync", CAN_FAIL },
	[FAULT_PACK_SYNCED] = { "pack.synced", 0 },
	[FAULT_PACK_CUT] = { "pack.cut", CAN_FAIL },
	[FAULT_FOLDER_SYNC] = { "folder.sync", CAN_FAIL },
	[FAULT_FOLDER_SYNCED] = { "folder.synced", 0 },
	[FAULT_PACK_UNLINK] = { "pack.unlink", CAN_FAIL },
	[FAULT_PACK_UNLINKED] = { "pack.unlinked", 0 },
	[FAULT_PACK_POISON] = { "pack.poison", CAN_FAIL },
	[FAULT_PACK_POISONED] = { "pack.poisoned", 0 },
	[FAULT_FOOTER_WRITE] = { "footer.write", 0 },
	[FAULT_TAIL_SEAL] = { "tail.seal", 0 },
	[FAULT_TAIL_CUT] = { "tail.cut", 0 },
	[FAULT_INDEX_WRITE] = { "index.write", CAN_FAIL },
	[FAULT_INDEX_WRITTEN] = { "index.written", 0 },
	[FAULT_LEDGER_GRANT] = { "ledger.grant", 0 },
	[FAULT_BATCH_SWAPPED] = { "batch.swapped", 0 },
	[FAULT_BATCH_SYNCED] = { "batch.synced", 0 },
	[FAULT_MANIFEST_APPEND] = { "manifest.append", 0 },
	[FAULT_TOMBSTONE_APPEND] = { "tombstone.append", 0 },
	[FAULT_COMMIT_SYNC] = { "commit.sync", 0 },
	[FAULT_COMMIT_SYNCED] = { "commit.synced", 0 },
	[FAULT_BATCH_WRITE] = { "batch.write", 0 },
	[FAULT_BATCH_PUBLISH] = { "batch.publish", 0 },
	[FAULT_BATCH_PUBLISHED] = { "batch.published", 0 },
	[FAULT_SYNC_FAILED] = { "sync.failed", 0 },
	[FAULT_ANSWER] = { "answer", 0 },
	[FAULT_CHECKPOINT_TURN] = { "checkpoint.turn", 0 },
	[FAULT_CHECKPOINT_COMMIT] = { "checkpoint.commit", 0 },
	[FAULT_CHECKPOINT_ADVANCE] = { "checkpoint.advance", 0 },
	[FAULT_SWEEP_READ] = { "sweep.read", 0 },
	[FAULT_MOVE_COPY] = { "move.copy", 0 },
	[FAULT_MOVE_COPIED] = { "move.copied", 0 },
	[FAULT_MOVE_MANIFEST] = { "move.manifest", 0 },
	[FAULT_MOVE_ENTRIES] = { "move.entries", 0 },
	[FAULT_TOMBSTONE_CARRY] = { "tombstone.carry", 0 },
	[FAULT_PACK_FORGET] = { "pack.forget", 0 },
	[FAULT_PACK_FORGOTTEN] = { "pack.forgotten", 0 },
	[FAULT_PACK_GONE] = { "pack.gone", 0 },
	[FAULT_READ_PLACED] = { "read.placed", 0 },
	[FAULT_ROOT_PLACED] = { "root.placed", 0 },
	[FAULT_START_LOCK] = { "start.lock", CAN_FAIL },
	[FAULT_START_BURY] = { "start.bury", 0 },
	[FAULT_START_SYNC] = { "start.sync", 0 },
	[FAULT_START_SCAN] = { "start.scan", 0 },
	[FAULT_START_LOT] = { "start.lot", 0 },
	[FAULT_START_LOT_WRITTEN] = { "start.lot-written", 0 },
	[FAULT_START_SEAL] = { "start.seal", 0 },
	[FAULT_START_FINISH] = { "start.finish", 0 },
	[FAULT_START_DONE] = { "start.done", 0 },
	[FAULT_REBUILD_SETTLE] = { "rebuild.settle", 0 },
	[FAULT_REBUILD_ASIDE] = { "rebuild.aside", CAN_FAIL },
	[FAULT_REBUILD_SWAP] = { "rebuild.swap", CAN_FAIL },
	[FAULT_REBUILD_SYNC] = { "rebuild.sync", CAN_FAIL },
	[FAULT_REBUILD_DESTROY] = { "rebuild.destroy", 0 },
};

struct armed {
	enum fault_point point;
	enum what what;
	unsigned at; /* 0: not any more */
	bool on;     /* and every later time */
};

/* Shared with forked processes, so that one that was killed is counted too. */
struct shared {
	atomic_uint hits[FAULT_POINTS];
	atomic_bool fired;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct shared *shared;          /* set once */
static struct armed armed[ARMED_MAX];  /* guarded by mu */
static unsigned narmed;                /* guarded by mu */
static unsigned waiting[FAULT_POINTS]; /* guarded by mu */
static void (*on_cut)(void *arg);      /* set before threads start */
static void *cut_arg;

static bool
find(const char *name, size_t len, enum fault_point *out)
{
	for (int i = 0; i < FAULT_POINTS; i++) {
		if (strlen(points[i].name) == len &&
		    memcmp(points[i].name, name, len) == 0) {
			*out = (enum fault_point)i;
			return true;
		}
	}
	return false;
}

/* One POINT[:N[+]]=WHAT, up to ${end}. */
static bool
parse_one(const char *s, const char *end, struct armed *a)
{
	const char *eq = memchr(s, '=', (size_t)(end - s));
	const char *name_end;
	char *rest;
	size_t len;

	if (eq == NULL)
		return false;
	*a = (struct armed){ .at = 1, .what = NOTHING };
	name_end = memchr(s, ':', (size_t)(eq - s));
	if (name_end != NULL) {
		a->at = (unsigned)strtoul(name_end + 1, &rest, 10);
		a->on = *rest == '+';
		if (rest + a->on != eq || a->at == 0)
			return false;
	}
	len = (size_t)(end - eq) - 1;
	for (int i = 0; i < WHATS; i++)
		if (strlen(what_names[i]) == len &&
		    memcmp(what_names[i], eq + 1, len) == 0)
			a->what = (enum what)i;
	return a->what != NOTHING &&
	    find(
		s, (size_t)((name_end != NULL ? name_end : eq) - s), &a->point);
}

/* mu is held. */
static bool
parse(const char *spec)
{
	narmed = 0;
	pthread_cond_broadcast(&changed);
	while (spec != NULL && *spec != 0) {
		const char *end = spec + strcspn(spec, ",");

		if (narmed == ARMED_MAX ||
		    !parse_one(spec, end, &armed[narmed]))
			return false;
		narmed++;
		spec = *end == ',' ? end + 1 : end;
	}
	return true;
}

static void
begin(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
	if (!parse(getenv("BACKSTAY_FAULT"))) {
		fprintf(stderr, "BACKSTAY_FAULT is not understood\n");
		_exit(2);
	}
}

bool
fault_arm(const char *spec)
{
	bool ok;

	pthread_once(&once, begin);
	pthread_mutex_lock(&mu);
	for (int i = 0; i < FAULT_POINTS; i++)
		atomic_store(&shared->hits[i], 0);
	atomic_store(&shared->fired, false);
	ok = parse(spec);
	pthread_mutex_unlock(&mu);
	return ok;
}

void
fault_disarm(void)
{
	pthread_mutex_lock(&mu);
	parse(NULL);
	pthread_mutex_unlock(&mu);
}

/* mu is held. */
static bool
blocks(enum fault_point p)
{
	for (unsigned i = 0; i < narmed; i++)
		if (armed[i].point == p && armed[i].what == BLOCK)
			return true;
	return false;
}

/* mu is held. */
static void
stand(enum fault_point p)
{
	waiting[p]++;
	pthread_cond_broadcast(&changed);
	while (blocks(p))
		pthread_cond_wait(&changed, &mu);
	waiting[p]--;
	pthread_cond_broadcast(&changed);
}

_Noreturn static void
die(void)
{
	for (;;)
		raise(SIGKILL);
}

/* What is to happen here and now, of what the caller has to see to. */
static enum what
pass(enum fault_point p)
{
	enum what what = NOTHING;
	unsigned n;

	pthread_once(&once, begin);
	n = atomic_fetch_add(&shared->hits[p], 1) + 1;
	pthread_mutex_lock(&mu);
	for (unsigned i = 0; i < narmed; i++) {
		struct armed *a = &armed[i];

		if (a->point == p && (n == a->at || (a->on && n > a->at)))
			what = a->what;
	}
	if (what != NOTHING)
		atomic_store(&shared->fired, true);
	if (what == BLOCK)
		stand(p);
	pthread_mutex_unlock(&mu);
	if (what == CUT && on_cut != NULL)
		on_cut(cut_arg);
	if (what == KILL || what == CUT)
		die();
	return what;
}

bool
fault_fails(enum fault_point p)
{
	switch (pass(p)) {
	case EIO_: errno = EIO; return true;
	case ENOSPC_: errno = ENOSPC; return true;
	default: return false;
	}
}

void
fault_pass(enum fault_point p)
{
	pass(p);
}

/* What fault_torn is to do: the thread that wrote half asks next. */
static _Thread_local enum what torn;

size_t
fault_write(enum fault_point p, size_t len)
{
	torn = pass(p);
	switch (torn) {
	case EIO_:
	case ENOSPC_: return 0;
	case SHORT:
	case TEAR: return len / 2;
	default: return len;
	}
}

void
fault_torn(enum fault_point p)
{
	(void)p;
	if (torn == TEAR)
		die();
	errno = torn == EIO_ ? EIO : ENOSPC;
}

const char *
fault_name(enum fault_point p)
{
	return points[p].name;
}

bool
fault_can(enum fault_point p, const char *what)
{
	if (strcmp(what, "eio") == 0 || strcmp(what, "enospc") == 0)
		return (points[p].can & CAN_FAIL) != 0;
	if (strcmp(what, "short") == 0 || strcmp(what, "tear") == 0)
		return (points[p].can & CAN_TEAR) != 0;
	return true;
}

unsigned
fault_hits(enum fault_point p)
{
	pthread_once(&once, begin);
	return atomic_load(&shared->hits[p]);
}

bool
fault_fired(void)
{
	pthread_once(&once, begin);
	return atomic_load(&shared->fired);
}

void
fault_on_cut(void (*cut)(void *arg), void *arg)
{
	on_cut = cut;
	cut_arg = arg;
}

bool
fault_await(enum fault_point p)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += AWAIT_S;
	pthread_mutex_lock(&mu);
	while (waiting[p] == 0 && rc == 0)
		rc = pthread_cond_timedwait(&changed, &mu, &until);
	rc = waiting[p] > 0 ? 0 : rc;
	pthread_mutex_unlock(&mu);
	return rc == 0;
}

void
fault_release(enum fault_point p)
{
	pthread_mutex_lock(&mu);
	for (unsigned i = 0; i < narmed; i++)
		if (armed[i].point == p && armed[i].what == BLOCK)
			armed[i].what = NOTHING;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mu);
}

#else

/* A translation unit is not empty. */
typedef int fault_is_left_out;

#endif
