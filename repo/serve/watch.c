/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/damage.h"

enum { HITS_MS = 2000 /* to look for what is hit */ };

struct watch {
	struct serve *srv;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	bool stopping; /* guarded by mu */
	/* The thread's own. */
	uint64_t damaged; /* as it was told, or less */
	uint64_t told_ms; /* when damage was told */
	struct watch_space space;
};

bool
watch_space_changed(
    struct watch_space *s, uint64_t avail, uint64_t total, uint64_t percent)
{
	/* In thousandths: a tenth of 1 % counts, too. */
	double free = total > 0 ? (double)avail / (double)total * 1000 : 1000;
	double bound = (double)percent * 10;
	bool low = free < bound;

	if (s->low && percent > 0)
		low = free < bound * 1.1 && free < 1000;
	if (low == s->low)
		return false;
	s->low = low;
	return true;
}

/* The VM that is hit, if it is one; up to some names into ${facts}. */
static void
add_hits(struct serve *srv, json_t *facts)
{
	json_t *j = damage_to_json(srv, keyset_console(), HITS_MS),
	       *names = json_array(), *hit;
	char vm[VM_NAME_MAX + 1] = "";
	bool many = false;
	size_t i;

	json_array_foreach(json_object_get(j, "hit"), i, hit)
	{
		const char *name =
		    json_string_value(json_object_get(hit, "backup"));
		const char *at = name != NULL ? strrchr(name, '@') : NULL;
		int len = at != NULL ? (int)(at - name) : 0;

		if (len == 0)
			continue;
		if (json_array_size(names) < WATCH_HITS_MAX)
			json_array_append_new(names, json_string(name));
		if (vm[0] == 0)
			snprintf(vm, sizeof(vm), "%.*s", len, name);
		many = many || strlen(vm) != (size_t)len ||
		    strncmp(vm, name, (size_t)len) != 0;
	}
	json_set_bool(facts, "complete",
	    json_is_true(json_object_get(j, "complete")) &&
		json_array_size(names) ==
		    json_array_size(json_object_get(j, "hit")));
	json_object_set_new(facts, "hit", names);
	json_set_str(facts, "vm", many ? "" : vm);
	json_decref(j);
}

static void
look_for_damage(struct watch *w)
{
	uint64_t n = store_ndamaged(w->srv->store), now = now_ms();
	json_t *facts;
	char *text;

	/* What was put again, or deleted, is damaged no more. */
	if (n < w->damaged)
		w->damaged = n;
	if (n == w->damaged ||
	    (w->told_ms != 0 && now - w->told_ms < WATCH_DAMAGE_MS))
		return;
	facts = json_object();
	json_set_str(facts, "outcome", "found");
	json_set_u64(facts, "damaged", n);
	json_set_u64(facts, "new", n - w->damaged);
	add_hits(w->srv, facts);
	text = xasprintf("%" PRIu64
			 " chunks and nodes are damaged; `backstay verify "
			 "--damage` tells which backups that hits",
	    n);
	json_set_str(facts, "text", text);
	free(text);
	log_error("damage: %" PRIu64 " chunks and nodes that were not known "
		  "to be damaged are; %" PRIu64 " in all",
	    n - w->damaged, n);
	w->damaged = n;
	w->told_ms = now;
	event_post(w->srv->events, EVENT_DAMAGE, facts);
}

static void
tell_space(struct watch *w, uint64_t avail, uint64_t total, uint64_t percent)
{
	json_t *facts = json_object();
	char a[16], b[16], *text;

	text = xasprintf(
	    "%s of %s are free", size_print(avail, a), size_print(total, b));
	json_set_str(facts, "outcome", w->space.low ? "low" : "recovered");
	json_set_u64(facts, "avail", avail);
	json_set_u64(facts, "total", total);
	json_set_u64(facts, "percent", percent);
	json_set_str(facts, "text", text);
	if (w->space.low)
		log_error("space is low: %s, less than %" PRIu64 " %%", text,
		    percent);
	else
		log_info("space is not low any more: %s", text);
	free(text);
	event_post(w->srv->events, EVENT_LOW_SPACE, facts);
}

static void
look_at_space(struct watch *w)
{
	const struct settings *s = settings_get(w->srv->settings);
	uint64_t percent = s->low_space, avail, total, reserve;

	settings_put(w->srv->settings, s);
	if (store_space(w->srv->store, &avail, &total, &reserve) == 0 &&
	    watch_space_changed(&w->space, avail, total, percent))
		tell_space(w, avail, total, percent);
}

/* True: it goes on. */
static bool
rest(struct watch *w)
{
	uint64_t until = now_ms() + WATCH_EVERY_MS;
	bool go;

	pthread_mutex_lock(&w->mu);
	while (!w->stopping && now_ms() < until)
		cond_wait_until(&w->changed, &w->mu, until);
	go = !w->stopping;
	pthread_mutex_unlock(&w->mu);
	return go;
}

static void *
watch_main(void *arg)
{
	struct watch *w = arg;

	do {
		look_for_damage(w);
		look_at_space(w);
	} while (rest(w));
	return NULL;
}

static void
watch_free(struct watch *w)
{
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->mu);
	free(w);
}

int
watch_start(struct serve *srv, struct watch **out)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	w->srv = srv;
	/* What was known before the start was told before. */
	w->damaged = store_ndamaged(srv->store);
	pthread_mutex_init(&w->mu, NULL);
	cond_init(&w->changed);
	errno = pthread_create(&w->thread, NULL, watch_main, w);
	if (errno != 0) {
		watch_free(w);
		return log_sys("watch: start its thread");
	}
	*out = w;
	return 0;
}

void
watch_stop(struct watch *w)
{
	if (w == NULL)
		return;
	pthread_mutex_lock(&w->mu);
	w->stopping = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mu);
	pthread_join(w->thread, NULL);
	watch_free(w);
}
