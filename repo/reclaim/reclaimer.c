/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/reclaim/reclaimer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/reclaim/compact.h"
#include "repo/reclaim/sweep.h"

enum {
	/* While backups run, rest as long as a lot took, up to this. */
	YIELD_MS_MAX = 500,
	/* A delete's references go one level of its tree a pass at least, but
	 * for what the starts of running backups keep: after so many its space
	 * is back, whatever was deleted meanwhile. */
	PASSES_ENOUGH = NODE_LEVEL_MAX + 2
};

struct reclaimer {
	struct store *s;
	atomic_uint live_percent;
	pthread_t thread;
	atomic_bool stop_lot; /* end the lot that runs, soon */

	pthread_mutex_t mu;
	pthread_cond_t changed; /* anything below */

	/* Guarded by mu. */
	bool stopping;
	bool awake;
	bool paused;
	bool running;
	uint64_t hold_until_ms; /* 0: no hold */
	uint64_t rate;
	uint64_t asked;                /* passes asked for, */
	uint64_t served;               /* of which so many were found done */
	uint64_t begun[PASSES_ENOUGH]; /* asked, when the last ones began */
	unsigned nbegun;               /* in all; the running one's included */
	struct sweep_result swept;
	struct compact_result compacted;
	uint64_t passes;
	uint64_t pass_began_ms; /* of the one that runs */
	uint64_t busy_ms;       /* in those that have ended */
	int code;

	/* The thread's own. */
	uint64_t lot_began_ms;
};

/* mu is held; it is given up while waiting. */
static void
wait_ms(struct reclaimer *r, uint64_t ms)
{
	cond_wait_until(&r->changed, &r->mu, now_ms() + ms);
}

/* mu is held. */
static bool
is_held(struct reclaimer *r)
{
	if (r->hold_until_ms != 0 && now_ms() >= r->hold_until_ms)
		r->hold_until_ms = 0;
	return r->hold_until_ms != 0;
}

/* Between two lots of copying: the rate, the backups that run, a pause. */
static bool
pace(void *arg, uint64_t copied)
{
	struct reclaimer *r = arg;
	struct store_status st;
	uint64_t took = now_ms() - r->lot_began_ms, rest = 0, until;
	bool go;

	pthread_mutex_lock(&r->mu);
	r->compacted.copied += copied; /* told while the pass runs */
	if (r->rate > 0)
		rest = copied * 1000 / r->rate;
	rest = rest > took ? rest - took : 0;
	pthread_mutex_unlock(&r->mu);
	if (store_status(r->s, &st) == 0 && st.sessions > 0) {
		uint64_t yield = took < YIELD_MS_MAX ? took : YIELD_MS_MAX;

		rest = rest > yield ? rest : yield;
	}
	until = now_ms() + rest;
	pthread_mutex_lock(&r->mu);
	while (!r->stopping && !is_held(r) && (r->paused || now_ms() < until))
		wait_ms(r, r->paused ? 1000 : until - now_ms() + 1);
	go = !r->stopping && !is_held(r);
	pthread_mutex_unlock(&r->mu);
	r->lot_began_ms = now_ms();
	return go;
}

/* One pass: *more if it did anything, so that another may find more. */
static int
pass(struct reclaimer *r, bool *more)
{
	struct compact_options o = {
		.live_percent = r->live_percent, .pace = pace, .arg = r
	};
	struct sweep_result swept = { 0 };
	struct compact_result compacted = { 0 };
	bool held;
	int rc;

	r->lot_began_ms = now_ms();
	rc = sweep(r->s, &r->stop_lot, &swept);
	pthread_mutex_lock(&r->mu);
	held = is_held(r);
	r->swept.entries += swept.entries;
	r->swept.bytes += swept.bytes;
	pthread_mutex_unlock(&r->mu);
	if (rc == 0 && !held)
		rc = compact(r->s, &o, &compacted);
	pthread_mutex_lock(&r->mu);
	r->compacted.packs += compacted.packs;
	r->compacted.freed += compacted.freed;
	pthread_mutex_unlock(&r->mu);
	*more =
	    swept.entries > 0 || compacted.packs > 0 || compacted.copied > 0;
	return rc;
}

/* A pass has ended: whose asking has been answered.  mu is held. */
static void
settle(struct reclaimer *r, bool more)
{
	uint64_t last = r->begun[(r->nbegun - 1) % PASSES_ENOUGH];
	uint64_t first = r->begun[r->nbegun % PASSES_ENOUGH];

	if (is_held(r)) {
		r->nbegun = 0; /* those passes were none */
		return;
	}
	if (!more)
		r->served = last;
	else if (r->nbegun >= PASSES_ENOUGH && r->served < first)
		r->served = first;
	if (r->code != 0)
		r->nbegun = 0;
}

