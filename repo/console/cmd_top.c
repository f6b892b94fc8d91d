/* SPDX-License-Identifier: Apache-2.0 */
/* top: the whole screen, until q. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "repo/console/console.h"
#include "repo/console/live.h"
#include "repo/console/top_keys.h"
#include "repo/console/top_link.h"
#include "repo/console/top_screen.h"

enum { KEY_WAIT_MS = 100 };

struct top {
	struct top_link *link;
	struct top_data data;
	struct top_ui ui;
	bool utf8;
};

static void
take_news(struct top *t)
{
	struct top_news n;

	if (!top_link_take(t->link, &n))
		return;
	/* What was answered before the daemon went is of no use any more. */
	if (n.lost) {
		json_decref(n.status);
		json_decref(n.jobs);
		json_decref(n.agents);
		top_lost(&t->data, n.why);
	} else if (n.status != NULL || n.jobs != NULL || n.agents != NULL) {
		if (n.jobs != NULL)
			t->data.untold = n.untold;
		top_take(&t->data, n.status, n.jobs, n.agents, now_ms());
	}
	if (n.answered) {
		memcpy(t->ui.said, n.said, sizeof(t->ui.said));
		t->ui.said_bad = n.refused;
	}
}

static void
draw(struct top *t, unsigned *rows)
{
	struct canvas c;
	unsigned cols;

	top_screen_size(rows, &cols);
	canvas_init(&c, *rows, cols, !t->utf8);
	top_move(&t->data, &t->ui, *rows, 0);
	top_draw(&c, &t->data, &t->ui);
	top_screen_draw(&c);
	canvas_fini(&c);
}

static void
run(struct top *t)
{
	struct top_wish wish;
	unsigned rows;
	int key;

	for (;;) {
		take_news(t);
		draw(t, &rows);
		key = top_screen_key(KEY_WAIT_MS);
		if (key == -1)
			return;
		if (key == 0)
			continue;
		if (!top_key(&t->data, &t->ui, rows, key, &wish))
			return;
		if (wish.ask == NULL ||
		    top_link_ask(t->link, wish.ask, wish.done))
			continue;
		memcpy(t->ui.said, "the daemon is still at the last one",
		    sizeof("the daemon is still at the last one"));
		t->ui.said_bad = true;
	}
}

static int
no_screen(void)
{
	const char *term = getenv("TERM");

	fprintf(stderr,
	    "backstay: top needs a terminal with a cursor (TERM is \"%.40s\"); "
	    "`backstay jobs --follow` needs none\n",
	    term != NULL ? term : "");
	return EXIT_FAILED;
}

int
cmd_top(struct console *c, int argc, char **argv)
{
	struct top t = { .utf8 = live_utf8() };
	json_t *answer;
	struct err e = { 0 };
	int status;
	bool json;

	if (console_plain(c, argc, argv, 0, &json, &status) == -1)
		return status;
	if (json)
		return console_misuse(
		    c, "`backstay jobs` and `status` have --json");
	if (!live_able() || isatty(STDIN_FILENO) != 1)
		return no_screen();
	/* A mistake in REPO is said before the screen is taken. */
	if (console_call(c, console_op("jobs"), &answer, &e) != 0)
		return console_fail(&e);
	json_decref(answer);
	console_close(c);
	if (!top_screen_open())
		return no_screen();
	t.data.dir = c->dir;
	t.link = top_link_start(c->dir);
	if (t.link != NULL) {
		run(&t);
		top_link_stop(t.link);
	}
	top_screen_close();
	top_fini(&t.data);
	return t.link != NULL ? EXIT_DONE : EXIT_FAILED;
}
