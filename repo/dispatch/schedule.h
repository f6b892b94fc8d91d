/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule: what is due for a VM.  Pure: one record a VM, a plan, and the wall
 * clock, in seconds since 1970.  repo/DESIGN.md 20 says what it keeps true.
 *
 * A *time* of a plan is dealt with once: it becomes the time that is due, in
 * place of one that still was, or it passes while the VM's job runs.  What is
 * due is run, again after failures, until it is done, given up, or another is
 * due.
 */
#ifndef REPO_DISPATCH_SCHEDULE_H
#define REPO_DISPATCH_SCHEDULE_H

#include "proto/base/err.h"
#include "proto/name.h"
#include "repo/dispatch/job.h"
#include "repo/dispatch/plan.h"

enum {
	SCHEDULE_LATE_S = 600,  /* what begins later than that was missed */
	SCHEDULE_TELL_S = 3600, /* told again so often at most */
	/* A clock that is set back by more was wrong before. */
	SCHEDULE_BACK_S = 86400,
	SCHEDULE_CUT_SHORT_MAX = 3 /* further tries after the daemon ended */
};

enum schedule_outcome {
	OUTCOME_NONE, /* there was no run yet */
	OUTCOME_DONE,
	OUTCOME_FAILED,
	OUTCOME_CANCELLED,
	OUTCOME_MISSED
};

/* What is known of a VM; kept in a file, but for what says otherwise. */
struct schedule_vm {
	char vm[VM_NAME_MAX + 1];
	char rule[PLAN_TEXT_MAX + 1]; /* the plan's schedule then */
	uint64_t handled;   /* all times up to then are dealt with; 0: new */
	uint64_t due;       /* the time that is to be run, or runs; 0: none */
	unsigned tries;     /* of it, that began */
	uint64_t began;     /* the last of them */
	uint64_t again;     /* the next one not before; 0 */
	uint64_t late_from; /* the first that waits, and nobody was told; 0 */
	uint64_t told;      /* when it was told that one was missed; 0 */
	bool runs;          /* in memory: its job is queued, or runs */
	/* The last time that was dealt with otherwise than in passing: */
	enum schedule_outcome outcome;
	uint64_t last_due, last_began, last_ended;
	char text[ERR_TEXT_MAX]; /* the backup's name, or why not */
	/* The last prune that had something to let go of: */
	uint64_t pruned; /* when; 0: never */
	uint64_t removed;
	char stopped[ERR_TEXT_MAX]; /* why it did not; "" */
};

enum schedule_state {
	SCHEDULE_NEVER,  /* it has no times, or none any more */
	SCHEDULE_WAITS,  /* for its next time */
	SCHEDULE_RUNS,   /* its job is queued, or runs */
	SCHEDULE_RETRY,  /* failed: waits a while */
	SCHEDULE_CLOSED, /* due: waits for a window */
	SCHEDULE_HOST,   /* due: no connected host has the VM */
	SCHEDULE_RUN     /* run it now */
};

struct schedule_view {
	enum schedule_state state;
	uint64_t until;  /* nothing changes before, but by others */
	uint64_t missed; /* tell that this time was missed; 0: nothing */
	bool made_up;    /* and that it will be made up for */
	bool changed;    /* the record did */
};

/** schedule_look(v, p, now, has_host): what is to be done with it now.
 * ${has_host}: a connected host could run it. */
struct schedule_view schedule_look(
    struct schedule_vm *v, const struct plan *p, uint64_t now, bool has_host);

/** schedule_began(v, now): its job was queued.
 * schedule_ended(v, p, now, state, text): and has ended, as JOB_DONE,
 * JOB_FAILED or JOB_CANCELLED.
 * schedule_unbegun(v): the job ended without having begun, since the window
 * closed: it is as if it had not been queued. */
void schedule_began(struct schedule_vm *v, uint64_t now);
void schedule_ended(struct schedule_vm *v, const struct plan *p, uint64_t now,
    enum job_state state, const char *text);
void schedule_unbegun(struct schedule_vm *v);

/**
 * schedule_resume(v, p, now, newest, name): at a start of the daemon, once.
 * ${newest}: when the VM's newest backup was made, ${name}; or 0.  A job that
 * had begun then may have been done.
 */
void schedule_resume(struct schedule_vm *v, const struct plan *p, uint64_t now,
    uint64_t newest, const char *name);

const char *schedule_outcome_name(enum schedule_outcome o);
const char *schedule_state_name(enum schedule_state s);

#endif
