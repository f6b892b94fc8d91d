/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <string.h>

#include "agent/cmd.h"
#include "proto/base/json.h"

#define CMD "list "

static const char help[] =
    "usage: backstay-agent list --repo URL [VM]\n"
    "\n"
    "List the backups that this host may see, of one VM or of all.\n"
    "\n"
    "  -r, --repo URL  ssh://NAS[:PORT] or unix:PATH; or set\n"
    "                  BACKSTAY_AGENT_REPO\n"
    "  --incomplete    what interrupted and running backups stored\n"
    "  --json          as a JSON object\n";

enum { OPT_INCOMPLETE = OPT_OWN };

static const struct option options[] = { CMD_HELP_OPTION, CMD_REPO_OPTIONS,
	{ "incomplete", no_argument, NULL, OPT_INCOMPLETE },
	{ NULL, 0, NULL, 0 } };

/* All pages, one after another. */
static int
fetch(struct remote *r, const char *vm, bool incomplete, json_t *all,
    struct err *e)
{
	json_t *answer, *page, *next = NULL, *ask;
	int rc;

	do {
		ask = remote_op("list");
		if (vm != NULL)
			json_set_str(ask, "vm", vm);
		json_set_bool(ask, "incomplete", incomplete);
		if (next != NULL)
			json_object_set_new(ask, "after", next);
		next = NULL;
		rc = remote_call(r, ask, REMOTE_CALL_MS, &answer, e);
		if (rc != 0)
			return rc;
		rc = json_get_array(answer, "backups", &page, e);
		if (rc == 0 && json_array_size(page) > 0) {
			json_array_extend(all, page);
			next = json_incref(json_object_get(answer, "next"));
		}
		json_decref(answer);
	} while (rc == 0 && next != NULL);
	return rc;
}

static int
print_one(const json_t *j, struct err *e)
{
	const char *vm, *time, *host = "", *consistency = "";
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], a[16], b[16];
	uint64_t size, stored = 0;
	json_t *stats;
	int rc;

	rc = json_get_str(j, "vm", &vm, e);
	if (rc == 0)
		rc = json_get_str(j, "time", &time, e);
	if (rc == 0)
		rc = json_get_u64(j, "size", &size, e);
	if (rc == 0)
		rc = json_opt_str(j, "host", &host, e);
	if (rc == 0)
		rc = json_opt_str(j, "consistency", &consistency, e);
	if (rc == 0)
		rc = json_get_object(j, "stats", &stats, e);
	if (rc == 0)
		rc = json_opt_u64(stats, "stored", &stored, e);
	if (rc != 0)
		return rc;
	snprintf(name, sizeof(name), "%.*s@%.*s", VM_NAME_MAX, vm,
	    TIME_TEXT_LEN, time);
	printf("%-40s %10s %10s  %-12s %s\n", name, size_print(size, a),
	    size_print(stored, b), consistency, host);
	return 0;
}

static int
list(const struct cmd_common *c, const char *vm, bool incomplete)
{
	json_t *all = json_array(), *out;
	struct remote r;
	struct err e = { 0 };
	int rc;

	rc = remote_open(&c->url, &c->id, &r, &e);
	if (rc == 0) {
		rc = fetch(&r, vm, incomplete, all, &e);
		remote_close(&r);
	}
	if (rc == 0 && c->json) {
		out = json_object();
		json_object_set_new(out, "backups", all);
		return cmd_print_json(out);
	}
	if (rc == 0 && json_array_size(all) > 0)
		printf("%-40s %10s %10s  %-12s %s\n", "BACKUP", "SIZE", "ADDED",
		    "CONSISTENCY", "HOST");
	for (size_t i = 0; rc == 0 && i < json_array_size(all); i++)
		rc = print_one(json_array_get(all, i), &e);
	json_decref(all);
	return rc == 0 ? cmd_done() : cmd_failed("cannot list backups", &e);
}

int
cmd_list(int argc, char **argv)
{
	const char *vm = NULL;
	bool incomplete = false;
	struct cmd_common c;
	int opt, rc;

	cmd_common_init(&c);
	while ((opt = getopt_long(argc, argv, ":hr:", options, NULL)) != -1) {
		switch (opt) {
		case OPT_HELP: printf("%s", help); return cmd_done();
		case OPT_INCOMPLETE: incomplete = true; break;
		case ':':
		case '?': return cmd_bad_option(CMD, argv, opt);
		default:
			rc = cmd_common_option(&c, CMD, opt, optarg);
			if (rc != EXIT_DONE)
				return rc;
		}
	}
	if (optind < argc)
		vm = argv[optind++];
	if (optind != argc)
		return cmd_misuse(CMD, "say one VM, or none");
	if (vm != NULL && !vm_name_ok(vm))
		return cmd_misuse(CMD, "\"%.100s\" is no name of a VM", vm);
	rc = cmd_common_end(&c, CMD);
	if (rc == EXIT_DONE)
		rc = list(&c, vm, incomplete);
	cmd_common_fini(&c);
	return rc;
}
