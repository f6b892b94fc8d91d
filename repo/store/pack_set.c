/* SPDX-License-Identifier: Apache-2.0 */
/* The table of packs and the cache of open ones. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "repo/store/pack_private.h"

struct pack_set *
packs_new(struct volume *v, const struct pack_options *o)
{
	struct pack_set *s = xcalloc(1, sizeof(*s));

	assert(o->data_limit <= PACK_OFF_MAX);
	s->v = v;
	s->o = *o;
	pthread_mutex_init(&s->space, NULL);
	pthread_mutex_init(&s->mu, NULL);
	TAILQ_INIT(&s->handles);
	return s;
}

/* Where ${number} is in the table, or belongs. */
static size_t
slot(const struct pack_set *s, uint32_t number)
{
	size_t lo = 0, hi = s->npacks;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->packs[mid]->info.number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct pack *
find(const struct pack_set *s, uint32_t number)
{
	size_t i = slot(s, number);

	if (i < s->npacks && s->packs[i]->info.number == number)
		return s->packs[i];
	return NULL;
}

static void
handle_free(struct pack_handle *h)
{
	volume_file_close(h->f);
	free(h);
}

/* Take it out of the cache; true if the caller is to free it, unlocked. */
static bool
uncache(struct pack_set *s, struct pack_handle *h)
{
	TAILQ_REMOVE(&s->handles, h, link);
	s->nhandles--;
	h->pack->handle = NULL;
	h->pack = NULL;
	return h->users == 0;
}

void
packs_free(struct pack_set *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->npacks; i++) {
		struct pack *p = s->packs[i];

		if (p->handle != NULL) {
			assert(p->handle->users == 0);
			handle_free(p->handle);
		}
		free(p);
	}
	free(s->packs);
	pthread_mutex_destroy(&s->mu);
	pthread_mutex_destroy(&s->space);
	free(s);
}

void
packs_add(struct pack_set *s, const struct pack_info *info)
{
	struct pack *p;
	size_t i;

	pthread_mutex_lock(&s->mu);
	p = find(s, info->number);
	if (p == NULL) {
		if (s->npacks == s->cap) {
			s->cap = s->cap != 0 ? 2 * s->cap : 64;
			s->packs =
			    xrealloc(s->packs, s->cap * sizeof(struct pack *));
		}
		p = xcalloc(1, sizeof(*p));
		i = slot(s, info->number);
		memmove(s->packs + i + 1, s->packs + i,
		    (s->npacks - i) * sizeof(struct pack *));
		s->packs[i] = p;
		s->npacks++;
	}
	p->info = *info;
	pthread_mutex_unlock(&s->mu);
}

void
packs_forget(struct pack_set *s, uint32_t number)
{
	struct pack_handle *h = NULL;
	size_t i;

	pthread_mutex_lock(&s->mu);
	i = slot(s, number);
	if (i < s->npacks && s->packs[i]->info.number == number) {
		struct pack *p = s->packs[i];

		h = p->handle;
		if (h != NULL && !uncache(s, h))
			h = NULL; /* its last user frees it */
		memmove(s->packs + i, s->packs + i + 1,
		    (s->npacks - i - 1) * sizeof(struct pack *));
		s->npacks--;
		free(p);
	}
	pthread_mutex_unlock(&s->mu);
	if (h != NULL)
		handle_free(h);
}

int
packs_remove(struct pack_set *s, uint32_t number)
{
	int rc = volume_remove(s->v, number);

	/* Known for as long as it is there: a tombstone may depend on it. */
	if (rc == 0 || rc == ERR_NOENT)
		packs_forget(s, number);
	return rc;
}

int
packs_get(struct pack_set *s, uint32_t number, struct pack_info *out)
{
	struct pack *p;

	pthread_mutex_lock(&s->mu);
	p = find(s, number);
	if (p != NULL)
		*out = p->info;
	pthread_mutex_unlock(&s->mu);
	return p != NULL ? 0 : ERR_NOENT;
}

