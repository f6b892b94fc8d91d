/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file, by inih.  That one counts no lines, cuts long ones in two, cuts
 * names at 50 characters, and is silent of sections without keys and of lines
 * it cannot read but the first; so it gets its lines from here, one by one,
 * with their numbers and sections noted.
 */
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/settings/settings_impl.h"

struct reading {
	struct settings *s;
	const char *dir;
	const char *at, *end;
	struct buf *wrong;
	unsigned line;
	bool open; /* this line is a key's, and inih has not said so */
	const char *section; /* "daemon", "vm", "": unknown; NULL: none yet */
	struct settings_section *vm;
	unsigned said[SETTINGS_KEYS_MAX]; /* lines of [daemon]'s keys */
};

void
settings_complain(struct buf *wrong, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *p = line; *p != 0; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	buf_printf(wrong, "%s\n", line);
}

#define COMPLAIN(r, fmt, ...)                                                  \
	settings_complain((r)->wrong, "%s/" SETTINGS_FILE ":%u: " fmt,         \
	    (r)->dir, (r)->line, __VA_ARGS__)

static void
begin_vm(struct reading *r, const char *pattern)
{
	struct settings *s = r->s;

	r->section = "";
	if (!vm_pattern_ok(pattern)) {
		COMPLAIN(r,
		    "\"%.140s\" is no pattern of VMs: write [vm web1], "
		    "[vm db/*] or [vm **]",
		    pattern);
		return;
	}
	for (unsigned i = 0; i < s->nvms; i++)
		if (strcmp(s->vm[i].pattern, pattern) == 0) {
			COMPLAIN(r,
			    "[vm %s] is there already, in line %u: put all of "
			    "it there",
			    pattern, s->vm[i].line);
			return;
		}
	if (s->nvms == SETTINGS_VMS_MAX) {
		COMPLAIN(r, "more than %d [vm PATTERN]", SETTINGS_VMS_MAX);
		return;
	}
	s->vm = xrealloc(s->vm, (s->nvms + 1) * sizeof(*s->vm));
	r->vm = &s->vm[s->nvms++];
	memset(r->vm, 0, sizeof(*r->vm));
	snprintf(r->vm->pattern, sizeof(r->vm->pattern), "%s", pattern);
	r->vm->line = r->line;
	r->vm->said = xstrdup("");
	r->section = "vm";
}

/* ${name} is what stands between the brackets. */
static void
begin_section(struct reading *r, const char *name)
{
	r->section = "";
	if (strcmp(name, "daemon") == 0) {
		r->section = "daemon";
	} else if (strncmp(name, "vm", 2) == 0 &&
	    (name[2] == 0 || name[2] == ' ' || name[2] == '\t')) {
		name += 2;
		begin_vm(r, name + strspn(name, " \t"));
	} else {
		COMPLAIN(r,
		    "there is no section [%.140s]: [daemon] and [vm PATTERN] "
		    "are",
		    name);
	}
}

/* inih had nothing to say of the line before. */
static void
settle(struct reading *r)
{
	if (r->open)
		COMPLAIN(r, "%s",
		    "neither a [section] nor KEY = VALUE; a comment begins "
		    "with #");
	r->open = false;
}

/* What kind of line it is; ${line} has no blanks at its ends. */
static void
look_at(struct reading *r, const char *line)
{
	char name[160];
	const char *close;

	if (*line == 0 || *line == '#' || *line == ';')
		return;
	if (*line != '[') {
		r->open = true;
		return;
	}
	close = strchr(line, ']');
	if (close == NULL ||
	    (close[1] != 0 && close[1 + strspn(close + 1, " \t")] != ';' &&
		close[1 + strspn(close + 1, " \t")] != '#')) {
		r->section = "";
		COMPLAIN(r, "%s",
		    "a section is [daemon] or [vm PATTERN], alone in its line");
		return;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(close - line - 1), line + 1);
	begin_section(r, name);
}

/* As fgets, of inih's: a line at a time, without the blanks before it, which
 * would make it one with the line before. */
