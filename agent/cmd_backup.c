/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <string.h>

#include "agent/cmd.h"
#include "agent/pipeline/backup.h"
#include "agent/summary.h"
#include "proto/base/json.h"
#include "proto/codec.h"

#define CMD "backup "

static const char help[] =
    "usage: backstay-agent backup --repo URL VM --disk NAME=SOURCE...\n"
    "\n"
    "Back up disks of a VM that is not running.  SOURCE is a file or block\n"
    "device; \"raw:PATH\" or \"qcow2:PATH\" say the format.\n"
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
    "  --wait[=SECONDS]      while the VM is being backed up or restored; else "
    "for\n"
    "                        ever\n"
    "  -q, --quiet           no progress, no summary\n"
    "  --json                the outcome as a JSON object\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse, 3 damage in the store.\n";

enum { OPT_DISK = OPT_OWN, OPT_COMPRESSION, OPT_FULL };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "compression", required_argument, NULL, OPT_COMPRESSION },
	{ "full", no_argument, NULL, OPT_FULL }, { NULL, 0, NULL, 0 } };

static int
print_json(const struct backup_result *r)
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
	return cmd_print_json(j);
}

static int
print_summary(const struct backup_result *r)
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
	return cmd_done();
}

static int
run(const struct cmd_common *c, const struct backup_options *chosen,
    const struct cmd_disk *named, unsigned ndisks)
{
	struct backup_disk disk[MANIFEST_VOLUMES_MAX];
	struct backup_options o = *chosen;
	struct backup_result result;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 32];

	for (unsigned i = 0; i < ndisks; i++)
		disk[i] = (struct backup_disk){ named[i].name, named[i].rest };
	o.job = cmd_job_options(c);
	o.quiet = c->quiet;
	if (backup_disks(&o, disk, ndisks, &result, &e) != 0) {
		snprintf(what, sizeof(what), "backup of %s failed", o.vm);
		return cmd_failed(what, &e);
	}
	if (c->json)
		return print_json(&result);
	return c->quiet ? EXIT_DONE : print_summary(&result);
}

int
cmd_backup(int argc, char **argv)
{
	struct backup_options o = { .compression = EFFORT_AUTO };
	struct cmd_disk disk[MANIFEST_VOLUMES_MAX];
	struct cmd_common c;
	unsigned ndisks = 0;
	uint64_t n;
	int opt, rc;

	cmd_common_init(&c);
	while ((opt = getopt_long(argc, argv, ":hr:q", options, NULL)) != -1) {
		rc = EXIT_DONE;
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_DISK:
			rc = cmd_add_disk(CMD, optarg, disk, &ndisks);
			break;
		case OPT_COMPRESSION:
			if (strcmp(optarg, "auto") == 0)
				o.compression = EFFORT_AUTO;
			else if (number_parse(optarg, 0, CODEC_LEVEL_MAX, &n) ==
			    0)
				o.compression = (int)n;
			else
				return cmd_misuse(CMD,
				    "--compression %.40s: say a number from 0 "
				    "to %d, or auto",
				    optarg, CODEC_LEVEL_MAX);
			break;
		case OPT_FULL: o.full = true; break;
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default: rc = cmd_common_option(&c, CMD, opt, optarg);
		}
		if (rc != EXIT_DONE)
			return rc;
	}
	if (optind + 1 != argc)
		return cmd_misuse(CMD, "say one VM");
	o.vm = argv[optind];
	if (!vm_name_ok(o.vm))
		return cmd_misuse(CMD,
		    "\"%.100s\" is no name of a VM: say NAME or "
		    "NAMESPACE/NAME, of letters, digits, '.', '_' and '-'",
		    o.vm);
	if (ndisks == 0)
		return cmd_misuse(CMD, "say at least one --disk NAME=SOURCE");
	rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE)
		rc = run(&c, &o, disk, ndisks);
	cmd_common_fini(&c);
	return rc;
}
