/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a job "had" counts bytes, kept near a clock that goes with whoever is
 * served: who did not ask for a while may be behind it by PACE_LAG_NS worth at
 * most, so that short rests between two asks cost a lane nothing and long ones
 * give it no privilege.
 *
 * There are two such counts, since two rates may be what a job waits for.  The
 * one among all says whose turn it is; within the key of who that is the other
 * one says which of its jobs.  With one count alone, the jobs of a slow key
 * would all be equally far behind, and not share it.
 */
#include "repo/serve/pace_core.h"

#include <assert.h>
#include <stddef.h>

#define NS_PER_S ((uint64_t)1000000000)
#define LAG_MIN ((uint64_t)PACE_PIECE_MAX)
#define LAG_MAX ((uint64_t)64 << 20)

/* ${nbytes} may be some TiB: in two steps, or it overflows. */
static uint64_t
time_of(uint64_t nbytes, uint64_t rate)
{
	return nbytes / rate * NS_PER_S + nbytes % rate * NS_PER_S / rate;
}

void
pace_meter_rate(struct pace_meter *m, uint64_t rate, uint64_t now_ns)
{
	uint64_t debt_ns = m->due_ns > now_ns ? m->due_ns - now_ns : 0;

	if (m->rate == rate)
		return;
	if (m->rate != 0 && rate != 0 && debt_ns > 0) {
		double bytes = (double)debt_ns * (double)m->rate;

		m->due_ns = now_ns + (uint64_t)(bytes / (double)rate);
	} else if (m->rate == 0 || rate == 0) {
		m->due_ns = now_ns;
	}
	m->rate = rate;
}

static bool
is_due(const struct pace_meter *m, uint64_t now_ns)
{
	return m->rate == 0 || m->due_ns <= now_ns;
}

static void
charge(struct pace_meter *m, uint64_t nbytes, uint64_t now_ns)
{
	if (m->rate == 0)
		return;
	if (m->due_ns + PACE_BURST_NS < now_ns)
		m->due_ns = now_ns - PACE_BURST_NS;
	m->due_ns += time_of(nbytes, m->rate);
}

static uint64_t
lag_of(uint64_t rate)
{
	uint64_t lag = rate / (NS_PER_S / PACE_LAG_NS);

	if (lag < LAG_MIN)
		return LAG_MIN;
	return lag < LAG_MAX ? lag : LAG_MAX;
}

/* What ${had} counts as beside ${clock}. */
static uint64_t
near_clock(uint64_t had, uint64_t clock, uint64_t lag)
{
	return had + lag < clock ? clock - lag : had;
}

void
pace_core_join(struct pace_core *c, struct pace_key *k, struct pace_job *j)
{
	j->key = k;
	j->next = k->job;
	k->job = j;
	j->first = NULL;
	j->last = &j->first;
	j->of_all = c->clock;
	j->of_key = k->clock;
}

void
pace_core_leave(struct pace_job *j)
{
	struct pace_job **at;

	assert(j->first == NULL);
	for (at = &j->key->job; *at != j; at = &(*at)->next)
		;
	*at = j->next;
}

static uint64_t
lesser(uint64_t a, uint64_t b)
{
	return b != 0 && (a == 0 || b < a) ? b : a;
}

uint64_t
pace_core_rate(const struct pace_core *c, const struct pace_job *j)
{
	uint64_t rate = lesser(j->meter.rate, j->key->meter.rate);

	return j->key->exempt ? rate : lesser(rate, c->meter.rate);
}

uint64_t
pace_core_piece(uint64_t rate)
{
	uint64_t n = rate / 256;

	if (n < PACE_PIECE_MIN)
		return PACE_PIECE_MIN;
	return n < PACE_PIECE_MAX ? n : PACE_PIECE_MAX;
}

void
pace_core_ask(struct pace_job *j, struct pace_ask *a, uint64_t nbytes)
{
	assert(nbytes <= PACE_PIECE_MAX);
	a->next = NULL;
	a->nbytes = nbytes;
	a->granted = false;
	*j->last = a;
	j->last = &a->next;
}

