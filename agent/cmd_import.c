/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <string.h>

#include "agent/archive/import.h"
#include "agent/cmd.h"
#include "agent/summary.h"
#include "proto/base/json.h"

#define CMD "import "

static const char help[] =
    "usage: backstay-agent import --repo URL VM FILE|-\n"
    "\n"
    "Make a backup of VM out of an archive that export wrote: whole, or what\n"
    "changed since a backup that VM has.  It has the time that it had there,\n"
    "which needs a key with the role admin, or the console of the NAS.\n"
    "\n"
    "  -r, --repo URL        ssh://NAS[:PORT] or unix:PATH; or set\n"
    "                        BACKSTAY_AGENT_REPO\n"
    "  --time TIME           another time, such as 2026-11-21T19:30:05Z\n"
    "  --bwlimit RATE        send at most so many bytes a second\n"
    "  --wait[=SECONDS]      while the VM is being backed up or restored; else "
    "for\n"
    "                        ever\n"
    "  -q, --quiet           no progress, no summary\n"
    "  --json                the outcome as a JSON object\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse, 3 damage in the store.\n";

enum { OPT_TIME = OPT_OWN };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "time", required_argument, NULL, OPT_TIME }, { NULL, 0, NULL, 0 } };

static int
print_json(const struct backup_result *r)
{
	json_t *j = json_object();

	json_set_str(j, "backup", r->name);
	json_set_str(j, "id", r->id);
	json_set_u64(j, "seq", r->seq);
	json_set_u64(j, "size", r->size);
	json_set_bool(j, "incremental", r->has_parent);
	json_object_set_new(j, "stats", manifest_stats_to_json(&r->stats));
	return cmd_print_json(j);
}

static int
print_summary(const struct backup_result *r)
{
	char speed[64];

	printf("%s\n", r->name);
	printf("  %s\n", summary_speed(r->size, r->stats.duration_ms, speed));
	summary_line("read", r->stats.read);
	summary_line("holes", r->stats.holes);
	summary_line("unchanged", r->stats.unchanged);
	summary_line("deduplicated", r->stats.deduplicated);
	summary_line("stored", r->stats.stored);
	return cmd_done();
}

static int
run(const struct cmd_common *c, struct import_options *o)
{
	struct backup_result r;
	struct err e = { 0 };
	char what[VM_NAME_MAX + 32];

	o->backup.job = cmd_job_options(c);
	o->backup.quiet = c->quiet;
	o->backup.compression = EFFORT_AUTO;
	if (import_run(o, &r, &e) != 0) {
		snprintf(
		    what, sizeof(what), "import of %s failed", o->backup.vm);
		return cmd_failed(what, &e);
	}
	if (c->json)
		return print_json(&r);
	return c->quiet ? EXIT_DONE : print_summary(&r);
}

int
cmd_import(int argc, char **argv)
{
	struct import_options o = { .time = 0 };
	struct cmd_common c;
	int opt, rc;

	cmd_common_init(&c);
	while ((opt = getopt_long(argc, argv, ":hr:q", options, NULL)) != -1) {
		rc = EXIT_DONE;
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_TIME:
			if (time_parse(optarg, &o.time) != 0 || o.time == 0)
				return cmd_misuse(CMD,
				    "--time %.40s: say it as "
				    "2026-11-21T19:30:05Z",
				    optarg);
			break;
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default: rc = cmd_common_option(&c, CMD, opt, optarg);
		}
		if (rc != EXIT_DONE)
			return rc;
	}
	if (optind + 2 != argc)
		return cmd_misuse(CMD, "say a VM, and an archive");
	o.backup.vm = argv[optind];
	o.from = argv[optind + 1];
	if (!vm_name_ok(o.backup.vm))
		return cmd_misuse(
		    CMD, "\"%.100s\" is no name of a VM", o.backup.vm);
	rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE)
		rc = run(&c, &o);
	cmd_common_fini(&c);
	return rc;
}
