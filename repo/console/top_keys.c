/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/top_keys.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "repo/console/console.h"
#include "repo/console/watch_view.h"

enum { CTRL_C = 3, PAGE = 10 };

static void
say(struct top_ui *ui, bool bad, const char *text)
{
	snprintf(ui->said, sizeof(ui->said), "%s", text);
	ui->said_bad = bad;
}

/* The job under the cursor, if it can still be told anything. */
static bool
running_job(const struct top_data *d, struct top_ui *ui)
{
	const json_t *j = top_job(d, ui->chosen);

	if (j == NULL) {
		say(ui, true, "no job is chosen");
		return false;
	}
	if (!watch_running(j)) {
		say(ui, true, "that job has ended");
		return false;
	}
	ui->about = ui->chosen;
	return true;
}

static void
key_pause(const struct top_data *d, struct top_wish *w)
{
	const char *state =
	    answer_str(json_object_get(d->status, "reclaim"), "state");
	bool paused = strcmp(state, "paused") == 0;

	w->ask = console_op("gc");
	json_set_str(w->ask, "action", paused ? "resume" : "pause");
	snprintf(w->done, sizeof(w->done), "%s",
	    paused ? "space is given back again"
		   : "no space is given back until p is pressed again");
}

static void
begin_limit(struct top_ui *ui)
{
	ui->mode = TOP_LIMIT;
	ui->input[0] = 0;
}

static bool
key_look(const struct top_data *d, struct top_ui *ui, unsigned rows, int key,
    struct top_wish *w)
{
	ui->said[0] = 0;
	switch (key) {
	case 'q':
	case CTRL_C: return false;
	case 'k':
	case TOP_KEY_UP: top_move(d, ui, rows, -1); break;
	case 'j':
	case TOP_KEY_DOWN: top_move(d, ui, rows, 1); break;
	case TOP_KEY_PAGE_UP: top_move(d, ui, rows, -PAGE); break;
	case TOP_KEY_PAGE_DOWN: top_move(d, ui, rows, PAGE); break;
	case TOP_KEY_HOME: top_move(d, ui, rows, -INT_MAX); break;
	case TOP_KEY_END: top_move(d, ui, rows, INT_MAX); break;
	case '?':
	case 'h': ui->mode = TOP_HELP; break;
	case 'p': key_pause(d, w); break;
	case 'c':
		if (running_job(d, ui))
			ui->mode = TOP_CANCEL;
		break;
	case 'l':
		if (running_job(d, ui))
			begin_limit(ui);
		break;
	case 'L':
		ui->about = 0;
		begin_limit(ui);
		break;
	default: break;
	}
	return true;
}

static void
key_cancel(struct top_ui *ui, int key, struct top_wish *w)
{
	ui->mode = TOP_LOOK;
	if (key != 'y' && key != 'Y')
		return;
	w->ask = console_op("cancel");
	json_set_u64(w->ask, "job", ui->about);
	snprintf(w->done, sizeof(w->done), "job %" PRIu64 " is being cancelled",
	    ui->about);
}

/* Whether it is a rate is for the daemon to say. */
static void
set_limit(struct top_ui *ui, struct top_wish *w)
{
	ui->mode = TOP_LOOK;
	if (ui->input[0] == 0)
		return;
	w->ask = console_op("set");
	json_set_str(w->ask, "key", "bwlimit");
	json_set_str(w->ask, "value", ui->input);
	if (ui->about != 0)
		json_set_u64(w->ask, "job", ui->about);
	snprintf(w->done, sizeof(w->done), "the limit is %s now", ui->input);
}

static void
key_limit(struct top_ui *ui, int key, struct top_wish *w)
{
	size_t n = strlen(ui->input);

	if (key == TOP_KEY_ESCAPE || key == CTRL_C) {
		ui->mode = TOP_LOOK;
	} else if (key == TOP_KEY_ENTER) {
		set_limit(ui, w);
	} else if (key == TOP_KEY_BACK) {
		if (n > 0)
			ui->input[n - 1] = 0;
	} else if (key > ' ' && key <= '~' && n < TOP_INPUT_MAX) {
		ui->input[n] = (char)key;
		ui->input[n + 1] = 0;
	}
}

bool
top_key(const struct top_data *d, struct top_ui *ui, unsigned rows, int key,
    struct top_wish *w)
{
	*w = (struct top_wish){ 0 };
	switch (ui->mode) {
	case TOP_HELP: ui->mode = TOP_LOOK; return key != CTRL_C;
	case TOP_CANCEL: key_cancel(ui, key, w); return true;
	case TOP_LIMIT: key_limit(ui, key, w); return true;
	default: return key_look(d, ui, rows, key, w);
	}
}