void
pace_core_take_back(struct pace_job *j, struct pace_ask *a)
{
	struct pace_ask **at;

	for (at = &j->first; *at != a; at = &(*at)->next)
		;
	*at = a->next;
	if (j->last == &a->next)
		j->last = at;
}

/* When ${j}, which waits, can be granted as far as rates go. */
static uint64_t
due_of(const struct pace_core *c, const struct pace_job *j, uint64_t now_ns)
{
	const struct pace_key *k = j->key;
	uint64_t due = now_ns;

	if (!is_due(&j->meter, due))
		due = j->meter.due_ns;
	if (!is_due(&k->meter, due))
		due = k->meter.due_ns;
	if (!k->exempt && !is_due(&c->meter, due))
		due = c->meter.due_ns;
	return due;
}

/* Whose key's turn it is; ${next} is when, if it is nobody's. */
static struct pace_key *
choose_key(const struct pace_core *c, uint64_t now_ns, uint64_t *next)
{
	uint64_t lag = lag_of(c->meter.rate), least = UINT64_MAX;
	struct pace_key *found = NULL;

	*next = PACE_NEVER;
	for (struct pace_key *k = c->key; k != NULL; k = k->next)
		for (const struct pace_job *j = k->job; j != NULL;
		     j = j->next) {
			uint64_t due, had;

			if (j->first == NULL)
				continue;
			due = due_of(c, j, now_ns);
			/* It takes nothing from those who share. */
			had = k->exempt ? 0
					: near_clock(j->of_all, c->clock, lag);
			if (due < *next)
				*next = due;
			if (due == now_ns && had < least) {
				least = had;
				found = k;
			}
		}
	return found;
}

static struct pace_job *
choose_job(const struct pace_core *c, const struct pace_key *k, uint64_t now_ns)
{
	uint64_t lag =
	    lag_of(k->meter.rate != 0 ? k->meter.rate : c->meter.rate);
	uint64_t least = 0;
	struct pace_job *found = NULL;

	for (struct pace_job *j = k->job; j != NULL; j = j->next) {
		uint64_t had = near_clock(j->of_key, k->clock, lag);

		if (j->first == NULL || due_of(c, j, now_ns) != now_ns)
			continue;
		/* Of equals the one that waits, not always the same. */
		if (found == NULL || had < least ||
		    (had == least && j->of_all < found->of_all)) {
			least = had;
			found = j;
		}
	}
	return found;
}

static struct pace_ask *
grant(struct pace_core *c, struct pace_job *j, uint64_t now_ns)
{
	struct pace_ask *a = j->first;
	struct pace_key *k = j->key;
	uint64_t lag = lag_of(c->meter.rate);
	uint64_t key_lag =
	    lag_of(k->meter.rate != 0 ? k->meter.rate : c->meter.rate);

	j->of_key = near_clock(j->of_key, k->clock, key_lag);
	if (!k->exempt) {
		j->of_all = near_clock(j->of_all, c->clock, lag);
		if (c->clock < j->of_all)
			c->clock = j->of_all;
	}
	if (k->clock < j->of_key)
		k->clock = j->of_key;
	j->of_all += a->nbytes;
	j->of_key += a->nbytes;
	charge(&j->meter, a->nbytes, now_ns);
	charge(&k->meter, a->nbytes, now_ns);
	if (!k->exempt)
		charge(&c->meter, a->nbytes, now_ns);
	j->first = a->next;
	if (j->first == NULL)
		j->last = &j->first;
	a->granted = true;
	return a;
}

uint64_t
pace_core_step(
    struct pace_core *c, uint64_t now_ns, void (*granted)(struct pace_ask *a))
{
	struct pace_key *k;
	uint64_t next;

	while ((k = choose_key(c, now_ns, &next)) != NULL)
		granted(grant(c, choose_job(c, k, now_ns), now_ns));
	return next;
}
