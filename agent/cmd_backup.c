/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/live/live_backup.h"
#include "agent/summary.h"
#include "proto/base/json.h"
#include "proto/codec.h"

#define CMD "backup "

static const char help[] =
    "usage: backstay-agent backup --repo URL VM --disk NAME=SOURCE...\n"
    "       backstay-agent backup --repo URL VM --domain DOMAIN\n"
    "       backstay-agent backup --repo URL VM --qmp SOCKET\n"
    "\n"
    "Back up disks that nobody writes to, or a virtual machine of this host,\n"
    "running or not: all its disks at one point in time, its definition and\n"
    "what else belongs to it.  SOURCE is a file or block device, or\n"
    "nfs://HOST/EXPORT/PATH[?nfsport=N&mountport=N&uid=N&gid=N];\n"
    "\"raw:PATH\" or \"qcow2:PATH\" say the format.\n"
    "\n"
    "  -r, --repo URL        ssh://NAS[:PORT] or unix:PATH; or set\n"
    "                        BACKSTAY_AGENT_REPO\n"
    "  --disk NAME=SOURCE    a disk, by the name it has in the backup\n"
    "  --lanes N             connections at a time, 1 to 64 (4)\n"
    "  --bwlimit RATE        send at most so many bytes a second, as in 200M\n"
    "  --compression N       0 (none), 1 (fast) to 19 (smallest, slowest), or\n"
    "                        auto: more while the wire is slow and processors\n"
    "                        are idle (auto)\n"
    "  --full                compare with no earlier backup; what is stored\n"
    "                        already is not sent again even so\n"
    "  --stall-timeout S     end the job if nothing moves for so many seconds\n"
    "                        (120)\n"
    "  --nfs-timeout S       wait so long for an NFS server that is gone "
    "(100)\n"
    "  --wait[=SECONDS]      while the VM is being backed up or restored; else "
    "for\n"
    "                        ever\n"
    "  -q, --quiet           no progress, no summary\n"
    "  --json                the outcome as a JSON object\n"
    "\n"
    "Of a virtual machine:\n"
    "  --domain DOMAIN       a domain of libvirt\n"
    "  --connect URI         of libvirt (libvirt's default)\n"
    "  --qmp SOCKET          a QEMU without libvirt, by its QMP socket\n"
    "  --ga SOCKET           the socket of that QEMU's guest agent\n"
    "  --disk NAME           only this disk, and others so named (all)\n"
    "  --exclude NAME        all disks but this one\n"
    "  --quiesce HOW         freeze the guest's file systems for the point in\n"
    "                        time: auto (if it can be), require, no (auto)\n"
    "  --ram                 its memory and devices, too: it can go on where "
    "it\n"
    "                        was\n"
    "  --ram-method HOW      shared, snapshot, mapped or stream (what holds "
    "the\n"
    "                        guest least)\n"
    "  --scratch-dir DIR     where the guest's writes are kept meanwhile\n"
    "                        (/var/tmp)\n"
    "  --scratch-max SIZE    what they may take there (four fifths of what is\n"
    "                        free); if they need more, the backup ends, and "
    "the\n"
    "                        guest runs on\n"
    "  --verify-clean PERCENT  of what is known to be as before, read at "
    "random\n"
    "                        to see whether it is (0.5)\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse, 3 damage in the store.\n";

