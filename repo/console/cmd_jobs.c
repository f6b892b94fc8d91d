/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>

#include "proto/base/json.h"
#include "repo/console/console.h"
#include "repo/console/jobs_follow.h"
#include "repo/console/table.h"

static void
print(const json_t *list)
{
	struct table *t =
	    table_new(">JOB,KIND,VM,HOST,SINCE,STATE,>DONE,>LANES,>SENT,TEXT");
	const json_t *j;
	char done[16];
	size_t i;

	json_array_foreach(list, i, j)
	{
		uint64_t n = answer_u64(j, "done"),
			 all = answer_u64(j, "total");

		if (all > 0)
			snprintf(done, sizeof(done), "%.0f %%",
			    100.0 * (double)(n < all ? n : all) / (double)all);
		else
			snprintf(done, sizeof(done), "-");
		table_number(t, answer_u64(j, "job"));
		table_text(t, answer_str(j, "kind"));
		table_text(t, answer_str(j, "vm"));
		table_text(t, answer_str(j, "host"));
		table_text(t, answer_str(j, "since"));
		table_text(t, answer_str(j, "state"));
		table_text(t, done);
		table_number(t, answer_u64(j, "lanes"));
		table_size(t, answer_u64(j, "sent"));
		table_text(t, answer_str(j, "text"));
	}
	table_print(t);
}

int
cmd_jobs(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "follow", no_argument, NULL,
						     'f' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool json = false, follow = false;
	json_t *answer, *list;
	struct err e = { 0 };
	int o, rc;

	while ((o = getopt_long(argc, argv, "fh", options, NULL)) != -1) {
		switch (o) {
		case 'f': follow = true; break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind != argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	if (follow)
		return jobs_follow(c, json);
	if (console_call(c, console_op("jobs"), &answer, &e) != 0)
		return console_fail(&e);
	rc = json_get_array(answer, "jobs", &list, &e);
	if (rc == 0 && json)
		console_print_json(list);
	else if (rc == 0)
		print(list);
	json_decref(answer);
	return rc == 0 ? EXIT_DONE : console_fail(&e);
}
