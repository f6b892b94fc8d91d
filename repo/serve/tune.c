/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/tune.h"

#include <string.h>

#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/audited.h"

void
tune(struct serve *srv)
{
	const struct settings *s = settings_get(srv->settings);
	struct err e = { 0 };

	log_set_level(s->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	atomic_store(&srv->keep_incomplete, s->keep_incomplete);
	reclaimer_live_percent(srv->reclaimer, (unsigned)s->live_percent);
	scrubber_interval(srv->scrubber, s->scrub_interval);
	hook_set(srv->hook, s->hook, s->hook_timeout);
	if (s->hook[0] != 0 && hook_check(s->hook, &e) != 0)
		log_error("hook: %s; events are told to nobody", e.text);
	pace_settings(srv->pace, &s->bwlimit);
	queue_jobs(srv->queue, (unsigned)s->jobs);
	settings_put(srv->settings, s);
}

/* Each line of ${text} into the log, with ${before}; all of them as JSON. */
static json_t *
say(struct buf *text, void (*log)(const char *fmt, ...), const char *before)
{
	char *rest = (char *)(uintptr_t)buf_cstr(text), *line;
	json_t *list = json_array();

	while ((line = strsep(&rest, "\n")) != NULL) {
		if (*line == 0)
			continue;
		log("%s%s", before, line);
		json_array_append_new(list, json_string(line));
	}
	return list;
}

void
tune_again(struct serve *srv)
{
	struct audit_entry a = { .who = "daemon",
		.from = "SIGHUP",
		.op = "settings",
		.what = json_object() };
	struct buf changes = { 0 }, wrong = { 0 };

	if (settings_reload(srv->settings, &changes, &wrong) == 0) {
		json_object_set_new(
		    a.what, "changes", say(&changes, log_info, "settings: "));
		a.outcome = "done";
		tune(srv);
		if (changes.len == 0)
			log_info("settings: nothing has changed");
	} else {
		json_object_set_new(
		    a.what, "faults", say(&wrong, log_error, ""));
		a.outcome = "refused";
		log_error("the settings stay as they were");
	}
	if (changes.len > 0 || wrong.len > 0)
		audited_note(srv, &a, NULL, NULL);
	json_decref(a.what);
	buf_fini(&changes);
	buf_fini(&wrong);
}
