/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/top_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/top_warn.h"
#include "repo/console/words.h"

enum {
	LABEL = 1,    /* column of what a line is about */
	FIGURES = 10, /* and of what it says */
	AGENTS_MAX = 6
};

void
top_take(struct top_data *d, json_t *status, json_t *jobs, json_t *agents,
    uint64_t now_ms)
{
	d->connected = true;
	if (status != NULL) {
		json_decref(d->status);
		d->status = status;
	}
	if (agents != NULL) {
		json_decref(d->agents);
		d->agents = agents;
	}
	if (jobs == NULL)
		return;
	json_decref(d->jobs);
	d->jobs = jobs;
	feed_take(&d->feed, jobs, now_ms);
	if (d->nspark == TOP_SPARK_MAX) {
		memmove(d->spark, d->spark + 1,
		    (TOP_SPARK_MAX - 1) * sizeof(d->spark[0]));
		d->nspark--;
	}
	d->spark[d->nspark++] = d->feed.wire;
}

void
top_lost(struct top_data *d, const char *why)
{
	d->connected = false;
	snprintf(d->why, sizeof(d->why), "%s", why);
	/* Jobs end with the daemon, and the next one counts from 1. */
	json_decref(d->jobs);
	json_decref(d->agents);
	d->jobs = d->agents = NULL;
	feed_fini(&d->feed);
}

void
top_fini(struct top_data *d)
{
	json_decref(d->status);
	json_decref(d->jobs);
	json_decref(d->agents);
	feed_fini(&d->feed);
}

const json_t *
top_job(const struct top_data *d, uint64_t id)
{
	for (size_t i = 0; i < json_array_size(d->jobs); i++)
		if (answer_u64(json_array_get(d->jobs, i), "job") == id)
			return json_array_get(d->jobs, i);
	return NULL;
}

static unsigned
in_state(const json_t *jobs, const char *state)
{
	unsigned n = 0;

	for (size_t i = 0; i < json_array_size(jobs); i++)
		if (strcmp(answer_str(json_array_get(jobs, i), "state"),
			state) == 0)
			n++;
	return n;
}

static bool
is_connected(const json_t *agent)
{
	return json_is_true(json_object_get(agent, "connected"));
}

static unsigned
connected(const json_t *agents)
{
	unsigned n = 0;

	for (size_t i = 0; i < json_array_size(agents); i++)
		if (is_connected(json_array_get(agents, i)))
			n++;
	return n;
}

static void
draw_title(struct canvas *c, const struct top_data *d)
{
	char text[TOP_SAID_MAX];
	unsigned n;

	canvas_paint(c, 0, 0, c->cols, LOOK_TITLE);
	canvas_printf(c, 0, 1, LOOK_TITLE, "backstay  %s", d->dir);
	if (!d->connected)
		n = (unsigned)snprintf(text, sizeof(text), "no daemon ");
	else
		n = (unsigned)snprintf(text, sizeof(text),
		    "  %u agent%s  %u running  %" PRIu64 " queued ",
		    connected(d->agents), connected(d->agents) == 1 ? "" : "s",
		    in_state(d->jobs, "running"),
		    in_state(d->jobs, "queued") + d->untold);
	if (n < c->cols)
		canvas_right(c, 0, c->cols, LOOK_TITLE, text);
}

static void
label(struct canvas *c, unsigned row, const char *text)
{
	canvas_text(c, row, LABEL, LOOK_DIM, text);
}

/* "3.2" for a : b; "-" where there is nothing to divide. */
static const char *
ratio(const json_t *s, const char *of, const char *to, char out[WORDS_LEN])
{
	uint64_t x = answer_u64(s, of), y = answer_u64(s, to);

	/* Less than 1: a backup that runs counts on one side alone. */
	if (y == 0 || x < y)
		return "-";
	snprintf(out, WORDS_LEN, "%.1f", (double)x / (double)y);
	return out;
}

