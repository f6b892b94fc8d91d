/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: whether a backup may go.  Whatever lets go of a backup hides it by
 * guard_hide first (serve/leaving.c), and so asks here, whoever wants it and
 * why: a call of any key, prune, a thread of the daemon.
 *
 * It owns the repository's time and the marks.  Any thread.
 */
#ifndef REPO_RETAIN_GUARD_H
#define REPO_RETAIN_GUARD_H

#include "repo/catalog/catalog.h"
#include "repo/retain/keep.h"
#include "repo/retain/marks.h"
#include "repo/retain/repotime.h"

enum { GUARD_LOCK_MAX_S = 10 * 366 * 86400 }; /* from now on */

struct guard_options {
	int dirfd;               /* REPO; the caller's, outlives it */
	struct catalog *catalog; /* likewise; filled already */
	uint64_t jump_s;         /* of repotime */
	const struct repotime_source *source; /* NULL: the system's */
	/* What the settings in force say of a VM. */
	struct retain_policy (*policy)(void *arg, const char *vm);
	void *arg;
};

struct guard;

/** guard_open(o): damage that it finds is reported, and keeps backups. */
struct guard *guard_open(const struct guard_options *o);
void guard_close(struct guard *g);

/** guard_time(g): the repository's time; g's. */
struct repotime *guard_time(struct guard *g);
uint64_t guard_now(struct guard *g);

/** guard_policy(g, vm): what the settings in force say. */
struct retain_policy guard_policy(struct guard *g, const char *vm);

/** guard_stamp(g, m): before the commit of a new backup: since when it grows
 * old, and until when it is locked. */
void guard_stamp(struct guard *g, struct manifest *m);

/** guard_check(g, m, e): may that backup go now?  ERR_DENIED says why not and
 * until when.  An answer for people: only guard_hide's counts. */
int guard_check(struct guard *g, const struct manifest *m, struct err *e);

/** guard_hide(g, vm, id, held, e): catalog_hide, if it may go: in one step
 * with the look, so that nobody who protects it just then is told that it is.
 * Also ERR_NOENT. */
int guard_hide(struct guard *g, const char *vm, const uint8_t id[BACKUP_ID_LEN],
    bool *held, struct err *e);

/** guard_look(g, m, out): what people and its lock say of it: locked_until is
 * the later of both; while there is doubt about the marks it is protected by
 * nobody, with the reason as its note. */
void guard_look(struct guard *g, const struct manifest *m, struct mark *out);

/**
 * guard_protect(g, m, on, note, by, e): durable on return.  ERR_NOENT: it is
 * gone; ERR_CORRUPT: marks are in doubt; ERR_LIMIT, ERR_NOSPC, ERR_SYS.
 * guard_lock(g, m, until, e): only later than it is; ERR_INVAL else.
 */
int guard_protect(struct guard *g, const struct manifest *m, bool on,
    const char *note, const char *by, struct err *e);
int guard_lock(
    struct guard *g, const struct manifest *m, uint64_t until, struct err *e);

/** guard_doubt(g, why): as marks_doubt.
 * guard_mend(g, by, n, e): end it: all backups that there are become protected,
 * but for those of which the damaged file says so already; ${n}: how many. */
bool guard_doubt(struct guard *g, char *why);
int guard_mend(struct guard *g, const char *by, unsigned *n, struct err *e);

#endif
