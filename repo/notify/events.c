/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/notify/events.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

struct events {
	char *repo;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	struct event ring[EVENTS_QUEUED_MAX]; /* guarded by mu, */
	uint64_t first, next;                 /* with all below */
	uint64_t last_number;
	uint64_t lost_now; /* since there was room last */
	struct events_counts counts;
	bool closed;
};

const char *
event_kind_name(enum event_kind kind)
{
	static const char *const names[EVENT_KINDS] = {
		[EVENT_JOB_END] = "job-end",
		[EVENT_JOB_FAILURE] = "job-failure",
		[EVENT_DAMAGE] = "damage",
		[EVENT_LOW_SPACE] = "low-space",
		[EVENT_MISSED_SCHEDULE] = "missed-schedule",
		[EVENT_UNUSUAL_CHANGE] = "unusual-change",
		[EVENT_AGENT_LOST] = "agent-lost",
		[EVENT_TEST] = "test",
	};

	return names[kind];
}

struct events *
events_new(const char *repo)
{
	struct events *v = xcalloc(1, sizeof(*v));

	v->repo = xstrdup(repo);
	pthread_mutex_init(&v->mu, NULL);
	cond_init(&v->changed);
	return v;
}

void
events_free(struct events *v)
{
	if (v == NULL)
		return;
	while (v->first < v->next)
		event_fini(&v->ring[v->first++ % EVENTS_QUEUED_MAX]);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->mu);
	free(v->repo);
	free(v);
}

void
event_fini(struct event *e)
{
	free(e->text);
	e->text = NULL;
}

static void
copy_member(const json_t *facts, const char *key, char *out, size_t size)
{
	const char *s = json_string_value(json_object_get(facts, key));

	snprintf(out, size, "%s", s != NULL ? s : "");
}

/* One line; too long a one does without what only its kind has. */
static char *
print(json_t *facts)
{
	static const char *const kept[] = { "event", "number", "time",
		"repository", "vm", "outcome", "text" };
	enum { FLAGS = JSON_COMPACT | JSON_SORT_KEYS };
	char *text = json_dumps(facts, FLAGS);
	json_t *less;

	if (text == NULL || strlen(text) < EVENT_TEXT_MAX)
		return text;
	free(text);
	less = json_object();
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		json_object_set(less, kept[i], json_object_get(facts, kept[i]));
	json_set_bool(less, "shortened", true);
	text = json_dumps(less, FLAGS);
	json_decref(less);
	if (text != NULL && strlen(text) >= EVENT_TEXT_MAX) {
		free(text);
		text = NULL;
	}
	return text;
}

/* Locked.  False: ${e} has no place. */
static bool
push(struct events *v, const struct event *e)
{
	v->counts.posted[e->kind]++;
	if (v->closed || e->text == NULL ||
	    v->next - v->first == EVENTS_QUEUED_MAX) {
		v->counts.lost++;
		if (!v->closed && v->lost_now++ == 0)
			log_error("event %s %s is lost: too many wait for the "
				  "hook",
			    event_kind_name(e->kind), e->vm);
		return false;
	}
	/* Not at once, or a reader that is just too slow fills the log. */
	if (v->lost_now > 0 && v->next - v->first < EVENTS_QUEUED_MAX / 2) {
		log_error(
		    "%llu events were lost", (unsigned long long)v->lost_now);
		v->lost_now = 0;
	}
	v->ring[v->next++ % EVENTS_QUEUED_MAX] = *e;
	pthread_cond_signal(&v->changed);
	return true;
}

uint64_t
event_post(struct events *v, enum event_kind kind, json_t *facts)
{
	char when[TIME_TEXT_LEN + 1];
	struct event e = { .kind = kind };
	bool taken;

	if (v == NULL) {
		json_decref(facts);
		return 0;
	}
	if (facts == NULL)
		facts = json_object();
	pthread_mutex_lock(&v->mu);
	e.number = ++v->last_number;
	pthread_mutex_unlock(&v->mu);
	copy_member(facts, "vm", e.vm, sizeof(e.vm));
	copy_member(facts, "outcome", e.outcome, sizeof(e.outcome));
	json_set_str(facts, "event", event_kind_name(kind));
	json_set_u64(facts, "number", e.number);
	json_set_str(facts, "time", time_print((uint64_t)time(NULL), when));
	json_set_str(facts, "repository", v->repo);
	e.text = print(facts);
	json_decref(facts);
	pthread_mutex_lock(&v->mu);
	taken = push(v, &e);
	pthread_mutex_unlock(&v->mu);
	if (!taken)
		event_fini(&e);
	return taken ? e.number : 0;
}

int
events_take(struct events *v, int timeout_ms, struct event *out)
{
	uint64_t until = now_ms() + (uint64_t)timeout_ms;
	int rc = 0;

	pthread_mutex_lock(&v->mu);
	while (v->first == v->next && !v->closed && now_ms() < until)
		cond_wait_until(&v->changed, &v->mu, until);
	if (v->first < v->next)
		*out = v->ring[v->first++ % EVENTS_QUEUED_MAX];
	else
		rc = v->closed ? ERR_CLOSED : ERR_TIMEOUT;
	pthread_mutex_unlock(&v->mu);
	return rc;
}

void
events_close(struct events *v)
{
	pthread_mutex_lock(&v->mu);
	v->closed = true;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->mu);
}

void
events_counts(struct events *v, struct events_counts *out)
{
	pthread_mutex_lock(&v->mu);
	*out = v->counts;
	pthread_mutex_unlock(&v->mu);
}
