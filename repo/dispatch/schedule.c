/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/dispatch/schedule.h"

#include <stdio.h>
#include <string.h>

static const char *const outcomes[] = { "none", "done", "failed", "cancelled",
	"missed" };
static const char *const states[] = { "never", "waits", "runs", "retry",
	"window", "host", "due" };

const char *
schedule_outcome_name(enum schedule_outcome o)
{
	return outcomes[o];
}

const char *
schedule_state_name(enum schedule_state s)
{
	return states[s];
}

static void
finish(struct schedule_vm *v, uint64_t now, enum schedule_outcome outcome,
    const char *text)
{
	v->outcome = outcome;
	v->last_due = v->due;
	v->last_began = v->tries > 0 ? v->began : 0;
	v->last_ended = now;
	snprintf(v->text, sizeof(v->text), "%s", text);
	v->due = 0;
	v->tries = 0;
	v->again = 0;
	v->late_from = 0;
	if (outcome != OUTCOME_MISSED)
		v->told = 0;
}

/* Its times are others, or it is new: what was before is not made up. */
static void
begin_anew(struct schedule_vm *v, const struct plan *p, uint64_t now)
{
	snprintf(v->rule, sizeof(v->rule), "%s", p->schedule);
	v->handled = now;
}

/*
 * The clock was set back.  By a day at most, or as much as lies between two
 * times: no time is run twice, and the wait is no longer than that.  By more:
 * it was wrong before, so what it brought does not count; all up to now is
 * dealt with either way.
 */
static bool
clock_back(struct schedule_vm *v, const struct plan *p, uint64_t now)
{
	uint64_t bound = SCHEDULE_BACK_S, next;
	bool changed = false;

	if (v->handled > now) {
		next = plan_next(p, v->handled);
		if (next != CALENDAR_NEVER && next - v->handled < bound)
			bound = next - v->handled;
		if (v->handled - now > bound) {
			v->handled = now;
			changed = true;
		}
	}
	if (v->due > now && v->due > v->handled) {
		v->due = now;
		changed = true;
	}
	if (v->again > now && v->again - now > plan_wait(p, v->tries)) {
		v->again = now + plan_wait(p, v->tries);
		changed = true;
	}
	return changed;
}

/* When a time could have begun at all. */
static uint64_t
ready(const struct plan *p, uint64_t due)
{
	uint64_t t = plan_opens(p, due);

	return t == CALENDAR_NEVER ? due : t;
}

static bool
is_late(const struct plan *p, uint64_t due, uint64_t now)
{
	uint64_t t = ready(p, due);

	return now > t && now - t > SCHEDULE_LATE_S;
}

/* The last of the times that have come is due, for all of them. */
static bool
take_times(struct schedule_vm *v, const struct plan *p, uint64_t now)
{
	uint64_t last = plan_last(p, v->handled, now);

	if (last == CALENDAR_NEVER)
		return false;
	if (!v->runs && v->late_from == 0)
		v->late_from = plan_next(p, v->handled);
	v->handled = last;
	if (v->runs)
		return true;
	v->due = last;
	v->tries = 0;
	v->again = 0;
	return true;
}

/* Times that passed without a run, and nobody was told. */
static void
tell_missed(struct schedule_vm *v, const struct plan *p, uint64_t now,
    struct schedule_view *out)
{
	if (v->due == 0 || v->late_from == 0 || v->tries > 0 ||
	    !is_late(p, v->late_from, now))
		return;
	if (v->told != 0 && now >= v->told && now - v->told < SCHEDULE_TELL_S)
		return;
	out->missed = v->late_from;
	out->made_up = p->catch_up || !is_late(p, v->due, now);
	out->changed = true;
	v->late_from = 0;
	v->told = now;
}

struct schedule_view
schedule_look(
    struct schedule_vm *v, const struct plan *p, uint64_t now, bool has_host)
{
	struct schedule_view out = { .state = SCHEDULE_NEVER,
		.until = CALENDAR_NEVER };

	if (v->handled == 0 || strcmp(v->rule, p->schedule) != 0) {
		begin_anew(v, p, now);
		out.changed = true;
	}
	if (p->ntimes == 0 && !v->runs) {
		out.changed |= v->due != 0;
		v->due = 0;
		return out;
	}
	out.changed |= clock_back(v, p, now);
	out.changed |= take_times(v, p, now);
	out.until = plan_next(p, v->handled > now ? v->handled : now);
	if (v->runs) {
		out.state = SCHEDULE_RUNS;
		return out;
	}
	tell_missed(v, p, now, &out);
	if (v->due != 0 && v->tries == 0 && !p->catch_up &&
	    is_late(p, v->due, now)) {
		finish(v, now, OUTCOME_MISSED,
		    has_host ? "it could not begin then"
			     : "no connected host has the VM");
		out.changed = true;
	}
	if (v->due == 0) {
		out.state = out.until == CALENDAR_NEVER ? SCHEDULE_NEVER
							: SCHEDULE_WAITS;
	} else if (v->again > now) {
		out.state = SCHEDULE_RETRY;
		if (v->again < out.until)
			out.until = v->again;
	} else if (plan_opens(p, now) != now) {
		out.state = SCHEDULE_CLOSED;
		if (plan_opens(p, now) < out.until)
			out.until = plan_opens(p, now);
	} else {
		out.state = has_host ? SCHEDULE_RUN : SCHEDULE_HOST;
		out.until = now;
	}
	return out;
}

void
schedule_began(struct schedule_vm *v, uint64_t now)
{
	v->tries++;
	v->began = now;
	v->late_from = 0;
	v->again = 0;
	v->runs = true;
}

void
schedule_ended(struct schedule_vm *v, const struct plan *p, uint64_t now,
    enum job_state state, const char *text)
{
	v->runs = false;
	if (state == JOB_DONE) {
		finish(v, now, OUTCOME_DONE, text);
	} else if (state == JOB_CANCELLED) {
		/* Whoever did it does not want it. */
		finish(v, now, OUTCOME_CANCELLED, text);
	} else if (v->tries > p->retries) {
		finish(v, now, OUTCOME_FAILED, text);
	} else {
		v->outcome = OUTCOME_FAILED;
		v->last_due = v->due;
		v->last_began = v->began;
		v->last_ended = now;
		snprintf(v->text, sizeof(v->text), "%s", text);
		v->again = now + plan_wait(p, v->tries);
	}
}

void
schedule_unbegun(struct schedule_vm *v)
{
	v->runs = false;
	if (v->tries > 0)
		v->tries--;
	if (v->tries == 0)
		v->late_from = v->due;
}

void
schedule_resume(struct schedule_vm *v, const struct plan *p, uint64_t now,
    uint64_t newest, const char *name)
{
	v->runs = false;
	if (v->due == 0 || v->tries == 0 || v->again != 0)
		return;
	if (newest >= v->began)
		finish(v, now, OUTCOME_DONE, name);
	else if (v->tries > p->retries + SCHEDULE_CUT_SHORT_MAX)
		finish(v, now, OUTCOME_FAILED,
		    "the daemon ended while it ran, again and again");
	else
		v->again = now;
}
