/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/damage.h"

enum { POLL_MS = 200, LINE_EVERY_S = 10 };

/* A bar that moves on a terminal, a line now and then elsewhere. */
struct show {
	bool quiet;
	bool tty;
	time_t last;
};

static void
show(struct show *w, const json_t *state)
{
	uint64_t done = answer_u64(state, "done");
	uint64_t total = answer_u64(state, "total");
	char a[16], b[16];
	time_t now = time(NULL);

	if (w->quiet || (!w->tty && now - w->last < LINE_EVERY_S))
		return;
	w->last = now;
	fprintf(stderr, "%sverify: %s of %s, %s read%s", w->tty ? "\r" : "",
	    size_print(done < total ? done : total, a), size_print(total, b),
	    size_print(answer_u64(state, "read"), (char[16]){ 0 }),
	    w->tty ? "\033[K" : "\n");
}

/* Until it has ended; *out is the caller's. */
static int
follow(struct console *c, uint64_t job, struct show *w, json_t **out,
    struct err *e)
{
	for (;;) {
		struct timespec t = { .tv_nsec = POLL_MS * 1000000L };
		json_t *ask = console_op("verified");
		int rc;

		json_set_u64(ask, "job", job);
		rc = console_call(c, ask, out, e);
		if (rc != 0)
			return rc;
		if (json_is_true(json_object_get(*out, "ended"))) {
			if (!w->quiet && w->tty)
				fputs("\r\033[K", stderr);
			return 0;
		}
		show(w, json_object_get(*out, "state"));
		json_decref(*out);
		nanosleep(&t, NULL);
	}
}

static void
print(const json_t *a)
{
	const json_t *places = json_object_get(a, "damaged");
	char size[16];

	for (size_t i = 0; i < json_array_size(places); i++) {
		const json_t *o = json_array_get(places, i);

		printf("%s, volume %s: %" PRIu64 " bytes from %" PRIu64
		       " on are damaged\n",
		    answer_str(o, "backup"), answer_str(o, "volume"),
		    answer_u64(o, "len"), answer_u64(o, "from"));
	}
	if (answer_u64(a, "untold") > 0)
		printf("... and %" PRIu64 " more such places\n",
		    answer_u64(a, "untold"));
	if (answer_u64(a, "skipped") > 0)
		printf("%" PRIu64 " backups were deleted meanwhile.\n",
		    answer_u64(a, "skipped"));
	if (answer_u64(a, "damaged_bytes") > 0)
		printf("%s are damaged.  The next backup that has the data "
		       "heals it.\n",
		    size_print(answer_u64(a, "damaged_bytes"), size));
	else
		printf("%" PRIu64 " backups verified: all of it is as it was "
		       "stored.\n",
		    answer_u64(a, "backups") - answer_u64(a, "skipped"));
}

static int
run(struct console *c, json_t *names, bool json, bool quiet)
{
	struct show w = {
		.quiet = quiet, .tty = isatty(2) == 1, .last = time(NULL)
	};
	json_t *ask = console_op("verify"), *answer;
	const json_t *state;
	struct err e = { 0 };
	uint64_t job;
	int status;

	if (json_array_size(names) > 0)
		json_object_set(ask, "backups", names);
	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	job = answer_u64(answer, "job");
	json_decref(answer);
	if (follow(c, job, &w, &answer, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(answer);
	else
		print(answer);
	state = json_object_get(answer, "state");
	status = EXIT_DONE;
	if (answer_u64(answer, "damaged_bytes") > 0) {
		status = EXIT_DAMAGE;
	} else if (strcmp(answer_str(state, "state"), "failed") == 0) {
		err_set(&e, ERR_CLOSED, "it was not completed: %.300s",
		    answer_str(state, "text"));
		status = console_fail(&e);
	}
	json_decref(answer);
	return status;
}

/* What stands, without reading any data. */
static int
tell_damage(struct console *c, bool json)
{
	struct err e = { 0 };
	const json_t *d;
	json_t *answer;
	int status;

	if (console_call(c, console_op("damage"), &answer, &e) != 0)
		return console_fail(&e);
	d = json_object_get(answer, "damage");
	if (json)
		console_print_json(d);
	else
		damage_print(d);
	status = answer_u64(d, "damaged") > 0 ? EXIT_DAMAGE : EXIT_DONE;
	json_decref(answer);
	return status;
}

int
cmd_verify(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL,
						     'j' },
		{ "damage", no_argument, NULL, 'd' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	bool json = false, quiet = false, damage = false;
	json_t *names;
	int o, status;

	while ((o = getopt_long(argc, argv, "qh", options, NULL)) != -1) {
		switch (o) {
		case 'j': json = true; break;
		case 'd': damage = true; break;
		case 'q': quiet = true; break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (damage && optind < argc)
		return console_misuse(c, "--damage is of the whole repository");
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	if (damage)
		return tell_damage(c, json);
	names = json_array();
	for (int i = optind; i < argc; i++)
		json_array_append_new(names, json_string(argv[i]));
	status = run(c, names, json, quiet);
	json_decref(names);
	return status;
}
