/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/manifest.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

static void
line(const char *what, uint64_t bytes)
{
	char size[16];

	printf("  %-14s%10s\n", what, size_print(bytes, size));
}

static void
print_kept(const json_t *answer)
{
	const json_t *p = json_object_get(answer, "protected");
	const char *until = answer_str(answer, "locked_until");

	if (p != NULL)
		printf("protected    by %s since %s: %s\n",
		    *answer_str(p, "by") != 0 ? answer_str(p, "by") : "?",
		    *answer_str(p, "at") != 0 ? answer_str(p, "at") : "?",
		    answer_str(p, "note"));
	if (*until != 0)
		printf("locked       until %s\n", until);
}

static void
print(const struct manifest *m, const json_t *answer)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2], when[TIME_TEXT_LEN + 1];
	char id[2 * BACKUP_ID_LEN + 1];
	struct table *t = table_new("VOLUME,KIND,FORMAT,>SIZE");

	printf("%s\n\n", manifest_name(m, name));
	printf("id           %s\n", hex(m->id, sizeof(m->id), id));
	printf("sequence     %" PRIu64 "\n", m->seq);
	printf("host         %s\n", m->host);
	printf("host's time  %s\n", time_print(m->agent_time, when));
	printf("consistency  %s\n",
	    m->consistency[0] != 0 ? m->consistency : "unknown");
	printf("parent       %s\n",
	    m->has_parent ? hex(m->parent, sizeof(m->parent), id) : "none");
	if (m->checkpoint[0] != 0)
		printf("checkpoint   %s\n", m->checkpoint);
	if (m->unusual[0] != 0)
		printf("unusual      %s; see `backstay history`\n", m->unusual);
	print_kept(answer);
	printf("duration     %" PRIu64 ".%01" PRIu64 " s\n\n",
	    m->stats.duration_ms / 1000, m->stats.duration_ms % 1000 / 100);
	for (unsigned i = 0; i < m->nvolumes; i++) {
		table_text(t, m->volume[i].name);
		table_text(t, m->volume[i].kind);
		table_text(t, m->volume[i].format);
		table_size(t, m->volume[i].size);
	}
	table_print(t);
	printf("\n");
	line("read", m->stats.read);
	line("holes", m->stats.holes);
	line("unchanged", m->stats.unchanged);
	line("deduplicated", m->stats.deduplicated);
	line("sent", m->stats.sent);
	line("stored", m->stats.stored);
}

/* Line breaks and tabs are its own; nothing else may steer the terminal. */
static void
print_definition(const json_t *answer)
{
	const json_t *d = json_object_get(answer, "definition");
	const char *text = json_string_value(json_object_get(d, "text"));
	const char *format = json_string_value(json_object_get(d, "format"));

	if (text == NULL || format == NULL)
		return;
	printf("\ndefinition (");
	for (; *format != 0; format++)
		putchar(iscntrl((unsigned char)*format) ? '?' : *format);
	printf(")\n");
	for (; *text != 0; text++)
		putchar(*text != '\n' && *text != '\t' &&
			    iscntrl((unsigned char)*text)
			? '?'
			: *text);
	printf("\n");
}

int
cmd_show(struct console *c, int argc, char **argv)
{
	json_t *ask, *answer, *j;
	struct err e = { 0 };
	struct manifest m;
	int n, rc, status;
	bool json;

	n = console_plain(c, argc, argv, 1, &json, &status);
	if (n == -1)
		return status;
	if (n == 0)
		return console_misuse(c, "which backup?");
	ask = console_op("show");
	json_set_str(ask, "backup", argv[optind]);
	json_set_bool(ask, "definition", true);
	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	rc = json_get_object(answer, "manifest", &j, &e);
	if (rc == 0)
		rc = manifest_from_json(j, &m, &e);
	if (rc == 0 && json) {
		json_object_set(
		    j, "definition", json_object_get(answer, "definition"));
		json_object_set(
		    j, "protected", json_object_get(answer, "protected"));
		if (json_object_get(answer, "locked_until") != NULL)
			json_object_set(j, "locked_until",
			    json_object_get(answer, "locked_until"));
		console_print_json(j);
	} else if (rc == 0) {
		print(&m, answer);
		print_definition(answer);
	}
	json_decref(answer);
	return rc == 0 ? EXIT_DONE : console_fail(&e);
}
