/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top_view: what `backstay top` shows, laid out: from what the daemon answered
 * and where the user is, to a canvas.  Pure; top_screen.c puts it on a
 * terminal.
 */
#ifndef REPO_CONSOLE_TOP_VIEW_H
#define REPO_CONSOLE_TOP_VIEW_H

#include <jansson.h>
#include <stdbool.h>

#include "repo/console/canvas.h"
#include "repo/console/feed.h"
#include "repo/console/jobs_view.h"

enum {
	TOP_SPARK_MAX = 240, /* values of the graph that are kept */
	TOP_INPUT_MAX = 24,
	TOP_SAID_MAX = 200,
	TOP_ROWS_MIN = 8, /* less is no view */
	TOP_COLS_MIN = 40
};

/* What the daemon told last; NULL: nothing yet. */
struct top_data {
	const char *dir; /* of the repository */
	bool connected;
	char why[TOP_SAID_MAX]; /* it is not */
	json_t *status;
	json_t *jobs;    /* an array */
	uint64_t untold; /* jobs that wait, beyond those */
	json_t *agents;  /* an array */
	struct feed feed;
	uint64_t spark[TOP_SPARK_MAX]; /* bytes a second, oldest first */
	unsigned nspark;
};

enum top_mode {
	TOP_LOOK,   /* arrows and keys */
	TOP_HELP,   /* any key goes back */
	TOP_CANCEL, /* y or n */
	TOP_LIMIT   /* a rate is typed */
};

/* Where the user is. */
struct top_ui {
	enum top_mode mode;
	uint64_t chosen; /* job */
	unsigned skip;   /* rows of the table above what is shown */
	uint64_t about;  /* job that is cancelled or limited; 0: the daemon */
	char input[TOP_INPUT_MAX + 1];
	char said[TOP_SAID_MAX]; /* what came of the last key */
	bool said_bad;
};

/** top_take(d, status, jobs, agents, now_ms): an answer; each is ${d}'s from
 * here on, NULL: as it was.  top_lost(d, why): there is no daemon.
 * top_fini(d). */
void top_take(struct top_data *d, json_t *status, json_t *jobs, json_t *agents,
    uint64_t now_ms);
void top_lost(struct top_data *d, const char *why);
void top_fini(struct top_data *d);

/** top_draw(c, d, ui): all of it. */
void top_draw(
    struct canvas *c, const struct top_data *d, const struct top_ui *ui);

/** top_move(d, ui, rows, by): choose another job, on a screen of ${rows}. */
void top_move(
    const struct top_data *d, struct top_ui *ui, unsigned rows, int by);

/** top_job(d, id): that job as the daemon told it; or NULL. */
const json_t *top_job(const struct top_data *d, uint64_t id);

#endif
