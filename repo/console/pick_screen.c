/* SPDX-License-Identifier: Apache-2.0 */
/* The same questions with a cursor, on a screen of their own. */
#include <stdio.h>
#include <string.h>

#include "repo/console/live.h"
#include "repo/console/pick.h"
#include "repo/console/top_keys.h"
#include "repo/console/top_screen.h"

enum { KEY_MS = 1000, CTRL_C = 3, HEAD = 2, FOOT = 2 };

static const char keys_choose[] =
    " up/down  enter: choose  backspace: back  q: leave";
static const char keys_enter[] = " enter: done  escape: back  ^C: leave";
static const char keys_confirm[] = " y: do it  backspace: back  q: leave";

static void
begin(struct canvas *c, const char *title, const char *keys)
{
	unsigned rows, cols;

	top_screen_size(&rows, &cols);
	canvas_init(c, rows, cols, true);
	canvas_printf(c, 0, 0, LOOK_TITLE, " backstay restore: %s", title);
	canvas_paint(c, 0, 0, cols, LOOK_TITLE);
	canvas_text(c, rows - 1, 0, LOOK_DIM, keys);
}

static void
end(struct canvas *c)
{
	top_screen_draw(c);
	canvas_fini(c);
}

/* How many lines there is room for. */
static unsigned
room(const struct canvas *c)
{
	return c->rows > HEAD + FOOT ? c->rows - HEAD - FOOT : 1;
}

static unsigned
draw_list(const char *title, const struct pick_lines *from, unsigned at,
    unsigned *top)
{
	struct canvas c;
	unsigned n;

	begin(&c, title, keys_choose);
	n = room(&c);
	if (at < *top)
		*top = at;
	if (at >= *top + n)
		*top = at - n + 1;
	for (unsigned i = *top; i < from->n && i < *top + n; i++) {
		unsigned row = HEAD + i - *top;

		canvas_within(
		    &c, row, 2, c.cols - 3, LOOK_PLAIN, from->line[i]);
		if (i == at)
			canvas_paint(&c, row, 1, c.cols - 2, LOOK_CHOSEN);
	}
	if (from->n > n)
		canvas_printf(
		    &c, c.rows - 2, 2, LOOK_DIM, "%u of %u", at + 1, from->n);
	end(&c);
	return n;
}

static int
screen_choose(const char *title, const struct pick_lines *from)
{
	unsigned at = 0, top = 0;

	for (;;) {
		unsigned n = draw_list(title, from, at, &top);

		switch (top_screen_key(KEY_MS)) {
		case TOP_KEY_UP:
		case 'k': at -= at > 0; break;
		case TOP_KEY_DOWN:
		case 'j': at += at + 1 < from->n; break;
		case TOP_KEY_PAGE_UP: at -= at < n ? at : n; break;
		case TOP_KEY_PAGE_DOWN:
			at = from->n - at > n ? at + n : from->n - 1;
			break;
		case TOP_KEY_HOME: at = 0; break;
		case TOP_KEY_END: at = from->n - 1; break;
		case TOP_KEY_ENTER: return (int)at;
		case TOP_KEY_BACK:
		case TOP_KEY_ESCAPE: return PICK_BACK;
		case CTRL_C:
		case 'q':
		case -1: return PICK_LEFT;
		default: break;
		}
	}
}

static int
screen_enter(const char *title, char *out, size_t len)
{
	size_t n = 0;

	out[0] = 0;
	for (;;) {
		struct canvas c;
		size_t from;
		int key;

		begin(&c, title, keys_enter);
		from = n + 6 > c.cols ? n + 6 - c.cols : 0;
		canvas_printf(&c, HEAD, 2, LOOK_BOLD, "> %s_", out + from);
		end(&c);
		key = top_screen_key(KEY_MS);
		if (key == TOP_KEY_ESCAPE || (key == TOP_KEY_BACK && n == 0))
			return PICK_BACK;
		if (key == CTRL_C || key == -1)
			return PICK_LEFT;
		if (key == TOP_KEY_ENTER && n > 0)
			return 0;
		if (key == TOP_KEY_BACK)
			n--;
		else if (key >= ' ' && key < 0x100 && key != 0x7f &&
		    n + 1 < len)
			out[n++] = (char)key;
		out[n] = 0;
	}
}

static int
screen_confirm(const char *title, const struct pick_lines *what)
{
	for (;;) {
		struct canvas c;

		begin(&c, title, keys_confirm);
		for (unsigned i = 0; i < what->n && i < room(&c); i++)
			canvas_within(&c, HEAD + i, 2, c.cols - 3,
			    i == 0 ? LOOK_BOLD : LOOK_PLAIN, what->line[i]);
		end(&c);
		switch (top_screen_key(KEY_MS)) {
		case 'y': return 0;
		case TOP_KEY_BACK:
		case TOP_KEY_ESCAPE: return PICK_BACK;
		case CTRL_C:
		case 'q':
		case -1: return PICK_LEFT;
		default: break;
		}
	}
}

const struct pick_ui *
pick_screen_open(void)
{
	static const struct pick_ui screen = { screen_choose, screen_enter,
		screen_confirm, top_screen_close };

	return top_screen_open() ? &screen : NULL;
}
