/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/cmd_restore.h"
#include "agent/pipeline/restore.h"
#include "agent/summary.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/nfs/nfs3.h"

#define CMD "restore "

static const char help[] =
    "usage: backstay-agent restore --repo URL VM@B --disk NAME=TARGET...\n"
    "       backstay-agent restore --repo URL VM@B --swap\n"
    "       backstay-agent restore --repo URL VM@B --start\n"
    "\n"
    "Write disks of a backup to files or block devices, or make the whole\n"
    "virtual machine again and let it run.  VM@B is VM@2026-11-21T19:30:05Z,\n"
    "VM@latest or VM@-1 (the one before the latest).\n"
    "Every byte is verified; a file appears under its name when all of all\n"
    "disks is there.\n"
    "\n"
    "  -r, --repo URL        ssh://NAS[:PORT] or unix:PATH; or set\n"
    "                        BACKSTAY_AGENT_REPO\n"
    "  --disk NAME=TARGET    a disk of the backup, and where to write it;\n"
    "                        \"raw:PATH\" or \"qcow2:PATH\" say the format\n"
    "                        nfs://HOST/EXPORT/PATH[?nfsport=N...]: on an NFS\n"
    "                        export, without a mount\n"
    "  --format raw|qcow2    of targets that do not say; else .raw, .img and\n"
    "                        block devices are raw, all others qcow2\n"
    "  --onto VM             the VM whose disks are written: its backups are\n"
    "                        locked meanwhile\n"
    "  --force               replace what is there\n"
    "  --lanes N             connections at a time, 1 to 64 (4)\n"
    "  --bwlimit RATE        receive at most so many bytes a second\n"
    "  --nfs-timeout S       wait so long for an NFS server that is gone "
    "(100)\n"
    "  --wait[=SECONDS]      while the VM is being backed up; else for\n"
    "                        ever\n"
    "  -q, --quiet           no progress, no summary\n"
    "  --json                the outcome as a JSON object\n"
    "\n"
    "In place of the disks that a VM of this host has:\n"
    "  --swap                write them beside those that are there; these\n"
    "                        stay until all of all disks is verified and\n"
    "                        synced, and then are swapped, all or none.  "
    "Without\n"
    "                        a path a disk goes where it was, if what is "
    "there\n"
    "                        is what was backed up; --disk NAME: only this "
    "one,\n"
    "                        and others so named\n"
    "  --as NEW              for a VM by a new name, whose disks are there "
    "not\n"
    "                        yet; each needs its --disk NAME=TARGET\n"
    "  --keep-old            keep the old disks as PATH.old-TIME\n"
    "  --force               block devices, too, which are written in place;\n"
    "                        and begin though room may not suffice\n"
    "  --own PATH            a disk that is not named goes to no other path "
    "than\n"
    "                        this, or another one so said\n"
    "  --domain DOMAIN       of libvirt (--connect URI): it must be off\n"
    "  --qmp SOCKET          likewise of a QEMU without libvirt\n"
    "  --finish PATH         nothing but this: if a restore was interrupted "
    "while\n"
    "                        it swapped the disk PATH, bring that to its "
    "end\n"
    "\n"
    "Whole machines:\n"
    "  --start               disks where they were, the machine as it was; if "
    "its\n"
    "                        memory was saved, it goes on from there\n"
    "  --clone NAME          a new machine beside the old one, with a name,\n"
    "                        addresses and sockets of its own\n"
    "  --dir DIR             where disks go that --disk does not name, and a\n"
    "                        clone's sockets\n"
    "  --connect URI         of libvirt (libvirt's default)\n"
    "  --qmp SOCKET          where a QEMU without libvirt shall have its "
    "monitor\n"
    "                        (where it was)\n"
    "  --qemu PROGRAM        to run instead of the one that it was\n"
    "  --ram-dir DIR         where its memory is put meanwhile (beside the "
    "disks)\n"
    "  --ram-shared          a QEMU without libvirt has its memory in a file "
    "that\n"
    "                        later backups can read, not mapped privately\n"
    "  --no-ram              switch it on, whatever was saved\n"
    "  --paused              it waits for somebody to let it go on\n"
    "  --as-libvirt-save FILE  start nothing: write an image for virsh "
    "restore\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse, 3 damage in the store.\n";

enum { OPT_DISK = OPT_OWN, OPT_FORMAT, OPT_ONTO, OPT_FORCE };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "format", required_argument, NULL, OPT_FORMAT },
	{ "onto", required_argument, NULL, OPT_ONTO },
	{ "force", no_argument, NULL, OPT_FORCE }, CMD_START_OPTIONS,
	CMD_SWAP_OPTIONS, { NULL, 0, NULL, 0 } };

