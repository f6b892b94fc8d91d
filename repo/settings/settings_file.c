/* SPDX-License-Identifier: Apache-2.0 */
/* The file: what its sections and keys mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/inifile.h"
#include "repo/settings/settings_impl.h"

struct reading {
	struct settings *s;
	const char *dir;
	const char *text;
	struct inifile file;
	const char *section; /* "daemon", "vm", "": unknown; NULL: none yet */
	struct settings_section *vm;
	unsigned said[SETTINGS_KEYS_MAX]; /* lines of [daemon]'s keys */
};

#define COMPLAIN(r, ...) inifile_wrong(&(r)->file, __VA_ARGS__)

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
	r->vm->line = r->file.line;
	r->vm->said = xstrdup("");
	r->section = "vm";
}

static void
begin_section(void *arg, const char *name)
{
	struct reading *r = arg;

	r->section = "";
	if (name == NULL)
		return;
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
	r->said[i] = r->file.line;
}

/* A ';' behind a blank begins a comment, and most probably is none here. */
static bool
lost_the_rest(const struct reading *r)
{
	const char *end = r->file.at, *p = end;

	while (p > r->text && (p == end || p[-1] != '\n'))
		p--;
	for (; p + 1 < end; p++)
		if ((*p == ' ' || *p == '\t') && p[1] == ';')
			return true;
	return false;
}

static void
take_of_plan(struct reading *r, const struct settings_key *k, const char *value)
{
	bool adds = k->type == SETTING_TIMES || k->type == SETTING_WINDOWS;
	struct plan *p = &r->vm->plan;
	char *said = r->vm->said;
	struct err e = { 0 };

	if ((p->set & k->set) != 0 && !adds) {
		COMPLAIN(r, "%s is there already, in [vm %s]", k->name,
		    r->vm->pattern);
		return;
	}
	p->set |= k->set;
	if (adds && lost_the_rest(r)) {
		COMPLAIN(r,
		    "%s: a ; behind a blank begins a comment: put it right "
		    "behind a time, or the comment into a line of its own",
		    k->name);
	} else if (settings_plan_take(k, value, p, &e) != 0) {
		COMPLAIN(r, "%s%s %s", k->name, adds ? ":" : "", e.text);
	} else {
		r->vm->said = xasprintf("%s%s%s = %s", said,
		    *said != 0 ? ", " : "", k->name, value);
		free(said);
	}
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

static void
take_key(void *arg, const char *name, const char *value)
{
	struct reading *r = arg;
	const struct settings_key *k;

	if (r->section == NULL) {
		COMPLAIN(r,
		    "\"%.60s\" stands in no section: put [daemon] before it",
		    name);
		return;
	}
	if (*r->section == 0)
		return; /* that was said of the section */
	k = settings_key_find(r->section, name);
	if (k == NULL)
		no_such_key(r, r->section, name);
	else if (strcmp(r->section, "daemon") == 0)
		take_of_daemon(r, k, value);
	else if (k->plan)
		take_of_plan(r, k, value);
	else
		take_of_vm(r, k, value);
}

void
settings_file_read(struct settings *s, const char *dir, const char *text,
    size_t len, struct buf *wrong)
{
	struct reading r = { .s = s, .dir = dir, .text = text };
	char *path = xasprintf("%s/" SETTINGS_FILE, dir);

	r.file = (struct inifile){ .path = path,
		.sections = "[daemon] or [vm PATTERN]",
		.wrong = wrong,
		.section = begin_section,
		.key = take_key,
		.arg = &r };
	inifile_read(&r.file, text, len);
	free(path);
}
