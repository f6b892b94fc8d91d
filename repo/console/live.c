/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/live.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool
live_able(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) == 1 && term != NULL && *term != 0 &&
	    strcmp(term, "dumb") != 0;
}

bool
live_utf8(void)
{
	/* Of characters only: numbers stay as they are in JSON. */
	setlocale(LC_CTYPE, "");
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

void
live_size(unsigned *rows, unsigned *cols)
{
	struct winsize ws = { 0 };

	*rows = LIVE_ROWS;
	*cols = LIVE_COLS;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) != 0)
		return;
	if (ws.ws_row > 0)
		*rows = ws.ws_row;
	if (ws.ws_col > 0)
		*cols = ws.ws_col;
}

void
live_draw(const struct canvas *c, unsigned rows, unsigned *drawn)
{
	struct buf out = { 0 };

	if (*drawn > 0)
		buf_printf(&out, "\033[%uA", *drawn);
	for (unsigned i = 0; i < rows && i < c->rows; i++) {
		canvas_row_ansi(c, i, &out);
		buf_printf(&out, "\033[K\n");
	}
	/* Lines of before that are not needed any more. */
	buf_printf(&out, "\033[J");
	fwrite(out.data, 1, out.len, stdout);
	fflush(stdout);
	*drawn = rows < c->rows ? rows : c->rows;
	buf_fini(&out);
}
