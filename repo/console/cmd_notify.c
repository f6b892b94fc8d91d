/* SPDX-License-Identifier: Apache-2.0 */
/* notify: how events were told to the hook, and whether it works. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "proto/base/json.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

static void
print_last(const json_t *list)
{
	struct table *t = table_new(">NUMBER,EVENT,TOLD,>MS,>STATUS,TEXT");
	const json_t *j;
	size_t i;

	json_array_foreach(list, i, j)
	{
		table_number(t, answer_u64(j, "number"));
		table_text(t, answer_str(j, "event"));
		table_text(t,
		    json_is_true(json_object_get(j, "told"))
			? answer_str(j, "time")
			: "-");
		table_number(t, answer_u64(j, "ms"));
		if (json_object_get(j, "status") != NULL)
			table_number(t, answer_u64(j, "status"));
		else
			table_text(t, "-");
		table_text(t, answer_str(j, "text"));
	}
	table_print(t);
}

static void
print(const json_t *a)
{
	const char *hook = answer_str(a, "hook");

	if (*hook == 0)
		printf("no hook is set: backstayd.conf(5)\n");
	else
		printf("hook        %s, for at most %" PRIu64 " s\n", hook,
		    answer_u64(a, "timeout_s"));
	printf("since the daemon's start %" PRIu64 " runs, %" PRIu64
	       " failed; %" PRIu64 " events were lost\n\n",
	    answer_u64(a, "runs"), answer_u64(a, "failures"),
	    answer_u64(a, "lost"));
	print_last(json_object_get(a, "last"));
}

static int
print_test(const json_t *o)
{
	const char *text = answer_str(o, "text");

	if (!json_is_true(json_object_get(o, "told"))) {
		fprintf(stderr, "backstay: %s: backstayd.conf(5)\n", text);
		return EXIT_FAILED;
	}
	if (json_object_get(o, "status") == NULL)
		printf("failed: %s\n", text);
	else
		printf("ended with %" PRIu64 " after %" PRIu64 " ms%s%s\n",
		    answer_u64(o, "status"), answer_u64(o, "ms"),
		    *text != 0 ? ": " : "", text);
	return json_is_true(json_object_get(o, "ok")) ? EXIT_DONE : EXIT_FAILED;
}

static int
finish(struct console *c, bool test, bool json)
{
	json_t *ask = console_op("notify"), *answer, *o;
	struct err e = { 0 };
	int status = EXIT_DONE;

	if (test)
		json_set_bool(ask, "test", true);
	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	o = json_object_get(answer, "outcome");
	if (json)
		console_print_json(test ? o : answer);
	if (json && test && !json_is_true(json_object_get(o, "ok")))
		status = EXIT_FAILED;
	if (!json && test)
		status = print_test(o);
	else if (!json)
		print(answer);
	json_decref(answer);
	return status;
}

int
cmd_notify(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "test", no_argument, NULL,
						     't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool json = false, test = false;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 't': test = true; break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind != argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	return finish(c, test, json);
}
