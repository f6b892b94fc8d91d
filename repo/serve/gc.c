/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of the reclaimer: PROTOCOL.md 6. */
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/serve/session.h"

#define HOLD_MAX_S ((uint64_t)30 * 86400)

enum { WAIT_SLICE_MS = 500 };

/* Seconds until what is dead is gone, going by what was done until now. */
static uint64_t
time_left(const struct reclaim_status *r)
{
	if (!r->running || r->freed == 0 || r->busy_ms == 0)
		return 0;
	return (uint64_t)((double)r->dead * (double)r->busy_ms /
		   (double)r->freed / 1000) +
	    1;
}

json_t *
gc_to_json(struct serve *srv)
{
	struct reclaim_status r;
	json_t *o = json_object();
	const char *state;

	reclaimer_status(srv->reclaimer, &r);
	state = r.held_s > 0 ? "held"
	    : r.paused       ? "paused"
	    : r.running      ? "running"
			     : "idle";
	json_set_str(o, "state", state);
	json_set_u64(o, "dead", r.dead);
	json_set_u64(o, "rate", r.rate);
	json_set_u64(o, "held_s", r.held_s);
	json_set_u64(o, "left_s", time_left(&r));
	json_set_u64(o, "passes", r.passes);
	json_set_u64(o, "entries", r.entries);
	json_set_u64(o, "freed", r.freed);
	json_set_u64(o, "copied", r.copied);
	json_set_str(o, "last", r.code == 0 ? "done" : err_name(r.code));
	return o;
}

/* In slices: the peer may go, or the daemon stop. */
static int
wait_for_end(struct session *s, int wait_ms, struct err *e)
{
	uint64_t until = now_ms() + (uint64_t)(wait_ms > 0 ? wait_ms : 0);
	uint64_t ticket = reclaimer_ask(s->srv->reclaimer);
	int rc;

	for (;;) {
		uint64_t now = now_ms(), slice = WAIT_SLICE_MS;

		if (wait_ms >= 0 && now >= until)
			return err_set(
			    e, ERR_TIMEOUT, "reclaiming has not ended yet");
		if (wait_ms >= 0 && until - now < slice)
			slice = until - now;
		rc = reclaimer_wait_for(
		    s->srv->reclaimer, ticket, (int)slice, e);
		if (rc != ERR_TIMEOUT)
			return rc;
		rc = session_look(s, e);
		if (rc != 0)
			return rc;
	}
}

int
gc_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	struct reclaimer *r = s->srv->reclaimer;
	const char *action = "start";
	uint64_t rate = UINT64_MAX;
	int rc, wait_ms;

	rc = session_wait_ms(q, &wait_ms, e);
	if (rc == 0)
		rc = json_opt_str(q, "action", &action, e);
	if (rc == 0)
		rc = json_opt_u64(q, "rate", &rate, e);
	if (rc != 0)
		return rc;
	if (rate != UINT64_MAX)
		reclaimer_rate(r, rate);
	if (strcmp(action, "pause") == 0)
		reclaimer_pause(r, true);
	else if (strcmp(action, "resume") == 0)
		reclaimer_pause(r, false);
	else if (strcmp(action, "start") == 0)
		reclaimer_wake(r);
	else if (strcmp(action, "status") != 0)
		return err_set(e, ERR_INVAL,
		    "\"action\" is start, pause, resume or status");
	if (wait_ms != 0)
		rc = wait_for_end(s, wait_ms, e);
	if (rc == 0)
		json_object_set_new(a, "reclaim", gc_to_json(s->srv));
	return rc;
}

int
hold_call(struct session *s, const json_t *q, json_t *a, struct err *e)
{
	uint64_t seconds;
	int rc;

	rc = json_get_u64(q, "seconds", &seconds, e);
	if (rc != 0)
		return rc;
	if (seconds > HOLD_MAX_S)
		return err_set(e, ERR_LIMIT, "at most %llu days",
		    (unsigned long long)HOLD_MAX_S / 86400);
	reclaimer_hold(s->srv->reclaimer, seconds);
	json_object_set_new(a, "reclaim", gc_to_json(s->srv));
	return 0;
}
