/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/table.h"
#include "repo/settings/settings.h"

/* What is asked for; the members of the call are in ${ask}. */
struct wish {
	json_t *ask;
	struct retain_policy policy;
	bool dry_run;
	bool json;
};

/* Options that are keys of the settings, too. */
static const char *const rules[] = { "keep-last", "keep-hourly", "keep-daily",
	"keep-weekly", "keep-monthly", "keep-yearly", "keep-within",
	"min-age" };
enum { NRULES = sizeof(rules) / sizeof(rules[0]), OPTION_RULE = 256 };

static void
set_rules(json_t *ask, const struct retain_policy *p)
{
	const struct {
		unsigned set;
		const char *key;
		uint64_t value;
	} member[] = {
		{ RETAIN_LAST, "keep_last", p->keep_last },
		{ RETAIN_HOURLY, "keep_hourly", p->keep_hourly },
		{ RETAIN_DAILY, "keep_daily", p->keep_daily },
		{ RETAIN_WEEKLY, "keep_weekly", p->keep_weekly },
		{ RETAIN_MONTHLY, "keep_monthly", p->keep_monthly },
		{ RETAIN_YEARLY, "keep_yearly", p->keep_yearly },
		{ RETAIN_WITHIN, "keep_within", p->keep_within },
		{ RETAIN_MIN_AGE, "min_age", p->min_age },
	};

	for (size_t i = 0; i < sizeof(member) / sizeof(member[0]); i++)
		if ((p->set & member[i].set) != 0)
			json_set_u64(ask, member[i].key, member[i].value);
}

static int
parse(struct console *c, int argc, char **argv, struct wish *w)
{
	struct option options[NRULES + 6] = {
		{ "dry-run", no_argument, NULL, 'n' },
		{ "force", no_argument, NULL, 'f' },
		{ "wait", optional_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
	};
	struct err e = { 0 };
	int o;

	for (int i = 0; i < NRULES; i++)
		options[5 + i] = (struct option){ rules[i], required_argument,
			NULL, OPTION_RULE + i };
	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'n':
			w->dry_run = true;
			json_set_bool(w->ask, "dry_run", true);
			break;
		case 'f': json_set_bool(w->ask, "force", true); break;
		case 'j': w->json = true; break;
		case 'w':
			if (console_wait(c, optarg) != 0)
				return EXIT_MISUSE;
			break;
		case 'h': console_help(c); return -1;
		case '?': return console_misuse(c, "see the usage");
		default:
			if (settings_rule(rules[o - OPTION_RULE], optarg,
				&w->policy, &e) != 0)
				return console_misuse(c, "--%s", e.text);
		}
	}
	set_rules(w->ask, &w->policy);
	if (optind < argc)
		json_set_str(w->ask, "vm", argv[optind++]);
	if (optind != argc)
		return console_misuse(
		    c, "one VM or pattern, not also \"%s\"", argv[optind]);
	return console_dir(c) != NULL ? 0 : EXIT_MISUSE;
}

/* "protected", "min-age, until 2026-11-21T19:30:05Z"; "" for one that goes. */
static const char *
reason(const json_t *b, char out[64])
{
	const char *rule = answer_str(b, "rule");
	const char *until = answer_str(b, "until");

	if (strcmp(rule, "all") == 0)
		rule = "there is no rule";
	snprintf(out, 64, "%s%s%s", rule, *until != 0 ? ", until " : "", until);
	return out;
}

static void
print_table(const json_t *vms)
{
	struct table *t = table_new("VM,TIME,KEPT BY,>FREES");
	const json_t *v, *b, *bytes;
	char text[64];
	size_t i, k;

	json_array_foreach(vms, i, v)
	{
		json_array_foreach(json_object_get(v, "backups"), k, b)
		{
			bytes = json_object_get(b, "freed");
			table_text(t, answer_str(v, "vm"));
			table_text(t, answer_str(b, "time"));
			table_text(t, reason(b, text));
			if (bytes != NULL)
				table_size(
				    t, (uint64_t)json_integer_value(bytes));
			else
				table_text(
				    t, *answer_str(b, "rule") != 0 ? "" : "?");
		}
	}
	table_print(t);
}

/* A line a VM that lets go of something, or should and does not. */
static bool
print_vms(const json_t *vms, bool dry_run)
{
	bool stopped = false;
	const json_t *v;
	char size[16];
	size_t i;

	json_array_foreach(vms, i, v)
	{
		const char *vm = answer_str(v, "vm");
		const char *why = answer_str(v, "stopped");
		uint64_t n = answer_u64(v, "removed");

		if (answer_u64(v, "untold") > 0)
			printf("%s: %" PRIu64 " more that are not shown\n", vm,
			    answer_u64(v, "untold"));
		if (n > 0 && json_object_get(v, "freed") != NULL)
			printf("%s: %" PRIu64 "%s, %s %s\n", vm, n,
			    dry_run ? " would go" : " deleted",
			    dry_run ? "which frees" : "this frees",
			    size_print(answer_u64(v, "freed"), size));
		else if (n > 0)
			printf("%s: %" PRIu64 "%s\n", vm, n,
			    dry_run ? " would go" : " deleted");
		if (*why == 0)
			continue;
		if (dry_run)
			printf(
			    "%s: without --force nothing goes: %s\n", vm, why);
		else
			fprintf(stderr, "backstay: %s: %s\n", vm, why);
		stopped = true;
	}
	return stopped;
}

int
cmd_prune(struct console *c, int argc, char **argv)
{
	struct wish w = { .ask = console_op("prune") };
	struct err e = { 0 };
	bool stopped = false;
	json_t *vms = json_array();
	int rc;

	rc = parse(c, argc, argv, &w);
	if (rc != 0) {
		json_decref(w.ask);
		json_decref(vms);
		return rc == -1 ? EXIT_DONE : rc;
	}
	/* What was done was done, also where the rest failed. */
	rc = console_pages(c, w.ask, "vms", vms, NULL, &e);
	if (w.json) {
		const json_t *v;
		size_t i;

		json_array_foreach(vms, i, v) stopped |=
		    *answer_str(v, "stopped") != 0;
		if (rc == 0)
			console_print_json(vms);
	} else {
		if (w.dry_run)
			print_table(vms);
		stopped = print_vms(vms, w.dry_run);
	}
	json_decref(vms);
	if (rc != 0)
		return console_fail(&e);
	return stopped && !w.dry_run ? EXIT_FAILED : EXIT_DONE;
}
