/* SPDX-License-Identifier: Apache-2.0 */
/* restore --swap: disks of a VM of this host in place of those it has. */
#include <string.h>

#include "agent/cmd_restore.h"
#include "agent/live/vm_off.h"
#include "agent/sink/swap.h"
#include "agent/summary.h"
#include "proto/base/json.h"

int
cmd_swap_option(struct cmd_swap *s, const char *cmd, int opt, const char *arg)
{
	if (opt < OPT_SWAP || opt > OPT_FINISH)
		return -1;
	if (opt != OPT_SWAP)
		s->alone = "--as, --keep-old, --own and --domain";
	switch (opt) {
	case OPT_SWAP: s->swap = true; break;
	case OPT_AS:
		s->as = arg;
		if (!vm_name_ok(arg))
			return cmd_misuse(
			    cmd, "--as %.100s: no name of a VM", arg);
		break;
	case OPT_KEEP_OLD: s->keep_old = true; break;
	case OPT_DOMAIN: s->domain = arg; break;
	case OPT_OWN_PATH:
		if (s->nown == MANIFEST_VOLUMES_MAX)
			return cmd_misuse(cmd, "--own: over %d of them",
			    MANIFEST_VOLUMES_MAX);
		s->own[s->nown++] = arg;
		break;
	default: s->finish = arg; s->alone = NULL;
	}
	return EXIT_DONE;
}

int
cmd_swap_finish(const char *path)
{
	struct err e = { 0 };
	char what[256];

	if (swap_recover(path, what, sizeof(what), &e) != 0)
		return cmd_failed("restore --finish failed", &e);
	printf("%s: %s\n", path,
	    what[0] != 0 ? what : "no interrupted restore has left anything");
	return cmd_done();
}

/* "raw:PATH", "qcow2:PATH" or PATH, which is of the format that it was. */
static void
read_place(const char *rest, const char *format, struct restore_disk *d)
{
	static const char *const formats[] = { "raw", "qcow2" };

	d->path = rest;
	d->format = format;
	for (int i = 0; rest != NULL && i < 2; i++) {
		size_t n = strlen(formats[i]);

		if (strncmp(rest, formats[i], n) == 0 && rest[n] == ':') {
			d->path = rest + n + 1;
			d->format = formats[i];
		}
	}
}

static int
print_json(const struct restore_result *r, const char *onto)
{
	json_t *j = json_object(), *disks = json_array();
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	for (unsigned i = 0; i < r->nplaces; i++) {
		const struct restore_place *p = &r->place[i];
		json_t *d = json_object();

		json_set_str(d, "name", p->volume->name);
		json_set_str(d, "path", p->path);
		json_set_str(d, "format", p->format);
		json_set_bool(d, "replaced", p->was_there);
		if (p->kept != NULL)
			json_set_str(d, "kept", p->kept);
		json_array_append_new(disks, d);
	}
	json_set_str(j, "backup", manifest_name(&r->manifest, name));
	json_set_str(j, "onto", onto);
	json_set_hex(j, "id", r->manifest.id, BACKUP_ID_LEN);
	json_set_u64(j, "seq", r->manifest.seq);
	json_set_u64(j, "size", r->size);
	json_object_set_new(j, "disks", disks);
	json_object_set_new(j, "stats", manifest_stats_to_json(&r->stats));
	return cmd_print_json(j);
}

static int
print_summary(const struct restore_result *r, const char *onto)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], speed[64];

	printf("%s onto %s\n", manifest_name(&r->manifest, name), onto);
	for (unsigned i = 0; i < r->nplaces; i++) {
		const struct restore_place *p = &r->place[i];

		printf("  %-13s %s (%s)\n", p->volume->name, p->path,
		    p->device          ? "written in place"
			: p->was_there ? "replaced"
				       : "new");
		if (p->kept != NULL)
			printf("  %-13s old disk kept: %s\n", "", p->kept);
	}
	for (unsigned i = 0; i < r->manifest.nvolumes; i++)
		if (!r->chosen[i])
			printf("  %-13s not restored\n",
			    r->manifest.volume[i].name);
	printf("  %s, all verified and synced\n",
	    summary_speed(r->size, r->stats.duration_ms, speed));
	summary_line("written", r->stats.read);
	summary_line("holes", r->stats.holes);
	summary_line("received", r->stats.sent);
	return cmd_done();
}

int
cmd_swap_run(const struct cmd_common *c, const struct cmd_swap *s,
    const struct restore_options *chosen, const char *vm, const char *format,
    const struct cmd_disk *named)
{
	struct restore_disk disk[MANIFEST_VOLUMES_MAX];
	struct restore_options o = *chosen;
	struct restore_result result;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 64];
	int rc;

	for (unsigned i = 0; i < o.ndisks; i++) {
		disk[i].name = named[i].name;
		read_place(named[i].rest, format, &disk[i]);
		o.only = o.only || named[i].rest == NULL;
	}
	o.disk = disk;
	o.swap = true;
	o.keep_old = s->keep_old;
	o.is_new = s->as != NULL;
	o.nown = s->nown;
	o.own = s->own;
	if (s->as != NULL)
		o.onto = s->as;
	else if (o.onto == NULL)
		o.onto = vm;
	o.all_named = strcmp(o.onto, vm) != 0;
	o.job = cmd_job_options(c);
	o.quiet = c->quiet;
	snprintf(what, sizeof(what), "restore of %.*s failed", VM_NAME_MAX + 32,
	    o.backup);
	/* A VM by a new name is no VM yet. */
	if (!o.is_new && vm_off(s->domain, s->uri, s->qmp, &e) != 0)
		return cmd_failed(what, &e);
	rc = restore_run(&o, &result, &e);
	if (rc != 0)
		rc = cmd_failed(what, &e);
	else if (c->json)
		rc = print_json(&result, o.onto);
	else if (!c->quiet)
		rc = print_summary(&result, o.onto);
	restore_result_fini(&result);
	return rc;
}
