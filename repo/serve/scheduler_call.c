/* SPDX-License-Identifier: Apache-2.0 */
/* What people are shown of schedules.  PROTOCOL.md 6. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/base/json.h"
#include "repo/serve/scheduler_impl.h"

enum { PAGE = 500 };

static void
set_time(json_t *o, const char *key, uint64_t t)
{
	char text[TIME_TEXT_LEN + 1];

	if (t != 0 && t != CALENDAR_NEVER)
		json_set_str(o, key, time_print(t, text));
}

/* The job, and why it waits if it does. */
static void
set_job(struct serve *srv, uint64_t job, json_t *o)
{
	json_t *jobs = json_array();
	const char *why;

	queue_to_json(srv->queue, job, NULL, NULL, jobs);
	why =
	    json_string_value(json_object_get(json_array_get(jobs, 0), "text"));
	json_object_set_new(o, "text",
	    json_sprintf("job %" PRIu64 "%s%s", job, why != NULL ? ": " : "",
		why != NULL ? why : ""));
	json_set_u64(o, "job", job);
	json_decref(jobs);
}

/* What it waits for, for a person; or nothing. */
static void
set_reason(struct serve *srv, const struct scheduled *x, const struct plan *p,
    uint64_t now, json_t *o)
{
	const struct queue_request r = { .kind = JOB_BACKUP, .vm = x->v.vm };
	char when[TIME_TEXT_LEN + 1];
	struct err e = { 0 };
	uint64_t t;

	switch (x->state) {
	case SCHEDULE_RUNS: set_job(srv, x->job, o); break;
	case SCHEDULE_RETRY:
		json_object_set_new(o, "text",
		    json_sprintf("its try %u, not before %s", x->v.tries + 1,
			time_print(x->v.again, when)));
		break;
	case SCHEDULE_CLOSED:
		t = plan_opens(p, now);
		json_object_set_new(o, "text",
		    json_sprintf("a window, from %s on",
			t != CALENDAR_NEVER ? time_print(t, when) : "never"));
		break;
	case SCHEDULE_HOST:
		if (queue_takes(srv->queue, &r, &e) != 0)
			json_set_str(o, "text", e.text);
		break;
	case SCHEDULE_NEVER:
	case SCHEDULE_WAITS:
	case SCHEDULE_RUN: break;
	}
}

static json_t *
to_json(struct serve *srv, const struct scheduled *x, const struct plan *p)
{
	const struct schedule_vm *v = &x->v;
	uint64_t now = (uint64_t)time(NULL);
	json_t *o = json_object(), *last;

	json_set_str(o, "vm", v->vm);
	json_set_str(o, "schedule", p->ntimes > 0 ? p->schedule : "never");
	json_set_str(o, "window", p->windows);
	json_set_str(o, "state", schedule_state_name(x->state));
	set_time(o, "looked", atomic_load(&srv->scheduler->looked));
	set_time(o, "due", v->due);
	if (v->due != 0)
		json_set_u64(o, "tries", v->tries);
	set_time(o, "next", plan_next(p, v->handled > now ? v->handled : now));
	set_reason(srv, x, p, now, o);
	if (v->outcome != OUTCOME_NONE) {
		last = json_object();
		set_time(last, "due", v->last_due);
		set_time(last, "began", v->last_began);
		set_time(last, "ended", v->last_ended);
		json_set_str(
		    last, "outcome", schedule_outcome_name(v->outcome));
		json_set_str(last, "text", v->text);
		json_object_set_new(o, "last", last);
	}
	json_set_bool(o, "prune", p->prune);
	if (v->pruned != 0) {
		last = json_object();
		set_time(last, "at", v->pruned);
		json_set_u64(last, "removed", v->removed);
		if (v->stopped[0] != 0)
			json_set_str(last, "stopped", v->stopped);
		json_object_set_new(o, "pruned", last);
	}
	return o;
}

int
schedule_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct scheduler *r = s->srv->scheduler;
	const char *vm = NULL, *after = NULL;
	const struct settings *settings;
	json_t *list = json_array();
	uint64_t unscheduled = 0;
	int rc;

	json_object_set_new(a, "vms", list);
	rc = json_opt_str(q, "vm", &vm, e);
	if (rc == 0)
		rc = json_opt_str(q, "after", &after, e);
	if (rc == 0 && vm != NULL && !vm_pattern_ok(vm))
		rc = err_set(e, ERR_INVAL,
		    "\"%.140s\" is no name and no pattern for VMs", vm);
	if (rc != 0)
		return rc;
	settings = settings_get(s->srv->settings);
	pthread_mutex_lock(&r->mu);
	for (size_t i = 0; i < r->n; i++) {
		const struct scheduled *x = r->vm[i];
		struct plan p;

		if (!auth_sees(s->key, x->v.vm) ||
		    (vm != NULL && !vm_pattern_match(vm, x->v.vm)))
			continue;
		settings_plan(settings, x->v.vm, &p);
		unscheduled += p.ntimes == 0;
		if (after != NULL && strcmp(x->v.vm, after) <= 0)
			continue;
		/* One that is named is shown in any case. */
		if (p.ntimes == 0 && (vm == NULL || strcmp(vm, x->v.vm) != 0))
			continue;
		if (json_array_size(list) == PAGE) {
			json_object_set(a, "next",
			    json_object_get(
				json_array_get(list, PAGE - 1), "vm"));
			break;
		}
		json_array_append_new(list, to_json(s->srv, x, &p));
	}
	pthread_mutex_unlock(&r->mu);
	settings_put(s->srv->settings, settings);
	json_set_u64(a, "unscheduled", unscheduled);
	if (vm != NULL && vm_name_ok(vm) && json_array_size(list) == 0 &&
	    after == NULL)
		return err_set(e, ERR_NOENT,
		    "no host, backup or section of the settings has a VM %s",
		    vm);
	return 0;
}

json_t *
scheduler_to_json(struct serve *srv, const struct auth_key *key)
{
	struct scheduler *r = srv->scheduler;
	uint64_t n = 0, missed = 0, failed = 0, stopped = 0;
	json_t *o = json_object();

	if (r == NULL)
		return o;
	pthread_mutex_lock(&r->mu);
	for (size_t i = 0; i < r->n; i++) {
		const struct schedule_vm *v = &r->vm[i]->v;

		if (v->rule[0] == 0 || !auth_sees(key, v->vm))
			continue;
		n++;
		missed += v->outcome == OUTCOME_MISSED ||
		    (v->due != 0 && v->told != 0);
		failed += v->outcome == OUTCOME_FAILED;
		stopped += v->stopped[0] != 0;
	}
	pthread_mutex_unlock(&r->mu);
	json_set_u64(o, "vms", n);
	json_set_u64(o, "missed", missed);
	json_set_u64(o, "failed", failed);
	json_set_u64(o, "prune_stopped", stopped);
	return o;
}
