/* SPDX-License-Identifier: Apache-2.0 */
/* The file: what its sections and keys mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/serve/conf_impl.h"
#include "proto/base/inifile.h"

struct reading {
	struct conf *c;
	struct inifile file;
	const char *section; /* "agent", "vm", "": unknown; NULL: none yet */
	struct conf_vm *vm;
	unsigned said[CONF_NKEYS]; /* lines; those of [vm] anew in each */
};

#define WRONG(r, ...) inifile_wrong(&(r)->file, __VA_ARGS__)

static void
begin_vm(struct reading *r, const char *name)
{
	struct conf *c = r->c;

	if (!vm_name_ok(name)) {
		WRONG(r,
		    "\"%.140s\" is no name of a VM: write [vm web1] or "
		    "[vm prod/web1]",
		    name);
		return;
	}
	for (unsigned i = 0; i < c->nvms; i++)
		if (strcmp(c->vm[i].bare, name) == 0) {
			WRONG(r,
			    "[vm %s] is there already, in line %u: put all of "
			    "it there",
			    name, c->vm[i].line);
			return;
		}
	if (c->nvms == CONF_VMS_MAX) {
		WRONG(r, "more than %d [vm NAME]", CONF_VMS_MAX);
		return;
	}
	c->vm = xrealloc(c->vm, (c->nvms + 1) * sizeof(*c->vm));
	r->vm = &c->vm[c->nvms++];
	memset(r->vm, 0, sizeof(*r->vm));
	snprintf(r->vm->bare, sizeof(r->vm->bare), "%s", name);
	r->vm->line = r->file.line;
	for (unsigned i = CONF_NAGENT; i < CONF_NKEYS; i++) {
		r->vm->text[i - CONF_NAGENT] = xstrdup(conf_keys[i].initial);
		r->said[i] = 0;
	}
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
	if (strcmp(name, "agent") == 0) {
		r->section = "agent";
	} else if (strncmp(name, "vm", 2) == 0 &&
	    (name[2] == 0 || name[2] == ' ' || name[2] == '\t')) {
		name += 2;
		begin_vm(r, name + strspn(name, " \t"));
	} else {
		WRONG(r,
		    "there is no section [%.140s]: [agent] and [vm NAME] are",
		    name);
	}
}

static void
no_such_key(struct reading *r, const char *name)
{
	bool vm = strcmp(r->section, "vm") == 0;
	const char *near = conf_key_near(r->section, name);

	if (conf_key_find(vm ? "agent" : "vm", name) != CONF_NKEYS)
		WRONG(r, "%s belongs to [%s], and this is [%s]", name,
		    vm ? "agent" : "vm NAME", r->section);
	else if (near != NULL)
		WRONG(r, "[%s] has no key \"%.60s\": is it %s?", r->section,
		    name, near);
	else
		WRONG(r,
		    "[%s] has no key \"%.60s\": agent.conf(5) has them all",
		    r->section, name);
}

/* Where a list goes, or NULL: the key is none. */
static char **
list_of(struct conf_vm *v, enum conf_key_id key, unsigned **n)
{
	*n = key == CONF_DISK ? &v->ndisks : &v->nexcluded;
	if (key == CONF_DISK)
		return v->disk;
	return key == CONF_EXCLUDE ? v->excluded : NULL;
}

static void
add_to_list(struct reading *r, const struct conf_key *k, char **list,
    unsigned *n, const char *value)
{
	size_t len = strcspn(value, "=");

	if (*n == CONF_LIST_MAX) {
		WRONG(r, "more than %d times %s", CONF_LIST_MAX, k->name);
		return;
	}
	for (unsigned i = 0; i < *n; i++)
		if (strncmp(list[i], value, len + 1) == 0) {
			WRONG(r, "%s %.*s is there already", k->name, (int)len,
			    value);
			return;
		}
	list[(*n)++] = xstrdup(value);
}

