/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/catalog/locks.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/name.h"

/* Held or waited for; in the list in the order of asking. */
struct lock {
	struct locks *all;
	struct lock *prev;
	struct lock *next;
	bool held; /* guarded by all->mu */
	char vm[VM_NAME_MAX + 1];
	enum lock_mode mode;
	bool any; /* not one backup, but any */
	unsigned nbackups;
	uint8_t (*backup)[BACKUP_ID_LEN];
	uint64_t job;
	char host[MANIFEST_NOTE_MAX + 1];
	uint64_t since;
};

struct locks {
	pthread_mutex_t mu;
	pthread_cond_t changed;
	struct lock *first; /* guarded by mu */
	struct lock *last;  /* guarded by mu */
	bool closed;        /* guarded by mu */
};

enum verdict { NO, YES, OTHER /* unless it is the same backup */ };

static const uint8_t table[LOCK_MODES][LOCK_MODES] = {
	/* held: wanted ingest, read, restore, delete */
	[LOCK_FOR_INGEST] = { NO, YES, NO, YES },
	[LOCK_FOR_READ] = { YES, YES, YES, OTHER },
	[LOCK_FOR_RESTORE] = { NO, YES, NO, NO },
	[LOCK_FOR_DELETE] = { YES, OTHER, NO, NO },
};

struct locks *
locks_new(void)
{
	struct locks *l = xcalloc(1, sizeof(*l));

	pthread_mutex_init(&l->mu, NULL);
	cond_init(&l->changed);
	return l;
}

void
locks_free(struct locks *l)
{
	if (l == NULL)
		return;
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->mu);
	free(l);
}

/* Both are of backups that they name, and none is named by both. */
static bool
apart(const struct lock *a, const struct lock *b)
{
	if (a->any || b->any)
		return false;
	for (unsigned i = 0; i < a->nbackups; i++)
		for (unsigned k = 0; k < b->nbackups; k++)
			if (memcmp(a->backup[i], b->backup[k], BACKUP_ID_LEN) ==
			    0)
				return false;
	return true;
}

static bool
agree(const struct lock *held, const struct lock *wanted)
{
	switch (table[held->mode][wanted->mode]) {
	case YES: return true;
	case OTHER: return apart(held, wanted);
	default: return false;
	}
}

/*
 * Whoever is in the way of ${k}: a holder, or someone who asked before and is
 * still waiting.  Holders first: they are the better answer to a person.
 */
static const struct lock *
obstacle(const struct locks *l, const struct lock *k)
{
	const struct lock *waiter = NULL, *o;
	bool before = true;

	for (o = l->first; o != NULL; o = o->next) {
		if (o == k) {
			before = false;
			continue;
		}
		if (strcmp(o->vm, k->vm) != 0 || agree(o, k))
			continue;
		if (o->held)
			return o;
		if (before && waiter == NULL)
			waiter = o;
	}
	return waiter;
}

static void
unlink_lock(struct locks *l, struct lock *k)
{
	if (k->prev != NULL)
		k->prev->next = k->next;
	else
		l->first = k->next;
	if (k->next != NULL)
		k->next->prev = k->prev;
	else
		l->last = k->prev;
}

/* "19:02", with the date where that is not clear. */
static char *
since_text(uint64_t since, char *out, size_t len)
{
	time_t t = (time_t)since, now = time(NULL);
	struct tm tm;

	localtime_r(&t, &tm);
	if (now - t < 12 * 3600 && t - now < 12 * 3600)
		strftime(out, len, "%H:%M", &tm);
	else
		strftime(out, len, "%Y-%m-%d %H:%M", &tm);
	return out;
}

