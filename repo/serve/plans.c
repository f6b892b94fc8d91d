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
	struct plan_use *first; /* guarded by mu */
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
