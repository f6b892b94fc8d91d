/* SPDX-License-Identifier: Apache-2.0 */
/* backup, cancel: jobs that connected agents do. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/follow.h"

/* The job is made; ${wait}: to its end. */
static int
backup(struct console *c, json_t *ask, bool wait, bool quiet, bool json)
{
	struct err e = { 0 };
	json_t *answer, *job;
	uint64_t id;
	int status;

	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	id = answer_u64(answer, "job");
	if (!wait) {
		if (json)
			console_print_json(answer);
		else
			printf("%" PRIu64 "\n", id);
		json_decref(answer);
		return EXIT_DONE;
	}
	json_decref(answer);
	if (follow_job(c, id, quiet, &job, &e) != 0)
		return console_fail(&e);
	status = follow_status(job);
	if (json)
		console_print_json(job);
	else if (status == EXIT_DONE)
		printf("%s\n", answer_str(job, "text"));
	json_decref(job);
	return status;
}

int
cmd_backup(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "host", required_argument,
						     NULL, 'H' },
		{ "full", no_argument, NULL, 'f' },
		{ "later", no_argument, NULL, 'l' },
		{ "wait", no_argument, NULL, 'w' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool full = false, later = false, wait = false, quiet = false;
	const char *host = NULL;
	bool json = false;
	json_t *ask;
	int o;

	while ((o = getopt_long(argc, argv, "qh", options, NULL)) != -1) {
		switch (o) {
		case 'H': host = optarg; break;
		case 'f': full = true; break;
		case 'l': later = true; break;
		case 'w': wait = true; break;
		case 'q': quiet = true; break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind == argc)
		return console_misuse(c, "of which VM?");
	if (argc - optind > 1)
		return console_misuse(c, "what is \"%s\"?", argv[optind + 1]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	ask = console_op("backup");
	json_set_str(ask, "vm", argv[optind]);
	if (host != NULL)
		json_set_str(ask, "host", host);
	if (full)
		json_set_bool(ask, "full", true);
	if (later)
		json_set_bool(ask, "later", true);
	return backup(c, ask, wait, quiet, json);
}

int
cmd_cancel(struct console *c, int argc, char **argv)
{
	struct err e = { 0 };
	json_t *ask, *answer;
	uint64_t job;
	int n, status;
	bool json;

	n = console_plain(c, argc, argv, 1, &json, &status);
	if (n == -1)
		return status;
	if (n == 0 || number_parse(argv[optind], 1, INT64_MAX, &job) != 0)
		return console_misuse(
		    c, "which job?  `backstay jobs` has their numbers");
	ask = console_op("cancel");
	json_set_u64(ask, "job", job);
	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(answer);
	else
		printf("job %" PRIu64 " is cancelled\n", job);
	json_decref(answer);
	return EXIT_DONE;
}
