/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/table.h"
#include "repo/dispatch/plan.h"

enum { CHECK_TIMES = 5 };

/* --- what times mean, by this machine's clocks; no daemon is needed */

static void
print_time(uint64_t t)
{
	char local[64], utc[TIME_TEXT_LEN + 1];
	time_t when = (time_t)t;
	struct tm tm;

	localtime_r(&when, &tm);
	if (strftime(local, sizeof(local), "%a %F %T %Z", &tm) == 0)
		local[0] = 0;
	printf("%-32s%s\n", local, time_print(t, utc));
}

static int
check(const struct console *c, const char *text, bool json)
{
	char utc[TIME_TEXT_LEN + 1];
	uint64_t t = (uint64_t)time(NULL);
	struct err e = { 0 };
	json_t *list;
	struct plan p;
	unsigned n;

	plan_init(&p);
	if (plan_add_times(&p, text, &e) != 0)
		return console_misuse(c, "%s", e.text);
	list = json_array();
	for (n = 0; n < CHECK_TIMES; n++) {
		t = plan_next(&p, t);
		if (t == CALENDAR_NEVER)
			break;
		if (json)
			json_array_append_new(
			    list, json_string(time_print(t, utc)));
		else
			print_time(t);
	}
	if (json)
		console_print_json(list);
	else if (n < CHECK_TIMES)
		puts(n == 0 ? "never" : "and never again");
	json_decref(list);
	return EXIT_DONE;
}

/* --- VMs */

static const char *
or_dash(const char *text)
{
	return *text != 0 ? text : "-";
}

static void
print_vms(const json_t *vms)
{
	struct table *t = table_new("VM,SCHEDULE,LAST,OUTCOME,NEXT,STATE");
	const json_t *v;
	size_t i;

	json_array_foreach(vms, i, v)
	{
		const json_t *last = json_object_get(v, "last");

		table_text(t, answer_str(v, "vm"));
		table_text(t, answer_str(v, "schedule"));
		table_text(t, or_dash(answer_str(last, "due")));
		table_text(t, or_dash(answer_str(last, "outcome")));
		table_text(t, or_dash(answer_str(v, "next")));
		table_text(t, answer_str(v, "state"));
	}
	table_print(t);
}

/* What is not as it should be, and what is waited for. */
static void
print_notes(const json_t *vms)
{
	bool first = true;
	const json_t *v;
	size_t i;

	json_array_foreach(vms, i, v)
	{
		const json_t *last = json_object_get(v, "last");
		const char *outcome = answer_str(last, "outcome");
		const char *stopped =
		    answer_str(json_object_get(v, "pruned"), "stopped");
		const char *due = answer_str(v, "due");
		const char *lines[3][2] = { { "waits for", "" },
			{ outcome, "" }, { "prune", stopped } };

		if (*answer_str(v, "text") != 0)
			lines[0][1] = answer_str(v, "text");
		if (strcmp(outcome, "done") != 0)
			lines[1][1] = answer_str(last, "text");
		for (int k = 0; k < 3; k++) {
			if (*lines[k][1] == 0)
				continue;
			if (first)
				puts("");
			first = false;
			printf("%s: %s%s%s: %s\n", answer_str(v, "vm"),
			    k == 0 && *due != 0 ? due : "",
			    k == 0 && *due != 0 ? " " : "", lines[k][0],
			    lines[k][1]);
		}
	}
}

static int
show(struct console *c, const char *vm, bool json)
{
	json_t *ask = console_op("schedule"), *vms = json_array();
	json_t *last = NULL;
	uint64_t unscheduled;
	struct err e = { 0 };
	int rc;

	if (vm != NULL)
		json_set_str(ask, "vm", vm);
	rc = console_pages(c, ask, "vms", vms, &last, &e);
	if (rc == 0 && json)
		console_print_json(vms);
	if (rc == 0 && !json) {
		print_vms(vms);
		print_notes(vms);
		unscheduled = answer_u64(last, "unscheduled");
		if (unscheduled > 0 && vm == NULL)
			printf("%s%" PRIu64 " further VMs have no schedule\n",
			    json_array_size(vms) > 0 ? "\n" : "", unscheduled);
	}
	json_decref(last);
	json_decref(vms);
	return rc != 0 ? console_fail(&e) : EXIT_DONE;
}

int
cmd_schedule(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "check", required_argument,
						     NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	const char *times = NULL;
	bool json = false;
	int o;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'c': times = optarg; break;
		case 'j': json = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (argc - optind > (times == NULL))
		return console_misuse(
		    c, "what is \"%s\"?", argv[optind + (times == NULL)]);
	if (times != NULL)
		return check(c, times, json);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	return show(c, optind < argc ? argv[optind] : NULL, json);
}
