/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

/* All pages of the listing in one array, the caller's. */
static int
fetch(struct console *c, const char *vm, json_t **out, struct err *e)
{
	json_t *all = json_array(), *answer;
	char next[VM_NAME_MAX + 32] = "";
	int rc;

	do {
		json_t *ask = console_op("list"), *page;

		if (vm != NULL)
			json_set_str(ask, "vm", vm);
		if (next[0] != 0)
			json_set_str(ask, "after", next);
		rc = console_call(c, ask, &answer, e);
		if (rc != 0)
			break;
		rc = json_get_array(answer, "backups", &page, e);
		if (rc == 0)
			json_array_extend(all, page);
		snprintf(next, sizeof(next), "%s", answer_str(answer, "next"));
		json_decref(answer);
	} while (rc == 0 && next[0] != 0);
	if (rc != 0) {
		json_decref(all);
		return rc;
	}
	*out = all;
	return 0;
}

static void
print(const json_t *all)
{
	struct table *t =
	    table_new("VM,TIME,>SIZE,>READ,>STORED,CONSISTENCY,HOST");
	const json_t *b, *stats;
	size_t i;

	json_array_foreach(all, i, b)
	{
		stats = json_object_get(b, "stats");
		table_text(t, answer_str(b, "vm"));
		table_text(t, answer_str(b, "time"));
		table_size(t, answer_u64(b, "size"));
		table_size(t, answer_u64(stats, "read"));
		table_size(t, answer_u64(stats, "stored"));
		table_text(t, answer_str(b, "consistency"));
		table_text(t, answer_str(b, "host"));
	}
	table_print(t);
}

int
cmd_list(struct console *c, int argc, char **argv)
{
	const char *vm = NULL;
	struct err e = { 0 };
	json_t *all;
	bool json;
	int n, status;

	n = console_plain(c, argc, argv, 1, &json, &status);
	if (n == -1)
		return status;
	if (n == 1)
		vm = argv[optind];
	if (vm != NULL && !vm_name_ok(vm))
		return console_misuse(c, "\"%s\" is no name for a VM", vm);
	if (fetch(c, vm, &all, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(all);
	else
		print(all);
	json_decref(all);
	return EXIT_DONE;
}
