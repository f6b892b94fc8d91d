/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/archive/disk_name.h"
#include "agent/archive/import.h"
#include "agent/archive/spool.h"
#include "agent/cmd.h"
#include "agent/cmd_import.h"
#include "agent/summary.h"
#include "proto/base/json.h"

#define CMD "import "

static const char help[] =
    "usage: backstay-agent import --repo URL VM FILE|-\n"
    "       backstay-agent import --repo URL VM FILE... [--disk NAME=FILE]...\n"
    "       backstay-agent import --repo URL --cloudstack DIR [OPTION]...\n"
    "\n"
    "Make a backup of VM out of an archive that `export` wrote, of a tar or "
    "zip\n"
    "archive of images, of an OVA, or of images: raw, or qcow2 or VMDK\n"
    "(streamOptimized) if they begin as such.\n"
    "\"raw:FILE\" and \"qcow2:FILE\" say the format; the latter may stand on\n"
    "backing files.  A file NAME.qcow2 or VM-NAME.qcow2 is disk NAME.  Its "
    "time\n"
    "is the one that the archive says, or of the last change of the images.\n"
    "\n"
    "A folder is one that CloudStack's NAS backup plugin wrote: an "
    "instance's,\n"
    "with all its points in time, or that of one of them.\n"
    "\n"
    "  -r, --repo URL    unix:REPO/socket on the NAS, or ssh://NAS[:PORT]\n"
    "                    with a key that has the role admin; or set\n"
    "                    BACKSTAY_AGENT_REPO\n"
    "  --disk NAME=FILE  an image, by the name that it is to have\n"
    "  --time TIME       the backup's time, such as 2026-11-21T19:30:05Z\n"
    "  --spool DIR       where images out of an archive are kept meanwhile\n"
    "                    (" SPOOL_DIR ")\n"
    "  --lanes N         connections at a time, 1 to 64 (4)\n"
    "  --bwlimit RATE    send at most so many bytes a second, as in 200M\n"
    "  --wait[=SECONDS]  while the VM is being backed up or restored; else\n"
    "                    for ever\n"
    "  -q, --quiet       no progress, no summary\n"
    "  --json            the outcome as a JSON object\n"
    "\n"
    "`backstay-agent import --cloudstack DIR --help` tells of whole trees.\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse, 3 damage in the store.\n";

enum { OPT_DISK = OPT_OWN, OPT_TIME, OPT_SPOOL };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "time", required_argument, NULL, OPT_TIME },
	{ "spool", required_argument, NULL, OPT_SPOOL }, { NULL, 0, NULL, 0 } };

struct asked {
	struct import_options o;
	unsigned ndisks;
	struct import_disk disk[MANIFEST_VOLUMES_MAX];
	unsigned nnamed;
	struct cmd_disk named[MANIFEST_VOLUMES_MAX];
};

static int
print_result(const struct cmd_common *c, const struct backup_result *r)
{
	char speed[64];
	json_t *j;

	if (c->json) {
		j = json_object();
		json_set_str(j, "backup", r->name);
		json_set_str(j, "id", r->id);
		json_set_u64(j, "seq", r->seq);
		json_set_u64(j, "size", r->size);
		json_set_bool(j, "incremental", r->has_parent);
		json_object_set_new(
		    j, "stats", manifest_stats_to_json(&r->stats));
		return cmd_print_json(j);
	}
	if (c->quiet)
		return EXIT_DONE;
	printf("%s\n", r->name);
	printf("  %s, %s\n",
	    summary_speed(r->size, r->stats.duration_ms, speed),
	    r->has_parent ? "on top of the backup before"
			  : "nothing to build on");
	summary_line("read", r->stats.read);
	summary_line("holes", r->stats.holes);
	summary_line("unchanged", r->stats.unchanged);
	summary_line("deduplicated", r->stats.deduplicated);
	summary_line("sent", r->stats.sent);
	summary_line("stored", r->stats.stored);
	return cmd_done();
}

static int
take_option(struct asked *a, struct cmd_common *c, int opt, const char *arg)
{
	switch (opt) {
	case OPT_DISK:
		if (strchr(arg, '=') == NULL)
			return cmd_misuse(
			    CMD, "--disk %.100s: say NAME=FILE", arg);
		return cmd_add_disk(CMD, arg, a->named, &a->nnamed);
	case OPT_TIME:
		if (time_parse(arg, &a->o.time) != 0 || a->o.time == 0)
			return cmd_misuse(CMD,
			    "--time %.40s: say it as 2026-11-21T19:30:05Z",
			    arg);
		return EXIT_DONE;
	case OPT_SPOOL: a->o.spool = arg; return EXIT_DONE;
	default: return cmd_common_option(c, CMD, opt, arg);
	}
}