enum {
	OPT_DISK = OPT_OWN,
	OPT_COMPRESSION,
	OPT_FULL,
	OPT_STALL,
	OPT_DOMAIN,
	OPT_CONNECT,
	OPT_QMP,
	OPT_GA,
	OPT_EXCLUDE,
	OPT_QUIESCE,
	OPT_RAM,
	OPT_RAM_METHOD,
	OPT_SCRATCH_DIR,
	OPT_SCRATCH_MAX,
	OPT_VERIFY_CLEAN
};

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "compression", required_argument, NULL, OPT_COMPRESSION },
	{ "full", no_argument, NULL, OPT_FULL },
	{ "stall-timeout", required_argument, NULL, OPT_STALL },
	{ "domain", required_argument, NULL, OPT_DOMAIN },
	{ "connect", required_argument, NULL, OPT_CONNECT },
	{ "qmp", required_argument, NULL, OPT_QMP },
	{ "ga", required_argument, NULL, OPT_GA },
	{ "exclude", required_argument, NULL, OPT_EXCLUDE },
	{ "quiesce", required_argument, NULL, OPT_QUIESCE },
	{ "ram", no_argument, NULL, OPT_RAM },
	{ "ram-method", required_argument, NULL, OPT_RAM_METHOD },
	{ "scratch-dir", required_argument, NULL, OPT_SCRATCH_DIR },
	{ "scratch-max", required_argument, NULL, OPT_SCRATCH_MAX },
	{ "verify-clean", required_argument, NULL, OPT_VERIFY_CLEAN },
	{ NULL, 0, NULL, 0 } };

enum { STALL_S_MAX = 86400 };

/* What was asked for: disks by their files, or a guest. */
struct asked {
	struct live_options live;
	unsigned ndisks;
	struct cmd_disk disk[MANIFEST_VOLUMES_MAX];
	bool guest;        /* --domain or --qmp */
	const char *alone; /* an option that needs a guest */
	unsigned stall_s;
};

static json_t *
result_to_json(const struct backup_result *r)
{
	json_t *j = json_object(), *where;

	json_set_str(j, "backup", r->name);
	json_set_str(j, "id", r->id);
	json_set_u64(j, "seq", r->seq);
	json_set_u64(j, "size", r->size);
	json_set_bool(j, "incremental", r->has_parent);
	if (r->condemned) {
		where = json_object();
		json_set_str(where, "disk", r->condemned_disk);
		json_set_u64(where, "offset", r->condemned_offset);
		json_object_set_new(j, "condemned", where);
	}
	json_object_set_new(j, "stats", manifest_stats_to_json(&r->stats));
	return j;
}

static void
print_result(const struct backup_result *r)
{
	char speed[64];

	printf("%s\n", r->name);
	printf("  %s, %s\n",
	    summary_speed(r->size, r->stats.duration_ms, speed),
	    r->has_parent ? "on top of the backup before"
			  : "nothing to build on");
	if (r->condemned)
		printf("  disk %s had changed at byte %llu, and nobody had "
		       "noted it: all was read\n",
		    r->condemned_disk, (unsigned long long)r->condemned_offset);
	summary_line("read", r->stats.read);
	summary_line("holes", r->stats.holes);
	summary_line("unchanged", r->stats.unchanged);
	summary_line("deduplicated", r->stats.deduplicated);
	summary_line("sent", r->stats.sent);
	summary_line("stored", r->stats.stored);
}

static int
print_live_json(const struct live_result *r)
{
	json_t *j = result_to_json(&r->backup);

	json_set_str(j, "consistency", r->consistency);
	json_set_u64(j, "pause_us", r->pause_us);
	if (r->ram != NULL)
		json_set_str(j, "ram", r->ram);
	json_object_set_new(j, "notes", summary_notes(r->notes));
	return cmd_print_json(j);
}

static int
print_live(const struct live_result *r)
{
	const char *at = r->notes;

	print_result(&r->backup);
	printf("  %-13s %s\n", "consistency", r->consistency);
	if (r->ram != NULL)
		printf("  %-13s %s; the guest stood still for %.1f ms\n",
		    "memory by", r->ram, (double)r->pause_us / 1000);
	while (*at != 0) {
		size_t n = strcspn(at, "\n");

		printf("  %.*s\n", (int)n, at);
		at += n + (at[n] != 0);
	}
	return cmd_done();
}

static int
run_live(const struct cmd_common *c, struct asked *a)
{
	struct live_result result;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 32];

	if (live_backup_run(&a->live, &result, &e) != 0) {
		snprintf(what, sizeof(what), "backup of %s failed",
		    a->live.backup.vm);
		return cmd_failed(what, &e);
	}
	if (c->json)
		return print_live_json(&result);
	return c->quiet ? EXIT_DONE : print_live(&result);
}