static bool
ends_in(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* As ends_in, of what stands before the ? of a URL. */
static bool
url_ends_in(const char *s, const char *end)
{
	char *path;
	bool is;

	if (!nfs3_is_url(s))
		return ends_in(s, end);
	path = xasprintf("%.*s", (int)strcspn(s, "?"), s);
	is = ends_in(path, end);
	free(path);
	return is;
}

/* The path and format of a target: what it says itself wins. */
static void
read_target(const char *target, const char *format, struct restore_disk *d)
{
	struct stat st;

	d->path = target;
	if (strncmp(target, "raw:", 4) == 0) {
		d->path = target + 4;
		d->format = "raw";
	} else if (strncmp(target, "qcow2:", 6) == 0) {
		d->path = target + 6;
		d->format = "qcow2";
	} else if (format != NULL) {
		d->format = format;
	} else if (url_ends_in(target, ".raw") || url_ends_in(target, ".img") ||
	    (stat(target, &st) == 0 && S_ISBLK(st.st_mode))) {
		d->format = "raw";
	} else {
		d->format = "qcow2";
	}
}

static int
print_json(const struct restore_options *o, const struct restore_result *r)
{
	json_t *j = json_object(), *disks = json_array(), *left = json_array();
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	for (unsigned i = 0; i < o->ndisks; i++) {
		json_t *d = json_object();

		json_set_str(d, "name", o->disk[i].name);
		json_set_str(d, "path", o->disk[i].path);
		json_set_str(d, "format", o->disk[i].format);
		json_array_append_new(disks, d);
	}
	for (unsigned i = 0; i < r->manifest.nvolumes; i++)
		if (!r->chosen[i])
			json_array_append_new(
			    left, json_string(r->manifest.volume[i].name));
	json_set_str(j, "backup", manifest_name(&r->manifest, name));
	json_set_hex(j, "id", r->manifest.id, BACKUP_ID_LEN);
	json_set_u64(j, "seq", r->manifest.seq);
	json_set_u64(j, "size", r->size);
	json_object_set_new(j, "disks", disks);
	json_object_set_new(j, "left_out", left);
	json_object_set_new(j, "stats", manifest_stats_to_json(&r->stats));
	return cmd_print_json(j);
}

static int
print_summary(const struct restore_options *o, const struct restore_result *r)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], speed[64];

	printf("%s\n", manifest_name(&r->manifest, name));
	for (unsigned i = 0; i < o->ndisks; i++)
		printf("  %-13s %s (%s)\n", o->disk[i].name, o->disk[i].path,
		    o->disk[i].format);
	for (unsigned i = 0; i < r->manifest.nvolumes; i++)
		if (!r->chosen[i])
			printf("  %-13s not restored\n",
			    r->manifest.volume[i].name);
	printf("  %s, all verified\n",
	    summary_speed(r->size, r->stats.duration_ms, speed));
	summary_line("written", r->stats.read);
	summary_line("holes", r->stats.holes);
	summary_line("received", r->stats.sent);
	return cmd_done();
}

static int
run(const struct cmd_common *c, const struct restore_options *chosen,
    const char *format, const struct cmd_disk *named)
{
	struct restore_disk disk[MANIFEST_VOLUMES_MAX];
	struct restore_options o = *chosen;
	struct restore_result result;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 64];

	for (unsigned i = 0; i < o.ndisks; i++) {
		disk[i].name = named[i].name;
		read_target(named[i].rest, format, &disk[i]);
		for (unsigned k = 0; k < i; k++)
			if (strcmp(disk[k].path, disk[i].path) == 0)
				return cmd_misuse(CMD,
				    "disks %s and %s have the same target",
				    disk[k].name, disk[i].name);
	}
	o.disk = disk;
	o.job = cmd_job_options(c);
	o.quiet = c->quiet;
	if (restore_run(&o, &result, &e) != 0) {
		snprintf(what, sizeof(what), "restore of %.*s failed",
		    VM_NAME_MAX + 32, o.backup);
		return cmd_failed(what, &e);
	}
	if (c->json)
		return print_json(&o, &result);
	return c->quiet ? EXIT_DONE : print_summary(&o, &result);
}

static int
run_start(const struct cmd_common *c, struct cmd_start *s,
    const struct restore_options *o, const char *format,
    const struct cmd_disk *named)
{
	struct live_target target[MANIFEST_VOLUMES_MAX];
	struct restore_disk d;

	if (o->onto != NULL)
		return cmd_misuse(CMD, "--onto is for disks without --start");
	for (unsigned i = 0; i < o->ndisks; i++) {
		read_target(named[i].rest, format, &d);
		target[i].name = named[i].name;
		target[i].path = d.path;
		if (nfs3_is_url(d.path))
			return cmd_misuse(CMD,
			    "--disk %s: a machine that is started has its "
			    "disks in files of this host, or on block devices: "
			    "name it where the export is mounted",
			    named[i].name);
		/* What it does not say is as the machine has it. */
		target[i].format = d.path != named[i].rest ? d.format : format;
	}
	s->o.backup = o->backup;
	s->o.force = o->force;
	return cmd_start_run(c, s, target, o->ndisks);
}

