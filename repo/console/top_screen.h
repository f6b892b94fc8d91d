/* SPDX-License-Identifier: Apache-2.0 */
/* top_screen: a terminal as one screen: what puts canvases on it and hears
 * keys. ncurses' only user.  One thread. */
#ifndef REPO_CONSOLE_TOP_SCREEN_H
#define REPO_CONSOLE_TOP_SCREEN_H

#include <stdbool.h>

#include "repo/console/canvas.h"

/** top_screen_open(): false: ncurses does not know the terminal.
 * top_screen_close(): it is as it was before. */
bool top_screen_open(void);
void top_screen_close(void);

/** top_screen_size(&rows, &cols): now. */
void top_screen_size(unsigned *rows, unsigned *cols);

/** top_screen_draw(c): what of it changed. */
void top_screen_draw(const struct canvas *c);

/** top_screen_key(wait_ms): a character or an enum top_key; 0: none came, or
 * the size is another; -1: there is no terminal any more. */
int top_screen_key(int wait_ms);

#endif
