/* SPDX-License-Identifier: Apache-2.0 */
/* live: a few lines on a terminal that change where they stand; the terminal,
 * and what it can do. */
#ifndef REPO_CONSOLE_LIVE_H
#define REPO_CONSOLE_LIVE_H

#include <stdbool.h>

#include "repo/console/canvas.h"

/* Where there is no telling. */
enum { LIVE_ROWS = 24, LIVE_COLS = 80 };

/** live_able(): stdout is a terminal that can move its cursor: not TERM=dumb.
 * live_utf8(): it shows UTF-8, by the locale, which is set by the way. */
bool live_able(void);
bool live_utf8(void);

/** live_size(&rows, &cols): of the terminal, now. */
void live_size(unsigned *rows, unsigned *cols);

/** live_draw(c, rows, &drawn): the first ${rows} of ${c} in place of the
 * ${*drawn} lines that were drawn before; 0 at first. */
void live_draw(const struct canvas *c, unsigned rows, unsigned *drawn);

#endif
