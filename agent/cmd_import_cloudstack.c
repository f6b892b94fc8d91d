/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/archive/nasimport.h"
#include "agent/archive/nastree.h"
#include "agent/cmd.h"
#include "agent/cmd_import.h"
#include "proto/base/json.h"

#define CMD "import "

static const char help[] =
    "usage: backstay-agent import --repo URL --cloudstack DIR [OPTION]...\n"
    "\n"
    "Import all that CloudStack's NAS backup plugin wrote to DIR: every\n"
    "INSTANCE/YYYY.MM.DD.HH.MM.SS in it becomes a backup of VM INSTANCE with\n"
    "that time, oldest first.  What is there already is passed over: it can "
    "be\n"
    "stopped and run again.  Times are of this machine's time zone; set TZ\n"
    "where the management server's was another.\n"
    "\n"
    "  -r, --repo URL    unix:REPO/socket on the NAS, or ssh://NAS[:PORT]\n"
    "                    with a key that has the role admin; or set\n"
    "                    BACKSTAY_AGENT_REPO\n"
    "  --namespace NS    VM NS/INSTANCE\n"
    "  --instance NAME   only this one, and others so named (all)\n"
    "  --dry-run         tell what would come in\n"
    "  --lanes N         connections at a time, 1 to 64 (4)\n"
    "  --bwlimit RATE    send at most so many bytes a second, as in 200M\n"
    "  --wait[=SECONDS]  while a VM is being backed up or restored (30)\n"
    "  -q, --quiet       only what was passed over\n"
    "  --json            the outcome as a JSON object\n"
    "\n"
    "Exit code: 0 all of it is in, 1 not all, or failed; 2 misuse, 3 damage\n"
    "in the store.\n";

enum { OPT_CLOUDSTACK = OPT_OWN, OPT_NAMESPACE, OPT_INSTANCE, OPT_DRY_RUN };
enum { WAIT_MS = 30000 };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_JOB_OPTIONS, CMD_WAIT_OPTION,
	{ "cloudstack", required_argument, NULL, OPT_CLOUDSTACK },
	{ "namespace", required_argument, NULL, OPT_NAMESPACE },
	{ "instance", required_argument, NULL, OPT_INSTANCE },
	{ "dry-run", no_argument, NULL, OPT_DRY_RUN }, { NULL, 0, NULL, 0 } };

static const char *const words[] = { [NASIMPORT_IN] = "in",
	[NASIMPORT_THERE] = "there",
	[NASIMPORT_WOULD] = "would",
	[NASIMPORT_PASSED] = "passed" };

struct view {
	const struct cmd_common *c;
	json_t *points; /* for --json */
};

static void
tell_json(json_t *points, const struct nasimport_point *p)
{
	json_t *j = json_object(), *name;

	json_set_str(j, "backup", p->name);
	/* A folder may be called in ways that are no text. */
	name = json_string(p->instance);
	json_object_set_new(
	    j, "instance", name != NULL ? name : json_string("?"));
	json_set_str(j, "folder", p->when);
	json_set_str(j, "outcome", words[p->what]);
	json_set_u64(j, "disks", p->ndisks);
	json_set_u64(j, "size", p->size);
	if (p->why != NULL)
		json_set_str(j, "why", p->why);
	if (p->in != NULL)
		json_object_set_new(
		    j, "stats", manifest_stats_to_json(&p->in->stats));
	json_array_append_new(points, j);
}

static void
tell(void *arg, const struct nasimport_point *p)
{
	const struct view *v = arg;
	char what[560], size[16], stored[16];
	struct err e = { 0 };

	if (v->points != NULL)
		tell_json(v->points, p);
	if (p->what == NASIMPORT_PASSED) {
		snprintf(what, sizeof(what), "%s%s%s is passed over",
		    p->instance, p->when[0] != 0 ? "/" : "", p->when);
		err_set(&e, ERR_INVAL, "%s", p->why);
		cmd_failed(what, &e);
	}
	if (v->c->quiet || v->points != NULL)
		return;
	switch (p->what) {
	case NASIMPORT_IN:
		printf("%-40s %10s %10s new%s\n", p->name,
		    size_print(p->size, size),
		    size_print(p->in->stats.stored, stored),
		    p->in->has_parent ? "" : ", nothing to build on");
		break;
	case NASIMPORT_THERE:
		printf("%-40s is there already\n", p->name);
		break;
	case NASIMPORT_WOULD:
		printf("%-40s %10s, %u disk%s\n", p->name,
		    size_print(p->size, size), p->ndisks,
		    p->ndisks == 1 ? "" : "s");
		break;
	default: break;
	}
	fflush(stdout);
}