static int
run_disks(const struct cmd_common *c, const struct asked *a)
{
	struct backup_disk disk[MANIFEST_VOLUMES_MAX];
	const struct backup_options *o = &a->live.backup;
	struct backup_result result;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 32];

	for (unsigned i = 0; i < a->ndisks; i++)
		disk[i] =
		    (struct backup_disk){ a->disk[i].name, a->disk[i].rest };
	if (backup_disks(o, disk, a->ndisks, &result, &e) != 0) {
		snprintf(what, sizeof(what), "backup of %s failed", o->vm);
		return cmd_failed(what, &e);
	}
	if (c->json)
		return cmd_print_json(result_to_json(&result));
	if (c->quiet)
		return EXIT_DONE;
	print_result(&result);
	return cmd_done();
}

static int
take_compression(struct backup_options *o, const char *arg)
{
	uint64_t n;

	if (strcmp(arg, "auto") == 0)
		o->compression = EFFORT_AUTO;
	else if (number_parse(arg, 0, CODEC_LEVEL_MAX, &n) == 0)
		o->compression = (int)n;
	else
		return cmd_misuse(CMD,
		    "--compression %.40s: say a number from 0 to %d, or auto",
		    arg, CODEC_LEVEL_MAX);
	return EXIT_DONE;
}

static int
take_quiesce(struct live_options *o, const char *arg)
{
	static const char *const how[] = { [QUIESCE_AUTO] = "auto",
		[QUIESCE_REQUIRE] = "require",
		[QUIESCE_NO] = "no" };

	for (unsigned i = 0; i < sizeof(how) / sizeof(how[0]); i++)
		if (strcmp(arg, how[i]) == 0) {
			o->quiesce = (enum guest_quiesce)i;
			return EXIT_DONE;
		}
	return cmd_misuse(CMD, "--quiesce %.40s: say auto, require or no", arg);
}

static int
take_ram_method(struct live_options *o, const char *arg)
{
	for (unsigned m = RAM_SHARED; m <= RAM_STREAM; m++)
		if (strcmp(arg, ram_method_name((enum ram_method)m)) == 0) {
			o->ram = true;
			o->ram_method = (enum ram_method)m;
			return EXIT_DONE;
		}
	return cmd_misuse(CMD,
	    "--ram-method %.40s: say shared, snapshot, mapped or stream", arg);
}

static int
take_percent(double *out, const char *arg)
{
	char *end;
	double v = strtod(arg, &end);

	if (end == arg || *end != 0 || !(v >= 0 && v <= 100))
		return cmd_misuse(CMD,
		    "--verify-clean %.40s: say a number from 0 to 100", arg);
	*out = v;
	return EXIT_DONE;
}

static int
take_seconds(unsigned *out, const char *arg)
{
	uint64_t n;

	if (number_parse(arg, 1, STALL_S_MAX, &n) != 0)
		return cmd_misuse(CMD,
		    "--stall-timeout %.40s: say a number of seconds from 1 to "
		    "%d",
		    arg, STALL_S_MAX);
	*out = (unsigned)n;
	return EXIT_DONE;
}

/* An option that only a guest has. */
static int
take_guest_option(struct asked *a, int opt, const char *arg)
{
	struct live_options *o = &a->live;

	a->alone = "--connect, --ga, --exclude, --quiesce, --ram, "
		   "--scratch-dir, --scratch-max and --verify-clean";
	switch (opt) {
	case OPT_CONNECT: o->uri = arg; return EXIT_DONE;
	case OPT_GA: o->ga = arg; return EXIT_DONE;
	case OPT_EXCLUDE:
		if (o->nexcluded == MANIFEST_VOLUMES_MAX)
			return cmd_misuse(CMD, "too many --exclude");
		o->excluded[o->nexcluded++] = arg;
		return EXIT_DONE;
	case OPT_QUIESCE: return take_quiesce(o, arg);
	case OPT_RAM: o->ram = true; return EXIT_DONE;
	case OPT_RAM_METHOD: return take_ram_method(o, arg);
	case OPT_SCRATCH_DIR: o->scratch_dir = arg; return EXIT_DONE;
	case OPT_SCRATCH_MAX:
		if (size_parse(arg, &o->scratch_max) != 0 ||
		    o->scratch_max == 0)
			return cmd_misuse(CMD,
			    "--scratch-max %.40s: say a size, as in 20G", arg);
		return EXIT_DONE;
	default: return take_percent(&o->backup.verify_clean, arg);
	}
}

