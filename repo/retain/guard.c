/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/retain/guard.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/log.h"

enum { NEAR_S = 60 }; /* two clocks that agree */

struct guard {
	struct guard_options o;
	struct repotime *time;
	struct marks *marks;
	/* Held from the look at a backup to its hiding or marking. */
	pthread_mutex_t mu;
};

/* The newest by the clock that counts. */
static uint64_t
newest(struct catalog *c)
{
	struct catalog_cursor cur = { .seq = 0 };
	struct manifest m;
	uint64_t t = 0;

	while (catalog_next(c, &cur, &m) == 0)
		if (manifest_age_from(&m) > t)
			t = manifest_age_from(&m);
	return t;
}

struct guard *
guard_open(const struct guard_options *o)
{
	struct guard *g = xcalloc(1, sizeof(*g));
	char why[ERR_TEXT_MAX];

	g->o = *o;
	pthread_mutex_init(&g->mu, NULL);
	g->time = repotime_open(&(struct repotime_options){ .dirfd = o->dirfd,
	    .floor = newest(o->catalog),
	    .jump_s = o->jump_s,
	    .source = o->source });
	g->marks = marks_open(o->dirfd, repotime_number(g->time));
	if (marks_doubt(g->marks, why))
		log_error("%s: %s: all backups count as protected until "
			  "`backstay protect --mend`",
		    MARKS_FILE, why);
	return g;
}

void
guard_close(struct guard *g)
{
	if (g == NULL)
		return;
	marks_close(g->marks);
	repotime_close(g->time);
	pthread_mutex_destroy(&g->mu);
	free(g);
}

struct repotime *
guard_time(struct guard *g)
{
	return g->time;
}

uint64_t
guard_now(struct guard *g)
{
	return repotime_now(g->time);
}

struct retain_policy
guard_policy(struct guard *g, const char *vm)
{
	return g->o.policy(g->o.arg, vm);
}

void
guard_stamp(struct guard *g, struct manifest *m)
{
	struct retain_policy p = guard_policy(g, m->vm);
	uint64_t now = guard_now(g);

	m->repo_time = 0;
	if (now > m->time + NEAR_S || m->time > now + NEAR_S)
		m->repo_time = now;
	m->locked_until = p.lock > 0 ? now + p.lock : 0;
}

void
guard_look(struct guard *g, const struct manifest *m, struct mark *out)
{
	char why[ERR_TEXT_MAX];

	marks_get(g->marks, m->id, out);
	if (m->locked_until > out->locked_until)
		out->locked_until = m->locked_until;
	if (!out->is_protected && marks_doubt(g->marks, why)) {
		out->is_protected = true;
		snprintf(out->note, sizeof(out->note), "%s: %.150s: it may be",
		    MARKS_FILE, why);
	}
}

bool
guard_doubt(struct guard *g, char *why)
{
	return marks_doubt(g->marks, why);
}

int
guard_check(struct guard *g, const struct manifest *m, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	char when[TIME_TEXT_LEN + 1], today[TIME_TEXT_LEN + 1];
	struct retain_policy p = guard_policy(g, m->vm);
	uint64_t now = guard_now(g), from = manifest_age_from(m);
	struct mark x;

	guard_look(g, m, &x);
	manifest_name(m, name);
	time_print(now, today);
	if (x.is_protected && x.by[0] == 0)
		return err_set(e, ERR_DENIED,
		    "%s is not deleted: whether it is protected is not known: "
		    "%.120s; `backstay protect --mend`",
		    name, x.note);
	if (x.is_protected)
		return err_set(e, ERR_DENIED,
		    "%s is protected by %s since %s (%.100s): only after "
		    "`backstay unprotect %s`",
		    name, x.by, time_print(x.at, when),
		    x.note[0] != 0 ? x.note : "no note", name);
	if (x.locked_until > now)
		return err_set(e, ERR_DENIED,
		    "%s is locked until %s, and nobody can shorten that (the "
		    "repository's time is %s)",
		    name, time_print(x.locked_until, when), today);
	if (keep_is_young(&p, from, now))
		return err_set(e, ERR_DENIED,
		    "%s is younger than min-age of its VM: not before %s (the "
		    "repository's time is %s)",
		    name, time_print(from + p.min_age, when), today);
	return 0;
}

int
guard_hide(struct guard *g, const char *vm, const uint8_t id[BACKUP_ID_LEN],
    bool *held, struct err *e)
{
	struct manifest m;
	int rc;

	pthread_mutex_lock(&g->mu);
	rc = catalog_look(g->o.catalog, vm, id, &m);
	/* What is incomplete is no backup, and nobody keeps it. */
	if (rc == 0 && !m.incomplete)
		rc = guard_check(g, &m, e);
	if (rc == 0)
		rc = catalog_hide(g->o.catalog, vm, id, held);
	pthread_mutex_unlock(&g->mu);
	return rc;
}

