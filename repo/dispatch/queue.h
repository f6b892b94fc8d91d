/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue: jobs that wait for an agent, and tasks that agents have in hand.
 *
 * A job has one number from the moment it is queued to its end, and is in one
 * state at a time (job.h).  A *task* is the random token by which daemon and
 * agent speak of a job that was handed over.  It belongs to one agent, from the
 * handing over until that agent says that its process has ended, or is lost;
 * until then it holds the agent's place and the VM, also where the job itself
 * has ended.  A job that is handed over again gets another task: the earlier
 * one is worth nothing from then on.
 *
 * Any thread.  Callbacks: see struct queue_options.
 */
#ifndef REPO_DISPATCH_QUEUE_H
#define REPO_DISPATCH_QUEUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/name.h"
#include "repo/dispatch/agents.h"
#include "repo/dispatch/job.h"

enum {
	QUEUE_MAX = 10000,      /* jobs that wait */
	QUEUE_TRIES_MAX = 3,    /* handed over so often without beginning */
	QUEUE_GRACE_MS = 30000, /* a lost agent may come back with its tasks */
	QUEUE_STRAY_MS = 60000, /* for processes that nobody knows to end */
	QUEUE_JOBS_MAX = 256,   /* at a time: the setting's bound */
	QUEUE_WAIT_MAX_MS = 60000, /* of one `next` */
	QUEUE_TICK_MS = 500,    /* who waits looks whether his peer is there */
	QUEUE_LISTED_MAX = 500, /* of those that wait, in `jobs` */
	QUEUE_OPTIONS_MAX = 32 << 10, /* bytes of a job's options, as text */
	QUEUE_WHY_MAX = 31
};

/* How a job ended that never began: for the list of those that ended. */
struct queue_end {
	uint64_t job;
	enum job_kind kind;
	const char *vm;
	const char *other; /* that a restore of another VM reads; or "" */
	const char *host;  /* the agent that it was for; or "" */
	uint64_t since;
	enum job_state state; /* JOB_FAILED or JOB_CANCELLED */
	const char *text;
};

struct queue_options {
	unsigned jobs;     /* at a time, over all hosts */
	unsigned grace_ms; /* 0: QUEUE_GRACE_MS */
	/* The number of a new job.  It may wait for a disk, and so is called
	 * without a mutex. */
	uint64_t (*id)(void *arg);
	/* Each of these is called with the queue's mutex held; they may take
	 * the mutexes of jobs and of events, and no other. */
	void (*note)(void *arg, const struct queue_end *end); /* or NULL */
	/* A job at that VM that is not the queue's, or 0; or NULL. */
	uint64_t (*busy)(void *arg, const char *vm);
	/* An agent is not there for QUEUE_GRACE_MS, or is back; or NULL. */
	void (*seen)(
	    void *arg, const char *agent, const char *host, bool connected);
	/* Cancel a job that runs: called without a mutex.  As queue_cancel. */
	int (*cancel)(void *arg, uint64_t job, const char *who, struct err *e);
	void *arg;
};

/* What a job ended with that was not handed over before its until_ms, and then
 * why. */
#define QUEUE_LATE "it could not begin in time"

struct queue;

struct queue *queue_new(const struct queue_options *o);

/** queue_free(q): no lane is left; what waits is forgotten, untold. */
void queue_free(struct queue *q);

/** queue_jobs(q, jobs): from now on so many at a time. */
void queue_jobs(struct queue *q, unsigned jobs);

/* --- who wants something done */

struct queue_request {
	enum job_kind kind; /* JOB_BACKUP or JOB_RESTORE */
	/* That is backed up, or whose disks are written. */
	const char *vm;
	const char *agent; /* key's name; NULL: whoever has the VM (backups) */
	json_t *options;   /* copied; NULL: none.  A restore's has "backup" */
	const char *why;   /* "schedule", "console" */
	/* now_ms() until when it must have been handed over, or it fails; 0:
	 * it waits as long as it takes. */
	uint64_t until_ms;
	/*
	 * Told once, of every job that queue_add took, without any lock; it
	 * may call the queue.  ${text} is the name of the backup, or why it
	 * failed, and is the callee's only until it returns.  Or NULL.
	 */
	void (*ended)(
	    void *arg, uint64_t job, enum job_state state, const char *text);
	void *arg;
};

/**
 * queue_add(q, r, job, e): queue one more.  It is in the list of jobs from here
 * on, whether or not an agent is there that could take it; if QUEUE_MAX wait,
 * one that none could take fails for it, if one can take this.  ERR_LIMIT
 * (QUEUE_MAX, QUEUE_OPTIONS_MAX), ERR_INVAL, ERR_CLOSED after queue_close;
 * ERR_BUSY: a restore, and there is another onto that VM.
 */
int queue_add(struct queue *q, const struct queue_request *r, uint64_t *job,
    struct err *e);

/**
 * queue_cancel(q, job, who, e): end it: one that waits, one that was handed
 * over, one that runs, also one that was never in the queue.  It has ended when
 * this returns 0; its process on the host is told to end.  ERR_NOENT; ERR_BUSY:
 * it cannot be stopped any more; or what options.cancel says.
 */
int queue_cancel(struct queue *q, uint64_t job, const char *who, struct err *e);

