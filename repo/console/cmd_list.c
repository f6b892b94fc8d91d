/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

static const char *
kept(const json_t *b)
{
	bool locked = json_object_get(b, "locked_until") != NULL;

	if (json_object_get(b, "protected") != NULL)
		return locked ? "protected, locked" : "protected";
	return locked ? "locked" : "";
}

static void
print(const json_t *all)
{
	struct table *t =
	    table_new("VM,TIME,>SIZE,>READ,>STORED,CONSISTENCY,HOST,KEPT");
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
		table_text(t, kept(b));
	}
	table_print(t);
}

int
cmd_list(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "incomplete", no_argument,
						     NULL, 'i' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool json = false, incomplete = false;
	const char *vm = NULL;
	struct err e = { 0 };
	json_t *all;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'i': incomplete = true; break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind < argc)
		vm = argv[optind++];
	if (optind != argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	if (vm != NULL && !vm_name_ok(vm))
		return console_misuse(c, "\"%s\" is no name for a VM", vm);
	if (console_list(c, vm, incomplete, &all, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(all);
	else
		print(all);
	json_decref(all);
	return EXIT_DONE;
}
