/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/json.h"
#include "proto/name.h"
#include "repo/console/console.h"
#include "repo/console/table.h"

enum { NAMES_SHOWN = 6 };

/* "web1, db1 (off), ..." */
static void
name_vms(const json_t *vms, struct buf *out)
{
	size_t n = json_array_size(vms);

	for (size_t i = 0; i < n && i < NAMES_SHOWN; i++) {
		const json_t *v = json_array_get(vms, i);
		const char *state = answer_str(v, "state");

		buf_printf(out, "%s%s", i > 0 ? ", " : "", answer_str(v, "vm"));
		if (strcmp(state, "off") == 0)
			buf_printf(out, " (off)");
	}
	if (n > NAMES_SHOWN)
		buf_printf(out, " and %zu more", n - NAMES_SHOWN);
}

/* "job 17 (web1), job 18 (db1)" */
static void
name_jobs(const json_t *running, struct buf *out)
{
	for (size_t i = 0; i < json_array_size(running); i++) {
		const json_t *r = json_array_get(running, i);

		buf_printf(out, "%s%llu (%s)", i > 0 ? ", " : "",
		    (unsigned long long)answer_u64(r, "job"),
		    answer_str(r, "vm"));
	}
}

static void
print(const json_t *list)
{
	struct table *t =
	    table_new("AGENT,HOST,VERSION,STATE,SINCE,>JOBS,RUNNING,VMS");
	const json_t *g;
	char places[40];
	size_t i;

	json_array_foreach(list, i, g)
	{
		const json_t *running = json_object_get(g, "running");
		struct buf vms = { 0 }, jobs = { 0 };
		bool there = json_is_true(json_object_get(g, "connected"));

		snprintf(places, sizeof(places), "%zu/%llu",
		    json_array_size(running),
		    (unsigned long long)answer_u64(g, "jobs"));
		name_vms(json_object_get(g, "vms"), &vms);
		name_jobs(running, &jobs);
		table_text(t, answer_str(g, "agent"));
		table_text(t, answer_str(g, "host"));
		table_text(t, answer_str(g, "version"));
		table_text(t, there ? "connected" : "gone");
		table_text(t, answer_str(g, "since"));
		table_text(t, places);
		table_text(t, jobs.len > 0 ? buf_cstr(&jobs) : "-");
		table_text(t, vms.len > 0 ? buf_cstr(&vms) : "-");
		buf_fini(&vms);
		buf_fini(&jobs);
	}
	table_print(t);
}

int
console_agents(struct console *c, json_t *list, struct err *e)
{
	return console_pages(c, console_op("agents"), "agents", list, NULL, e);
}

int
cmd_agents(struct console *c, int argc, char **argv)
{
	struct err e = { 0 };
	json_t *list;
	int rc, status;
	bool json;

	if (console_plain(c, argc, argv, 0, &json, &status) == -1)
		return status;
	list = json_array();
	rc = console_agents(c, list, &e);
	if (rc == 0 && json)
		console_print_json(list);
	else if (rc == 0)
		print(list);
	json_decref(list);
	return rc == 0 ? EXIT_DONE : console_fail(&e);
}
