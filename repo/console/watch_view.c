/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/watch_view.h"

#include <inttypes.h>
#include <string.h>

#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/words.h"

enum { LABEL_COL = 2, SIZE_END = 28, RIGHT_COL = 34, RATE_END = 56 };

/* What the bytes of each kind of job are called; those without are not shown.
 */
static const struct field {
	const char *key, *backup, *restore, *verify;
} fields[] = {
	{ "done", "done", "done", "done" },
	{ "read", "read", "written", "read" },
	{ "unchanged", "unchanged", NULL, NULL },
	{ "deduplicated", "deduplicated", NULL, NULL },
	{ "holes", "zero", "zero", NULL },
	{ "sent", "sent", "received", NULL },
	{ "stored", "stored", NULL, NULL },
};

static const char *
label(const struct field *f, const char *kind)
{
	if (strcmp(kind, "backup") == 0)
		return f->backup;
	if (strcmp(kind, "restore") == 0)
		return f->restore;
	return strcmp(kind, "verify") == 0 ? f->verify : NULL;
}

bool
watch_running(const json_t *job)
{
	const char *state = answer_str(job, "state");

	return strcmp(state, "running") == 0 || strcmp(state, "queued") == 0;
}

static void
add_safe(struct buf *out, const char *text)
{
	for (; *text != 0; text++)
		buf_u8(out,
		    (unsigned char)*text < ' ' || *text == 0x7f
			? '?'
			: (uint8_t)*text);
}

void
watch_title(const json_t *job, struct buf *out)
{
	const char *host = answer_str(job, "host");

	buf_printf(out, "job %" PRIu64 ": %s of ", answer_u64(job, "job"),
	    answer_str(job, "kind"));
	add_safe(out, answer_str(job, "vm"));
	if (*host != 0) {
		buf_printf(out, " (");
		add_safe(out, host);
		buf_printf(out, ")");
	}
}

/* "reading"; of one that is not running: "queued", "done", ... */
static const char *
stage(const json_t *job)
{
	const char *phase = answer_str(job, "phase");

	return *phase != 0 ? phase : answer_str(job, "state");
}

static enum canvas_look
look_of(const json_t *job)
{
	const char *state = answer_str(job, "state");

	if (strcmp(state, "failed") == 0)
		return LOOK_BAD;
	if (strcmp(state, "cancelled") == 0)
		return LOOK_WARN;
	return strcmp(state, "done") == 0 ? LOOK_GOOD : LOOK_BOLD;
}

static void
draw_bar(
    struct canvas *c, unsigned row, const json_t *job, const struct feed_job *f)
{
	uint64_t done = answer_u64(job, "done"),
		 total = answer_u64(job, "total");
	char percent[WORDS_LEN], eta[WORDS_LEN];
	unsigned end = c->cols < 100 ? c->cols : 100, at = 14, width;

	canvas_text(c, row, LABEL_COL, look_of(job), stage(job));
	/* Why it waits. */
	if (strcmp(answer_str(job, "state"), "queued") == 0)
		canvas_text(c, row, at, LOOK_DIM, answer_str(job, "text"));
	if (total == 0)
		return;
	width = end > at + 26 ? end - at - 26 : 8;
	canvas_bar(c, row, at, width, done, total);
	canvas_right(c, row, at + width + 7, LOOK_BOLD,
	    words_percent(done, total, percent));
	if (f != NULL && watch_running(job)) {
		canvas_text(c, row, at + width + 10, LOOK_DIM, "ETA");
		canvas_text(c, row, at + width + 14, LOOK_PLAIN,
		    words_eta(f->eta_s, eta));
	}
}

static void
pair(struct canvas *c, unsigned row, const char *what, const char *value)
{
	canvas_text(c, row, RIGHT_COL, LOOK_DIM, what);
	canvas_right(c, row, RATE_END, LOOK_PLAIN, value);
}

static void
draw_speed(
    struct canvas *c, unsigned row, const json_t *job, const struct feed_job *f)
{
	char text[WORDS_LEN], size[16];

	pair(c, row, "of", size_print(answer_u64(job, "total"), size));
	pair(c, row + 1, "rate now", words_rate(f->now, text));
	pair(c, row + 2, "mean", words_rate(f->mean, text));
	pair(c, row + 3, "wire", words_rate(f->wire, text));
	pair(c, row + 4, "since", words_clock(answer_str(job, "since"), text));
	pair(c, row + 5, "for",
	    words_time(answer_u64(job, "took_ms") / 1000, text));
}

