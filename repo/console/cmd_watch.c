/* SPDX-License-Identifier: Apache-2.0 */
/* watch: one job until it ends. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/live.h"
#include "repo/console/watch_view.h"

enum {
	POLL_MS = 250,
	LINE_EVERY_MS = 10000 /* where nothing can be drawn */
};

struct watch {
	bool live;
	bool quiet;
	bool utf8;
	unsigned drawn;
	uint64_t told_ms;
	char phase[32]; /* that the last line told */
};

/* The job as it is now; the caller's. */
static int
ask_job(struct console *c, uint64_t id, json_t **answer, struct err *e)
{
	json_t *ask = console_op("jobs");

	json_set_u64(ask, "job", id);
	return console_call(c, ask, answer, e);
}

static void
draw(struct watch *w, const json_t *job, const struct feed_job *f)
{
	unsigned rows, cols;
	struct canvas c;

	live_size(&rows, &cols);
	/* The last column stays free, some terminals wrap when it is used; the
	 * last row is where the cursor rests. */
	canvas_init(
	    &c, rows > 1 ? rows - 1 : 1, cols > 1 ? cols - 1 : 1, !w->utf8);
	live_draw(&c, watch_draw(&c, job, f), &w->drawn);
	canvas_fini(&c);
}

/* At each new phase, and now and then. */
static void
tell(struct watch *w, const json_t *job, const struct feed_job *f)
{
	const char *phase = answer_str(job, "phase");
	struct buf line = { 0 };
	uint64_t now = now_ms();

	if (strncmp(phase, w->phase, sizeof(w->phase) - 1) == 0 &&
	    now - w->told_ms < LINE_EVERY_MS)
		return;
	w->told_ms = now;
	snprintf(w->phase, sizeof(w->phase), "%s", phase);
	watch_line(job, f, &line);
	puts(buf_cstr(&line));
	fflush(stdout);
	buf_fini(&line);
}

static int
finish(struct watch *w, const json_t *job, const struct feed_job *f, bool json)
{
	struct buf line = { 0 };

	if (json) {
		console_print_json(job);
	} else {
		if (w->live && !w->quiet)
			draw(w, job, f);
		watch_end(job, &line);
		puts(buf_cstr(&line));
		buf_fini(&line);
	}
	return strcmp(answer_str(job, "state"), "done") == 0 ? EXIT_DONE
							     : EXIT_FAILED;
}

static int
run(struct console *c, uint64_t id, struct watch *w, bool json)
{
	struct timespec t = { .tv_nsec = POLL_MS * 1000000L };
	struct feed feed = { 0 };
	struct err e = { 0 };
	json_t *answer;
	int status = -1;

	while (status == -1) {
		const struct feed_job *f;
		const json_t *job;

		/* Jobs end with the daemon. */
		if (ask_job(c, id, &answer, &e) != 0) {
			status = console_fail(&e);
			break;
		}
		job = json_array_get(json_object_get(answer, "jobs"), 0);
		feed_take(&feed, json_object_get(answer, "jobs"), now_ms());
		f = feed_find(&feed, id);
		if (!watch_running(job))
			status = finish(w, job, f, json);
		else if (w->live && !w->quiet)
			draw(w, job, f);
		else if (!w->quiet)
			tell(w, job, f);
		json_decref(answer);
		if (status == -1)
			nanosleep(&t, NULL);
	}
	feed_fini(&feed);
	return status;
}

int
cmd_watch(struct console *c, int argc, char **argv)
{
	struct watch w = { .live = live_able(), .utf8 = live_utf8() };
	uint64_t id;
	bool json;
	int n, status;

	n = console_plain(c, argc, argv, 1, &json, &status);
	if (n == -1)
		return status;
	if (n == 0)
		return console_misuse(
		    c, "which job?  `backstay jobs` has them");
	if (number_parse(argv[optind], 1, INT64_MAX, &id) != 0)
		return console_misuse(
		    c, "\"%s\" is no number of a job", argv[optind]);
	w.quiet = json;
	return run(c, id, &w, json);
}
