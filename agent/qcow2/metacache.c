/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/metacache.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

struct slice {
	const struct imgfile *file; /* NULL: empty */
	uint64_t no;
	uint64_t used; /* tick of the last use */
	uint8_t *data; /* METACACHE_SLICE bytes, or NULL */
};

struct metacache {
	pthread_mutex_t mu;
	uint64_t tick;                                       /* mu */
	struct slice slices[METACACHE_SETS][METACACHE_WAYS]; /* mu */
};

struct metacache *
metacache_new(void)
{
	struct metacache *c = xcalloc(1, sizeof(*c));

	pthread_mutex_init(&c->mu, NULL);
	return c;
}

void
metacache_free(struct metacache *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < METACACHE_SETS; i++)
		for (size_t j = 0; j < METACACHE_WAYS; j++)
			free(c->slices[i][j].data);
	pthread_mutex_destroy(&c->mu);
	free(c);
}

static struct slice *
set_of(struct metacache *c, const struct imgfile *f, uint64_t no)
{
	uint64_t h = no * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)f->ino;

	return c->slices[(h >> 32 ^ h) % METACACHE_SETS];
}

/* With mu held. */
static struct slice *
find(struct metacache *c, const struct imgfile *f, uint64_t no)
{
	struct slice *set = set_of(c, f, no);

	for (size_t i = 0; i < METACACHE_WAYS; i++)
		if (set[i].file == f && set[i].no == no)
			return &set[i];
	return NULL;
}

/* With mu held: put ${data} in for the longest unused, which is returned. */
static uint8_t *
replace(
    struct metacache *c, const struct imgfile *f, uint64_t no, uint8_t *data)
{
	struct slice *set = set_of(c, f, no), *s = &set[0];
	uint8_t *old;

	for (size_t i = 1; i < METACACHE_WAYS; i++)
		if (set[i].used < s->used)
			s = &set[i];
	old = s->data;
	*s = (struct slice){
		.file = f, .no = no, .used = ++c->tick, .data = data
	};
	return old;
}

int
metacache_read(struct metacache *c, struct imgfile *f, void *data, size_t len,
    uint64_t off, struct err *e)
{
	uint64_t no = off / METACACHE_SLICE;
	size_t at = (size_t)(off % METACACHE_SLICE);
	uint8_t *fresh;
	struct slice *s;
	int rc;

	assert(len <= METACACHE_SLICE - at);
	pthread_mutex_lock(&c->mu);
	s = find(c, f, no);
	if (s != NULL) {
		s->used = ++c->tick;
		memcpy(data, s->data + at, len);
	}
	pthread_mutex_unlock(&c->mu);
	if (s != NULL)
		return 0;

	/* Read without the lock; that two may read the same does no harm. */
	fresh = xmalloc(METACACHE_SLICE);
	rc = imgfile_read(f, fresh, METACACHE_SLICE, off - at, e);
	if (rc != 0) {
		free(fresh);
		return rc;
	}
	memcpy(data, fresh + at, len);
	pthread_mutex_lock(&c->mu);
	if (find(c, f, no) == NULL)
		fresh = replace(c, f, no, fresh);
	pthread_mutex_unlock(&c->mu);
	free(fresh);
	return 0;
}
