/* SPDX-License-Identifier: Apache-2.0 */
/* restore --start and --as-libvirt-save: whole machines. */
#include <stdlib.h>
#include <string.h>

#include "agent/cmd_restore.h"
#include "agent/summary.h"
#include "proto/base/json.h"
#include "proto/nfs/nfs3.h"

int
cmd_start_option(struct cmd_start *s, const char *cmd, int opt, const char *arg)
{
	struct live_restore_options *o = &s->o;

	if (opt < OPT_START || opt > OPT_SAVE)
		return -1;
	if (opt == OPT_START) {
		s->start = true;
		return EXIT_DONE;
	}
	if (opt == OPT_SAVE) {
		o->save = arg;
		return nfs3_is_url(arg)
		    ? cmd_misuse(
			  cmd, "--as-libvirt-save: say a file of this host")
		    : EXIT_DONE;
	}
	s->alone = "--clone, --dir, --connect, --qmp, --qemu, --ram-dir, "
		   "--ram-shared, --no-ram and --paused";
	switch (opt) {
	case OPT_CLONE:
		o->clone = arg;
		if (!name_part_ok(arg))
			return cmd_misuse(
			    cmd, "--clone %.100s: no name of a machine", arg);
		break;
	case OPT_DIR: o->dir = arg; break;
	case OPT_CONNECT: o->uri = arg; break;
	case OPT_QMP: o->qmp = arg; break;
	case OPT_QEMU: o->program = arg; break;
	case OPT_RAM_DIR: o->ram_dir = arg; break;
	case OPT_RAM_SHARED: o->ram_shared = true; break;
	case OPT_NO_RAM: o->no_ram = true; break;
	default: o->paused = true;
	}
	return EXIT_DONE;
}

static int
print_json(const struct cmd_start *s, const struct live_restore_result *r)
{
	json_t *j = json_object(), *m = json_object();
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	json_set_str(m, "kind", r->kind);
	json_set_str(m, "name", r->name);
	if (r->pid != 0)
		json_set_u64(m, "pid", (uint64_t)r->pid);
	if (r->qmp != NULL)
		json_set_str(m, "qmp", r->qmp);
	if (r->ram != NULL)
		json_set_str(m, "ram", r->ram);
	if (s->o.save != NULL)
		json_set_str(m, "save", s->o.save);
	json_set_str(j, "backup", manifest_name(&r->restore.manifest, name));
	json_set_hex(j, "id", r->restore.manifest.id, BACKUP_ID_LEN);
	json_set_u64(j, "seq", r->restore.manifest.seq);
	json_set_u64(j, "size", r->restore.size);
	json_set_u64(j, "restore_ms", r->restore_ms);
	json_set_u64(j, "start_ms", r->start_ms);
	json_object_set_new(j, "machine", m);
	json_object_set_new(j, "notes", summary_notes(r->notes));
	json_object_set_new(
	    j, "stats", manifest_stats_to_json(&r->restore.stats));
	return cmd_print_json(j);
}

static int
print_summary(const struct cmd_start *s, const struct live_restore_result *r)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], speed[64];
	const char *at = r->notes;

	printf("%s\n", manifest_name(&r->restore.manifest, name));
	printf("  %s, all verified\n",
	    summary_speed(
		r->restore.size, r->restore.stats.duration_ms, speed));
	if (s->o.save != NULL)
		printf("  %-13s %s: virsh restore takes it\n", "save image",
		    s->o.save);
	else
		printf("  %-13s %s, %.1f s after its files were there\n",
		    s->o.paused ? "stands still" : "runs", r->name,
		    (double)r->start_ms / 1000);
	if (s->o.save == NULL)
		printf("  %-13s %s\n", "memory",
		    r->ram != NULL ? "goes on where it was"
				   : "none: it was switched on");
	if (r->qmp != NULL)
		printf("  %-13s %s (process %d)\n", "monitor", r->qmp, r->pid);
	while (*at != 0) {
		size_t n = strcspn(at, "\n");

		printf("  %.*s\n", (int)n, at);
		at += n + (at[n] != 0);
	}
	return cmd_done();
}

int
cmd_start_run(const struct cmd_common *c, struct cmd_start *s,
    const struct live_target *target, unsigned n)
{
	struct live_restore_result *r = xcalloc(1, sizeof(*r));
	struct err e = { 0 };
	char what[VM_NAME_MAX + 64];
	int code;

	s->o.target = target;
	s->o.ntargets = n;
	s->o.job = cmd_job_options(c);
	s->o.quiet = c->quiet;
	if (live_restore_run(&s->o, r, &e) != 0) {
		snprintf(what, sizeof(what), "restore of %.*s failed",
		    VM_NAME_MAX + 32, s->o.backup);
		code = cmd_failed(what, &e);
	} else if (c->json) {
		code = print_json(s, r);
	} else {
		code = c->quiet ? EXIT_DONE : print_summary(s, r);
	}
	free(r->qmp);
	free(r);
	return code;
}
