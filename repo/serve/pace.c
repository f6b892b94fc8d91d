/* SPDX-License-Identifier: Apache-2.0 */
/*
 * There is no thread: of those that wait one, the leader, sleeps until the next
 * turn may be given, gives all that are due, and wakes just those.
 */
#include "repo/serve/pace.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "proto/name.h"
#include "repo/serve/pace_core.h"

#define NS_PER_S ((uint64_t)1000000000)
#define NS_PER_MS ((uint64_t)1000000)

enum {
	WINDOW_MIN = 128 << 10,
	WINDOW_SHARE = 5 /* a fifth of a second's worth, of all lanes */
};

/* What was said of one rate. */
struct said {
	struct hours settings;
	struct hours now; /* where ${set} */
	bool set;
};

struct key {
	struct pace_key core; /* first */
	char name[NAME_PART_MAX + 1];
	struct said said;
	unsigned njobs;
	unsigned lanes;
};

struct pace_lanes {
	struct pace_job core; /* first */
	struct pace *all;
	uint64_t id;
	struct said said;
	unsigned lanes;
};

struct waiter {
	struct pace_ask ask; /* first */
	struct waiter *next;
	pthread_cond_t turn;
	bool lead; /* it is to lead: it shall look */
};

struct pace {
	pthread_mutex_t mu;
	pthread_condattr_t clock;
	atomic_bool any; /* a rate is in force */
	/* guarded by mu: */
	struct pace_core core;
	struct said said;
	unsigned lanes; /* of agents */
	struct waiter *waiting;
	struct waiter *leader; /* of them */
	uint64_t leader_ns;    /* it sleeps until then */
};

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

struct pace *
pace_new(void)
{
	struct pace *p = xcalloc(1, sizeof(*p));

	pthread_mutex_init(&p->mu, NULL);
	pthread_condattr_init(&p->clock);
	pthread_condattr_setclock(&p->clock, CLOCK_MONOTONIC);
	return p;
}

void
pace_free(struct pace *p)
{
	struct key *k;

	if (p == NULL)
		return;
	while ((k = (struct key *)p->core.key) != NULL) {
		p->core.key = k->core.next;
		free(k);
	}
	pthread_condattr_destroy(&p->clock);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

/* --- turns; all of it locked */

static void
wake(struct pace_ask *a)
{
	pthread_cond_signal(&((struct waiter *)a)->turn);
}

static uint64_t
step(struct pace *p)
{
	return pace_core_step(&p->core, now_ns(), wake);
}

/* Rates are others: so are turns. */
static void
look_again(struct pace *p)
{
	if (step(p) < p->leader_ns && p->leader != NULL)
		pthread_cond_signal(&p->leader->turn);
}

static void
leave_queue(struct pace *p, struct waiter *w)
{
	struct waiter **at;

	for (at = &p->waiting; *at != w; at = &(*at)->next)
		;
	*at = w->next;
	if (p->leader != w)
		return;
	p->leader = p->waiting;
	p->leader_ns = 0; /* which is awake, or soon will be */
	if (p->leader != NULL) {
		p->leader->lead = true;
		pthread_cond_signal(&p->leader->turn);
	}
}

static void
sleep_until(struct pace *p, struct waiter *w, uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S) };

	pthread_cond_timedwait(&w->turn, &p->mu, &t);
}

static bool
wait_for_turn(struct pace *p, struct waiter *w, uint64_t deadline)
{
	pthread_cond_init(&w->turn, &p->clock);
	w->next = p->waiting;
	p->waiting = w;
	while (!w->ask.granted) {
		uint64_t next, now = now_ns();

		if (now >= deadline)
			break;
		if (p->leader == NULL)
			p->leader = w;
		next = pace_core_step(&p->core, now, wake);
		if (w->ask.granted)
			break;
		if (p->leader == w) {
			p->leader_ns = next < deadline ? next : deadline;
			sleep_until(p, w, p->leader_ns);
			continue;
		}
		/* The leader may sleep too long for this one. */
		if (next < p->leader_ns)
			pthread_cond_signal(&p->leader->turn);
		while (!w->ask.granted && !w->lead && now_ns() < deadline)
			sleep_until(p, w, deadline);
		w->lead = false;
	}
	leave_queue(p, w);
	pthread_cond_destroy(&w->turn);
	return w->ask.granted;
}