static unsigned
draw_lanes(struct canvas *c, unsigned row, const struct feed_job *f)
{
	char text[WORDS_LEN], size[16];

	if (row + 1 >= c->rows)
		return row;
	canvas_text(c, row, LABEL_COL, LOOK_DIM, "lane");
	canvas_right(c, row, SIZE_END - 10, LOOK_DIM, "from agent");
	canvas_right(c, row, SIZE_END + 2, LOOK_DIM, "to agent");
	canvas_right(c, row, SIZE_END + 16, LOOK_DIM, "now");
	row++;
	for (unsigned i = 0; i < f->nlanes; i++, row++) {
		const struct feed_lane *l = &f->lane[i];

		/* A line says that there are more, so what is cut is seen. */
		if (row + 1 >= c->rows && i + 1 < f->nlanes) {
			canvas_printf(c, row, LABEL_COL, LOOK_DIM,
			    "... and %u more", f->nlanes - i);
			return row + 1;
		}
		canvas_printf(c, row, LABEL_COL, LOOK_PLAIN, "%4u", l->number);
		canvas_right(
		    c, row, SIZE_END - 10, LOOK_PLAIN, size_print(l->in, size));
		canvas_right(
		    c, row, SIZE_END + 2, LOOK_PLAIN, size_print(l->out, size));
		canvas_right(c, row, SIZE_END + 16, LOOK_PLAIN,
		    words_rate(l->now, text));
	}
	return row;
}

unsigned
watch_draw(struct canvas *c, const json_t *job, const struct feed_job *f)
{
	const char *kind = answer_str(job, "kind");
	unsigned row = 3, first = row;
	struct buf title = { 0 };
	char size[16];

	watch_title(job, &title);
	canvas_text(c, 0, 0, LOOK_BOLD, buf_cstr(&title));
	buf_fini(&title);
	draw_bar(c, 1, job, f);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const char *name = label(&fields[i], kind);

		if (name == NULL)
			continue;
		canvas_text(c, row, LABEL_COL, LOOK_DIM, name);
		canvas_right(c, row++, SIZE_END, LOOK_PLAIN,
		    size_print(answer_u64(job, fields[i].key), size));
	}
	if (f != NULL && row > first) {
		draw_speed(c, first, job, f);
		if (row < first + 6)
			row = first + 6;
	}
	if (f != NULL && f->nlanes > 0)
		row = draw_lanes(c, row + 1, f);
	return row;
}

void
watch_line(const json_t *job, const struct feed_job *f, struct buf *out)
{
	uint64_t done = answer_u64(job, "done"),
		 total = answer_u64(job, "total");
	char a[WORDS_LEN], b[16];

	watch_title(job, out);
	buf_printf(out, ": %s", stage(job));
	if (strcmp(answer_str(job, "state"), "queued") == 0 &&
	    *answer_str(job, "text") != 0) {
		buf_printf(out, ", ");
		add_safe(out, answer_str(job, "text"));
	}
	if (total == 0)
		return;
	buf_printf(
	    out, " %s, %s", words_percent(done, total, a), size_print(done, b));
	buf_printf(out, " of %s", size_print(total, b));
	if (f == NULL || !f->running)
		return;
	buf_printf(out, ", %s", words_rate(f->now, a));
	buf_printf(out, ", mean %s", words_rate(f->mean, a));
	buf_printf(out, ", ETA %s", words_eta(f->eta_s, a));
}

void
watch_end(const json_t *job, struct buf *out)
{
	uint64_t ms = answer_u64(job, "took_ms"),
		 done = answer_u64(job, "done");
	const char *text = answer_str(job, "text");
	char a[WORDS_LEN], b[16];

	watch_title(job, out);
	buf_printf(out, " %s", answer_str(job, "state"));
	if (*text != 0)
		buf_printf(out, ": ");
	add_safe(out, text);
	buf_printf(out, " (%s", words_time(ms / 1000, a));
	if (done > 0) {
		buf_printf(out, ", %s", size_print(done, b));
		if (ms > 0)
			buf_printf(out, ", mean %s",
			    words_rate(
				(uint64_t)((double)done * 1000.0 / (double)ms),
				a));
	}
	buf_printf(out, ")");
}
