/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/lookout.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/sink/swap.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { STOP_S = 3 };

/* One look, and who uses it. */
struct look {
	struct look *next;
	struct inventory *v;
	unsigned refs;
};

struct lookout {
	struct conf_now *now; /* set before start */
	pthread_t thread;
	struct buf text;         /* the thread's: the list as it was told */
	char said[ERR_TEXT_MAX]; /* the thread's: why libvirt did not answer */
	pthread_mutex_t mu;      /* guards the rest */
	pthread_cond_t cond;
	bool stop, again;
	bool ended;         /* the thread has */
	struct look *first; /* the last one */
	uint64_t version;   /* 0: there is none */
};

/* Locked. */
static void
drop(struct lookout *l, const struct inventory *v)
{
	struct look **at, *k;

	for (at = &l->first; (*at)->v != v; at = &(*at)->next)
		;
	k = *at;
	if (--k->refs > 0)
		return;
	*at = k->next;
	inventory_free(k->v);
	free(k);
}

static void
complain(struct lookout *l, const struct err *e)
{
	if (e->code != 0 && strcmp(l->said, e->text) != 0)
		log_error("libvirt's machines are not offered: %s", e->text);
	else if (e->code == 0 && l->said[0] != 0)
		log_info("libvirt answers again");
	memcpy(l->said, e->text, sizeof(l->said));
}

/* To compare. */
static void
print_list(const struct inventory *v, struct buf *out)
{
	json_t *j = json_object();
	unsigned n;

	json_object_set_new(j, "vms", inventory_json(v, &n));
	json_print(j, out);
	json_decref(j);
}

/* A restore that a power cut met while it swapped disks: before anybody starts
 * with one of them, if we are in time.  Who is in use is left alone.  Once for
 * each disk, when it is first seen: libvirt may answer later than we ask. */
static void
finish_swaps(const struct inventory *v, const struct inventory *old)
{
	for (unsigned i = 0; i < v->nvms; i++)
		for (unsigned k = 0; k < v->vm[i].ndisks; k++) {
			const char *path = v->vm[i].disk[k].path;
			struct err e = { 0 };
			char what[256];

			if (path == NULL ||
			    (old != NULL && inventory_has_path(old, path)) ||
			    !swap_pending(path))
				continue;
			if (swap_recover(path, what, sizeof(what), &e) != 0)
				log_error("%s: %s", path, e.text);
			else if (what[0] != 0)
				log_info("%s: %s", path, what);
		}
}

/* What libvirt has is not gone because it does not answer just now. */
static void
look(struct lookout *l, const struct conf *c)
{
	const struct inventory *old = lookout_get(l);
	struct err e = { 0 };
	struct inventory *v = inventory_take(c, old, &e);
	struct buf text = { 0 };
	struct look *k;
	bool changed;

	complain(l, &e);
	if (e.code != 0 && old != NULL) {
		inventory_free(v);
		lookout_put(l, old);
		return;
	}
	finish_swaps(v, old);
	if (old != NULL)
		lookout_put(l, old);
	print_list(v, &text);
	changed = text.len != l->text.len ||
	    memcmp(text.data, l->text.data, text.len) != 0;
	buf_fini(&l->text);
	l->text = text;
	k = xcalloc(1, sizeof(*k));
	k->v = v;
	k->refs = 1;
	pthread_mutex_lock(&l->mu);
	k->next = l->first;
	l->first = k;
	if (k->next != NULL)
		drop(l, k->next->v);
	if (changed)
		l->version++;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->mu);
}

/* Locked.  Until the next look is due. */
static void
rest(struct lookout *l, unsigned seconds)
{
	uint64_t until = now_ms() + (uint64_t)seconds * 1000;

	while (
	    !l->stop && !l->again && cond_wait_until(&l->cond, &l->mu, until))
		;
	l->again = false;
}

static void *
lookout_main(void *arg)
{
	struct lookout *l = arg;
	const struct conf *c;
	unsigned seconds;
	bool stop = false;

	while (!stop) {
		c = conf_get(l->now);
		seconds = (unsigned)conf_number(c, CONF_SCAN);
		look(l, c);
		conf_put(l->now, c);
		pthread_mutex_lock(&l->mu);
		rest(l, seconds);
		stop = l->stop;
		if (stop) {
			l->ended = true;
			pthread_cond_broadcast(&l->cond);
		}
		pthread_mutex_unlock(&l->mu);
	}
	return NULL;
}

struct lookout *
lookout_new(struct conf_now *now)
{
	struct lookout *l = xcalloc(1, sizeof(*l));

	l->now = now;
	pthread_mutex_init(&l->mu, NULL);
	cond_init(&l->cond);
	if (pthread_create(&l->thread, NULL, lookout_main, l) != 0) {
		log_error("no thread can be started");
		abort();
	}
	return l;
}

bool
lookout_free(struct lookout *l)
{
	uint64_t until = now_ms() + STOP_S * 1000;
	bool ended;

	pthread_mutex_lock(&l->mu);
	l->stop = true;
	pthread_cond_broadcast(&l->cond);
	while (!l->ended && cond_wait_until(&l->cond, &l->mu, until))
		;
	ended = l->ended;
	pthread_mutex_unlock(&l->mu);
	if (!ended)
		return false;
	pthread_join(l->thread, NULL);
	if (l->first != NULL)
		drop(l, l->first->v);
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->mu);
	buf_fini(&l->text);
	free(l);
	return true;
}

void
lookout_again(struct lookout *l)
{
	pthread_mutex_lock(&l->mu);
	l->again = true;
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&l->mu);
}

bool
lookout_wait(struct lookout *l, unsigned ms)
{
	uint64_t until = now_ms() + ms;
	bool there;

	pthread_mutex_lock(&l->mu);
	while (!l->stop && l->version == 0 &&
	    cond_wait_until(&l->cond, &l->mu, until))
		;
	there = l->version != 0;
	pthread_mutex_unlock(&l->mu);
	return there;
}

uint64_t
lookout_version(struct lookout *l)
{
	uint64_t v;

	pthread_mutex_lock(&l->mu);
	v = l->version;
	pthread_mutex_unlock(&l->mu);
	return v;
}

const struct inventory *
lookout_get(struct lookout *l)
{
	const struct inventory *v = NULL;

	pthread_mutex_lock(&l->mu);
	if (l->first != NULL) {
		l->first->refs++;
		v = l->first->v;
	}
	pthread_mutex_unlock(&l->mu);
	return v;
}

void
lookout_put(struct lookout *l, const struct inventory *v)
{
	if (v == NULL)
		return;
	pthread_mutex_lock(&l->mu);
	drop(l, v);
	pthread_mutex_unlock(&l->mu);
}