static void
draw_store(struct canvas *c, unsigned row, const json_t *s)
{
	uint64_t avail = answer_u64(s, "avail"), total = answer_u64(s, "total");
	bool wide = c->cols >= 100;
	char a[16], x[WORDS_LEN];
	unsigned col;

	label(c, row, "store");
	canvas_bar(
	    c, row, FIGURES, 10, total > avail ? total - avail : 0, total);
	col = canvas_printf(
	    c, row, FIGURES + 12, LOOK_PLAIN, "%s free", size_print(avail, a));
	if (wide)
		col = canvas_printf(
		    c, row, col, LOOK_DIM, " of %s", size_print(total, a));
	col = canvas_text(c, row, col + 3, LOOK_PLAIN,
	    size_print(answer_u64(s, "stored"), a));
	col = canvas_printf(c, row, col, LOOK_DIM, " in %" PRIu64 " backups",
	    answer_u64(s, "backups"));
	if (wide)
		col = canvas_printf(c, row, col, LOOK_DIM,
		    " of %" PRIu64 " VMs", answer_u64(s, "vms"));
	col = canvas_printf(c, row, col + 3, LOOK_DIM, "dedup %s",
	    ratio(s, "logical", "unique", x));
	if (col + 14 < c->cols)
		canvas_printf(c, row, col + 3, LOOK_DIM, "packed %s",
		    ratio(s, "unique", "live", x));
}

static void
draw_wire(struct canvas *c, unsigned row, const struct top_data *d)
{
	unsigned room = c->cols > FIGURES + 34 ? c->cols - FIGURES - 34 : 0, n;
	uint64_t most = 0;
	char text[WORDS_LEN];

	label(c, row, "wire");
	if (d->nspark == 0)
		return;
	canvas_right(c, row, FIGURES + 12, LOOK_BOLD,
	    words_rate(d->spark[d->nspark - 1], text));
	n = d->nspark < room ? d->nspark : room;
	for (unsigned i = 0; i < n; i++)
		if (d->spark[d->nspark - n + i] > most)
			most = d->spark[d->nspark - n + i];
	canvas_spark(
	    c, row, FIGURES + 14 + room - n, d->spark + d->nspark - n, n, most);
	if (most > 0)
		canvas_printf(c, row, FIGURES + 15 + room, LOOK_DIM, "peak %s",
		    words_rate(most, text));
}

static void
draw_upkeep(struct canvas *c, unsigned row, const json_t *s)
{
	const json_t *r = json_object_get(s, "reclaim"),
		     *k = json_object_get(s, "scrub");
	const char *state = answer_str(r, "state");
	char a[16], b[16], text[WORDS_LEN];
	unsigned col;

	label(c, row, "reclaim");
	col = canvas_text(c, row, FIGURES,
	    strcmp(state, "paused") == 0 || strcmp(state, "held") == 0
		? LOOK_WARN
		: LOOK_PLAIN,
	    state);
	col = canvas_printf(c, row, col, LOOK_DIM, ", %s dead, %s given back",
	    size_print(answer_u64(r, "dead"), a),
	    size_print(answer_u64(r, "freed"), b));
	col = col + 3 > FIGURES + 42 ? col + 3 : FIGURES + 42;
	canvas_text(c, row, col, LOOK_DIM, "scrub");
	state = answer_str(k, "state");
	col = canvas_text(c, row, col + 7, LOOK_PLAIN, state);
	if (strcmp(state, "running") == 0)
		canvas_printf(c, row, col, LOOK_DIM, " %s",
		    words_percent(
			answer_u64(k, "read"), answer_u64(k, "total"), text));
	else if (*answer_str(k, "finished") != 0)
		canvas_printf(c, row, col, LOOK_DIM, ", last %.10s",
		    answer_str(k, "finished"));
}

