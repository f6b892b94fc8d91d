/* SPDX-License-Identifier: Apache-2.0 */
/* restore with nothing named: which VM, which backup, where to, yes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "repo/console/pick.h"
#include "repo/console/restore.h"

enum { FOLDER_LEN = 1024, NAME_LEN = VM_NAME_MAX + TIME_TEXT_LEN + 2 };

/* What was asked and answered; the questions are numbered. */
struct picking {
	struct console *c;
	const struct pick_ui *ui;
	json_t *backups; /* all that may be seen, oldest first */
	json_t *agents;  /* connected ones */
	char vm[VM_NAME_MAX + 1];
	char backup[NAME_LEN];
	char folder[FOLDER_LEN];
	const char *host; /* of agents; NULL: the folder */
	bool keep_old;
	bool failed;
	struct err e; /* of what failed */
};

static bool
is_connected(const json_t *agent)
{
	return json_is_true(json_object_get(agent, "connected"));
}

/* The VMs that have backups, each once, as they are listed. */
static int
pick_vm(struct picking *p)
{
	struct pick_lines lines = { 0 };
	const char *last = "", **vm;
	size_t n = json_array_size(p->backups), k = 0;
	int r;

	vm = xcalloc(n, sizeof(*vm));
	for (size_t i = 0; i < n; i++) {
		const json_t *b = json_array_get(p->backups, i);
		size_t of = 1;

		if (strcmp(answer_str(b, "vm"), last) == 0)
			continue;
		last = answer_str(b, "vm");
		while (i + of < n &&
		    strcmp(answer_str(json_array_get(p->backups, i + of), "vm"),
			last) == 0)
			of++;
		vm[k++] = last;
		pick_add(&lines, "%-24s %4zu %-7s  last %s", last, of,
		    of == 1 ? "backup" : "backups",
		    answer_str(json_array_get(p->backups, i + of - 1), "time"));
	}
	r = p->ui->choose("which VM?", &lines);
	if (r >= 0)
		snprintf(p->vm, sizeof(p->vm), "%s", vm[r]);
	pick_clear(&lines);
	free(vm);
	return r;
}

/* The newest first. */
static int
pick_point(struct picking *p)
{
	struct pick_lines lines = { 0 };
	size_t n = json_array_size(p->backups), k = 0;
	const json_t **of = xcalloc(n, sizeof(*of));
	char title[VM_NAME_MAX + 32], size[16];
	int r;

	for (size_t i = n; i > 0; i--) {
		const json_t *b = json_array_get(p->backups, i - 1);

		if (strcmp(answer_str(b, "vm"), p->vm) != 0)
			continue;
		of[k++] = b;
		pick_add(&lines, "%s  %9s  %-8s of %s%s", answer_str(b, "time"),
		    size_print(answer_u64(b, "size"), size),
		    answer_str(b, "consistency"), answer_str(b, "host"),
		    json_object_get(b, "protected") != NULL ? ", protected"
							    : "");
	}
	snprintf(title, sizeof(title), "%s as it was when?", p->vm);
	r = p->ui->choose(title, &lines);
	if (r >= 0)
		snprintf(p->backup, sizeof(p->backup), "%s@%s", p->vm,
		    answer_str(of[r], "time"));
	pick_clear(&lines);
	free(of);
	return r;
}

/* How the VM is there, as its agent tells. */
static const char *
state_there(const struct picking *p, const json_t *agent)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(agent, "vms"), i, v)
	{
		const char *state = answer_str(v, "state");

		if (strcmp(answer_str(v, "vm"), p->vm) != 0)
			continue;
		if (strcmp(state, "running") == 0)
			return "it runs there: shut it off first";
		return strcmp(state, "off") == 0 ? "it is off there"
						 : "it is there";
	}
	return "not there";
}

static int
pick_target(struct picking *p)
{
	struct pick_lines lines = { 0 };
	const json_t *g;
	size_t i;
	int r;

	pick_add(&lines, "files in a folder of this machine");
	json_array_foreach(p->agents, i, g)
	{
		pick_add(&lines, "onto %-20s %s (%s)", answer_str(g, "agent"),
		    answer_str(g, "host"), state_there(p, g));
	}
	r = p->ui->choose("where to?", &lines);
	pick_clear(&lines);
	if (r < 0)
		return r;
	p->host = r == 0
	    ? NULL
	    : answer_str(json_array_get(p->agents, (size_t)r - 1), "agent");
	return 0;
}

static int
pick_how(struct picking *p)
{
	struct pick_lines lines = { 0 };
	int r;

	if (p->host == NULL)
		return p->ui->enter(
		    "which folder?", p->folder, sizeof(p->folder));
	pick_add(&lines,
	    "let go of the old disks when the new ones are in "
	    "place");
	pick_add(&lines, "keep the old disks, as PATH.old-TIME");
	r = p->ui->choose("the disks that are there now?", &lines);
	pick_clear(&lines);
	p->keep_old = r == 1;
	return r;
}

