/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/plans.h"

#include <pthread.h>
#include <stdlib.h>

#include "proto/base/buf.h"

enum { KEPT = 2 }; /* the range that is read, and the next one */

struct plan_use {
	struct plan_use *next; /* newer first */
	uint16_t volume;
	uint64_t slice;
	uint32_t n;
	/* Guarded by mu. */
	unsigned users;
	bool ready; /* made, or not to be had: then nobody else takes it */
	struct store_plan *plan;
};

struct plans {
	pthread_mutex_t mu;
	pthread_cond_t made;
	/* Guarded by mu. */
	struct plan_use *first;
	bool failed; /* lately: the one that begins here */
	uint16_t failed_volume;
	uint64_t failed_slice;
};

struct plans *
plans_new(void)
{
	struct plans *p = xcalloc(1, sizeof(*p));

	pthread_mutex_init(&p->mu, NULL);
	pthread_cond_init(&p->made, NULL);
	return p;
}

static void
use_free(struct plan_use *u)
{
	store_plan_free(u->plan);
	free(u);
}

void
plans_free(struct plans *p)
{
	if (p == NULL)
		return;
	while (p->first != NULL) {
		struct plan_use *u = p->first;

		p->first = u->next;
		use_free(u);
	}
	pthread_cond_destroy(&p->made);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

/* Those that failed go, and of the others the oldest.  mu is held. */
static void
trim(struct plans *p)
{
	struct plan_use **at = &p->first;
	unsigned kept = 0;

	while (*at != NULL) {
		struct plan_use *u = *at;

		kept++;
		if (u->users > 0 || (u->plan != NULL && kept <= KEPT)) {
			at = &u->next;
			continue;
		}
		*at = u->next;
		use_free(u);
	}
}

/* One that is there or being made; NULL: none.  mu is held. */
static struct plan_use *
find(struct plans *p, const struct msg_read *m)
{
	for (struct plan_use *u = p->first; u != NULL; u = u->next)
		if (u->volume == m->volume && u->slice == m->slice &&
		    u->n == m->n && (!u->ready || u->plan != NULL))
			return u;
	return NULL;
}

int
plans_get(struct plans *p, struct store *s, struct store_lane *l,
    const struct manifest_volume *v, const struct msg_read *m,
    struct plan_use **out, struct err *e)
{
	struct store_plan *plan = NULL;
	struct plan_use *u;
	int rc;

	pthread_mutex_lock(&p->mu);
	while ((u = find(p, m)) != NULL && !u->ready)
		pthread_cond_wait(&p->made, &p->mu);
	if (u != NULL) {
		u->users++;
		pthread_mutex_unlock(&p->mu);
		*out = u;
		return 0;
	}
	u = xcalloc(1, sizeof(*u));
	u->volume = m->volume;
	u->slice = m->slice;
	u->n = m->n;
	u->users = 1;
	u->next = p->first;
	p->first = u;
	pthread_mutex_unlock(&p->mu);

	rc = store_plan_new(s, l, &v->root, v->size, m->slice, m->n, &plan, e);

	pthread_mutex_lock(&p->mu);
	u->plan = plan;
	u->ready = true;
	if (rc == 0)
		*out = u;
	else
		u->users = 0;
	trim(p);
	pthread_cond_broadcast(&p->made);
	pthread_mutex_unlock(&p->mu);
	return rc;
}

/* What a READ will ask for after its leaves. */
static struct msg_read
window(struct store *s, const struct manifest_volume *v, unsigned volume,
    uint64_t slice)
{
	uint64_t left = chunk_nslices(v->size, store_format(s)->chunk_size);
	struct msg_read m = { .volume = (uint16_t)volume, .nparts = 1 };

	m.slice = slice - slice % MSG_READ_MAX;
	left -= m.slice;
	m.n = left < MSG_READ_MAX ? (uint32_t)left : MSG_READ_MAX;
	return m;
}

/* From a plan that is there.  *hopeless: none will be made. */
static bool
find_node(struct plans *p, const struct msg_read *m, const struct msg_tree *t,
    struct node *out, bool *hopeless)
{
	const struct node *n = NULL;

	pthread_mutex_lock(&p->mu);
	for (struct plan_use *u = p->first; n == NULL && u != NULL; u = u->next)
		if (u->volume == t->volume && u->plan != NULL)
			n = store_plan_node(u->plan, t->level, t->index);
	if (n != NULL)
		*out = *n;
	*hopeless = p->failed && p->failed_volume == m->volume &&
	    p->failed_slice == m->slice;
	pthread_mutex_unlock(&p->mu);
	return n != NULL;
}

int
plans_node(struct plans *p, struct store *s, struct store_lane *l,
    const struct manifest_volume *v, const struct msg_tree *t, struct node *out,
    struct err *e)
{
	struct err why = { 0 };
	struct plan_use *u;
	struct msg_read m;
	bool hopeless;
	uint64_t slice;
	int rc;

	rc = store_tree_place(s, v->size, t->level, t->index, &slice, e);
	if (rc != 0)
		return rc;
	m = window(s, v, t->volume, slice);
	if (find_node(p, &m, t, out, &hopeless))
		return 0;
	if (!hopeless && m.n > NODE_FANOUT) {
		rc = plans_get(p, s, l, v, &m, &u, &why);
		if (rc == 0) {
			*out = *store_plan_node(u->plan, t->level, t->index);
			plans_put(p, u);
			return 0;
		}
		pthread_mutex_lock(&p->mu);
		p->failed = true;
		p->failed_volume = m.volume;
		p->failed_slice = m.slice;
		pthread_mutex_unlock(&p->mu);
	}
	/* What is damaged may be elsewhere: this one is named exactly. */
	return store_tree_node(
	    s, l, &v->root, v->size, t->level, t->index, out, e);
}

const struct store_plan *
plans_plan(const struct plan_use *u)
{
	return u->plan;
}

void
plans_put(struct plans *p, struct plan_use *u)
{
	pthread_mutex_lock(&p->mu);
	u->users--;
	trim(p);
	pthread_mutex_unlock(&p->mu);
}