/** queue_close(q, text): what waits fails with that text; nothing is taken or
 * handed over any more, and lanes that wait get ERR_CLOSED. */
void queue_close(struct queue *q, const char *text);

/** queue_takes(q, r, e): a connected agent could take it, once there is a
 * place; ERR_NOENT says why none can. */
int queue_takes(struct queue *q, const struct queue_request *r, struct err *e);

/** queue_to_json(q, job, sees, arg, jobs): append the jobs of the queue as
 * `jobs` has them, oldest first, QUEUE_LISTED_MAX at most; returns how many
 * more wait.  With ${job} that one alone, if it is there.  ${sees}: as if there
 * were none but those of VMs for which it says yes, with the queue's mutex
 * held; NULL: all. */
unsigned queue_to_json(struct queue *q, uint64_t job,
    bool (*sees)(void *arg, const char *vm), void *arg, json_t *jobs);

/** queue_agents_to_json(q, after, next): agents that are connected, or were, by
 * name, behind
 * ${after} (or NULL); as many as an answer can have: ${next} (room:
 * NAME_PART_MAX + 1) is the last one's name then, else "". */
json_t *queue_agents_to_json(struct queue *q, const char *after, char *next);

/** queue_vms(q, n): names of the VMs that connected agents back up, in any
 * order, some twice; the caller's: free. */
char (*queue_vms(struct queue *q, size_t *n))[VM_NAME_MAX + 1];

/* What the agent ${name} reports of a VM. */
struct queue_look {
	bool connected;
	bool may_restore; /* its key's role */
	char host[AGENT_WORD_MAX + 1];
	bool has_vm;
	struct agent_vm vm; /* copied, with its disks */
};

/** queue_look(q, agent, vm, out): as things are now; queue_look_fini. */
void queue_look(
    struct queue *q, const char *agent, const char *vm, struct queue_look *out);
void queue_look_fini(struct queue_look *l);

/** queue_counts(q, waiting, running, agents): how many there are. */
void queue_counts(
    struct queue *q, unsigned *waiting, unsigned *running, unsigned *agents);

/** queue_tick(q): about once a second: what is overdue. */
void queue_tick(struct queue *q);

/* --- a lane of an agent: one thread's, from its first serve to its end */

/** queue_lane_new(q, key, from, may_backup, may_restore): not yet serving.
 * queue_lane_end(l): it is gone; NULL is nothing. */
struct queue_lane *queue_lane_new(struct queue *q, const char *key,
    const char *from, bool may_backup, bool may_restore);
void queue_lane_end(struct queue_lane *l);

/** queue_serve(l, s, e): it is connected, with that list; ${s} is taken over,
 * also on failure.  An earlier lane of the same key serves no more: its calls
 * get ERR_CLOSED.  ERR_LIMIT (AGENTS_MAX), ERR_CLOSED. */
int queue_serve(struct queue_lane *l, struct agent_says *s, struct err *e);

/** queue_lane_replaced(l, e): it serves no more, and ${e} says why. */
bool queue_lane_replaced(struct queue_lane *l, struct err *e);

/* What a `next` answers. */
struct queue_told {
	enum { QUEUE_NOTHING, QUEUE_DO, QUEUE_STOP } what;
	uint8_t task[TASK_LEN];
	uint64_t job;
	enum job_kind kind;
	char vm[VM_NAME_MAX + 1];
	json_t *options; /* the caller's: json_decref */
};

/**
 * queue_next(l, running, n, told, wait_ms, look, arg, out, e): wait for
 * something to do.  ${told}: ${running} has all tasks that the agent has in
 * hand; those that it should have and that have not begun go back.  ${look} is
 * called every QUEUE_TICK_MS without a lock; what is not 0 ends the wait.
 */
int queue_next(struct queue_lane *l, uint8_t (*running)[TASK_LEN], unsigned n,
    bool told, unsigned wait_ms, int (*look)(void *arg, struct err *e),
    void *arg, struct queue_told *out, struct err *e);

/** queue_task_ended(l, task, ok, text): its process is gone. */
void queue_task_ended(struct queue_lane *l, const uint8_t task[TASK_LEN],
    bool ok, const char *text);

/* --- lanes of the process that does a task */

/**
 * queue_task_check(q, task, key, kind, vm, other, job, e): the task was handed
 * to that key for that kind and VM, and has not begun; ${job} is its number.
 * ${other}: the VM that a restore reads, or NULL.
 * ERR_NOENT: there is no such task (any more).
 *
 * queue_task_begin(..., start, arg, e): the same, and in one step with it the
 * job runs: ${start} is called with the queue's mutex held.
 */
int queue_task_check(struct queue *q, const uint8_t task[TASK_LEN],
    const char *key, enum job_kind kind, const char *vm, const char *other,
    uint64_t *job, struct err *e);
int queue_task_begin(struct queue *q, const uint8_t task[TASK_LEN],
    const char *key, uint64_t job, void (*start)(void *arg), void *arg,
    struct err *e);

/** queue_job_ended(q, job, state, text): a job that had begun has ended; all
 * that it owned is let go of.  Nothing where it is not the queue's. */
void queue_job_ended(
    struct queue *q, uint64_t job, enum job_state state, const char *text);

#endif