void
packs_update(struct pack_set *s, const struct pack_info *info)
{
	struct pack *p;

	pthread_mutex_lock(&s->mu);
	p = find(s, info->number);
	if (p != NULL) {
		p->info.state = info->state;
		p->info.known = info->known;
		p->info.durable = info->durable;
		p->info.live = info->live;
	}
	pthread_mutex_unlock(&s->mu);
}

int
packs_room(struct pack_set *s, uint64_t *avail, uint64_t *reserve)
{
	uint64_t total;

	*reserve = s->o.reserve;
	return volume_space(s->v, avail, &total);
}

void
packs_each(struct pack_set *s,
    void (*visit)(void *arg, const struct pack_info *info), void *arg)
{
	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; i < s->npacks; i++)
		visit(arg, &s->packs[i]->info);
	pthread_mutex_unlock(&s->mu);
}

void
packs_number_from(struct pack_set *s, uint32_t first, uint32_t end)
{
	pthread_mutex_lock(&s->mu);
	/* Never back: a number that was taken is used up. */
	s->first = first > s->first ? first : s->first;
	s->end = end > s->end ? end : s->end;
	pthread_mutex_unlock(&s->mu);
}

uint32_t
packs_numbers_left(struct pack_set *s)
{
	uint32_t n;

	pthread_mutex_lock(&s->mu);
	n = s->end > s->first ? s->end - s->first : 0;
	pthread_mutex_unlock(&s->mu);
	return n;
}

int
packs_take_numbers(struct pack_set *s, uint32_t n, uint32_t *first)
{
	int rc = ERR_LIMIT;

	pthread_mutex_lock(&s->mu);
	if (s->first != 0 && s->end >= s->first && s->end - s->first >= n) {
		*first = s->first;
		s->first += n;
		rc = 0;
	}
	pthread_mutex_unlock(&s->mu);
	return rc;
}

static struct pack_handle *
use(struct pack_set *s, struct pack *p)
{
	struct pack_handle *h = p->handle;

	if (h != NULL) {
		h->users++;
		TAILQ_REMOVE(&s->handles, h, link);
		TAILQ_INSERT_TAIL(&s->handles, h, link);
	}
	return h;
}

/* The handle that was idle longest, if there are too many; else NULL. */
static struct pack_handle *
evict(struct pack_set *s)
{
	struct pack_handle *h;

	if (s->nhandles <= PACK_HANDLES_MAX)
		return NULL;
	TAILQ_FOREACH(h, &s->handles, link)
	{
		if (h->users == 0) {
			uncache(s, h);
			return h;
		}
	}
	return NULL;
}

int
packs_open(struct pack_set *s, uint32_t number, struct pack_handle **out,
    struct pack_info *info)
{
	struct pack_handle *h = NULL, *old = NULL;
	struct volume_file *f;
	struct pack *p;
	int rc;

	pthread_mutex_lock(&s->mu);
	p = find(s, number);
	if (p != NULL) {
		*info = p->info;
		h = use(s, p);
	}
	pthread_mutex_unlock(&s->mu);
	if (p == NULL)
		return ERR_NOENT;
	if (h != NULL) {
		*out = h;
		return 0;
	}
	rc = volume_open(s->v, number, false, &f);
	if (rc != 0)
		return rc;
	h = xcalloc(1, sizeof(*h));
	h->f = f;
	h->users = 1;
	/* Meanwhile another thread may have opened it too, or removed it. */
	pthread_mutex_lock(&s->mu);
	p = find(s, number);
	if (p != NULL && p->handle == NULL) {
		h->pack = p;
		p->handle = h;
		TAILQ_INSERT_TAIL(&s->handles, h, link);
		s->nhandles++;
		old = evict(s);
	}
	pthread_mutex_unlock(&s->mu);
	if (old != NULL)
		handle_free(old);
	*out = h;
	return 0;
}

void
packs_close(struct pack_set *s, struct pack_handle *h)
{
	bool last;

	pthread_mutex_lock(&s->mu);
	last = --h->users == 0 && h->pack == NULL;
	pthread_mutex_unlock(&s->mu);
	if (last)
		handle_free(h);
}
