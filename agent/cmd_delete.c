/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <string.h>

#include "agent/cmd.h"
#include "proto/base/json.h"

#define CMD "delete "

static const char help[] =
    "usage: backstay-agent delete --repo URL VM@B... [--dry-run]\n"
    "\n"
    "Delete backups.  VM@B is VM@2026-11-21T19:30:05Z, VM@latest or VM@-1\n"
    "(the one before the latest).  This host's key must have the role\n"
    "\"delete\" there.\n"
    "\n"
    "  -r, --repo URL    ssh://NAS[:PORT] or unix:PATH; or set\n"
    "                    BACKSTAY_AGENT_REPO\n"
    "  --dry-run         delete nothing, tell what it would free\n"
    "  --wait[=SECONDS]  while one of them is being restored; else for ever\n"
    "  --json            the outcome as a JSON object\n";

enum { OPT_DRY_RUN = OPT_OWN };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	CMD_WAIT_OPTION, { "dry-run", no_argument, NULL, OPT_DRY_RUN },
	{ NULL, 0, NULL, 0 } };

static int
print(const json_t *answer, bool dry_run, struct err *e)
{
	json_t *names;
	uint64_t bytes;
	char size[16];
	int rc;

	rc = json_get_array(answer, "backups", &names, e);
	if (rc != 0)
		return rc;
	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *s = json_string_value(json_array_get(names, i));

		if (s != NULL)
			printf("%.200s%s\n", s, dry_run ? "" : " deleted");
	}
	if (json_object_get(answer, "freed") == NULL) {
		printf("how much this frees would take long to find out; "
		       "--dry-run tells it before\n");
		return 0;
	}
	rc = json_get_u64(answer, "freed", &bytes, e);
	if (rc == 0)
		printf("%s %s\n",
		    dry_run ? "deleting would free" : "this frees",
		    size_print(bytes, size));
	return rc;
}

static int
run(const struct cmd_common *c, char **backups, int n, bool dry_run)
{
	json_t *ask = remote_op("delete"), *names = json_array(), *answer;
	struct err e = { 0 };
	struct remote r;
	int rc;

	for (int i = 0; i < n; i++)
		json_array_append_new(names, json_string(backups[i]));
	json_object_set_new(ask, "backups", names);
	json_set_bool(ask, "dry_run", dry_run);
	remote_ask_wait(ask, c->wait_ms);
	rc = remote_open(&c->url, &c->id, &r, &e);
	if (rc != 0) {
		json_decref(ask);
		return cmd_failed("cannot delete", &e);
	}
	rc = remote_call(
	    &r, ask, remote_wait_ms(REMOTE_CALL_MS, c->wait_ms), &answer, &e);
	remote_close(&r);
	if (rc != 0)
		return cmd_failed("cannot delete", &e);
	if (c->json)
		return cmd_print_json(answer);
	rc = print(answer, dry_run, &e);
	json_decref(answer);
	return rc == 0 ? cmd_done() : cmd_failed("delete", &e);
}

int
cmd_delete(int argc, char **argv)
{
	bool dry_run = false;
	struct backup_ref ref;
	struct cmd_common c;
	struct err e = { 0 };
	int opt, rc;

	cmd_common_init(&c);
	while ((opt = getopt_long(argc, argv, ":hr:", options, NULL)) != -1) {
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_DRY_RUN: dry_run = true; break;
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default:
			rc = cmd_common_option(&c, CMD, opt, optarg);
			if (rc != EXIT_DONE)
				return rc;
		}
	}
	if (optind == argc)
		return cmd_misuse(CMD, "say which backups");
	for (int i = optind; i < argc; i++)
		if (backup_ref_parse(argv[i], &ref, &e) != 0)
			return cmd_misuse(CMD, "%s", e.text);
	rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE)
		rc = run(&c, argv + optind, argc - optind, dry_run);
	cmd_common_fini(&c);
	return rc;
}