size_t
pace_pay(struct pace_lanes *l, size_t len, int timeout_ms)
{
	struct waiter w = { .lead = false };
	struct pace *p;
	uint64_t rate;
	bool granted;

	if (l == NULL || !atomic_load(&l->all->any))
		return len;
	p = l->all;
	pthread_mutex_lock(&p->mu);
	rate = pace_core_rate(&p->core, &l->core);
	if (rate == 0) {
		pthread_mutex_unlock(&p->mu);
		return len;
	}
	if (len > pace_core_piece(rate))
		len = (size_t)pace_core_piece(rate);
	pace_core_ask(&l->core, &w.ask, len);
	if (timeout_ms > 0) {
		granted = wait_for_turn(
		    p, &w, now_ns() + (uint64_t)timeout_ms * NS_PER_MS);
	} else {
		/* Granted here, nobody is woken: none waits for it. */
		pthread_cond_init(&w.turn, &p->clock);
		step(p);
		pthread_cond_destroy(&w.turn);
		granted = w.ask.granted;
	}
	if (!granted)
		pace_core_take_back(&l->core, &w.ask);
	pthread_mutex_unlock(&p->mu);
	return granted ? len : 0;
}

static uint64_t
share(uint64_t rate, unsigned lanes, uint64_t most)
{
	uint64_t n;

	if (rate == 0)
		return most;
	n = rate / WINDOW_SHARE / (lanes > 0 ? lanes : 1);
	return n < most ? n : most;
}

size_t
pace_window(struct pace_lanes *l, size_t most)
{
	const struct key *k;
	uint64_t n = most;
	struct pace *p;

	if (l == NULL || !atomic_load(&l->all->any))
		return most;
	p = l->all;
	k = (const struct key *)l->core.key;
	pthread_mutex_lock(&p->mu);
	n = share(l->core.meter.rate, l->lanes, n);
	n = share(k->core.meter.rate, k->lanes, n);
	if (!k->core.exempt)
		n = share(p->core.meter.rate, p->lanes, n);
	pthread_mutex_unlock(&p->mu);
	if (n < WINDOW_MIN)
		n = WINDOW_MIN;
	return n < most ? (size_t)n : most;
}

/* --- rates; static functions: locked */

static uint64_t
rate_of(const struct said *s)
{
	return hours_now(s->set ? &s->now : &s->settings);
}

static void
take_rate(struct pace_meter *m, const struct said *s, uint64_t now, bool *any)
{
	pace_meter_rate(m, rate_of(s), now);
	if (m->rate != 0)
		*any = true;
}

/* All rates, as they are to be by now. */
static void
take_rates(struct pace *p)
{
	uint64_t now = now_ns();
	bool any = false;

	take_rate(&p->core.meter, &p->said, now, &any);
	for (struct pace_key *k = p->core.key; k != NULL; k = k->next) {
		take_rate(&k->meter, &((struct key *)k)->said, now, &any);
		for (struct pace_job *j = k->job; j != NULL; j = j->next)
			take_rate(&j->meter, &((struct pace_lanes *)j)->said,
			    now, &any);
	}
	atomic_store(&p->any, any);
	look_again(p);
}

static void
say(struct said *s, const struct hours *h)
{
	s->set = h != NULL;
	if (h != NULL)
		s->now = *h;
}

static struct key *
find_key(struct pace *p, const char *name)
{
	struct key *k;

	for (k = (struct key *)p->core.key; k != NULL;
	     k = (struct key *)k->core.next)
		if (strcmp(k->name, name) == 0)
			return k;
	k = xcalloc(1, sizeof(*k));
	memcpy(k->name, name, strlen(name) + 1);
	k->core.exempt = *name == 0;
	k->core.next = p->core.key;
	p->core.key = &k->core;
	return k;
}

/* It is forgotten, unless somebody has set its rate. */
static void
put_key(struct pace *p, struct key *k)
{
	struct pace_key **at;

	if (k->njobs > 0 || k->said.set)
		return;
	for (at = &p->core.key; *at != &k->core; at = &(*at)->next)
		;
	*at = k->core.next;
	free(k);
}

void
pace_settings(struct pace *p, const struct hours *h)
{
	pthread_mutex_lock(&p->mu);
	p->said.settings = *h;
	take_rates(p);
	pthread_mutex_unlock(&p->mu);
}

void
pace_set_all(struct pace *p, const struct hours *h)
{
	pthread_mutex_lock(&p->mu);
	say(&p->said, h);
	take_rates(p);
	pthread_mutex_unlock(&p->mu);
}

