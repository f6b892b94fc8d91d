/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/notify.h"

#include <stdlib.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/serve/sight.h"

enum { WAIT_MS = 500, TEST_MAX_MS = 120000 };

static json_t *
outcome_to_json(const struct hook_outcome *o)
{
	char when[TIME_TEXT_LEN + 1];
	json_t *j = json_object();

	json_set_str(j, "event", event_kind_name(o->kind));
	json_set_u64(j, "number", o->number);
	json_set_str(j, "time", time_print(o->at, when));
	json_set_bool(j, "told", o->told);
	json_set_bool(j, "ok", o->told && o->code == 0 && o->status == 0);
	if (o->code == 0)
		json_set_u64(j, "status", (uint64_t)o->status);
	json_set_u64(j, "ms", o->ms);
	json_set_str(j, "text", o->text);
	return j;
}

/* In slices: the peer may go, or the daemon stop. */
static int
wait_for(struct session *s, uint64_t number, json_t *a, struct err *e)
{
	struct hook_outcome *o = xmalloc(sizeof(*o));
	uint64_t until = now_ms() + TEST_MAX_MS;
	int rc;

	do {
		rc = hook_wait(s->srv->hook, number, WAIT_MS, o);
		if (rc == ERR_TIMEOUT && session_look(s, e) != 0)
			rc = e->code;
	} while (rc == ERR_TIMEOUT && now_ms() < until);
	if (rc == 0)
		json_object_set_new(a, "outcome", outcome_to_json(o));
	else if (rc == ERR_TIMEOUT)
		err_set(e, rc, "events before it are still being told");
	else if (rc == ERR_NOENT)
		err_set(e, rc, "too many events came after it");
	free(o);
	return rc;
}

static int
test(struct session *s, json_t *a, struct err *e)
{
	json_t *facts = json_object();
	uint64_t number;

	json_set_str(facts, "outcome", "test");
	json_set_str(facts, "text", "somebody tries how events are told");
	number = event_post(s->srv->events, EVENT_TEST, facts);
	if (number == 0)
		return err_set(
		    e, ERR_LIMIT, "too many events wait for the hook already");
	return wait_for(s, number, a, e);
}

int
notify_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct hook_status *h;
	struct events_counts c;
	json_t *last = json_array();
	bool wanted = false;
	int rc;

	json_object_set_new(a, "last", last);
	/* What the hook has said may name any VM. */
	rc = sight_need_all(s, "look at the hook", e);
	if (rc == 0)
		rc = json_opt_bool(q, "test", &wanted, e);
	if (rc == 0 && wanted)
		rc = test(s, a, e);
	if (rc != 0)
		return rc;
	h = xmalloc(sizeof(*h));
	hook_status(s->srv->hook, h);
	events_counts(s->srv->events, &c);
	json_set_str(a, "hook", h->command);
	json_set_u64(a, "timeout_s", h->timeout_s);
	json_set_u64(a, "runs", h->runs);
	json_set_u64(a, "failures", h->failures);
	json_set_u64(a, "lost", c.lost);
	json_set_u64(a, "now", h->now);
	for (unsigned i = 0; i < h->nlast; i++)
		json_array_append_new(last, outcome_to_json(&h->last[i]));
	free(h->command);
	free(h);
	return 0;
}
