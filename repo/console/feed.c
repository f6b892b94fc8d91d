/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/feed.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "repo/console/console.h"

enum {
	SMOOTH_MS = 3000, /* the rate shown is about of so long */
	/* Agents tell once a second: less than that is no standstill. */
	STILL_MS = 2500
};

const struct feed_job *
feed_find(const struct feed *f, uint64_t id)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->job[i].id == id)
			return &f->job[i];
	return NULL;
}

static void
take_speed(struct feed_job *j, uint64_t done, uint64_t now_ms)
{
	uint64_t ms = now_ms - j->done_ms;
	double latest, weight;

	/* A pass that begins anew. */
	if (done < j->done) {
		j->done = done;
		j->done_ms = now_ms;
		j->measured = false;
		return;
	}
	if (ms == 0 || (done == j->done && ms < STILL_MS))
		return;
	latest = (double)(done - j->done) * 1000.0 / (double)ms;
	weight = (double)ms / SMOOTH_MS;
	if (weight > 1 || !j->measured)
		weight = 1;
	j->speed += weight * (latest - j->speed);
	j->measured = true;
	j->done = done;
	j->done_ms = now_ms;
}

static uint64_t
smooth(uint64_t was, uint64_t latest, uint64_t ms)
{
	double weight = ms < SMOOTH_MS ? (double)ms / SMOOTH_MS : 1;

	if (was == 0)
		return latest;
	return (
	    uint64_t)((double)was + weight * ((double)latest - (double)was));
}

static void
take_lanes(struct feed_job *j, const struct feed_job *before,
    const json_t *traffic, uint64_t now_ms)
{
	uint64_t ms = before != NULL ? now_ms - before->seen_ms : 0;

	j->nlanes = 0;
	j->wire = 0;
	for (size_t i = 0; i < json_array_size(traffic); i++) {
		const json_t *o = json_array_get(traffic, i);
		struct feed_lane *l = &j->lane[j->nlanes];
		uint64_t old = 0, was = 0, all;

		if (j->nlanes == FEED_LANES_MAX)
			break;
		l->number = (unsigned)answer_u64(o, "lane");
		l->in = answer_u64(o, "in");
		l->out = answer_u64(o, "out");
		l->now = 0;
		all = l->in + l->out;
		for (unsigned k = 0; before != NULL && k < before->nlanes; k++)
			if (before->lane[k].number == l->number) {
				old = before->lane[k].in + before->lane[k].out;
				was = before->lane[k].now;
			}
		/* Another lane that got the number of one that is gone. */
		if (old > all)
			old = was = 0;
		if (ms > 0)
			l->now = smooth(was, (all - old) * 1000 / ms, ms);
		j->wire += l->now;
		j->nlanes++;
	}
}

static void
take_one(struct feed_job *j, const struct feed_job *before, const json_t *o,
    uint64_t now_ms)
{
	uint64_t done = answer_u64(o, "done"), total = answer_u64(o, "total");
	uint64_t took_ms = answer_u64(o, "took_ms");

	if (before != NULL)
		*j = *before;
	else
		*j = (struct feed_job){ .id = answer_u64(o, "job"),
			.done = done,
			.done_ms = now_ms };
	j->running = strcmp(answer_str(o, "state"), "running") == 0;
	take_speed(j, done, now_ms);
	take_lanes(j, before, json_object_get(o, "traffic"), now_ms);
	j->seen_ms = now_ms;
	j->mean = took_ms > 0
	    ? (uint64_t)((double)done * 1000.0 / (double)took_ms)
	    : 0;
	/* Until there are two answers the mean is the best there is. */
	j->now = j->measured ? (uint64_t)j->speed : j->mean;
	j->eta_s = FEED_NO_ETA;
	if (!j->running)
		j->now = 0;
	else if (total > 0 && done >= total)
		j->eta_s = 0;
	else if (total > 0 && j->now > 0)
		j->eta_s = (total - done) / j->now;
}

void
feed_take(struct feed *f, const json_t *jobs, uint64_t now_ms)
{
	size_t n = json_array_size(jobs);
	struct feed_job *all = xcalloc(n + 1, sizeof(*all));

	f->wire = 0;
	for (size_t i = 0; i < n; i++) {
		const json_t *o = json_array_get(jobs, i);

		take_one(
		    &all[i], feed_find(f, answer_u64(o, "job")), o, now_ms);
		f->wire += all[i].wire;
	}
	free(f->job);
	f->job = all;
	f->n = (unsigned)n;
}

void
feed_fini(struct feed *f)
{
	free(f->job);
	*f = (struct feed){ 0 };
}