void
pace_set_key(struct pace *p, const char *key, const struct hours *h)
{
	struct key *k;

	pthread_mutex_lock(&p->mu);
	k = find_key(p, key);
	say(&k->said, h);
	put_key(p, k);
	take_rates(p);
	pthread_mutex_unlock(&p->mu);
}

bool
pace_set_job(struct pace *p, uint64_t job, const struct hours *h)
{
	bool found = false;

	pthread_mutex_lock(&p->mu);
	for (struct pace_key *k = p->core.key; k != NULL; k = k->next)
		for (struct pace_job *j = k->job; j != NULL; j = j->next) {
			struct pace_lanes *l = (struct pace_lanes *)j;

			if (l->id != job)
				continue;
			say(&l->said, h);
			found = true;
		}
	take_rates(p);
	pthread_mutex_unlock(&p->mu);
	return found;
}

void
pace_tick(struct pace *p)
{
	uint64_t was;

	pthread_mutex_lock(&p->mu);
	was = p->core.meter.rate;
	take_rates(p);
	if (p->core.meter.rate != was)
		log_info("bwlimit: %llu bytes a second now",
		    (unsigned long long)p->core.meter.rate);
	pthread_mutex_unlock(&p->mu);
}

/* --- jobs */

struct pace_lanes *
pace_join(struct pace *p, uint64_t job, const char *key)
{
	struct pace_lanes *l = xcalloc(1, sizeof(*l));
	struct key *k;

	l->all = p;
	l->id = job;
	pthread_mutex_lock(&p->mu);
	k = find_key(p, key != NULL ? key : "");
	k->njobs++;
	pace_core_join(&p->core, &k->core, &l->core);
	pthread_mutex_unlock(&p->mu);
	return l;
}

void
pace_leave(struct pace_lanes *l)
{
	struct pace *p;
	struct key *k;

	if (l == NULL)
		return;
	p = l->all;
	k = (struct key *)l->core.key;
	pthread_mutex_lock(&p->mu);
	pace_core_leave(&l->core);
	k->njobs--;
	put_key(p, k);
	pthread_mutex_unlock(&p->mu);
	free(l);
}

void
pace_key(struct pace_lanes *l, const struct hours *h)
{
	struct key *k;

	if (l == NULL)
		return;
	k = (struct key *)l->core.key;
	pthread_mutex_lock(&l->all->mu);
	k->said.settings = *h;
	take_rates(l->all);
	pthread_mutex_unlock(&l->all->mu);
}

void
pace_lane(struct pace_lanes *l, int n)
{
	struct key *k;

	if (l == NULL)
		return;
	k = (struct key *)l->core.key;
	pthread_mutex_lock(&l->all->mu);
	l->lanes += (unsigned)n;
	k->lanes += (unsigned)n;
	if (!k->core.exempt)
		l->all->lanes += (unsigned)n;
	pthread_mutex_unlock(&l->all->mu);
}

/* --- for people */

static void
describe(json_t *o, const struct said *s, uint64_t rate)
{
	const struct hours *h = s->set ? &s->now : &s->settings;
	struct buf text = { 0 };

	hours_print(h, &text);
	json_set_u64(o, "rate", rate);
	json_set_str(o, "bwlimit", buf_cstr(&text));
	json_set_str(o, "from", s->set ? "set" : "settings");
	buf_fini(&text);
}

json_t *
pace_to_json(struct pace *p)
{
	json_t *o = json_object(), *keys = json_array(), *jobs = json_array();

	pthread_mutex_lock(&p->mu);
	describe(o, &p->said, p->core.meter.rate);
	for (struct key *k = (struct key *)p->core.key; k != NULL;
	     k = (struct key *)k->core.next) {
		for (struct pace_job *j = k->core.job; j != NULL; j = j->next) {
			struct pace_lanes *l = (struct pace_lanes *)j;
			json_t *one = json_object();

			json_set_u64(one, "job", l->id);
			describe(one, &l->said, l->core.meter.rate);
			json_array_append_new(jobs, one);
		}
		if (!k->core.exempt) {
			json_t *one = json_object();

			json_set_str(one, "key", k->name);
			describe(one, &k->said, k->core.meter.rate);
			json_array_append_new(keys, one);
		}
	}
	pthread_mutex_unlock(&p->mu);
	json_object_set_new(o, "keys", keys);
	json_object_set_new(o, "jobs", jobs);
	return o;
}
