/* SPDX-License-Identifier: Apache-2.0 */
/* gc and hold: what an administrator says to the reclaimer. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"

enum { HOLD_S = 3600 };

void
console_print_reclaim(const json_t *r)
{
	const char *state = answer_str(r, "state");
	char a[16], b[16];

	printf("%-12s%12s  %s", "reclaimer", state,
	    size_print(answer_u64(r, "dead"), a));
	printf(" in packs that nothing needs\n");
	if (strcmp(state, "held") == 0)
		printf("%-12s%12s  for %" PRIu64 " s more: packs can be "
		       "copied\n",
		    "", "", answer_u64(r, "held_s"));
	if (answer_u64(r, "left_s") > 0)
		printf("%-12s%12s  about %" PRIu64 " s to go\n", "", "",
		    answer_u64(r, "left_s"));
	if (answer_u64(r, "rate") > 0)
		printf("%-12s%12s  at most %s a second\n", "", "",
		    size_print(answer_u64(r, "rate"), a));
	printf("%-12s%12s  %s given back, %s rewritten since the daemon's "
	       "start\n",
	    "", "", size_print(answer_u64(r, "freed"), a),
	    size_print(answer_u64(r, "copied"), b));
	if (strcmp(answer_str(r, "last"), "done") != 0)
		printf("%-12s%12s  its last pass failed: %s; see the daemon's "
		       "log\n",
		    "", "", answer_str(r, "last"));
}

static int
finish(struct console *c, json_t *ask, bool json)
{
	struct err e = { 0 };
	json_t *answer;

	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(json_object_get(answer, "reclaim"));
	else
		console_print_reclaim(json_object_get(answer, "reclaim"));
	json_decref(answer);
	return EXIT_DONE;
}

int
cmd_gc(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "wait", optional_argument,
						     NULL, 'w' },
		{ "rate", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	const char *action = NULL;
	uint64_t rate = UINT64_MAX;
	bool json = false;
	json_t *ask;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'w':
			if (console_wait(c, optarg) != 0)
				return EXIT_MISUSE;
			break;
		case 'r':
			if (size_parse(optarg, &rate) != 0 || rate > INT64_MAX)
				return console_misuse(c,
				    "--rate %s: bytes a second, such as 50M; "
				    "0: no limit",
				    optarg);
			break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind < argc)
		action = argv[optind++];
	if (optind != argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (action != NULL && strcmp(action, "pause") != 0 &&
	    strcmp(action, "resume") != 0 && strcmp(action, "status") != 0)
		return console_misuse(c, "pause, resume or status");
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	ask = console_op("gc");
	if (action != NULL)
		json_set_str(ask, "action", action);
	if (rate != UINT64_MAX)
		json_set_u64(ask, "rate", rate);
	return finish(c, ask, json);
}

int
cmd_hold(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "for", required_argument,
						     NULL, 'f' },
		{ "release", no_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	uint64_t seconds = HOLD_S;
	bool json = false;
	json_t *ask;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'f':
			if (seconds_parse(optarg, 1, &seconds) != 0 ||
			    seconds == 0 || seconds > INT64_MAX)
				return console_misuse(c,
				    "--for %s: such as 90s, 30m, 2h or 1d",
				    optarg);
			break;
		case 'r': seconds = 0; break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind != argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	ask = console_op("hold");
	json_set_u64(ask, "seconds", seconds);
	/* It returns when nothing is under way any more. */
	c->wait_ms = -1;
	return finish(c, ask, json);
}
