/* SPDX-License-Identifier: Apache-2.0 */
/* Questions without a cursor: numbers and lines, on any terminal. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/name.h"
#include "repo/console/live.h"
#include "repo/console/pick.h"

enum { PAGE = 15, LINE_LEN = 1100 };

/* Names come from elsewhere. */
static void
say(const char *text)
{
	for (; *text != 0; text++)
		putchar(
		    (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

/* A line without its end; PICK_LEFT, PICK_BACK, or 0. */
static int
ask(const char *prompt, char *out, size_t len)
{
	printf("%s", prompt);
	fflush(stdout);
	if (fgets(out, (int)len, stdin) == NULL) {
		putchar('\n');
		return PICK_LEFT;
	}
	out[strcspn(out, "\n")] = 0;
	if (strcmp(out, "q") == 0)
		return PICK_LEFT;
	return out[0] == 0 || strcmp(out, "b") == 0 ? PICK_BACK : 0;
}

static int
plain_choose(const char *title, const struct pick_lines *from)
{
	char line[LINE_LEN];
	unsigned at = 0;

	for (;;) {
		unsigned end = from->n - at > PAGE ? at + PAGE : from->n;
		uint64_t n;
		int r;

		printf("\n%s\n", title);
		for (unsigned i = at; i < end; i++) {
			printf("%4u  ", i + 1);
			say(from->line[i]);
			putchar('\n');
		}
		r = ask(end < from->n || at > 0
			? "number, m (more), b (back) or q (leave): "
			: "number, b (back) or q (leave): ",
		    line, sizeof(line));
		if (r != 0)
			return r;
		if (number_parse(line, 1, from->n, &n) == 0)
			return (int)n - 1;
		if (strcmp(line, "m") == 0)
			at = end < from->n ? end : 0;
		else
			printf("that is none of them\n");
	}
}

static int
plain_enter(const char *title, char *out, size_t len)
{
	printf("\n%s\n", title);
	return ask("(b: back, q: leave) ", out, len);
}

static int
plain_confirm(const char *title, const struct pick_lines *what)
{
	char line[LINE_LEN];

	for (;;) {
		int r;

		printf("\n%s\n", title);
		for (unsigned i = 0; i < what->n; i++) {
			printf("  ");
			say(what->line[i]);
			putchar('\n');
		}
		r = ask("yes, b (back) or q (leave): ", line, sizeof(line));
		if (r != 0)
			return r;
		if (strcmp(line, "yes") == 0 || strcmp(line, "y") == 0)
			return 0;
	}
}

static void
plain_close(void)
{
}

const struct pick_ui pick_plain = { plain_choose, plain_enter, plain_confirm,
	plain_close };

const struct pick_ui *
pick_open(void)
{
	const struct pick_ui *u = NULL;

	if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1)
		return NULL;
	if (live_able())
		u = pick_screen_open();
	return u != NULL ? u : &pick_plain;
}

void
pick_add(struct pick_lines *l, const char *fmt, ...)
{
	char text[LINE_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->line = xrealloc(l->line, (l->n + 1) * sizeof(*l->line));
	l->line[l->n++] = xstrdup(text);
}

void
pick_clear(struct pick_lines *l)
{
	for (unsigned i = 0; i < l->n; i++)
		free(l->line[i]);
	free(l->line);
	*l = (struct pick_lines){ .n = 0 };
}
