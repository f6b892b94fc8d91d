/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/canvas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	GLYPH_FULL = 0x2588, /* the highest of eight blocks, each one higher */
	GLYPH_LOW = 0x2581,
	GLYPH_EMPTY = 0x2591, /* light shade */
	SPARK_LEVELS = 8,
	TEXT_MAX = 1024
};

void
canvas_init(struct canvas *c, unsigned rows, unsigned cols, bool ascii)
{
	c->rows = rows;
	c->cols = cols;
	c->ascii = ascii;
	c->cell = xcalloc((size_t)rows * cols + 1, sizeof(*c->cell));
	for (size_t i = 0; i < (size_t)rows * cols; i++)
		c->cell[i].ch = ' ';
}

void
canvas_fini(struct canvas *c)
{
	free(c->cell);
	c->cell = NULL;
}

static void
put(struct canvas *c, unsigned row, unsigned col, enum canvas_look look,
    unsigned ch)
{
	struct canvas_cell *cell;

	if (row >= c->rows || col >= c->cols)
		return;
	cell = &c->cell[(size_t)row * c->cols + col];
	cell->ch = (uint16_t)ch;
	cell->look = (uint8_t)look;
}

static unsigned
printable(char ch)
{
	return ch >= ' ' && ch <= '~' ? (unsigned char)ch : '?';
}

unsigned
canvas_text(struct canvas *c, unsigned row, unsigned col, enum canvas_look look,
    const char *text)
{
	for (; *text != 0; text++)
		put(c, row, col++, look, printable(*text));
	return col;
}

unsigned
canvas_printf(struct canvas *c, unsigned row, unsigned col,
    enum canvas_look look, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return canvas_text(c, row, col, look, text);
}

void
canvas_right(struct canvas *c, unsigned row, unsigned end,
    enum canvas_look look, const char *text)
{
	unsigned n = (unsigned)strlen(text);

	canvas_text(c, row, n < end ? end - n : 0, look, text);
}

void
canvas_within(struct canvas *c, unsigned row, unsigned col, unsigned width,
    enum canvas_look look, const char *text)
{
	for (unsigned i = 0; i < width && text[i] != 0; i++)
		put(c, row, col + i, look,
		    i + 1 == width && text[i + 1] != 0 ? '~'
						       : printable(text[i]));
}

void
canvas_paint(struct canvas *c, unsigned row, unsigned col, unsigned width,
    enum canvas_look look)
{
	for (unsigned i = col; row < c->rows && i < c->cols && i < col + width;
	     i++)
		c->cell[(size_t)row * c->cols + i].look = (uint8_t)look;
}

void
canvas_bar(struct canvas *c, unsigned row, unsigned col, unsigned width,
    uint64_t part, uint64_t whole)
{
	unsigned full = width;

	if (whole > 0 && part < whole)
		full = (unsigned)((double)part / (double)whole * width);
	else if (whole == 0 || part == 0)
		full = 0;
	for (unsigned i = 0; i < width; i++)
		put(c, row, col + i, i < full ? LOOK_BAR : LOOK_DIM,
		    i < full ? (c->ascii ? '#' : GLYPH_FULL)
			     : (c->ascii ? '.' : GLYPH_EMPTY));
}

void
canvas_spark(struct canvas *c, unsigned row, unsigned col, const uint64_t *v,
    unsigned n, uint64_t most)
{
	static const char levels[SPARK_LEVELS + 1] = ".:-=+*#@";

	for (unsigned i = 0; i < n; i++) {
		unsigned k;

		/* What was nothing is seen to be nothing. */
		if (v[i] == 0 || most == 0) {
			put(c, row, col + i, LOOK_DIM, c->ascii ? '_' : 0x2581);
			continue;
		}
		k = (unsigned)((double)v[i] / (double)most * SPARK_LEVELS);
		if (k >= SPARK_LEVELS)
			k = SPARK_LEVELS - 1;
		put(c, row, col + i, LOOK_BAR,
		    c->ascii ? (unsigned char)levels[k] : GLYPH_LOW + k);
	}
}

static void
add_utf8(struct buf *out, unsigned ch)
{
	if (ch < 0x80) {
		buf_u8(out, (uint8_t)ch);
	} else if (ch < 0x800) {
		buf_u8(out, (uint8_t)(0xc0 | ch >> 6));
		buf_u8(out, (uint8_t)(0x80 | (ch & 0x3f)));
	} else {
		buf_u8(out, (uint8_t)(0xe0 | ch >> 12));
		buf_u8(out, (uint8_t)(0x80 | (ch >> 6 & 0x3f)));
		buf_u8(out, (uint8_t)(0x80 | (ch & 0x3f)));
	}
}

static void
row_out(const struct canvas *c, unsigned row, bool ansi, struct buf *out)
{
	static const char *const sgr[LOOKS] = { "0", "0;1", "0;2", "0;7", "0;7",
		"0;32", "0;33", "0;31;1", "0;36" };
	const struct canvas_cell *cell = &c->cell[(size_t)row * c->cols];
	unsigned n = c->cols, look = LOOK_PLAIN;

	while (n > 0 && cell[n - 1].ch == ' ' &&
	    (!ansi ||
		(cell[n - 1].look != LOOK_TITLE &&
		    cell[n - 1].look != LOOK_CHOSEN)))
		n--;
	for (unsigned i = 0; i < n; i++) {
		if (ansi && cell[i].look != look)
			buf_printf(out, "\033[%sm", sgr[cell[i].look]);
		look = cell[i].look;
		add_utf8(out, cell[i].ch);
	}
	if (ansi && look != LOOK_PLAIN)
		buf_printf(out, "\033[0m");
}

void
canvas_row(const struct canvas *c, unsigned row, struct buf *out)
{
	row_out(c, row, false, out);
}

void
canvas_row_ansi(const struct canvas *c, unsigned row, struct buf *out)
{
	row_out(c, row, true, out);
}