static unsigned
draw_warnings(struct canvas *c, unsigned row, const struct top_data *d)
{
	struct top_warn w[TOP_WARN_MAX];
	unsigned n = top_warnings(d->status, d->jobs, w), most = TOP_WARN_MAX;

	/* On a small screen jobs come first. */
	if (c->rows < 30)
		most = 3;
	for (unsigned i = 0; i < n && i < most; i++, row++) {
		enum canvas_look look = w[i].bad ? LOOK_BAD : LOOK_WARN;

		canvas_text(c, row, LABEL, look, "!");
		canvas_text(c, row, LABEL + 2, look, w[i].text);
	}
	return row;
}

/* How many rows the agents take, heads and the line above them included. */
static unsigned
agents_rows(const struct canvas *c, const struct top_data *d)
{
	unsigned n = (unsigned)json_array_size(d->agents), most = AGENTS_MAX;

	if (c->rows < 20)
		return 0;
	if (c->rows > 30)
		most += (c->rows - 30) / 3;
	return n == 0 ? 0 : (n < most ? n : most) + 2;
}

static void
draw_agent(struct canvas *c, unsigned row, unsigned wide, const json_t *a)
{
	enum canvas_look look = is_connected(a) ? LOOK_PLAIN : LOOK_DIM;
	size_t running = json_array_size(json_object_get(a, "running"));
	char text[2 * WORDS_LEN];
	unsigned at = LABEL + wide;

	canvas_within(c, row, LABEL, wide, look, answer_str(a, "agent"));
	snprintf(text, sizeof(text), "%zu",
	    json_array_size(json_object_get(a, "vms")));
	canvas_right(c, row, at + 6, look, text);
	snprintf(text, sizeof(text), "%zu of %" PRIu64, running,
	    answer_u64(a, "jobs"));
	canvas_right(c, row, at + 16, look, text);
	canvas_text(c, row, at + 19, is_connected(a) ? LOOK_PLAIN : LOOK_WARN,
	    is_connected(a) ? "connected" : "gone");
	canvas_text(c, row, at + 30, look, answer_str(a, "since"));
	canvas_within(
	    c, row, at + 52, wide / 2, LOOK_DIM, answer_str(a, "version"));
	canvas_within(
	    c, row, at + 54 + wide / 2, wide, LOOK_DIM, answer_str(a, "host"));
}

static void
draw_agents(
    struct canvas *c, unsigned row, unsigned rows, const struct top_data *d)
{
	unsigned n = (unsigned)json_array_size(d->agents), wide = c->cols / 4;

	if (rows < 3)
		return;
	canvas_text(c, row, LABEL, LOOK_DIM, "AGENT");
	canvas_right(c, row, LABEL + wide + 6, LOOK_DIM, "VMS");
	canvas_right(c, row, LABEL + wide + 16, LOOK_DIM, "JOBS");
	canvas_text(c, row, LABEL + wide + 19, LOOK_DIM, "STATE");
	canvas_text(c, row, LABEL + wide + 30, LOOK_DIM, "SINCE");
	canvas_text(c, row, LABEL + wide + 52, LOOK_DIM, "VERSION");
	canvas_text(c, row, LABEL + wide + 54 + wide / 2, LOOK_DIM, "HOST");
	row++;
	for (unsigned i = 0; i < n && i + 2 < rows; i++, row++) {
		/* The last line says what it leaves out. */
		if (i + 3 == rows && i + 1 < n) {
			canvas_printf(
			    c, row, LABEL, LOOK_DIM, "... and %u more", n - i);
			return;
		}
		draw_agent(c, row, wide, json_array_get(d->agents, i));
	}
}