static int
take_option(struct asked *a, struct cmd_common *c, int opt, const char *arg)
{
	struct live_options *o = &a->live;

	switch (opt) {
	case OPT_DISK:
		if (strchr(arg, '=') != NULL)
			return cmd_add_disk(CMD, arg, a->disk, &a->ndisks);
		if (o->nchosen == MANIFEST_VOLUMES_MAX)
			return cmd_misuse(CMD, "too many --disk");
		o->chosen[o->nchosen++] = arg;
		return EXIT_DONE;
	case OPT_COMPRESSION: return take_compression(&o->backup, arg);
	case OPT_FULL: o->backup.full = true; return EXIT_DONE;
	case OPT_STALL: return take_seconds(&a->stall_s, arg);
	case OPT_DOMAIN: o->domain = arg; return EXIT_DONE;
	case OPT_QMP: o->qmp = arg; return EXIT_DONE;
	default:
		return opt >= OPT_OWN ? take_guest_option(a, opt, arg)
				      : cmd_common_option(c, CMD, opt, arg);
	}
}

/* What was asked for must make sense together. */
static int
check_asked(struct asked *a)
{
	const struct live_options *o = &a->live;

	a->guest = o->domain != NULL || o->qmp != NULL;
	if (o->domain != NULL && o->qmp != NULL)
		return cmd_misuse(CMD, "say either --domain or --qmp");
	if (a->guest && a->ndisks > 0)
		return cmd_misuse(CMD,
		    "--disk %s=...: of a virtual machine say the name of the "
		    "disk alone",
		    a->disk[0].name);
	if (a->guest)
		return EXIT_DONE;
	if (a->alone != NULL)
		return cmd_misuse(CMD, "%s need --domain or --qmp", a->alone);
	if (o->nchosen > 0)
		return cmd_misuse(
		    CMD, "--disk %.100s: say NAME=PATH", o->chosen[0]);
	if (a->ndisks == 0)
		return cmd_misuse(CMD,
		    "say at least one --disk NAME=SOURCE, or --domain, or "
		    "--qmp");
	return EXIT_DONE;
}

static void
asked_init(struct asked *a)
{
	memset(a, 0, sizeof(*a));
	a->stall_s = LIVE_STALL_S;
	a->live.backup.compression = EFFORT_AUTO;
	a->live.backup.verify_clean = BACKUP_VERIFY_CLEAN;
	a->live.scratch_dir = "/var/tmp";
}

int
cmd_backup(int argc, char **argv)
{
	struct asked a;
	struct backup_options *o = &a.live.backup;
	struct cmd_common c;
	int opt, rc;

	asked_init(&a);
	cmd_common_init(&c);
	while ((opt = getopt_long(argc, argv, ":hr:q", options, NULL)) != -1) {
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default: rc = take_option(&a, &c, opt, optarg);
		}
		if (rc != EXIT_DONE)
			return rc;
	}
	if (optind + 1 != argc)
		return cmd_misuse(CMD, "say one VM");
	o->vm = argv[optind];
	if (!vm_name_ok(o->vm))
		return cmd_misuse(CMD,
		    "\"%.100s\" is no name of a VM: say NAME or "
		    "NAMESPACE/NAME, of letters, digits, '.', '_' and '-'",
		    o->vm);
	rc = check_asked(&a);
	if (rc == EXIT_DONE)
		rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE) {
		o->job = cmd_job_options(&c);
		o->job.stall_timeout_s = a.stall_s;
		o->quiet = c.quiet;
		rc = a.guest ? run_live(&c, &a) : run_disks(&c, &a);
	}
	cmd_common_fini(&c);
	return rc;
}