static char *
next_line(char *out, int size, void *arg)
{
	struct reading *r = arg;
	const char *p, *nl;
	size_t len;

	settle(r);
	if (r->at == r->end)
		return NULL;
	r->line++;
	p = r->at;
	nl = memchr(p, '\n', (size_t)(r->end - p));
	r->at = nl != NULL ? nl + 1 : r->end;
	len = (size_t)((nl != NULL ? nl : r->end) - p);
	while (len > 0 && strchr(" \t\r", p[len - 1]) != NULL)
		len--;
	while (len > 0 && (*p == ' ' || *p == '\t')) {
		p++;
		len--;
	}
	if (memchr(p, 0, len) != NULL) {
		COMPLAIN(r, "%s", "this is no text");
		len = 0;
	} else if (len + 2 > (size_t)size) {
		if (*p != '#' && *p != ';')
			COMPLAIN(r, "a line of more than %d bytes", size - 2);
		len = 0;
	}
	memcpy(out, p, len);
	out[len] = 0;
	look_at(r, out);
	/* An empty section of inih's own would be cut; ours is noted. */
	if (out[0] == '[')
		len = 0;
	out[len] = '\n';
	out[len + 1] = 0;
	return out;
}

static void
no_such_key(struct reading *r, const char *section, const char *name)
{
	const char *near = settings_key_near(section, name);
	const char *other = strcmp(section, "vm") == 0 ? "daemon" : "vm";

	if (settings_key_find(other, name) != NULL)
		COMPLAIN(r, "%s belongs to [%s], and this is [%s]", name,
		    strcmp(other, "vm") == 0 ? "vm PATTERN" : other, section);
	else if (near != NULL)
		COMPLAIN(r, "[%s] has no key \"%.60s\": is it %s?", section,
		    name, near);
	else
		COMPLAIN(r,
		    "[%s] has no key \"%.60s\": backstayd.conf(5) has them all",
		    section, name);
}

static void
take_of_daemon(
    struct reading *r, const struct settings_key *k, const char *value)
{
	unsigned i = (unsigned)(k - settings_keys);

	if (r->said[i] != 0)
		COMPLAIN(
		    r, "%s is there already, in line %u", k->name, r->said[i]);
	else if (settings_set(r->s, k, r->dir, value) != 0)
		COMPLAIN(
		    r, "%s takes %s, not \"%.140s\"", k->name, k->takes, value);
	r->said[i] = r->line;
}

static void
take_of_vm(struct reading *r, const struct settings_key *k, const char *value)
{
	struct retain_policy *p = &r->vm->policy;
	char *said = r->vm->said;

	if ((p->set & k->set) != 0)
		COMPLAIN(r, "%s is there already, in [vm %s]", k->name,
		    r->vm->pattern);
	else if (settings_take(k, r->dir, value, p) != 0)
		COMPLAIN(
		    r, "%s takes %s, not \"%.140s\"", k->name, k->takes, value);
	else
		r->vm->said = xasprintf("%s%s%s = %s", said,
		    *said != 0 ? ", " : "", k->name, value);
	if (r->vm->said != said)
		free(said);
	p->set |= k->set;
}

static int
take_key(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;
	const struct settings_key *k;

	(void)section; /* what was noted is whole */
	r->open = false;
	if (r->section == NULL) {
		COMPLAIN(r,
		    "\"%.60s\" stands in no section: put [daemon] before it",
		    name);
		return 1;
	}
	if (*r->section == 0)
		return 1; /* that was said of the section */
	k = settings_key_find(r->section, name);
	if (k == NULL)
		no_such_key(r, r->section, name);
	else if (strcmp(r->section, "daemon") == 0)
		take_of_daemon(r, k, value);
	else
		take_of_vm(r, k, value);
	return 1;
}

void
settings_file_read(struct settings *s, const char *dir, const char *text,
    size_t len, struct buf *wrong)
{
	struct reading r = { .s = s,
		.dir = dir,
		.at = text,
		.end = text + len,
		.wrong = wrong };

	if (ini_parse_stream(next_line, &r, take_key, &r) != 0 &&
	    wrong->len == 0)
		COMPLAIN(&r, "%s", "cannot be read");
	settle(&r);
}
