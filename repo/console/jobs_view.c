/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/jobs_view.h"

#include <inttypes.h>
#include <string.h>

#include "repo/console/console.h"
#include "repo/console/watch_view.h"
#include "repo/console/words.h"

/* Where columns begin; those at the right edge end there. */
struct layout {
	unsigned job_end, kind, vm, vm_len, host, host_len, state, tail;
	unsigned done_end, bar, bar_len, rate_end, eta_end;
};

enum {
	JOB_LEN = 6,
	KIND_LEN = 7,
	STATE_LEN = 10,
	DONE_LEN = 5,
	RATE_LEN = 13,
	ETA_LEN = 9
};

static struct layout
lay_out(unsigned cols)
{
	unsigned fixed = JOB_LEN + 2 + KIND_LEN + 1 + 1 + 1 + STATE_LEN + 1 +
	    DONE_LEN + RATE_LEN + ETA_LEN;
	unsigned room = cols > fixed + 20 ? cols - fixed : 20;
	struct layout l = { .job_end = JOB_LEN, .kind = JOB_LEN + 2 };

	l.bar_len = room > 50 ? (room - 50 < 30 ? room - 50 : 30) : 0;
	room -= l.bar_len > 0 ? l.bar_len + 2 : 0;
	l.host_len = room * 2 / 5;
	l.vm_len = room - l.host_len;
	l.vm = l.kind + KIND_LEN + 1;
	l.host = l.vm + l.vm_len + 1;
	l.state = l.host + l.host_len + 1;
	l.tail = l.state + STATE_LEN + 1;
	l.bar = l.tail;
	l.done_end = l.tail + (l.bar_len > 0 ? l.bar_len + 2 : 0) + DONE_LEN;
	l.rate_end = l.done_end + RATE_LEN;
	l.eta_end = l.rate_end + ETA_LEN;
	return l;
}

static void
draw_heads(struct canvas *c, unsigned row, const struct layout *l)
{
	canvas_right(c, row, l->job_end, LOOK_DIM, "JOB");
	canvas_text(c, row, l->kind, LOOK_DIM, "KIND");
	canvas_text(c, row, l->vm, LOOK_DIM, "VM");
	canvas_text(c, row, l->host, LOOK_DIM, "HOST");
	canvas_text(c, row, l->state, LOOK_DIM, "STATE");
	canvas_right(c, row, l->done_end, LOOK_DIM, "DONE");
	canvas_right(c, row, l->rate_end, LOOK_DIM, "RATE");
	canvas_right(c, row, l->eta_end, LOOK_DIM, "ETA");
}

static enum canvas_look
state_look(const json_t *j)
{
	const char *state = answer_str(j, "state");

	if (strcmp(state, "failed") == 0)
		return LOOK_BAD;
	if (strcmp(state, "cancelled") == 0)
		return LOOK_WARN;
	return strcmp(state, "running") == 0 ? LOOK_PLAIN : LOOK_DIM;
}

static void
draw_job(struct canvas *c, unsigned row, const struct layout *l,
    const json_t *j, const struct feed_job *f)
{
	const char *phase = answer_str(j, "phase"),
		   *state = answer_str(j, "state");
	bool running = strcmp(state, "running") == 0;
	enum canvas_look look = running ? LOOK_PLAIN : LOOK_DIM;
	uint64_t done = answer_u64(j, "done"), total = answer_u64(j, "total");
	char text[WORDS_LEN];

	snprintf(text, sizeof(text), "%" PRIu64, answer_u64(j, "job"));
	canvas_right(c, row, l->job_end, look, text);
	canvas_within(c, row, l->kind, KIND_LEN, look, answer_str(j, "kind"));
	canvas_within(c, row, l->vm, l->vm_len, running ? LOOK_BOLD : look,
	    answer_str(j, "vm"));
	canvas_within(
	    c, row, l->host, l->host_len, look, answer_str(j, "host"));
	canvas_within(c, row, l->state, STATE_LEN, state_look(j),
	    running && *phase != 0 ? phase : state);
	if (!running) {
		/* Its name, or why it failed. */
		if (l->tail < c->cols)
			canvas_within(c, row, l->tail, c->cols - l->tail, look,
			    answer_str(j, "text"));
		return;
	}
	if (l->bar_len > 0 && total > 0)
		canvas_bar(c, row, l->bar, l->bar_len, done, total);
	canvas_right(
	    c, row, l->done_end, look, words_percent(done, total, text));
	if (f == NULL || total == 0)
		return;
	canvas_right(c, row, l->rate_end, look, words_rate(f->now, text));
	canvas_right(c, row, l->eta_end, look, words_eta(f->eta_s, text));
}

unsigned
jobs_view_draw(
    struct canvas *c, unsigned row, unsigned rows, const struct jobs_view *v)
{
	struct layout l = lay_out(c->cols);
	size_t n = json_array_size(v->jobs);

	if (rows == 0)
		return row;
	draw_heads(c, row++, &l);
	if (n == 0 && rows > 1)
		canvas_text(c, row++, l.kind, LOOK_DIM, "none yet");
	for (size_t i = v->skip; i < n && i - v->skip + 1 < rows; i++) {
		const json_t *j = json_array_get(v->jobs, i);
		uint64_t id = answer_u64(j, "job");

		draw_job(c, row, &l, j, feed_find(v->feed, id));
		if (id == v->chosen)
			canvas_paint(c, row, 0, c->cols, LOOK_CHOSEN);
		row++;
	}
	return row;
}

void
jobs_view_move(struct jobs_view *v, int by, unsigned rows)
{
	size_t n = json_array_size(v->jobs), at = 0;
	unsigned shown = rows > 1 ? rows - 1 : 1;
	bool found = false;

	if (n == 0) {
		v->chosen = 0;
		v->skip = 0;
		return;
	}
	for (size_t i = 0; i < n && !found; i++)
		if (answer_u64(json_array_get(v->jobs, i), "job") ==
		    v->chosen) {
			at = i;
			found = true;
		}
	if (by < 0)
		at = at > (size_t)-by ? at - (size_t)-by : 0;
	else if (found)
		at += (size_t)by;
	if (at >= n)
		at = n - 1;
	v->chosen = answer_u64(json_array_get(v->jobs, at), "job");
	if (at < v->skip)
		v->skip = (unsigned)at;
	if (at >= v->skip + shown)
		v->skip = (unsigned)at - shown + 1;
	if (v->skip > 0 && v->skip + shown > n)
		v->skip = n > shown ? (unsigned)n - shown : 0;
}
