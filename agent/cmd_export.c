/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <string.h>

#include "agent/archive/export.h"
#include "agent/cmd.h"
#include "agent/summary.h"
#include "proto/base/json.h"

#define CMD "export "

static const char help[] =
    "usage: backstay-agent export --repo URL VM@B --to FILE|-\n"
    "\n"
    "Write a whole backup as one archive: its disks, memory and definition,\n"
    "with checksums.  VM@B is VM@2026-11-21T19:30:05Z, VM@latest or VM@-1.\n"
    "Every byte is verified; FILE appears under its name when all of it is\n"
    "there.\n"
    "\n"
    "  -r, --repo URL        ssh://NAS[:PORT] or unix:PATH; or set\n"
    "                        BACKSTAY_AGENT_REPO\n"
    "  --to FILE|-           where to; -: the standard output\n"
    "  --archive KIND        tar, tar.zst, tar.gz, tar.xz or zip (as FILE "
    "ends,\n"
    "                        else tar)\n"
    "  --format qcow2|raw    of its disks (qcow2)\n"
    "  --format ova          for other hypervisors: an OVF with its disks as\n"
    "                        VMDK (where FILE ends in .ova)\n"
    "  --since VM@B0         only what changed since that backup\n"
    "  --volume NAME         only this one; again for more\n"
    "  --force               replace FILE if it is there\n"
    "  --bwlimit RATE        receive at most so many bytes a second\n"
    "  --wait[=SECONDS]      while the backup is being deleted; else for "
    "ever\n"
    "  -q, --quiet           no progress, no summary\n"
    "  --json                the outcome as a JSON object\n"
    "\n"
    "Exit code: 0 done, 1 failed, 2 misuse, 3 damage in the store.\n";

enum {
	OPT_TO = OPT_OWN,
	OPT_ARCHIVE,
	OPT_FORMAT,
	OPT_SINCE,
	OPT_VOLUME,
	OPT_FORCE
};

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "to", required_argument, NULL, OPT_TO },
	{ "archive", required_argument, NULL, OPT_ARCHIVE },
	{ "format", required_argument, NULL, OPT_FORMAT },
	{ "since", required_argument, NULL, OPT_SINCE },
	{ "volume", required_argument, NULL, OPT_VOLUME },
	{ "force", no_argument, NULL, OPT_FORCE }, { NULL, 0, NULL, 0 } };

struct asked {
	struct export_options o;
	const char *archive;
	bool format; /* was said */
	const char *volume[MANIFEST_VOLUMES_MAX];
};

static int
take_format(struct export_options *o, const char *arg)
{
	if (strcmp(arg, "qcow2") == 0)
		o->format = EXPORT_QCOW2;
	else if (strcmp(arg, "raw") == 0)
		o->format = EXPORT_RAW;
	else if (strcmp(arg, "ova") == 0)
		o->format = EXPORT_OVA;
	else
		return cmd_misuse(
		    CMD, "--format %.40s: say qcow2, raw or ova", arg);
	return EXIT_DONE;
}

static int
take_option(struct asked *a, struct cmd_common *c, int opt, const char *arg)
{
	switch (opt) {
	case OPT_TO: a->o.to = arg; break;
	case OPT_ARCHIVE:
		a->archive = arg;
		if (!arcout_kind(arg, &a->o.kind))
			return cmd_misuse(CMD,
			    "--archive %.40s: say tar, tar.zst, tar.gz, tar.xz "
			    "or zip",
			    arg);
		break;
	case OPT_FORMAT: a->format = true; return take_format(&a->o, arg);
	case OPT_SINCE: a->o.since = arg; break;
	case OPT_VOLUME:
		if (a->o.nvolumes == MANIFEST_VOLUMES_MAX)
			return cmd_misuse(CMD, "too many --volume");
		a->volume[a->o.nvolumes++] = arg;
		break;
	case OPT_FORCE: a->o.force = true; break;
	default: return cmd_common_option(c, CMD, opt, arg);
	}
	return EXIT_DONE;
}

static bool
ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && name[n - m - 1] == '.' &&
	    strcmp(name + n - m, end) == 0;
}

