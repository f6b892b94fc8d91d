/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log, as it is in the repository's folder: no daemon is asked. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/audit/audit.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

enum { TEXT_MAX = 100 /* of a cell, for people */ };

struct listing {
	uint64_t since;
	const char *witness; /* a hash that a line must have; or NULL */
	struct table *table; /* or NULL, and: */
	json_t *lines;       /* or NULL: nothing is listed */
	json_t *faults;
};

/* "2026-11-21T19:30:05Z", "2026-11-21", or how long ago: "90s", "2h", "7d". */
static int
since_parse(const char *s, uint64_t *out)
{
	uint64_t now = (uint64_t)time(NULL), n;
	char text[2 * TIME_TEXT_LEN];
	size_t len = strlen(s);

	if (len == 0 || len > TIME_TEXT_LEN)
		return ERR_INVAL;
	snprintf(text, sizeof(text), "%s%s", s,
	    len == 10 && s[4] == '-' ? "T00:00:00Z" : "");
	if (time_parse(text, out) == 0)
		return 0;
	if (seconds_parse(s, 0, &n) != 0 || n > now)
		return ERR_INVAL;
	*out = now - n;
	return 0;
}

static void
add_value(const json_t *v, struct buf *out)
{
	const json_t *it;
	size_t i;

	if (json_is_string(v))
		buf_printf(out, "%s", json_string_value(v));
	else if (json_is_integer(v))
		buf_printf(out, "%lld", (long long)json_integer_value(v));
	else if (json_is_boolean(v))
		buf_printf(out, "%s", json_is_true(v) ? "yes" : "no");
	else if (json_is_object(v))
		buf_printf(out, "...");
	json_array_foreach(v, i, it)
	{
		if (i > 0)
			buf_printf(out, ",");
		add_value(it, out);
	}
}

/* "backups=web1@..., freed=4096" */
static void
what_text(json_t *what, struct buf *out)
{
	const char *key;
	json_t *v;

	json_object_foreach(what, key, v)
	{
		if (json_is_array(v) && json_array_size(v) == 0)
			continue;
		buf_printf(out, "%s%s=", out->len > 0 ? " " : "", key);
		add_value(v, out);
	}
	buf_cstr(out);
	for (size_t i = 0; i < out->len; i++)
		if (out->data[i] < ' ')
			out->data[i] = '?';
	if (out->len > TEXT_MAX)
		memcpy(out->data + TEXT_MAX - 3, "...", 4);
}

static void
add_row(struct table *t, const json_t *line)
{
	struct buf what = { 0 };

	what_text(json_object_get(line, "what"), &what);
	table_number(t, answer_u64(line, "n"));
	table_text(t, answer_str(line, "time"));
	table_text(t, answer_str(line, "who"));
	table_text(t, answer_str(line, "op"));
	table_text(t, answer_str(line, "outcome"));
	table_text(t, answer_str(line, "from"));
	table_text(t, buf_cstr(&what));
	buf_fini(&what);
}

static void
see_line(void *arg, json_t *line)
{
	struct listing *l = arg;
	uint64_t t = 0;

	if (time_parse(answer_str(line, "time"), &t) == 0 && t < l->since)
		return;
	if (l->table != NULL)
		add_row(l->table, line);
	else if (l->lines != NULL)
		json_array_append(l->lines, line);
}

static void
see_fault(void *arg, const char *file, uint64_t line, const char *text)
{
	struct listing *l = arg;
	json_t *o = json_object();

	json_set_str(o, "file", file);
	json_set_u64(o, "line", line);
	json_set_str(o, "text", text);
	json_array_append_new(l->faults, o);
}

static void
print_faults(const json_t *faults, FILE *f)
{
	for (size_t i = 0; i < json_array_size(faults); i++) {
		const json_t *o = json_array_get(faults, i);

		fprintf(f, "%s:%" PRIu64 ": %s\n", answer_str(o, "file"),
		    answer_u64(o, "line"), answer_str(o, "text"));
	}
}

static void
print_check(const struct audit_report *r, const json_t *faults, bool json)
{
	json_t *o;

	if (json) {
		o = json_object();
		json_set_u64(o, "lines", r->lines);
		json_set_u64(o, "last", r->last);
		json_set_u64(o, "torn", r->torn);
		json_set_str(o, "hash", r->hash);
		json_set_bool(o, "sound", r->faults == 0);
		json_object_set(o, "faults", (json_t *)(uintptr_t)faults);
		console_print_json(o);
		json_decref(o);
		return;
	}
	print_faults(faults, stdout);
	printf("%" PRIu64 " lines are sound, %u faults; %u ends were torn by a "
	       "crash; hash of line %" PRIu64 ": %s\n",
	    r->lines, r->faults, r->torn, r->last, r->hash);
}

static int
run(struct console *c, struct listing *l, bool check, bool json)
{
	struct audit_report r = { .faults = 0 };
	struct err e = { 0 };
	int dirfd, rc;

	dirfd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd == -1 || faccessat(dirfd, "backstay.json", F_OK, 0) == -1)
		rc = err_set(&e, ERR_NOENT, "%s: there is no repository (%s)",
		    c->dir, strerror(errno));
	else
		rc = audit_read(
		    dirfd, see_line, see_fault, l, l->witness, &r, &e);
	if (dirfd != -1)
		close(dirfd);
	if (rc != 0) {
		table_free(l->table);
		return console_fail(&e);
	}
	if (l->table != NULL)
		table_print(l->table);
	if (check)
		print_check(&r, l->faults, json);
	else if (json)
		console_print_json(l->lines);
	if (!check)
		print_faults(l->faults, stderr);
	return r.faults > 0 ? EXIT_DAMAGE : EXIT_DONE;
}

int
cmd_audit(struct console *c, int argc, char **argv)
{
	static const struct option options[] = { { "check", no_argument, NULL,
						     'c' },
		{ "witness", required_argument, NULL, 'w' },
		{ "since", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
	struct listing l = { .since = 0 };
	bool check = false, json = false;
	int o, status;

	while ((o = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (o) {
		case 'c': check = true; break;
		case 'j': json = true; break;
		case 'w':
			l.witness = optarg;
			check = true;
			break;
		case 's':
			if (since_parse(optarg, &l.since) != 0)
				return console_misuse(c,
				    "--since %s: a time as the log has them, a "
				    "day such as 2026-11-21, or how long ago "
				    "such as 2h or 7d",
				    optarg);
			break;
		case 'h': return console_help(c);
		default: return console_misuse(c, "see the usage");
		}
	}
	if (optind != argc)
		return console_misuse(c, "what is \"%s\"?", argv[optind]);
	if (console_dir(c) == NULL)
		return EXIT_MISUSE;
	if (!check && json)
		l.lines = json_array();
	else if (!check)
		l.table = table_new(">N,TIME,WHO,WHAT,OUTCOME,FROM,OF WHAT");
	l.faults = json_array();
	status = run(c, &l, check, json);
	json_decref(l.lines);
	json_decref(l.faults);
	return status;
}