/* --connect and --qmp say of a swap where to ask whether the VM is off. */
static int
check_swap(struct cmd_start *s, struct cmd_swap *w)
{
	const struct live_restore_options *o = &s->o;

	if (s->start || o->save != NULL)
		return cmd_misuse(
		    CMD, "say one of --swap, --start and --as-libvirt-save");
	if (o->clone != NULL || o->dir != NULL || o->program != NULL ||
	    o->ram_dir != NULL || o->ram_shared || o->no_ram || o->paused)
		return cmd_misuse(CMD,
		    "--clone, --dir, --qemu, --ram-dir, --ram-shared, --no-ram "
		    "and --paused need --start");
	w->uri = o->uri;
	w->qmp = o->qmp;
	return EXIT_DONE;
}

/* Whether what was asked for is one thing, and all of it. */
static int
check_asked(struct cmd_start *s, struct cmd_swap *w, unsigned ndisks,
    const struct cmd_disk *disk)
{
	if (w->swap)
		return check_swap(s, w);
	if (w->alone != NULL)
		return cmd_misuse(CMD, "%s need --swap", w->alone);
	for (unsigned i = 0; i < ndisks; i++)
		if (disk[i].rest == NULL)
			return cmd_misuse(
			    CMD, "--disk %s: say NAME=PATH", disk[i].name);
	if (s->start && s->o.save != NULL)
		return cmd_misuse(
		    CMD, "say either --start or --as-libvirt-save");
	if (s->start || s->o.save != NULL)
		return EXIT_DONE;
	if (s->alone != NULL)
		return cmd_misuse(CMD, "%s need --start", s->alone);
	if (ndisks == 0)
		return cmd_misuse(
		    CMD, "say at least one --disk NAME=TARGET, or --start");
	return EXIT_DONE;
}

int
cmd_restore(int argc, char **argv)
{
	struct restore_options o = { 0 };
	struct cmd_start start = { 0 };
	struct cmd_swap swap = { 0 };
	struct cmd_disk disk[MANIFEST_VOLUMES_MAX];
	const char *format = NULL;
	struct backup_ref ref;
	struct cmd_common c;
	struct err e;
	int opt, rc;

	cmd_common_init(&c);
	while ((opt = getopt_long(argc, argv, ":hr:q", options, NULL)) != -1) {
		rc = EXIT_DONE;
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_DISK:
			rc = cmd_add_disk(CMD, optarg, disk, &o.ndisks);
			break;
		case OPT_FORMAT:
			format = optarg;
			if (strcmp(format, "raw") != 0 &&
			    strcmp(format, "qcow2") != 0)
				return cmd_misuse(CMD,
				    "--format %.40s: say raw or qcow2", format);
			break;
		case OPT_ONTO:
			o.onto = optarg;
			if (!vm_name_ok(o.onto))
				return cmd_misuse(CMD,
				    "--onto %.100s: no name of a VM", optarg);
			break;
		case OPT_FORCE: o.force = true; break;
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default:
			rc = cmd_start_option(&start, CMD, opt, optarg);
			if (rc == -1)
				rc = cmd_swap_option(&swap, CMD, opt, optarg);
			if (rc == -1)
				rc = cmd_common_option(&c, CMD, opt, optarg);
		}
		if (rc != EXIT_DONE)
			return rc;
	}
	if (swap.finish != NULL && optind == argc)
		return cmd_swap_finish(swap.finish);
	if (optind + 1 != argc || swap.finish != NULL)
		return cmd_misuse(CMD, "say one backup");
	o.backup = argv[optind];
	if (backup_ref_parse(o.backup, &ref, &e) != 0)
		return cmd_misuse(CMD, "%s", e.text);
	rc = check_asked(&start, &swap, o.ndisks, disk);
	if (rc != EXIT_DONE)
		return rc;
	rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE && (start.start || start.o.save != NULL))
		rc = run_start(&c, &start, &o, format, disk);
	else if (rc == EXIT_DONE && swap.swap)
		rc = cmd_swap_run(&c, &swap, &o, ref.vm, format, disk);
	else if (rc == EXIT_DONE)
		rc = run(&c, &o, format, disk);
	cmd_common_fini(&c);
	return rc;
}
