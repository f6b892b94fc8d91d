/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/top_warn.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/name.h"
#include "repo/console/console.h"

enum { BRIM_PERCENT = 3 };

struct list {
	struct top_warn *out;
	unsigned n;
};

static void __attribute__((format(printf, 3, 4)))
add(struct list *l, bool bad, const char *fmt, ...)
{
	va_list ap;

	if (l->n == TOP_WARN_MAX)
		return;
	l->out[l->n].bad = bad;
	va_start(ap, fmt);
	vsnprintf(l->out[l->n].text, TOP_WARN_LEN, fmt, ap);
	va_end(ap);
	l->n++;
}

static void
look_at_damage(struct list *l, const json_t *d)
{
	uint64_t n = answer_u64(d, "damaged");
	size_t hit = json_array_size(json_object_get(d, "hit"));

	if (n == 0)
		return;
	if (hit == 0)
		add(l, false,
		    "%" PRIu64 " chunks are damaged; no backup needs them", n);
	else
		add(l, true,
		    "%" PRIu64 " chunks are damaged, %zu%s backups are hit: "
		    "backstay verify --damage",
		    n, hit,
		    json_is_true(json_object_get(d, "complete")) ? ""
								 : " or more");
}

static void
look_at_space(struct list *l, const json_t *status)
{
	uint64_t avail = answer_u64(status, "avail"),
		 total = answer_u64(status, "total");
	char size[16];
	unsigned percent;

	if (total == 0)
		return;
	percent = (unsigned)((double)avail * 100.0 / (double)total);
	if (percent < answer_u64(status, "low_space") || percent < BRIM_PERCENT)
		add(l, percent < BRIM_PERCENT,
		    "little space: %s free, %u %% of the volume",
		    size_print(avail, size), percent);
}

static void
look_at_time(struct list *l, const json_t *r)
{
	json_int_t ahead =
	    json_integer_value(json_object_get(r, "clock_ahead"));

	if (json_is_true(json_object_get(r, "clock_off")))
		add(l, true,
		    "the clock is %" JSON_INTEGER_FORMAT
		    " days %s what was seen: backups do not age by it",
		    (ahead < 0 ? -ahead : ahead) / 86400,
		    ahead < 0 ? "behind" : "ahead of");
	if (*answer_str(r, "doubt") != 0)
		add(l, true,
		    "all backups are protected: what people protected is not "
		    "known");
}

/* Since the start of the daemon. */
static void
look_at_events(struct list *l, const json_t *events)
{
	uint64_t missed = answer_u64(events, "missed-schedule"),
		 unusual = answer_u64(events, "unusual-change");

	if (unusual > 0)
		add(l, true,
		    "%" PRIu64 " backups changed far more than is usual, see "
		    "the log and `backstay history`",
		    unusual);
	if (missed > 0)
		add(l, false, "%" PRIu64 " scheduled backups were missed",
		    missed);
}

/* Those that the daemon still lists. */
static void
look_at_jobs(struct list *l, const json_t *jobs)
{
	unsigned failed = 0;

	for (size_t i = 0; i < json_array_size(jobs); i++)
		if (strcmp(answer_str(json_array_get(jobs, i), "state"),
			"failed") == 0)
			failed++;
	if (failed > 0)
		add(l, false, "%u of the last %zu jobs failed", failed,
		    json_array_size(jobs));
}

unsigned
top_warnings(
    const json_t *status, const json_t *jobs, struct top_warn out[TOP_WARN_MAX])
{
	const json_t *reclaim = json_object_get(status, "reclaim");
	const char *last = answer_str(reclaim, "last");
	const char *state = answer_str(reclaim, "state");
	struct list l = { .out = out };

	look_at_damage(&l, json_object_get(status, "damage"));
	look_at_space(&l, status);
	look_at_time(&l, json_object_get(status, "retention"));
	if (*last != 0 && strcmp(last, "done") != 0)
		add(&l, false, "giving space back failed: %.40s; see the log",
		    last);
	if (strcmp(state, "paused") == 0 || strcmp(state, "held") == 0)
		add(&l, false, "no space is given back: %s", state);
	look_at_events(&l, json_object_get(status, "events"));
	look_at_jobs(&l, jobs);
	/* Worst first; among equals as they were found. */
	for (unsigned i = 1; i < l.n; i++)
		for (unsigned k = i; k > 0 && out[k].bad && !out[k - 1].bad;
		     k--) {
			struct top_warn w = out[k];

			out[k] = out[k - 1];
			out[k - 1] = w;
		}
	return l.n;
}
