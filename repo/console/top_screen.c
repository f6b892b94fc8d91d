/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/top_screen.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <wchar.h>

#include <curses.h>

#include "repo/console/top_keys.h"

enum { ESCAPE = 27, DELETE = 127, BACKSPACE = 8 };

/* Numbers of pairs of colours; few, so that what is coloured is seen. */
enum { PAIR_GOOD = 1, PAIR_WARN, PAIR_BAD, PAIR_BAR };

static SCREEN *screen;

bool
top_screen_open(void)
{
	screen = newterm(NULL, stdout, stdin);
	if (screen == NULL)
		return false;
	raw(); /* ^C is a key like others */
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	if (getenv("NO_COLOR") == NULL && has_colors()) {
		start_color();
		use_default_colors();
		init_pair(PAIR_GOOD, COLOR_GREEN, -1);
		init_pair(PAIR_WARN, COLOR_YELLOW, -1);
		init_pair(PAIR_BAD, COLOR_RED, -1);
		init_pair(PAIR_BAR, COLOR_CYAN, -1);
	}
	return true;
}

void
top_screen_close(void)
{
	endwin();
	delscreen(screen);
}

void
top_screen_size(unsigned *rows, unsigned *cols)
{
	int y, x;

	getmaxyx(stdscr, y, x);
	*rows = y > 0 ? (unsigned)y : 1;
	*cols = x > 0 ? (unsigned)x : 1;
}

static void
put(const struct canvas_cell *cell)
{
	static const struct {
		attr_t attr;
		short pair;
	} looks[LOOKS] = {
		[LOOK_PLAIN] = { A_NORMAL, 0 },
		[LOOK_BOLD] = { A_BOLD, 0 },
		[LOOK_DIM] = { A_DIM, 0 },
		[LOOK_TITLE] = { A_REVERSE, 0 },
		[LOOK_CHOSEN] = { A_REVERSE, 0 },
		[LOOK_GOOD] = { A_NORMAL, PAIR_GOOD },
		[LOOK_WARN] = { A_NORMAL, PAIR_WARN },
		[LOOK_BAD] = { A_BOLD, PAIR_BAD },
		[LOOK_BAR] = { A_NORMAL, PAIR_BAR },
	};
	wchar_t text[2] = { (wchar_t)cell->ch, 0 };
	cchar_t cc;

	if (setcchar(&cc, text, looks[cell->look].attr, looks[cell->look].pair,
		NULL) == OK)
		add_wch(&cc);
}

void
top_screen_draw(const struct canvas *c)
{
	for (unsigned row = 0; row < c->rows; row++) {
		move((int)row, 0);
		for (unsigned col = 0; col < c->cols; col++)
			put(&c->cell[(size_t)row * c->cols + col]);
	}
	refresh();
}

static int
translate(int key)
{
	switch (key) {
	case KEY_UP: return TOP_KEY_UP;
	case KEY_DOWN: return TOP_KEY_DOWN;
	case KEY_PPAGE: return TOP_KEY_PAGE_UP;
	case KEY_NPAGE: return TOP_KEY_PAGE_DOWN;
	case KEY_HOME: return TOP_KEY_HOME;
	case KEY_END: return TOP_KEY_END;
	case KEY_BACKSPACE:
	case DELETE:
	case BACKSPACE: return TOP_KEY_BACK;
	case KEY_ENTER:
	case '\r':
	case '\n': return TOP_KEY_ENTER;
	case ESCAPE: return TOP_KEY_ESCAPE;
	default: return key < KEY_MIN ? key : 0;
	}
}

int
top_screen_key(int wait_ms)
{
	struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
	int key;

	timeout(wait_ms);
	key = getch();
	if (key != ERR)
		return translate(key);
	/* Nothing came, or nothing ever will. */
	if (poll(&fd, 1, 0) > 0 && (fd.revents & (POLLHUP | POLLERR)) != 0)
		return -1;
	return 0;
}