static void
take(struct reading *r, enum conf_key_id key, const char *value)
{
	const struct conf_key *k = &conf_keys[key];
	char **list = NULL, *was;
	unsigned *n;

	if (key >= CONF_NAGENT && r->vm == NULL)
		return; /* there is no such section */
	if (key >= CONF_NAGENT)
		list = list_of(r->vm, key, &n);
	if (list == NULL && r->said[key] != 0) {
		WRONG(r, "%s is there already, in line %u", k->name,
		    r->said[key]);
		return;
	}
	r->said[key] = r->file.line;
	if (conf_check(k, value, NULL) != 0 || (list != NULL && *value == 0)) {
		WRONG(
		    r, "%s takes %s, not \"%.140s\"", k->name, k->takes, value);
		return;
	}
	if (key < CONF_NAGENT) {
		free(r->c->text[key]);
		r->c->text[key] = xstrdup(value);
		return;
	}
	if (list != NULL) {
		add_to_list(r, k, list, n, value);
	} else {
		free(r->vm->text[key - CONF_NAGENT]);
		r->vm->text[key - CONF_NAGENT] = xstrdup(value);
	}
	was = r->vm->said;
	r->vm->said = xasprintf(
	    "%s%s%s = %s", was, *was != 0 ? ", " : "", k->name, value);
	free(was);
}

static void
take_key(void *arg, const char *name, const char *value)
{
	struct reading *r = arg;
	enum conf_key_id key;

	if (r->section == NULL) {
		WRONG(r,
		    "\"%.60s\" stands in no section: put [agent] before it",
		    name);
		return;
	}
	if (*r->section == 0)
		return; /* that was said of the section */
	key = conf_key_find(r->section, name);
	if (key == CONF_NKEYS)
		no_such_key(r, name);
	else
		take(r, key, value);
}

/* What a section says must make sense together; and its name on the NAS. */
static void
check_vm(struct reading *r, struct conf_vm *v)
{
	bool disks = v->ndisks > 0, qmp = *conf_vm_text(v, CONF_QMP) != 0;
	bool domain = *conf_vm_text(v, CONF_DOMAIN) != 0;
	bool virt = strcmp(conf_text(r->c, CONF_LIBVIRT), "no") != 0;

	r->file.line = v->line;
	if (!conf_name(r->c, v->bare, v->name))
		WRONG(r, "[vm %s]: with the namespace that is no name of a VM",
		    v->bare);
	if (disks + qmp + domain > 1)
		WRONG(r, "[vm %s]: say one of disk, domain and qmp", v->bare);
	else if (disks + qmp + domain == 0 && !virt &&
	    !conf_is(conf_vm_text(v, CONF_IGNORE)))
		WRONG(r,
		    "[vm %s]: say what it is, by disk, domain or qmp; or "
		    "libvirt = yes in [agent]",
		    v->bare);
	else if (*conf_vm_text(v, CONF_GA) != 0 && !qmp)
		WRONG(r, "[vm %s]: ga needs qmp", v->bare);
	else if (disks &&
	    (v->nexcluded > 0 || conf_is(conf_vm_text(v, CONF_RAM))))
		WRONG(
		    r, "[vm %s]: exclude and ram need domain or qmp", v->bare);
}

void
conf_file_read(struct conf *c, const char *text, size_t len, struct buf *wrong)
{
	struct reading r = { .c = c };

	r.file = (struct inifile){ .path = c->path,
		.sections = "[agent] or [vm NAME]",
		.wrong = wrong,
		.section = begin_section,
		.key = take_key,
		.arg = &r };
	inifile_read(&r.file, text, len);
	for (unsigned i = 0; i < c->nvms; i++)
		check_vm(&r, &c->vm[i]);
	for (unsigned i = 0; i < c->nvms; i++)
		for (unsigned k = 0; k < i; k++)
			if (strcmp(c->vm[i].name, c->vm[k].name) == 0) {
				r.file.line = c->vm[i].line;
				WRONG(&r, "[vm %s] and [vm %s] are one",
				    c->vm[k].bare, c->vm[i].bare);
			}
}
