/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/damage.h"

static void
line(const json_t *a, const char *what, const char *key, const char *note)
{
	char size[16];

	printf("%-12s%12s  %s\n", what, size_print(answer_u64(a, key), size),
	    note);
}

/* "3.2" for a : b; "-" where there is nothing to divide. */
static char *
ratio(const json_t *a, const char *of, const char *to, char out[32])
{
	uint64_t x = answer_u64(a, of), y = answer_u64(a, to);

	if (y == 0)
		snprintf(out, 32, "-");
	else
		snprintf(out, 32, "%.2f : 1", (double)x / (double)y);
	return out;
}

/* Where it is as it should be there is nothing to read. */
static void
print_retention(const json_t *r)
{
	int64_t ahead = json_integer_value(json_object_get(r, "clock_ahead"));

	if (json_is_true(json_object_get(r, "clock_off")))
		printf("clock       %" PRId64 " days %s repository time, %s: "
		       "backups grow old by\n"
		       "            the latter; see TIME in backstayd(8)\n",
		    (ahead < 0 ? -ahead : ahead) / 86400,
		    ahead < 0 ? "behind" : "ahead of", answer_str(r, "time"));
	if (*answer_str(r, "doubt") != 0)
		printf("protected   all backups: what people protected is not "
		       "known: %s;\n"
		       "            `backstay protect --mend`\n",
		    answer_str(r, "doubt"));
}

/* Where nothing is held to a rate neither. */
static void
print_rates(const json_t *o)
{
	bool any = strcmp(answer_str(o, "bwlimit"), "0") != 0;
	const json_t *it;
	size_t i;

	json_array_foreach(json_object_get(o, "keys"), i, it) any =
	    any || strcmp(answer_str(it, "bwlimit"), "0") != 0;
	json_array_foreach(json_object_get(o, "jobs"), i, it) any =
	    any || strcmp(answer_str(it, "bwlimit"), "0") != 0;
	if (any)
		console_print_rates(o);
}

static void
print_schedule(const json_t *s)
{
	static const char *const what[][2] = { { "missed", "missed" },
		{ "failed", "failed" },
		{ "prune_stopped", "keep what their rules would not" } };
	const char *before = "";

	if (answer_u64(s, "vms") == 0)
		return;
	printf("schedule    %" PRIu64 " VMs", answer_u64(s, "vms"));
	for (int i = 0; i < 3; i++) {
		if (answer_u64(s, what[i][0]) == 0)
			continue;
		printf("%s%" PRIu64 " %s", *before != 0 ? before : "; ",
		    answer_u64(s, what[i][0]), what[i][1]);
		before = ", ";
	}
	printf("%s\n", *before != 0 ? ": see `backstay schedule`" : "");
}

static void
print(const json_t *a)
{
	char text[32];

	printf("repository  %s\n", answer_str(a, "uuid"));
	printf("running     since %s, %" PRIu64 " jobs now\n",
	    answer_str(a, "since"), answer_u64(a, "jobs"));
	printf("holds       %" PRIu64 " backups of %" PRIu64 " VMs\n\n",
	    answer_u64(a, "backups"), answer_u64(a, "vms"));
	line(a, "logical", "logical", "all volumes of all backups");
	line(a, "unique", "unique", "distinct chunks, uncompressed");
	line(a, "live", "live", "what backups need, as it is stored");
	line(a, "stored", "stored", "all that is in packs");
	line(a, "index", "index_bytes", "");
	line(json_object_get(a, "reclaim"), "dead", "dead",
	    "of it nothing needs any more");
	line(a, "free", "avail", "on the volume");
	line(a, "volume", "total", "");
	printf("\n");
	printf("%-12s%12s  logical / unique\n", "dedup",
	    ratio(a, "logical", "unique", text));
	printf("%-12s%12s  unique / live\n", "compression",
	    ratio(a, "unique", "live", text));
	printf("%-12s%12" PRIu64 "\n", "packs", answer_u64(a, "packs"));
	printf("%-12s%12" PRIu64 "\n", "entries", answer_u64(a, "entries"));
	printf("%-12s%12s\n", "chunk size",
	    size_print(answer_u64(a, "chunk_size"), text));
	printf("%-12s%12s\n\n", "shared by", answer_str(a, "dedup"));
	console_print_reclaim(json_object_get(a, "reclaim"));
	print_rates(json_object_get(a, "bwlimit"));
	print_retention(json_object_get(a, "retention"));
	print_schedule(json_object_get(a, "schedule"));
	damage_print(json_object_get(a, "damage"));
}

int
cmd_status(struct console *c, int argc, char **argv)
{
	struct err e = { 0 };
	json_t *answer;
	int status;
	bool json;

	if (console_plain(c, argc, argv, 0, &json, &status) == -1)
		return status;
	if (console_call(c, console_op("status"), &answer, &e) != 0)
		return console_fail(&e);
	if (json)
		console_print_json(answer);
	else
		print(answer);
	json_decref(answer);
	return EXIT_DONE;
}