static int
run(const struct cmd_common *c, struct nasimport_options *o)
{
	struct view v = { .c = c, .points = c->json ? json_array() : NULL };
	struct nasimport_sum sum;
	struct err e = { 0 };
	char size[16], stored[16];
	json_t *j;
	int rc, code = EXIT_DONE;

	/* A line for each point is enough for a log; a large one takes hours,
	 * and who looks on sees how far it is. */
	o->backup.quiet = c->quiet || !isatty(STDERR_FILENO);
	o->tell = tell;
	o->arg = &v;
	rc = nasimport_run(o, &sum, &e);
	o->arg = NULL;
	if (c->json) {
		j = json_object();
		json_object_set_new(j, "points", v.points);
		json_set_bool(
		    j, "complete", rc == 0 && sum.n[NASIMPORT_PASSED] == 0);
		code = cmd_print_json(j);
	} else if (!c->quiet && rc == 0) {
		printf("%llu %s, %llu there already, %llu passed over; %s",
		    (unsigned long long)sum.n[NASIMPORT_IN] +
			sum.n[NASIMPORT_WOULD],
		    o->dry_run ? "would come in" : "came in",
		    (unsigned long long)sum.n[NASIMPORT_THERE],
		    (unsigned long long)sum.n[NASIMPORT_PASSED],
		    size_print(sum.size, size));
		if (o->dry_run)
			printf("\n");
		else
			printf(", %s new in the store\n",
			    size_print(sum.stored, stored));
		code = cmd_done();
	}
	if (rc != 0)
		return cmd_failed("import ended before its end", &e);
	return sum.n[NASIMPORT_PASSED] > 0 ? EXIT_FAILED : code;
}

int
cmd_import_folder(const struct cmd_common *c, const struct backup_options *b,
    const char *path)
{
	struct nasimport_options o = { .backup = *b, .vm = b->vm };
	char whole[PATH_MAX], *slash;
	struct err e = { 0 };

	if (realpath(path, whole) == NULL || strcmp(whole, "/") == 0) {
		err_set(&e, ERR_NOENT, "there is no such folder");
		return cmd_failed(path, &e);
	}
	slash = strrchr(whole, '/');
	if (nastree_is_point(whole)) {
		o.when = slash + 1;
		*slash = 0;
		slash = strrchr(whole, '/');
	}
	/* What is left is ROOT/INSTANCE. */
	if (slash == NULL || slash[1] == 0) {
		err_set(&e, ERR_INVAL, "is in no folder of an instance");
		return cmd_failed(path, &e);
	}
	*slash = 0;
	o.only[o.nonly++] = slash + 1;
	o.root = slash == whole ? "/" : whole;
	return run(c, &o);
}

static int
take_option(
    struct nasimport_options *o, struct cmd_common *c, int opt, const char *arg)
{
	switch (opt) {
	case OPT_CLOUDSTACK:
		if (o->root != NULL || *arg == 0)
			return cmd_misuse(CMD, "--cloudstack: say one folder");
		o->root = arg;
		return EXIT_DONE;
	case OPT_NAMESPACE:
		if (!name_part_ok(arg))
			return cmd_misuse(
			    CMD, "--namespace %.80s: is no name", arg);
		o->name_space = arg;
		return EXIT_DONE;
	case OPT_INSTANCE:
		if (o->nonly == NASIMPORT_INSTANCES_MAX)
			return cmd_misuse(CMD, "too many --instance");
		o->only[o->nonly++] = arg;
		return EXIT_DONE;
	case OPT_DRY_RUN: o->dry_run = true; return EXIT_DONE;
	default: return cmd_common_option(c, CMD, opt, arg);
	}
}

int
cmd_import_cloudstack(int argc, char **argv)
{
	struct nasimport_options o = { .root = NULL };
	struct cmd_common c;
	int opt, rc;

	cmd_common_init(&c);
	c.wait_ms = WAIT_MS;
	while ((opt = getopt_long(argc, argv, ":hr:q", options, NULL)) != -1) {
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default: rc = take_option(&o, &c, opt, optarg);
		}
		if (rc != EXIT_DONE)
			return rc;
	}
	if (o.root == NULL || optind != argc)
		return cmd_misuse(CMD, "say --cloudstack DIR, and no VM");
	rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE) {
		o.backup = (struct backup_options){ .job = cmd_job_options(&c),
			.compression = EFFORT_AUTO };
		rc = run(&c, &o);
	}
	cmd_common_fini(&c);
	return rc;
}

bool
cmd_import_is_cloudstack(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strncmp(argv[i], "--cloudstack", 12) == 0)
			return true;
	return false;
}
