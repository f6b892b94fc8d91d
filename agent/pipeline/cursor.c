/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/cursor.h"

#include <assert.h>
#include <string.h>

void
cursor_init(struct cursor *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->mu, NULL);
}

void
cursor_fini(struct cursor *c)
{
	pthread_mutex_destroy(&c->mu);
}

bool
cursor_next(struct cursor *c, unsigned *volume, uint64_t *leaf)
{
	bool found;

	pthread_mutex_lock(&c->mu);
	while (c->volume < c->nvolumes && c->leaf == c->nleaves[c->volume]) {
		c->volume++;
		c->leaf = 0;
	}
	found = c->volume < c->nvolumes;
	*volume = c->volume;
	*leaf = c->leaf;
	if (found)
		c->leaf++;
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
