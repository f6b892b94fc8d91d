/* SPDX-License-Identifier: Apache-2.0 */
/* protect, unprotect and lock: what people say of single backups. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "repo/console/console.h"

enum { SAYS_PROTECT, SAYS_UNPROTECT, SAYS_LOCK };

struct wish {
	int says;
	const char *note;
	const char *until;
	bool mend;
	bool json;
};

static int
parse(struct console *c, int argc, char **argv, struct wish *w)
{
	/* Each has options of its own, and no others. */
	static const struct option options[][5] = {
		[SAYS_PROTECT] = { { "json", no_argument, NULL, 'j' },
		    { "help", no_argument, NULL, 'h' },
		    { "note", required_argument, NULL, 'N' },
		    { "mend", no_argument, NULL, 'm' }, { NULL, 0, NULL, 0 } },
		[SAYS_UNPROTECT] = { { "json", no_argument, NULL, 'j' },
		    { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } },
		[SAYS_LOCK] = { { "json", no_argument, NULL, 'j' },
		    { "help", no_argument, NULL, 'h' },
		    { "until", required_argument, NULL, 'u' },
		    { NULL, 0, NULL, 0 } },
	};
	int o;

	while (
	    (o = getopt_long(argc, argv, "h", options[w->says], NULL)) != -1) {
		switch (o) {
		case 'N': w->note = optarg; break;
		case 'm': w->mend = true; break;
		case 'u': w->until = optarg; break;
		case 'j': w->json = true; break;
		case 'h': console_help(c); return -1;
		default: return console_misuse(c, "see the usage");
		}
	}
	if (w->mend && optind != argc)
		return console_misuse(c, "--mend is for all backups");
	if (!w->mend && optind == argc)
		return console_misuse(c, "which backups?");
	if (w->says == SAYS_LOCK && *w->until == 0)
		return console_misuse(c, "until when?");
	return console_dir(c) != NULL ? 0 : EXIT_MISUSE;
}

static void
print(const struct wish *w, const json_t *answer)
{
	const char *name = answer_str(answer, "backup");

	if (w->json)
		console_print_json(answer);
	else if (w->mend)
		printf("mended; %" PRIu64
		       " backups of which it is not known whether they were "
		       "protected are now\n",
		    answer_u64(answer, "mended"));
	else if (w->says == SAYS_LOCK)
		printf("%s is locked until %s\n", name,
		    answer_str(answer, "locked_until"));
	else
		printf("%s is %sprotected\n", name,
		    w->says == SAYS_PROTECT ? "" : "no longer ");
}

/* "2027-01-01" is the begin of that day. */
static json_t *
question(const struct wish *w, const char *backup)
{
	json_t *ask = console_op(w->says == SAYS_LOCK ? "lock" : "protect");
	char *day;

	if (w->mend)
		json_set_bool(ask, "mend", true);
	if (backup != NULL)
		json_set_str(ask, "backup", backup);
	if (w->says == SAYS_PROTECT)
		json_set_str(ask, "note", w->note);
	if (w->says == SAYS_UNPROTECT)
		json_set_bool(ask, "on", false);
	if (w->says != SAYS_LOCK)
		return ask;
	day = xasprintf(
	    "%s%s", w->until, strlen(w->until) == 10 ? "T00:00:00Z" : "");
	json_set_str(ask, "until", day);
	free(day);
	return ask;
}

static int
run(struct console *c, int argc, char **argv, int says)
{
	struct wish w = { .says = says, .note = "", .until = "" };
	struct err e = { 0 };
	json_t *answer;
	int rc;

	rc = parse(c, argc, argv, &w);
	if (rc != 0)
		return rc == -1 ? EXIT_DONE : rc;
	do {
		json_t *ask = question(&w, w.mend ? NULL : argv[optind]);

		if (console_call(c, ask, &answer, &e) != 0)
			return console_fail(&e);
		print(&w, answer);
		json_decref(answer);
	} while (++optind < argc);
	return EXIT_DONE;
}

int
cmd_protect(struct console *c, int argc, char **argv)
{
	return run(c, argc, argv, SAYS_PROTECT);
}

int
cmd_unprotect(struct console *c, int argc, char **argv)
{
	return run(c, argc, argv, SAYS_UNPROTECT);
}

int
cmd_lock(struct console *c, int argc, char **argv)
{
	return run(c, argc, argv, SAYS_LOCK);
}