/* The marks' number is kept beside the time: an older file is then noticed. */
static int
counted(struct guard *g, int rc, uint64_t number, struct err *e)
{
	if (rc != 0)
		return rc;
	rc = repotime_count(g->time, number);
	if (rc != 0)
		err_set(e, rc, "%s: cannot be written", REPOTIME_FILE);
	return rc;
}

/* With mu held: it stands, and this is what is said of it. */
static int
standing(
    struct guard *g, const struct manifest *m, struct mark *x, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct manifest now;

	if (catalog_find_id(g->o.catalog, m->vm, m->id, &now) != 0)
		return err_set(e, ERR_NOENT, "%s was deleted just now",
		    manifest_name(m, name));
	marks_get(g->marks, m->id, x);
	return 0;
}

static int
set(struct guard *g, const struct mark *x, struct err *e)
{
	uint64_t number;
	int rc = marks_set(g->marks, x, 1, guard_now(g), &number, e);

	return counted(g, rc, number, e);
}

int
guard_protect(struct guard *g, const struct manifest *m, bool on,
    const char *note, const char *by, struct err *e)
{
	struct mark x;
	int rc;

	if (on && !mark_note_ok(note))
		return err_set(e, ERR_INVAL,
		    "a note has up to %d bytes, without control characters",
		    MARK_NOTE_MAX);
	pthread_mutex_lock(&g->mu);
	rc = standing(g, m, &x, e);
	x.is_protected = on;
	x.note[0] = x.by[0] = 0;
	x.at = 0;
	if (on) {
		snprintf(x.note, sizeof(x.note), "%s", note);
		snprintf(x.by, sizeof(x.by), "%s", by);
		x.at = guard_now(g);
	}
	if (rc == 0)
		rc = set(g, &x, e);
	pthread_mutex_unlock(&g->mu);
	return rc;
}

int
guard_lock(
    struct guard *g, const struct manifest *m, uint64_t until, struct err *e)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], when[TIME_TEXT_LEN + 1];
	uint64_t now = guard_now(g), is;
	struct mark x;
	int rc;

	manifest_name(m, name);
	if (until > now + GUARD_LOCK_MAX_S)
		return err_set(e, ERR_INVAL,
		    "a lock ends at most ten years from now, which is %s by "
		    "the repository's time: it cannot be taken back",
		    time_print(now, when));
	pthread_mutex_lock(&g->mu);
	rc = standing(g, m, &x, e);
	is = rc == 0 && x.locked_until > m->locked_until ? x.locked_until
							 : m->locked_until;
	if (rc == 0 && until <= now)
		rc = err_set(e, ERR_INVAL,
		    "that is over: the repository's time is %s",
		    time_print(now, when));
	if (rc == 0 && until < is)
		rc = err_set(e, ERR_INVAL,
		    "%s is locked until %s already, and that can only become "
		    "later",
		    name, time_print(is, when));
	x.locked_until = until;
	if (rc == 0 && until > is)
		rc = set(g, &x, e);
	pthread_mutex_unlock(&g->mu);
	return rc;
}

int
guard_mend(struct guard *g, const char *by, unsigned *n, struct err *e)
{
	struct catalog_cursor cur = { .seq = 0 };
	struct mark *all = NULL;
	uint64_t number;
	struct manifest m;
	int rc;

	*n = 0;
	if (!marks_doubt(g->marks, NULL))
		return err_set(
		    e, ERR_INVAL, "%s: there is nothing to mend", MARKS_FILE);
	pthread_mutex_lock(&g->mu);
	while (catalog_next(g->o.catalog, &cur, &m) == 0) {
		struct mark x;

		marks_get(g->marks, m.id, &x);
		if (x.is_protected)
			continue;
		x.is_protected = true;
		x.at = guard_now(g);
		snprintf(x.by, sizeof(x.by), "%s", by);
		snprintf(x.note, sizeof(x.note),
		    "%s was damaged: was it protected, or locked?", MARKS_FILE);
		all = xrealloc(all, (*n + 1) * sizeof(*all));
		all[(*n)++] = x;
	}
	rc = marks_mend(g->marks, all, *n, guard_now(g), &number, e);
	rc = counted(g, rc, number, e);
	pthread_mutex_unlock(&g->mu);
	free(all);
	return rc;
}
