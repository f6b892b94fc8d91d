/* SPDX-License-Identifier: Apache-2.0 */
/*
 * canvas: rows of cells that a view is laid out on: pure, so that what people
 * see can be tested; live.h or top_screen.c put it on a terminal.
 *
 * What is outside of it is cut off.  Text from wherever cannot steer a
 * terminal: all but printable ASCII is shown as '?'.
 */
#ifndef REPO_CONSOLE_CANVAS_H
#define REPO_CONSOLE_CANVAS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"

enum canvas_look {
	LOOK_PLAIN,
	LOOK_BOLD,
	LOOK_DIM,
	LOOK_TITLE, /* the bar at the top */
	LOOK_CHOSEN,
	LOOK_GOOD,
	LOOK_WARN,
	LOOK_BAD,
	LOOK_BAR,
	LOOKS
};

struct canvas_cell {
	uint16_t ch; /* Unicode, one column wide */
	uint8_t look;
};

struct canvas {
	unsigned rows;
	unsigned cols;
	bool ascii; /* no other characters in bars and graphs */
	struct canvas_cell *cell;
};

/** canvas_init(c, rows, cols, ascii): blank.  canvas_fini(c). */
void canvas_init(struct canvas *c, unsigned rows, unsigned cols, bool ascii);
void canvas_fini(struct canvas *c);

/** canvas_text(c, row, col, look, text): the column behind it, also where that
 * is outside.  canvas_printf: likewise.  canvas_right: its last character
 * stands before column ${end}.  canvas_within: cut off after ${width} columns,
 * with "~" as the last where something is missing. */
unsigned canvas_text(struct canvas *c, unsigned row, unsigned col,
    enum canvas_look look, const char *text);
unsigned canvas_printf(struct canvas *c, unsigned row, unsigned col,
    enum canvas_look look, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void canvas_right(struct canvas *c, unsigned row, unsigned end,
    enum canvas_look look, const char *text);
void canvas_within(struct canvas *c, unsigned row, unsigned col, unsigned width,
    enum canvas_look look, const char *text);

/** canvas_paint(c, row, col, width, look): how what is there looks. */
void canvas_paint(struct canvas *c, unsigned row, unsigned col, unsigned width,
    enum canvas_look look);

/** canvas_bar(c, row, col, width, part, whole): a bar of ${width} columns,
 * filled by ${part} of ${whole}. */
void canvas_bar(struct canvas *c, unsigned row, unsigned col, unsigned width,
    uint64_t part, uint64_t whole);

/** canvas_spark(c, row, col, v, n, most): ${n} columns, each as high as its
 * value is to ${most}. */
void canvas_spark(struct canvas *c, unsigned row, unsigned col,
    const uint64_t *v, unsigned n, uint64_t most);

/** canvas_row(c, row, out): append that row as UTF-8, without blanks at its
 * end.  canvas_row_ansi: with what makes a terminal show its looks. */
void canvas_row(const struct canvas *c, unsigned row, struct buf *out);
void canvas_row_ansi(const struct canvas *c, unsigned row, struct buf *out);

#endif
