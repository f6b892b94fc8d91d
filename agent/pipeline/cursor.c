/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/cursor.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

void
cursor_init(struct cursor *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->mu, NULL);
}

void
cursor_fini(struct cursor *c)
{
	free(c->back);
	pthread_mutex_destroy(&c->mu);
}

void
cursor_rewind(struct cursor *c)
{
	pthread_mutex_lock(&c->mu);
	c->volume = 0;
	c->leaf = 0;
	c->nback = 0;
	pthread_mutex_unlock(&c->mu);
}

/* Past volumes that have no more leaves; false: all are. */
static bool
advance(struct cursor *c)
{
	while (c->volume < c->nvolumes && c->leaf == c->nleaves[c->volume]) {
		c->volume++;
		c->leaf = 0;
	}
	return c->volume < c->nvolumes;
}

bool
cursor_next(struct cursor *c, unsigned *volume, uint64_t *leaf, bool *back)
{
	bool found;

	pthread_mutex_lock(&c->mu);
	*back = c->nback > 0;
	if (*back) {
		struct cursor_run *r = &c->back[c->nback - 1];

		*volume = r->volume;
		*leaf = r->first++;
		if (--r->n == 0)
			c->nback--;
		found = true;
	} else {
		found = advance(c);
		*volume = c->volume;
		*leaf = c->leaf;
		if (found)
			c->leaf++;
	}
	pthread_mutex_unlock(&c->mu);
	return found;
}

uint64_t
cursor_skip(struct cursor *c, unsigned volume, uint64_t end, uint64_t *first)
{
	uint64_t n = 0;

	assert(end <= c->nleaves[volume]);
	pthread_mutex_lock(&c->mu);
	*first = c->leaf;
	if (c->volume == volume && c->leaf < end) {
		n = end - c->leaf;
		c->leaf = end;
	}
	pthread_mutex_unlock(&c->mu);
	return n;
}

void
cursor_give_back(struct cursor *c, unsigned volume, uint64_t first, uint64_t n)
{
	if (n == 0)
		return;
	pthread_mutex_lock(&c->mu);
	if (c->nback == c->back_max) {
		c->back_max = 2 * c->back_max + 4;
		c->back = xrealloc(c->back, c->back_max * sizeof(c->back[0]));
	}
	c->back[c->nback++] = (struct cursor_run){ volume, first, n };
	pthread_mutex_unlock(&c->mu);
}

bool
cursor_left(struct cursor *c)
{
	bool left;

	pthread_mutex_lock(&c->mu);
	left = c->nback > 0 || advance(c);
	pthread_mutex_unlock(&c->mu);
	return left;
}
