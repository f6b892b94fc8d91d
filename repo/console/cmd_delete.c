/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>

#include "proto/name.h"
#include "repo/console/console.h"

struct wish {
	bool dry_run;
	bool json;
};

static int
parse(struct console *c, int argc, char **argv, struct wish *w)
{
	static const struct option options[] = { { "dry-run", no_argument, NULL,
						     'n' },
		{ "wait", optional_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'n': w->dry_run = true; break;
		case 'j': w->json = true; break;
		case 'w':
			if (console_wait(c, optarg) != 0)
				return EXIT_MISUSE;
			break;
		case 'h': console_help(c); return -1;
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind == argc)
		return console_misuse(c, "which backups?");
	return console_dir(c) != NULL ? 0 : EXIT_MISUSE;
}

static void
print(const json_t *answer, const struct wish *w)
{
	const json_t *name, *names = json_object_get(answer, "backups");
	char size[16];
	size_t i;

	json_array_foreach(names, i, name)
	{
		printf("%s%s\n", json_string_value(name),
		    w->dry_run ? "" : " deleted");
	}
	if (json_object_get(answer, "freed") != NULL)
		printf("%s %s\n",
		    w->dry_run ? "deleting would free" : "this frees",
		    size_print(answer_u64(answer, "freed"), size));
	else
		printf("how much this frees would take long to find out; "
		       "--dry-run tells it before\n");
}

int
cmd_delete(struct console *c, int argc, char **argv)
{
	json_t *ask = console_op("delete"), *names = json_array(), *answer;
	struct wish w = { .json = false };
	struct err e = { 0 };
	int rc;

	rc = parse(c, argc, argv, &w);
	for (int i = optind; rc == 0 && i < argc; i++)
		json_array_append_new(names, json_string(argv[i]));
	json_object_set_new(ask, "backups", names);
	if (rc != 0) {
		json_decref(ask);
		return rc == -1 ? EXIT_DONE : rc;
	}
	if (w.dry_run)
		json_object_set_new(ask, "dry_run", json_true());
	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	if (w.json)
		console_print_json(answer);
	else
		print(answer, &w);
	json_decref(answer);
	return EXIT_DONE;
}