/* As its name says. */
static void
guess_kind(struct asked *a)
{
	static const char *const ends[] = { "tar.zst", "tar.gz", "tar.xz",
		"zip" };

	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (ends_with(a->o.to, ends[i]))
			arcout_kind(ends[i], &a->o.kind);
}

static int
check_asked(struct asked *a)
{
	struct backup_ref ref;
	struct err e;

	if (backup_ref_parse(a->o.backup, &ref, &e) != 0)
		return cmd_misuse(CMD, "%s", e.text);
	if (a->o.since != NULL && backup_ref_parse(a->o.since, &ref, &e) != 0)
		return cmd_misuse(CMD, "--since: %s", e.text);
	if (a->o.to == NULL)
		return cmd_misuse(CMD, "where to?  Say --to FILE, or --to -");
	if (!a->format && ends_with(a->o.to, "ova"))
		a->o.format = EXPORT_OVA;
	if (a->o.since != NULL && a->o.format != EXPORT_QCOW2)
		return cmd_misuse(CMD, "--since needs --format qcow2");
	if (a->o.format == EXPORT_OVA && a->archive != NULL &&
	    a->o.kind != ARCOUT_TAR)
		return cmd_misuse(
		    CMD, "--format ova is a plain tar: leave out --archive");
	if (a->archive == NULL && a->o.format != EXPORT_OVA)
		guess_kind(a);
	a->o.volume = a->volume;
	return EXIT_DONE;
}

static int
print_json(const struct export_options *o, const struct export_result *r)
{
	json_t *j = json_object(), *in = json_array(), *left = json_array();
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];

	for (unsigned i = 0; i < r->manifest.nvolumes; i++)
		json_array_append_new(r->chosen[i] ? in : left,
		    json_string(r->manifest.volume[i].name));
	json_set_str(j, "backup", manifest_name(&r->manifest, name));
	json_set_hex(j, "id", r->manifest.id, BACKUP_ID_LEN);
	json_set_str(j, "to", o->to);
	json_set_u64(j, "size", r->size);
	json_set_u64(j, "written", r->written);
	json_object_set_new(j, "volumes", in);
	json_object_set_new(j, "left_out", left);
	json_object_set_new(j, "stats", manifest_stats_to_json(&r->stats));
	return cmd_print_json(j);
}

static int
print_summary(const struct export_options *o, const struct export_result *r)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], speed[64], size[16];

	printf("%s\n", manifest_name(&r->manifest, name));
	printf(
	    "  %-13s %s, %s\n", "archive", o->to, size_print(r->written, size));
	for (unsigned i = 0; i < r->manifest.nvolumes; i++)
		if (!r->chosen[i])
			printf(
			    "  %-13s left out\n", r->manifest.volume[i].name);
	printf("  %s, all verified\n",
	    summary_speed(r->size, r->stats.duration_ms, speed));
	summary_line("read", r->stats.read);
	summary_line("holes", r->stats.holes);
	return cmd_done();
}

int
cmd_export(int argc, char **argv)
{
	struct asked a = { .archive = NULL };
	struct export_result r;
	struct cmd_common c;
	struct err e = { 0 };
	int opt, rc;

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
		return cmd_misuse(CMD, "say one backup");
	a.o.backup = argv[optind];
	rc = check_asked(&a);
	if (rc == EXIT_DONE)
		rc = cmd_common_end(&c, CMD);
	if (rc != EXIT_DONE)
		goto out;
	a.o.job = cmd_job_options(&c);
	a.o.quiet = c.quiet;
	if (export_run(&a.o, &r, &e) != 0) {
		char what[VM_NAME_MAX + 64];

		snprintf(what, sizeof(what), "export of %.*s failed",
		    VM_NAME_MAX + 32, a.o.backup);
		rc = cmd_failed(what, &e);
	} else if (strcmp(a.o.to, "-") == 0) {
		rc = EXIT_DONE; /* the archive is all that goes there */
	} else if (c.json) {
		rc = print_json(&a.o, &r);
	} else if (!c.quiet) {
		rc = print_summary(&a.o, &r);
	}
out:
	cmd_common_fini(&c);
	return rc;
}