static void
draw_foot(struct canvas *c, const struct top_ui *ui)
{
	unsigned row = c->rows - 1, col;

	switch (ui->mode) {
	case TOP_CANCEL:
		canvas_printf(c, row, 1, LOOK_WARN,
		    "cancel job %" PRIu64 "?  y: yes, any other key: no",
		    ui->about);
		return;
	case TOP_LIMIT:
		col = ui->about != 0
		    ? canvas_printf(c, row, 1, LOOK_BOLD,
			  "limit of job %" PRIu64
			  " (such as 200M a second; 0: none): ",
			  ui->about)
		    : canvas_text(c, row, 1, LOOK_BOLD,
			  "limit of all jobs together (such as 200M a second; "
			  "0: none): ");
		col = canvas_text(c, row, col, LOOK_PLAIN, ui->input);
		canvas_paint(c, row, col, 1, LOOK_CHOSEN);
		return;
	default: break;
	}
	if (ui->said[0] != 0) {
		canvas_within(c, row, 1, c->cols - 2,
		    ui->said_bad ? LOOK_BAD : LOOK_GOOD, ui->said);
		return;
	}
	canvas_text(c, row, 1, LOOK_DIM,
	    "arrows choose  c cancel  l limit  L limit all  p pause reclaim  "
	    "? help  q quit");
}

static void
draw_help(struct canvas *c, unsigned row)
{
	static const char *const lines[] = {
		"Up, Down, PgUp, PgDn   choose a job",
		"c                      cancel the job that is chosen",
		"l                      limit its rate, in bytes a second",
		"L                      limit all jobs together",
		"p                      pause giving space back, or go on",
		"q                      quit",
		"",
		"Rates are of bytes of disks that are done, read or not;",
		"the wire is what goes over all lanes.  Times are UTC.",
		"",
		"Any key goes back.",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		canvas_text(c, row++, 4, LOOK_PLAIN, lines[i]);
}

/* Rows of the table of jobs: what is left between ${top} and the agents. */
static unsigned
jobs_rows(const struct canvas *c, const struct top_data *d, unsigned top)
{
	unsigned below = agents_rows(c, d) + 1;

	return c->rows > top + below + 2 ? c->rows - top - below : 2;
}

/* All above the table; the row that it begins in. */
static unsigned
draw_head(struct canvas *c, const struct top_data *d)
{
	unsigned row = 1;

	draw_title(c, d);
	if (!d->connected && d->why[0] != 0)
		canvas_within(c, row++, 1, c->cols - 2, LOOK_BAD, d->why);
	if (d->status == NULL)
		return row + 1;
	draw_store(c, row++, d->status);
	draw_upkeep(c, row++, d->status);
	draw_wire(c, row++, d);
	row = draw_warnings(c, row, d);
	return row + 1;
}

void
top_draw(struct canvas *c, const struct top_data *d, const struct top_ui *ui)
{
	struct jobs_view v = { .jobs = d->jobs,
		.feed = &d->feed,
		.chosen = ui->chosen,
		.skip = ui->skip };
	unsigned row, rows, agents;

	if (c->rows < TOP_ROWS_MIN || c->cols < TOP_COLS_MIN) {
		canvas_printf(c, 0, 0, LOOK_PLAIN, "too small: %dx%d at least",
		    TOP_COLS_MIN, TOP_ROWS_MIN);
		return;
	}
	row = draw_head(c, d);
	draw_foot(c, ui);
	if (ui->mode == TOP_HELP) {
		draw_help(c, row);
		return;
	}
	if (!d->connected)
		return;
	rows = jobs_rows(c, d, row);
	jobs_view_draw(c, row, rows, &v);
	agents = agents_rows(c, d);
	draw_agents(c, c->rows - 1 - agents, agents, d);
}

void
top_move(const struct top_data *d, struct top_ui *ui, unsigned rows, int by)
{
	struct jobs_view v = {
		.jobs = d->jobs, .chosen = ui->chosen, .skip = ui->skip
	};
	struct canvas c;

	/* As wide as nothing is cut off by: only rows count. */
	canvas_init(&c, rows, TOP_COLS_MIN, true);
	jobs_view_move(&v, by, jobs_rows(&c, d, draw_head(&c, d)));
	canvas_fini(&c);
	ui->chosen = v.chosen;
	ui->skip = v.skip;
}
