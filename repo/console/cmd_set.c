/* SPDX-License-Identifier: Apache-2.0 */
/* set: what may be changed while the daemon runs, without its settings. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

static void
row(struct table *t, const char *of, const json_t *o)
{
	uint64_t rate = answer_u64(o, "rate");
	char size[16];

	table_text(t, of);
	table_text(t, rate > 0 ? size_print(rate, size) : "none");
	table_text(t, answer_str(o, "bwlimit"));
	table_text(t, answer_str(o, "from"));
}

void
console_print_rates(const json_t *o)
{
	struct table *t = table_new("BWLIMIT OF,>NOW,SAYS,FROM");
	const json_t *it;
	char of[160];
	size_t i;

	row(t, "all agents", o);
	json_array_foreach(json_object_get(o, "keys"), i, it)
	{
		snprintf(of, sizeof(of), "key %s", answer_str(it, "key"));
		row(t, of, it);
	}
	json_array_foreach(json_object_get(o, "jobs"), i, it)
	{
		snprintf(of, sizeof(of), "job %" PRIu64, answer_u64(it, "job"));
		row(t, of, it);
	}
	table_print(t);
}

static int
finish(struct console *c, json_t *ask, bool json)
{
	struct err e = { 0 };
	json_t *answer;

	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(answer);
	else
		console_print_rates(json_object_get(answer, "bwlimit"));
	json_decref(answer);
	return EXIT_DONE;
}

int
cmd_set(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "key", required_argument,
						     NULL, 'k' },
		{ "job", required_argument, NULL, 'J' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	const char *key = NULL;
	uint64_t job = 0;
	bool json = false;
	json_t *ask;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'k': key = optarg; break;
		case 'J':
			if (number_parse(optarg, 1, INT64_MAX, &job) != 0)
				return console_misuse(
				    c, "--job %s: its number", optarg);
			break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	argc -= optind;
	argv += optind;
	if (argc > 2)
		return console_misuse(c, "what is \"%s\"?", argv[2]);
	if (argc == 1)
		return console_misuse(c, "%s to what?", argv[0]);
	if (argc == 0 && (key != NULL || job != 0))
		return console_misuse(c, "set what?");
	if (key != NULL && job != 0)
		return console_misuse(c, "of a key or of a job, not both");
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	ask = console_op("set");
	if (argc == 2) {
		json_set_str(ask, "key", argv[0]);
		json_set_str(ask, "value", argv[1]);
	}
	if (key != NULL)
		json_set_str(ask, "key_name", key);
	if (job != 0)
		json_set_u64(ask, "job", job);
	return finish(c, ask, json);
}
