/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "repo/console/follow.h"
#include "repo/console/restore.h"

static int
question(struct console *c, const struct restore_wish *w, json_t **out)
{
	json_t *ask = console_op("restore_on"), *disks = json_array();

	json_set_str(ask, "backup", w->backup);
	json_set_str(ask, "host", w->host);
	if (w->onto != NULL)
		json_set_str(ask, "onto", w->onto);
	if (w->as != NULL)
		json_set_str(ask, "as", w->as);
	if (w->keep_old)
		json_set_bool(ask, "keep_old", true);
	if (w->force)
		json_set_bool(ask, "force", true);
	if (w->later)
		json_set_bool(ask, "later", true);
	for (unsigned i = 0; i < w->ndisks; i++) {
		const char *eq = strchr(w->disk[i], '=');
		size_t n =
		    eq != NULL ? (size_t)(eq - w->disk[i]) : strlen(w->disk[i]);
		char name[NAME_PART_MAX + 1];
		json_t *d;

		if (n == 0 || n > NAME_PART_MAX || (eq != NULL && eq[1] == 0)) {
			json_decref(disks);
			json_decref(ask);
			return console_misuse(c,
			    "--disk %.80s: say NAME=PATH, or NAME", w->disk[i]);
		}
		memcpy(name, w->disk[i], n);
		name[n] = 0;
		d = json_object();
		json_set_str(d, "name", name);
		if (eq != NULL)
			json_set_str(d, "path", eq + 1);
		json_array_append_new(disks, d);
	}
	if (w->ndisks > 0)
		json_object_set(ask, "disks", disks);
	json_decref(disks);
	*out = ask;
	return EXIT_DONE;
}

/* Done is said only of what the agent has verified, synced and put in place. */
static int
wait_for(struct console *c, const struct restore_wish *w, uint64_t id,
    const json_t *answer)
{
	struct err e = { 0 };
	json_t *job;
	int status;

	if (!w->quiet && !w->json)
		fprintf(stderr,
		    "job %" PRIu64 ": it goes on if this is interrupted; "
		    "`backstay cancel %" PRIu64 "` ends it\n",
		    id, id);
	if (follow_job(c, id, w->quiet || w->json, &job, &e) != 0)
		return console_fail(&e);
	status = follow_status(job);
	if (w->json)
		console_print_json(job);
	else if (status == EXIT_DONE)
		printf("%s is restored onto %s on %s, verified and synced: "
		       "%s\n",
		    answer_str(answer, "backup"), answer_str(answer, "onto"),
		    w->host, answer_str(job, "text"));
	json_decref(job);
	return status;
}

int
restore_host(struct console *c, const struct restore_wish *w)
{
	struct err e = { 0 };
	json_t *ask = NULL, *answer;
	uint64_t id;
	int status;

	status = question(c, w, &ask);
	if (status != EXIT_DONE)
		return status;
	if (console_call(c, ask, &answer, &e) != 0)
		return console_fail(&e);
	id = answer_u64(answer, "job");
	if (!w->no_wait)
		status = wait_for(c, w, id, answer);
	else if (w->json)
		console_print_json(answer);
	else
		printf("%" PRIu64 "\n", id);
	json_decref(answer);
	return status;
}