static void
say_disks(struct picking *p, const struct manifest *m, struct pick_lines *l)
{
	char size[16];

	for (unsigned i = 0; i < m->nvolumes; i++) {
		const struct manifest_volume *v = &m->volume[i];
		const char *path = manifest_path(m, v);

		if (strcmp(v->kind, "disk") != 0)
			continue;
		if (p->host == NULL)
			pick_add(l, "  %-8s %9s", v->name,
			    size_print(v->size, size));
		else
			pick_add(l, "  %-8s %9s  %s", v->name,
			    size_print(v->size, size),
			    *path != 0 ? path
				       : "it is not known where it was: name "
					 "it (--disk)");
	}
}

static void
say_what(struct picking *p, const struct manifest *m, struct pick_lines *l)
{
	if (p->host == NULL) {
		pick_add(
		    l, "%s is written to files in %s:", p->backup, p->folder);
		say_disks(p, m, l);
		pick_add(l, "%s", "");
		pick_add(l, "Nothing that is there is replaced.");
		return;
	}
	pick_add(l, "%s takes the place of %s's disks on %s:", p->backup, p->vm,
	    p->host);
	say_disks(p, m, l);
	pick_add(l, "%s", "");
	pick_add(l,
	    "First the agent there looks whether the VM is off, whether "
	    "these are");
	pick_add(
	    l, "the disks that were backed up, and whether there is room.");
	pick_add(l,
	    "The new disks are written beside the old ones, verified "
	    "and synced;");
	pick_add(l, "until then, and if anything fails, the old ones stay.");
	pick_add(l,
	    p->keep_old
		? "Then they are swapped, and the old ones kept: PATH.old-TIME."
		: "Then they are swapped, and the old ones are gone.");
}

static int
pick_yes(struct picking *p)
{
	struct manifest *m = xmalloc(sizeof(*m));
	json_t *ask = console_op("show"), *answer = NULL, *j;
	struct pick_lines lines = { 0 };
	int r;

	json_set_str(ask, "backup", p->backup);
	/* The daemon does not wait for those who think about it. */
	console_close(p->c);
	r = console_call(p->c, ask, &answer, &p->e);
	if (r == 0)
		r = json_get_object(answer, "manifest", &j, &p->e);
	if (r == 0)
		r = manifest_from_json(j, m, &p->e);
	if (r == 0) {
		say_what(p, m, &lines);
		r = p->ui->confirm("what will happen", &lines);
		pick_clear(&lines);
	} else {
		p->failed = true;
		r = PICK_LEFT;
	}
	json_decref(answer);
	free(m);
	return r;
}

/* Forth and back; 0: yes. */
static int
ask_all(struct picking *p)
{
	static int (*const question[])(struct picking * p) = { pick_vm,
		pick_point, pick_target, pick_how, pick_yes };
	enum { QUESTIONS = sizeof(question) / sizeof(question[0]) };
	int at = 0;

	while (at < QUESTIONS) {
		int r = question[at](p);

		if (r == PICK_LEFT || (r == PICK_BACK && at == 0))
			return PICK_LEFT;
		at += r == PICK_BACK ? -1 : 1;
	}
	return 0;
}

static int
begin(struct picking *p)
{
	int rc;

	p->backups = json_array();
	p->agents = json_array();
	rc = console_pages(
	    p->c, console_op("list"), "backups", p->backups, NULL, &p->e);
	if (rc == 0)
		rc = console_agents(p->c, p->agents, &p->e);
	for (size_t i = json_array_size(p->agents); i > 0; i--)
		if (!is_connected(json_array_get(p->agents, i - 1)))
			json_array_remove(p->agents, i - 1);
	if (rc == 0 && json_array_size(p->backups) == 0)
		rc = err_set(&p->e, ERR_NOENT, "there is no backup yet");
	p->failed = rc != 0;
	return rc;
}

int
restore_pick(struct console *c, struct restore_wish *w)
{
	struct picking p = { .c = c };
	int r;

	p.ui = pick_open();
	if (p.ui == NULL)
		return console_misuse(c,
		    "there is no terminal to choose at: name a backup, and "
		    "--host AGENT or --to FOLDER");
	r = begin(&p);
	if (r == 0)
		r = ask_all(&p);
	p.ui->close();
	console_close(c);
	if (r == 0) {
		w->backup = xstrdup(p.backup);
		w->to = p.host == NULL ? xstrdup(p.folder) : NULL;
		w->host = p.host != NULL ? xstrdup(p.host) : NULL;
		w->keep_old = p.keep_old;
	} else if (p.failed) {
		r = console_fail(&p.e);
	} else {
		fprintf(stderr, "backstay: nothing was done\n");
	}
	json_decref(p.backups);
	json_decref(p.agents);
	return r;
}
