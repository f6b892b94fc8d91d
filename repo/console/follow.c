/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/follow.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/json.h"
#include "proto/name.h"

enum { POLL_MS = 200, LINE_EVERY_S = 10 };

struct show {
	bool quiet;
	bool tty;
	time_t last;
	char said[ERR_TEXT_MAX]; /* why it waits */
};

static void
show(struct show *w, const json_t *job)
{
	uint64_t done = answer_u64(job, "done"),
		 total = answer_u64(job, "total");
	const char *text = answer_str(job, "text");
	bool queued = strcmp(answer_str(job, "state"), "queued") == 0;
	time_t now = time(NULL);
	char a[16], b[16];

	if (w->quiet)
		return;
	if (queued && (w->tty || strcmp(w->said, text) != 0))
		fprintf(stderr, "%sjob %" PRIu64 ": queued: %s%s",
		    w->tty ? "\r" : "", answer_u64(job, "job"), text,
		    w->tty ? "\033[K" : "\n");
	else if (!queued && (w->tty || now - w->last >= LINE_EVERY_S))
		fprintf(stderr, "%sjob %" PRIu64 ": %s on %s: %s of %s%s",
		    w->tty ? "\r" : "", answer_u64(job, "job"),
		    answer_str(job, "kind"), answer_str(job, "host"),
		    size_print(done < total ? done : total, a),
		    size_print(total, b), w->tty ? "\033[K" : "\n");
	else
		return;
	w->last = now;
	snprintf(w->said, sizeof(w->said), "%s", queued ? text : "");
}

static int
look(struct console *c, uint64_t job, json_t **out, struct err *e)
{
	json_t *ask = console_op("jobs"), *answer, *list;
	int rc;

	json_set_u64(ask, "job", job);
	rc = console_call(c, ask, &answer, e);
	if (rc != 0)
		return rc;
	rc = json_get_array(answer, "jobs", &list, e);
	if (rc == 0 && json_array_size(list) != 1)
		rc = err_set(e, ERR_PROTO, "the daemon told of other jobs");
	if (rc == 0)
		*out = json_incref(json_array_get(list, 0));
	json_decref(answer);
	return rc;
}

int
follow_job(
    struct console *c, uint64_t job, bool quiet, json_t **out, struct err *e)
{
	const struct timespec t = { .tv_nsec = POLL_MS * 1000000L };
	struct show w = {
		.quiet = quiet, .tty = isatty(2) == 1, .last = time(NULL)
	};

	for (;;) {
		const char *state;
		int rc = look(c, job, out, e);

		if (rc != 0)
			return rc;
		state = answer_str(*out, "state");
		if (strcmp(state, "queued") != 0 &&
		    strcmp(state, "running") != 0) {
			if (!quiet && w.tty)
				fputs("\r\033[K", stderr);
			return 0;
		}
		show(&w, *out);
		json_decref(*out);
		nanosleep(&t, NULL);
	}
}

int
follow_status(const json_t *job)
{
	const char *state = answer_str(job, "state");

	if (strcmp(state, "done") == 0)
		return EXIT_DONE;
	fprintf(stderr, "backstay: job %" PRIu64 " %s: %s\n",
	    answer_u64(job, "job"), state, answer_str(job, "text"));
	return EXIT_FAILED;
}