static int
add_disk(struct asked *a, const char *name, const char *spec)
{
	for (unsigned i = 0; i < a->ndisks; i++)
		if (strcmp(a->disk[i].name, name) == 0)
			return cmd_misuse(
			    CMD, "there are two disks %s: say --disk", name);
	if (a->ndisks == MANIFEST_VOLUMES_MAX)
		return cmd_misuse(
		    CMD, "a backup has at most %d disks", MANIFEST_VOLUMES_MAX);
	memcpy(a->disk[a->ndisks].name, name, strlen(name) + 1);
	a->disk[a->ndisks++].spec = spec;
	return EXIT_DONE;
}

/* Of an OVA that was unpacked the descriptor says what the machine was. */
static int
take_definition(struct asked *a, const char *path, enum disk_name_kind kind)
{
	if (kind != DISK_NAME_DEFINITION && kind != DISK_NAME_OVF)
		return cmd_misuse(CMD, "%.100s: is no disk by its name", path);
	if (a->o.definition != NULL)
		return cmd_misuse(
		    CMD, "%.100s: is a second definition of the machine", path);
	a->o.definition = path;
	return EXIT_DONE;
}

/* One file may be an archive; several, and those with a name, are images. */
static int
take_files(struct asked *a, int argc, char **argv)
{
	char name[NAME_PART_MAX + 1];
	enum disk_name_kind kind;
	int rc = EXIT_DONE;

	if (argc == 1 && a->nnamed == 0) {
		a->o.from = argv[0];
		return EXIT_DONE;
	}
	if (argc == 0 && a->nnamed == 0)
		return cmd_misuse(CMD,
		    "say a file, or - for the standard "
		    "input");
	for (int i = 0; rc == EXIT_DONE && i < argc; i++) {
		if (strcmp(argv[i], "-") == 0)
			return cmd_misuse(CMD, "-: only an archive, alone");
		kind = disk_name(
		    a->o.backup.vm, source_path(argv[i]), name, sizeof(name));
		if (source_path(argv[i]) == argv[i] &&
		    kind >= DISK_NAME_DEFINITION) {
			rc = take_definition(a, argv[i], kind);
			continue;
		}
		if (name[0] == 0)
			return cmd_misuse(CMD,
			    "%.100s: no disk can be called like that: say "
			    "--disk NAME=FILE",
			    argv[i]);
		rc = add_disk(a, name, argv[i]);
	}
	for (unsigned i = 0; rc == EXIT_DONE && i < a->nnamed; i++)
		rc = add_disk(a, a->named[i].name, a->named[i].rest);
	a->o.disk = a->disk;
	a->o.ndisks = a->ndisks;
	return rc;
}

static int
run(const struct cmd_common *c, struct asked *a)
{
	struct backup_result result;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 32];
	struct stat st;

	a->o.backup.job = cmd_job_options(c);
	a->o.backup.quiet = c->quiet;
	if (a->o.from != NULL && stat(a->o.from, &st) == 0 &&
	    S_ISDIR(st.st_mode)) {
		if (a->o.time != 0)
			return cmd_misuse(
			    CMD, "--time: that folder has times of its own");
		return cmd_import_folder(c, &a->o.backup, a->o.from);
	}
	if (import_run(&a->o, &result, &e) != 0) {
		snprintf(
		    what, sizeof(what), "import of %s failed", a->o.backup.vm);
		return cmd_failed(what, &e);
	}
	return print_result(c, &result);
}

int
cmd_import(int argc, char **argv)
{
	struct cmd_common c;
	struct asked *a;
	int opt, rc = EXIT_DONE;

	if (cmd_import_is_cloudstack(argc, argv))
		return cmd_import_cloudstack(argc, argv);
	a = xcalloc(1, sizeof(*a));
	a->o.backup.compression = EFFORT_AUTO;
	cmd_common_init(&c);
	while (rc == EXIT_DONE &&
	    (opt = getopt_long(argc, argv, ":hr:q", options, NULL)) != -1) {
		if (opt == OPT_HELP) {
			printf("%s", help);
			free(a);
			return cmd_done();
		}
		rc = opt == ':' || opt == '?' ? cmd_bad_option(CMD, argv, opt)
					      : take_option(a, &c, opt, optarg);
	}
	if (rc == EXIT_DONE && optind == argc)
		rc = cmd_misuse(CMD, "say a VM, and a file");
	if (rc == EXIT_DONE && !vm_name_ok(argv[optind]))
		rc = cmd_misuse(CMD,
		    "\"%.100s\" is no name of a VM: say NAME or NAMESPACE/NAME",
		    argv[optind]);
	if (rc == EXIT_DONE) {
		a->o.backup.vm = argv[optind++];
		rc = take_files(a, argc - optind, argv + optind);
	}
	if (rc == EXIT_DONE) {
		rc = cmd_common_end(&c, CMD);
		if (rc == EXIT_DONE)
			rc = run(&c, a);
		cmd_common_fini(&c);
	}
	free(a);
	return rc;
}
