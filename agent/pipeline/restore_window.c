/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/restore_window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"

enum {
	PART_BYTES = 128 << 20,   /* of slices: a few large reads, packed */
	PART_BYTES_MIN = 8 << 20, /* less is not worth a lane of its own */
	WAIT_MS = 100             /* a job that stops is noticed within */
};

void
windows_init(struct restore_windows *ws)
{
	pthread_mutex_init(&ws->mu, NULL);
	cond_init(&ws->changed);
}

static void
free_leaves(struct restore_window *w)
{
	for (unsigned i = 0; i < w->nleaves; i++) {
		free(w->leaf[i]);
		w->leaf[i] = NULL;
	}
}

void
windows_fini(struct restore_windows *ws)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		free_leaves(&ws->window[i]);
	pthread_cond_destroy(&ws->changed);
	pthread_mutex_destroy(&ws->mu);
}

static unsigned
ngroups(const struct restore_window *w)
{
	return (w->nleaves + WINDOW_GROUP - 1) / WINDOW_GROUP;
}

/* The next stretch, in a window that is free: NULL, there is none.  mu is
 * held. */
static struct restore_window *
open_next(struct restore_windows *ws)
{
	struct restore_window *w = ws->window;
	uint64_t left;

	while (
	    ws->volume < ws->nvolumes && ws->leaf == ws->nleaves[ws->volume]) {
		ws->volume++;
		ws->leaf = 0;
	}
	while (w < ws->window + WINDOWS && w->state != WINDOW_FREE)
		w++;
	if (ws->volume == ws->nvolumes || w == ws->window + WINDOWS)
		return NULL;
	left = ws->nleaves[ws->volume] - ws->leaf;
	w->volume = ws->volume;
	w->first = ws->leaf;
	w->nleaves = left < WINDOW_LEAVES ? (unsigned)left : WINDOW_LEAVES;
	w->state = WINDOW_LOADING;
	w->next_group = w->groups_done = 0;
	w->next_part = w->parts_done = w->nparts = 0;
	memset(w->got, 0, sizeof(w->got));
	atomic_store(&w->data, 0);
	ws->leaf += w->nleaves;
	return w;
}

/* The older of those that have something to hand out.  mu is held. */
static struct restore_window *
oldest(struct restore_windows *ws, enum window_state state)
{
	struct restore_window *found = NULL;

	for (unsigned i = 0; i < WINDOWS; i++) {
		struct restore_window *w = &ws->window[i];

		if (w->state != state ||
		    (state == WINDOW_READY ? w->next_part == w->nparts
					   : w->next_group == ngroups(w)))
			continue;
		if (found == NULL || w->volume < found->volume ||
		    (w->volume == found->volume && w->first < found->first))
			found = w;
	}
	return found;
}

/* mu is held. */
static bool
all_done(const struct restore_windows *ws)
{
	for (unsigned i = 0; i < WINDOWS; i++)
		if (ws->window[i].state != WINDOW_FREE)
			return false;
	return ws->volume == ws->nvolumes;
}

enum window_task
windows_task(struct restore_windows *ws, bool may_load,
    struct restore_window **w, unsigned *number)
{
	enum window_task task = WINDOW_WAIT;

	pthread_mutex_lock(&ws->mu);
	if ((*w = oldest(ws, WINDOW_READY)) != NULL) {
		task = WINDOW_READ;
		*number = (*w)->next_part++;
	} else if (may_load &&
	    ((*w = oldest(ws, WINDOW_LOADING)) != NULL ||
		(*w = open_next(ws)) != NULL)) {
		task = WINDOW_LOAD;
		*number = (*w)->next_group++;
	} else if (all_done(ws)) {
		task = WINDOW_END;
	}
	pthread_mutex_unlock(&ws->mu);
	return task;
}

/* So many that all lanes have work, and none is small. */
static unsigned
count_parts(const struct restore_windows *ws, const struct restore_window *w)
{
	uint64_t bytes = 0, n;

	for (unsigned i = 0; i < w->nleaves; i++)
		for (unsigned k = 0; w->leaf[i] != NULL && k < w->leaf[i]->n;
		     k++)
			if (!id_is_hole(&w->leaf[i]->child[k]))
				bytes += ws->chunk_size;
	n = (bytes + PART_BYTES - 1) / PART_BYTES;
	if (n < 2 * ws->nlanes)
		n = 2 * ws->nlanes;
	if (n > (bytes + PART_BYTES_MIN - 1) / PART_BYTES_MIN)
		n = (bytes + PART_BYTES_MIN - 1) / PART_BYTES_MIN;
	return n < WINDOW_PARTS_MAX ? (unsigned)n : WINDOW_PARTS_MAX;
}

bool
windows_loaded(struct restore_windows *ws, struct restore_window *w)
{
	bool empty = false;

	pthread_mutex_lock(&ws->mu);
	if (++w->groups_done == ngroups(w)) {
		w->nparts = count_parts(ws, w);
		w->state = WINDOW_READY;
		empty = w->nparts == 0;
		pthread_cond_broadcast(&ws->changed);
	}
	pthread_mutex_unlock(&ws->mu);
	return empty;
}

bool
windows_read(struct restore_windows *ws, struct restore_window *w)
{
	bool last;

	pthread_mutex_lock(&ws->mu);
	last = ++w->parts_done == w->nparts;
	pthread_mutex_unlock(&ws->mu);
	return last;
}

void
windows_done(struct restore_windows *ws, struct restore_window *w)
{
	pthread_mutex_lock(&ws->mu);
	assert(w->state == WINDOW_READY);
	free_leaves(w);
	w->state = WINDOW_FREE;
	pthread_cond_broadcast(&ws->changed);
	pthread_mutex_unlock(&ws->mu);
}

void
windows_wait(struct restore_windows *ws)
{
	pthread_mutex_lock(&ws->mu);
	cond_wait_until(&ws->changed, &ws->mu, now_ms() + WAIT_MS);
	pthread_mutex_unlock(&ws->mu);
}

const struct id *
window_child(const struct restore_window *w, unsigned slice)
{
	const struct node *leaf = w->leaf[slice / NODE_FANOUT];
	unsigned i = slice % NODE_FANOUT;

	if (leaf == NULL || i >= leaf->n || id_is_hole(&leaf->child[i]))
		return NULL;
	return &leaf->child[i];
}

bool
window_take(struct restore_window *w, unsigned slice)
{
	uint8_t bit = (uint8_t)(1u << slice % 8);

	return (atomic_fetch_or(&w->got[slice / 8], bit) & bit) == 0;
}

bool
window_has(const struct restore_window *w, unsigned slice)
{
	return (atomic_load(&w->got[slice / 8]) & 1u << slice % 8) != 0;
}