static void *
reclaimer_main(void *arg)
{
	struct reclaimer *r = arg;
	bool more = false;
	int rc;

	pthread_mutex_lock(&r->mu);
	while (!r->stopping) {
		if (r->paused || (!r->awake && !more)) {
			wait_ms(r, RECLAIM_IDLE_MS);
			/* Sessions end, holds run out: look now and then. */
			r->awake = true;
			continue;
		}
		r->awake = false;
		r->begun[r->nbegun++ % PASSES_ENOUGH] = r->asked;
		r->running = true;
		r->pass_began_ms = now_ms();
		pthread_mutex_unlock(&r->mu);
		rc = pass(r, &more);
		pthread_mutex_lock(&r->mu);
		r->running = false;
		r->busy_ms += now_ms() - r->pass_began_ms;
		r->passes++;
		r->code = rc;
		if (rc != 0)
			more = false; /* not at once again */
		settle(r, more);
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->mu);
	return NULL;
}

int
reclaimer_start(
    struct store *s, const struct reclaim_options *o, struct reclaimer **out)
{
	struct reclaimer *r = xcalloc(1, sizeof(*r));

	r->s = s;
	r->live_percent =
	    o->live_percent != 0 ? o->live_percent : RECLAIM_LIVE_PERCENT;
	r->rate = o->rate;
	r->awake = true; /* what a stop interrupted goes on */
	pthread_mutex_init(&r->mu, NULL);
	cond_init(&r->changed);
	errno = pthread_create(&r->thread, NULL, reclaimer_main, r);
	if (errno != 0) {
		pthread_cond_destroy(&r->changed);
		pthread_mutex_destroy(&r->mu);
		free(r);
		return log_sys("reclaimer: start its thread");
	}
	*out = r;
	return 0;
}

void
reclaimer_stop(struct reclaimer *r)
{
	if (r == NULL)
		return;
	atomic_store(&r->stop_lot, true);
	pthread_mutex_lock(&r->mu);
	r->stopping = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->mu);
	free(r);
}

void
reclaimer_wake(struct reclaimer *r)
{
	pthread_mutex_lock(&r->mu);
	r->awake = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
}

void
reclaimer_pause(struct reclaimer *r, bool on)
{
	pthread_mutex_lock(&r->mu);
	r->paused = on;
	r->awake = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
}

void
reclaimer_hold(struct reclaimer *r, uint64_t seconds)
{
	pthread_mutex_lock(&r->mu);
	r->hold_until_ms = seconds != 0 ? now_ms() + seconds * 1000 : 0;
	r->awake = true;
	pthread_cond_broadcast(&r->changed);
	while (seconds != 0 && r->running && !r->stopping)
		wait_ms(r, 1000);
	pthread_mutex_unlock(&r->mu);
}

void
reclaimer_rate(struct reclaimer *r, uint64_t rate)
{
	pthread_mutex_lock(&r->mu);
	r->rate = rate;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
}

void
reclaimer_live_percent(struct reclaimer *r, unsigned percent)
{
	atomic_store(&r->live_percent, percent);
	reclaimer_wake(r);
}

uint64_t
reclaimer_ask(struct reclaimer *r)
{
	uint64_t ticket;

	pthread_mutex_lock(&r->mu);
	ticket = ++r->asked;
	r->awake = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->mu);
	return ticket;
}

int
reclaimer_wait(struct reclaimer *r, int timeout_ms, struct err *e)
{
	return reclaimer_wait_for(r, reclaimer_ask(r), timeout_ms, e);
}

int
reclaimer_wait_for(
    struct reclaimer *r, uint64_t ticket, int timeout_ms, struct err *e)
{
	uint64_t until = now_ms() + (uint64_t)timeout_ms;
	int rc = 0;

	pthread_mutex_lock(&r->mu);
	while (r->served < ticket) {
		if (r->stopping)
			rc = err_set(e, ERR_CLOSED, "the daemon is stopping");
		else if (r->paused)
			rc = err_set(e, ERR_BUSY,
			    "reclaiming is paused: `backstay gc resume`");
		else if (is_held(r))
			rc = err_set(e, ERR_BUSY,
			    "packs are held for a copy: `backstay hold "
			    "--release`");
		else if (timeout_ms >= 0 && now_ms() >= until)
			rc = err_set(
			    e, ERR_TIMEOUT, "reclaiming has not ended yet");
		if (rc != 0)
			break;
		wait_ms(r, 500);
	}
	if (rc == 0 && r->code != 0)
		rc = err_set(e, r->code,
		    r->code == ERR_NOSPC
			? "no room to rewrite a pack: free some space on the "
			  "volume"
			: "reclaiming failed; see the daemon's log");
	pthread_mutex_unlock(&r->mu);
	return rc;
}

void
reclaimer_status(struct reclaimer *r, struct reclaim_status *out)
{
	uint64_t dead = compact_dead(r->s);

	pthread_mutex_lock(&r->mu);
	*out = (struct reclaim_status){ .running = r->running,
		.paused = r->paused,
		.held_s =
		    is_held(r) ? (r->hold_until_ms - now_ms() + 999) / 1000 : 0,
		.rate = r->rate,
		.dead = dead,
		.passes = r->passes,
		.entries = r->swept.entries,
		.freed = r->compacted.freed,
		.copied = r->compacted.copied,
		.busy_ms =
		    r->busy_ms + (r->running ? now_ms() - r->pass_began_ms : 0),
		.code = r->code };
	pthread_mutex_unlock(&r->mu);
}
