/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pick: questions to somebody at a terminal: on a screen with a cursor where
 * the terminal can (pick_screen.c), else with numbers, line by line
 * (pick_lines.c).  One thread.
 */
#ifndef REPO_CONSOLE_PICK_H
#define REPO_CONSOLE_PICK_H

#include <stddef.h>

enum {
	PICK_LEFT = -1, /* he wants nothing */
	PICK_BACK = -2  /* to the question before */
};

/* Texts of one line each, without its end. */
struct pick_lines {
	char **line;
	unsigned n;
};

struct pick_ui {
	/** choose(title, from): the number of one, from 0; there is one at
	 * least. */
	int (*choose)(const char *title, const struct pick_lines *from);
	/** enter(title, out, len): 0, and what was typed; not empty. */
	int (*enter)(const char *title, char *out, size_t len);
	/** confirm(title, what): 0: yes. */
	int (*confirm)(const char *title, const struct pick_lines *what);
	void (*close)(void);
};

/** pick_open(): NULL: stdin and stdout are no terminal. */
const struct pick_ui *pick_open(void);

/** pick_screen_open(): NULL: the terminal cannot.  For pick_open. */
const struct pick_ui *pick_screen_open(void);
extern const struct pick_ui pick_plain;

/** pick_add(l, fmt, ...): one more.  pick_clear(l): none. */
void pick_add(struct pick_lines *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void pick_clear(struct pick_lines *l);

#endif
