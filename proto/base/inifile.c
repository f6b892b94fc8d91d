/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inih counts no lines, cuts long ones in two, cuts names at 50 characters, and
 * is silent of sections without keys and of lines it cannot read but the first;
 * so it gets its lines from here, one by one, with their numbers and sections
 * noted.
 */
#include "proto/base/inifile.h"

#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { COMPLAINT_MAX = 1024, SECTION_MAX = 160, COMMENT_COLUMNS = 76 };

static void
add_line(struct buf *wrong, char *line)
{
	for (char *p = line; *p != 0; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	buf_printf(wrong, "%s\n", line);
}

void
inifile_complain(struct buf *wrong, const char *fmt, ...)
{
	char line[COMPLAINT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	add_line(wrong, line);
}

void
inifile_wrong(struct inifile *f, const char *fmt, ...)
{
	char line[COMPLAINT_MAX];
	size_t n;
	va_list ap;

	snprintf(line, sizeof(line), "%.500s:%u: ", f->path, f->line);
	n = strlen(line);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	add_line(f->wrong, line);
}

/* inih had nothing to say of the line before. */
static void
settle(struct inifile *f)
{
	if (f->open)
		inifile_wrong(f,
		    "neither a [section] nor KEY = VALUE; a comment begins "
		    "with #");
	f->open = false;
}

/* What kind of line it is; ${line} has no blanks at its ends. */
static void
look_at(struct inifile *f, const char *line)
{
	char name[SECTION_MAX];
	const char *close, *rest;

	if (*line == 0 || *line == '#' || *line == ';')
		return;
	if (*line != '[') {
		f->open = true;
		return;
	}
	close = strchr(line, ']');
	rest = close == NULL ? "?" : close + 1 + strspn(close + 1, " \t");
	if (close == NULL || (close[1] != 0 && *rest != ';' && *rest != '#')) {
		inifile_wrong(
		    f, "a section is %s, alone in its line", f->sections);
		/* What follows is nobody's. */
		f->section(f->arg, NULL);
		return;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(close - line - 1), line + 1);
	f->section(f->arg, name);
}

/* As fgets, of inih's: a line at a time, without the blanks before it, which
 * would make it one with the line before. */
static char *
next_line(char *out, int size, void *arg)
{
	struct inifile *f = arg;
	const char *p, *nl;
	size_t len;

	settle(f);
	if (f->at == f->end)
		return NULL;
	f->line++;
	p = f->at;
	nl = memchr(p, '\n', (size_t)(f->end - p));
	f->at = nl != NULL ? nl + 1 : f->end;
	len = (size_t)((nl != NULL ? nl : f->end) - p);
	while (len > 0 && strchr(" \t\r", p[len - 1]) != NULL)
		len--;
	while (len > 0 && (*p == ' ' || *p == '\t')) {
		p++;
		len--;
	}
	if (memchr(p, 0, len) != NULL) {
		inifile_wrong(f, "this is no text");
		len = 0;
	} else if (len + 2 > (size_t)size) {
		if (*p != '#' && *p != ';')
			inifile_wrong(
			    f, "a line of more than %d bytes", size - 2);
		len = 0;
	}
	memcpy(out, p, len);
	out[len] = 0;
	look_at(f, out);
	/* An empty section of inih's own would be cut; ours is noted. */
	if (out[0] == '[')
		len = 0;
	out[len] = '\n';
	out[len + 1] = 0;
	return out;
}

static int
take_key(void *arg, const char *section, const char *name, const char *value)
{
	struct inifile *f = arg;

	(void)section; /* what was noted is whole */
	f->open = false;
	f->key(f->arg, name, value);
	return 1;
}

void
inifile_read(struct inifile *f, const char *text, size_t len)
{
	f->at = text;
	f->end = text + len;
	f->line = 0;
	f->open = false;
	if (ini_parse_stream(next_line, f, take_key, f) != 0 &&
	    f->wrong->len == 0)
		inifile_wrong(f, "cannot be read");
	settle(f);
}

unsigned
inifile_distance(const char *a, const char *b)
{
	enum { LEN_MAX = 32 };
	unsigned row[LEN_MAX + 1];
	size_t na = strlen(a), nb = strlen(b);

	if (na > LEN_MAX || nb > LEN_MAX)
		return LEN_MAX;
	for (unsigned j = 0; j <= nb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= na; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= nb; j++) {
			unsigned least = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			if (row[j] + 1 < least)
				least = row[j] + 1;
			if (row[j - 1] + 1 < least)
				least = row[j - 1] + 1;
			row[j] = least;
		}
	}
	return row[nb];
}

void
inifile_comment(const char *text, struct buf *out)
{
	size_t column = 0;

	while (*text != 0) {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > COMMENT_COLUMNS) {
			buf_u8(out, '\n');
			column = 0;
		}
		buf_printf(
		    out, "%s%.*s", column == 0 ? "# " : " ", (int)n, text);
		column += n + (column == 0 ? 2 : 1);
		text += n;
		text += strspn(text, " ");
	}
	buf_u8(out, '\n');
}
