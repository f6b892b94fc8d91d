/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/jobs_follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/jobs_view.h"
#include "repo/console/live.h"
#include "repo/console/watch_view.h"

enum { POLL_MS = 500, STAGE_MAX = 40 };

/* What was told of a job. */
struct told {
	uint64_t id;
	char stage[STAGE_MAX];
};

struct follow {
	bool live;
	bool json;
	bool utf8;
	bool begun; /* there was an answer since the daemon came */
	bool gone;  /* it was said that there is no daemon */
	unsigned drawn;
	struct feed feed;
	struct told *told; /* of the jobs that the last answer had */
	size_t ntold;
	uint64_t last; /* highest number of a job that was seen */
};

static void
stage_of(const json_t *j, char out[STAGE_MAX])
{
	snprintf(out, STAGE_MAX, "%.19s %.19s", answer_str(j, "state"),
	    answer_str(j, "phase"));
}

static const struct told *
find(const struct follow *f, uint64_t id)
{
	for (size_t i = 0; i < f->ntold; i++)
		if (f->told[i].id == id)
			return &f->told[i];
	return NULL;
}

/* Whether there is something to say of it that was not said. */
static bool
is_news(const struct follow *f, const json_t *j)
{
	uint64_t id = answer_u64(j, "job");
	const struct told *t = find(f, id);
	char stage[STAGE_MAX];

	/* What ended before anybody looked is no news. */
	if (t == NULL)
		return watch_running(j) || (f->begun && id > f->last);
	stage_of(j, stage);
	return strcmp(stage, t->stage) != 0;
}

static void
say(const struct follow *f, const json_t *j)
{
	char now[TIME_TEXT_LEN + 1];
	struct buf line = { 0 };

	if (f->json) {
		json_print(j, &line);
	} else {
		buf_printf(&line, "%s ", time_print((uint64_t)time(NULL), now));
		if (watch_running(j))
			watch_line(j, feed_find(&f->feed, answer_u64(j, "job")),
			    &line);
		else
			watch_end(j, &line);
	}
	puts(buf_cstr(&line));
	fflush(stdout);
	buf_fini(&line);
}

static void
remember(struct follow *f, const json_t *jobs)
{
	size_t n = json_array_size(jobs);

	f->told = xrealloc(f->told, (n + 1) * sizeof(*f->told));
	f->ntold = n;
	for (size_t i = 0; i < n; i++) {
		const json_t *j = json_array_get(jobs, i);

		f->told[i].id = answer_u64(j, "job");
		stage_of(j, f->told[i].stage);
		if (f->told[i].id > f->last)
			f->last = f->told[i].id;
	}
	f->begun = true;
}

static void
draw(struct follow *f, const json_t *jobs)
{
	struct jobs_view v = { .jobs = jobs, .feed = &f->feed };
	unsigned rows, cols;
	struct canvas c;

	live_size(&rows, &cols);
	rows = rows > 2 ? rows - 1 : 2;
	canvas_init(&c, rows, cols > 1 ? cols - 1 : 1, !f->utf8);
	live_draw(&c, jobs_view_draw(&c, 0, rows, &v), &f->drawn);
	canvas_fini(&c);
}

static void
take(struct follow *f, const json_t *jobs)
{
	size_t n = json_array_size(jobs);

	feed_take(&f->feed, jobs, now_ms());
	if (f->live) {
		draw(f, jobs);
		return;
	}
	/* The oldest first, as it came about. */
	while (n > 0) {
		const json_t *j = json_array_get(jobs, --n);

		if (is_news(f, j))
			say(f, j);
	}
	remember(f, jobs);
}

/* The next one counts its jobs from 1. */
static void
forget(struct follow *f)
{
	feed_fini(&f->feed);
	f->ntold = 0;
	f->last = 0;
	f->begun = false;
}

int
jobs_follow(struct console *c, bool json)
{
	struct timespec t = { .tv_nsec = POLL_MS * 1000000L };
	struct follow f = {
		.live = !json && live_able(), .json = json, .utf8 = live_utf8()
	};
	bool first = true;

	for (;;) {
		struct err e = { 0 };
		json_t *answer;

		if (console_call(c, console_op("jobs"), &answer, &e) == 0) {
			if (f.gone)
				fputs("backstay: the daemon is back\n", stderr);
			f.gone = false;
			take(&f, json_object_get(answer, "jobs"));
			json_decref(answer);
		} else if (first) {
			return console_fail(&e);
		} else if (!f.gone) {
			console_fail(&e);
			f.gone = true;
			f.drawn = 0;
			forget(&f);
		}
		if (f.gone)
			console_close(c);
		first = false;
		/* Whoever reads this has gone. */
		if (ferror(stdout))
			return EXIT_FAILED;
		nanosleep(&t, NULL);
	}
}
