/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force, and how it becomes something else while the daemon runs. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/inifile.h"
#include "repo/settings/settings_impl.h"

/* One reading, and who looks at it. */
struct reading {
	struct reading *next;
	struct settings *s;
	unsigned refs;
};

struct settings_now {
	struct settings_source src;
	pthread_mutex_t mu;
	struct reading *first; /* guarded by mu: the first is in force */
};

static void
push(struct settings_now *n, struct settings *s)
{
	struct reading *r = xcalloc(1, sizeof(*r));

	r->s = s;
	r->refs = 1;
	r->next = n->first;
	n->first = r;
}

/* Locked. */
static void
drop(struct settings_now *n, const struct settings *s)
{
	struct reading **at, *r;

	for (at = &n->first; (*at)->s != s; at = &(*at)->next)
		;
	r = *at;
	if (--r->refs > 0)
		return;
	*at = r->next;
	settings_free(r->s);
	free(r);
}

int
settings_open(const struct settings_source *src, struct settings_now **out,
    struct buf *wrong)
{
	struct settings_now *n;
	struct settings *s;
	int rc;

	rc = settings_read(src, &s, wrong);
	if (rc != 0)
		return rc;
	n = xcalloc(1, sizeof(*n));
	n->src = *src;
	pthread_mutex_init(&n->mu, NULL);
	push(n, s);
	*out = n;
	return 0;
}

void
settings_close(struct settings_now *n)
{
	if (n == NULL)
		return;
	drop(n, n->first->s);
	pthread_mutex_destroy(&n->mu);
	free(n);
}

const struct settings *
settings_get(struct settings_now *n)
{
	const struct settings *s;

	pthread_mutex_lock(&n->mu);
	n->first->refs++;
	s = n->first->s;
	pthread_mutex_unlock(&n->mu);
	return s;
}

void
settings_put(struct settings_now *n, const struct settings *s)
{
	pthread_mutex_lock(&n->mu);
	drop(n, s);
	pthread_mutex_unlock(&n->mu);
}

/* What only a restart changes stays as it was. */
static void
compare_daemon(const struct settings *old, struct settings *s, const char *dir,
    struct buf *changes)
{
	for (unsigned i = 0; i < settings_nkeys; i++) {
		const struct settings_key *k = &settings_keys[i];

		if (strcmp(k->section, "daemon") != 0 ||
		    strcmp(old->text[i], s->text[i]) == 0)
			continue;
		if (k->live) {
			inifile_complain(changes, "%s: %s -> %s", k->name,
			    old->text[i], s->text[i]);
			continue;
		}
		inifile_complain(changes,
		    "%s: stays %s; %s counts from the next start on", k->name,
		    old->text[i], s->text[i]);
		if (settings_set(s, k, dir, old->text[i]) != 0)
			abort(); /* it was taken before */
	}
}

static const char *
said(const struct settings *s, const char *pattern)
{
	for (unsigned i = 0; i < s->nvms; i++)
		if (strcmp(s->vm[i].pattern, pattern) == 0)
			return s->vm[i].said;
	return "nothing";
}

static void
compare_vms(
    const struct settings *old, const struct settings *s, struct buf *changes)
{
	for (unsigned i = 0; i < s->nvms; i++) {
		const char *was = said(old, s->vm[i].pattern);

		if (strcmp(was, s->vm[i].said) != 0)
			inifile_complain(changes, "[vm %s]: %s -> %s",
			    s->vm[i].pattern, was, s->vm[i].said);
	}
	for (unsigned i = 0; i < old->nvms; i++)
		if (strcmp(said(s, old->vm[i].pattern), "nothing") == 0)
			inifile_complain(changes, "[vm %s]: %s -> nothing",
			    old->vm[i].pattern, old->vm[i].said);
}

int
settings_reload(struct settings_now *n, struct buf *changes, struct buf *wrong)
{
	struct settings *s;
	int rc;

	rc = settings_read(&n->src, &s, wrong);
	if (rc != 0)
		return rc;
	/* Only this thread changes what is first. */
	compare_daemon(n->first->s, s, n->src.dir, changes);
	compare_vms(n->first->s, s, changes);
	pthread_mutex_lock(&n->mu);
	push(n, s);
	drop(n, n->first->next->s);
	pthread_mutex_unlock(&n->mu);
	return 0;
}
