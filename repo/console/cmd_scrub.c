/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/damage.h"

static void
print(const json_t *s)
{
	char a[16], b[16];

	printf("scrub       %s", answer_str(s, "state"));
	if (strcmp(answer_str(s, "state"), "idle") != 0)
		printf(": %s of about %s, at most %s a second",
		    size_print(answer_u64(s, "read"), a),
		    size_print(answer_u64(s, "total"), b),
		    size_print(answer_u64(s, "rate"), (char[16]){ 0 }));
	if (answer_str(s, "began")[0] == 0)
		printf("; never yet");
	else
		printf("; began %s", answer_str(s, "began"));
	if (answer_str(s, "began")[0] != 0 &&
	    answer_str(s, "finished")[0] != 0 &&
	    strcmp(answer_str(s, "state"), "idle") == 0)
		printf(", ended %s", answer_str(s, "finished"));
	printf("\n");
	if (answer_u64(s, "interval_s") > 0)
		printf("interval    %" PRIu64 " days\n",
		    answer_u64(s, "interval_s") / 86400);
	printf("found       %" PRIu64 " bad records, of which %" PRIu64
	       " had a good copy\n",
	    answer_u64(s, "found"), answer_u64(s, "healed"));
	if (strcmp(answer_str(s, "last"), "done") != 0)
		printf("stopped     %s; the daemon's log has more\n",
		    answer_str(s, "last"));
}

static int
run(struct console *c, json_t *ask, bool status, bool json)
{
	const json_t *damage;
	struct err e = { 0 };
	json_t *answer;
	int code = EXIT_DONE;

	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	damage = json_object_get(answer, "damage");
	if (json) {
		console_print_json(answer);
	} else {
		print(json_object_get(answer, "scrub"));
		damage_print(damage);
	}
	if (status && answer_u64(damage, "damaged") > 0)
		code = EXIT_DAMAGE;
	json_decref(answer);
	return code;
}

int
cmd_scrub(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL,
						     'j' },
		{ "rate", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	static const char *const actions[] = { "start", "pause", "resume",
		"status" };
	const char *action = "status";
	uint64_t rate = 0;
	bool json = false, known = false;
	json_t *ask;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'j': json = true; break;
		case 'r':
			if (size_parse(optarg, &rate) != 0 || rate == 0 ||
			    rate > INT64_MAX)
				return console_misuse(c,
				    "\"%s\" is no rate: bytes a second, such "
				    "as 100M",
				    optarg);
			break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (argc - optind > 1)
		return console_misuse(c, "what is \"%s\"?", argv[optind + 1]);
	if (optind < argc)
		action = argv[optind];
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		known |= strcmp(action, actions[i]) == 0;
	if (!known)
		return console_misuse(c, "\"%s\" is none of these", action);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	ask = console_op("scrub");
	json_set_str(ask, "action", action);
	if (rate != 0)
		json_set_u64(ask, "rate", rate);
	return run(c, ask, strcmp(action, "status") == 0, json);
}