static int
say_who(const struct lock *o, struct err *e)
{
	static const char *const holding[LOCK_MODES] = {
		[LOCK_FOR_INGEST] = "%s is being backed up",
		[LOCK_FOR_READ] = "a backup of %s is being read",
		[LOCK_FOR_RESTORE] = "%s is being restored",
		[LOCK_FOR_DELETE] = "a backup of %s is being deleted",
	};
	static const char *const waiting[LOCK_MODES] = {
		[LOCK_FOR_INGEST] = "%s is waiting to be backed up",
		[LOCK_FOR_READ] = "a backup of %s is waiting to be read",
		[LOCK_FOR_RESTORE] = "%s is waiting to be restored",
		[LOCK_FOR_DELETE] = "a backup of %s is waiting to be deleted",
	};
	const char *fmt = (o->held ? holding : waiting)[o->mode];
	int at = (int)(strstr(fmt, "%s") - fmt);
	char since[32];

	return err_set(e, ERR_BUSY,
	    "%.*s%s%s by job %" PRIu64 " (%s, since %s)", at, fmt, o->vm,
	    fmt + at + 2, o->job, o->host,
	    since_text(o->since, since, sizeof(since)));
}

/* Until something has changed, or it is time to look around or to give up; mu
 * is held. */
static int
wait(struct locks *l, const struct lock_request *q, int wait_ms, uint64_t until,
    uint64_t *look, bool *late, struct err *e)
{
	int rc = 0;

	cond_wait_until(
	    &l->changed, &l->mu, wait_ms < 0 || *look < until ? *look : until);
	*late = wait_ms >= 0 && now_ms() >= until;
	/* Others may wake this one so often that it never waits so long. */
	if (now_ms() < *look)
		return 0;
	*look = now_ms() + LOCK_LOOK_MS;
	if (q->look != NULL) {
		pthread_mutex_unlock(&l->mu);
		rc = q->look(q->arg, e);
		pthread_mutex_lock(&l->mu);
	}
	return rc;
}

static void
lock_free(struct lock *k)
{
	free(k->backup);
	free(k);
}

static struct lock *
lock_new(struct locks *l, const struct lock_request *q)
{
	struct lock *k = xcalloc(1, sizeof(*k));

	k->all = l;
	snprintf(k->vm, sizeof(k->vm), "%s", q->vm);
	k->mode = q->mode;
	k->any = q->backup == NULL;
	if (!k->any) {
		k->nbackups = 1 + q->nmore;
		k->backup = xmalloc(k->nbackups * sizeof(*k->backup));
		memcpy(k->backup, q->backup, k->nbackups * sizeof(*k->backup));
	}
	k->job = q->job;
	snprintf(k->host, sizeof(k->host), "%s", q->host);
	k->since = q->since;
	return k;
}

int
lock_take(struct locks *l, const struct lock_request *q, int wait_ms,
    struct lock **out, struct err *e)
{
	struct lock *k = lock_new(l, q);
	uint64_t until = now_ms() + (uint64_t)(wait_ms > 0 ? wait_ms : 0);
	uint64_t look = now_ms() + LOCK_LOOK_MS;
	const struct lock *o;
	bool late = wait_ms == 0;
	int rc;

	pthread_mutex_lock(&l->mu);
	k->prev = l->last;
	if (l->last != NULL)
		l->last->next = k;
	else
		l->first = k;
	l->last = k;
	for (;;) {
		if (l->closed) {
			rc = err_set(e, ERR_CLOSED, "the daemon is stopping");
			break;
		}
		o = obstacle(l, k);
		if (o == NULL) {
			k->held = true;
			*out = k;
			pthread_mutex_unlock(&l->mu);
			return 0;
		}
		if (late) {
			rc = say_who(o, e);
			break;
		}
		rc = wait(l, q, wait_ms, until, &look, &late, e);
		if (rc != 0)
			break;
	}
	unlink_lock(l, k);
	/* Those behind may have waited for this one only. */
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mu);
	lock_free(k);
	return rc;
}

void
lock_release(struct lock *k)
{
	struct locks *l;

	if (k == NULL)
		return;
	l = k->all;
	pthread_mutex_lock(&l->mu);
	unlink_lock(l, k);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mu);
	lock_free(k);
}

void
locks_close(struct locks *l)
{
	pthread_mutex_lock(&l->mu);
	l->closed = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->mu);
}
