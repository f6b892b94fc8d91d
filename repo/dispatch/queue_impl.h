/* SPDX-License-Identifier: Apache-2.0 */
/* queue_impl: what the files of the queue share.  See repo/DESIGN.md 16. */
#ifndef REPO_DISPATCH_QUEUE_IMPL_H
#define REPO_DISPATCH_QUEUE_IMPL_H

#include <pthread.h>

#include "repo/dispatch/queue.h"

/*
 * Of a job that the queue knows.  WAITING: no agent has it.  GIVEN: it is an
 * agent's task and has not begun.  BEGUN: it runs, as a job of
 * repo/serve/jobs.  LEAVING: it has ended, but its process may still be there.
 */
enum entry_state { ENTRY_WAITING, ENTRY_GIVEN, ENTRY_BEGUN, ENTRY_LEAVING };

struct entry {
	struct entry *next; /* in q->waiting, by job; or in q->out */
	uint64_t job;
	enum job_kind kind;
	char vm[VM_NAME_MAX + 1];
	char other[VM_NAME_MAX + 1];   /* that a restore reads; "" */
	char named[NAME_PART_MAX + 1]; /* the agent it is for; "" */
	char why[QUEUE_WHY_MAX + 1];
	json_t *options; /* or NULL */
	uint64_t since;  /* seconds */
	uint64_t until_ms;
	void (*ended)(void *arg, uint64_t job, enum job_state state,
	    const char *text); /* NULL: told, or nobody asked */
	void *arg;
	enum entry_state state;
	unsigned tries; /* how often an agent was told of it */
	/* Unless WAITING: */
	struct agent *agent;
	uint8_t task[TASK_LEN];
	/* WAITING: that agent was lost with that task, and gets it back if it
	 * comes with it; or "". */
	char last[NAME_PART_MAX + 1];
	bool told;      /* a `next` has answered it */
	bool stop;      /* its agent is to end the process, */
	bool stop_told; /* and knows */
	bool gone;      /* BEGUN: its process has ended already */
};

/* A callback that is to be called when the mutex is let go. */
struct telling {
	struct telling *next;
	void (*ended)(
	    void *arg, uint64_t job, enum job_state state, const char *text);
	void *arg;
	uint64_t job;
	enum job_state state;
	char text[ERR_TEXT_MAX];
};

struct queue {
	struct queue_options o;
	pthread_mutex_t mu; /* guards all below */
	struct agents agents;
	struct entry *waiting; /* the oldest first */
	struct entry *last;
	unsigned nwaiting;
	struct entry *out; /* GIVEN, BEGUN, LEAVING */
	unsigned nout;     /* of which GIVEN or BEGUN */
	struct telling *telling, **telling_end;
	bool closed;
};

/* One lane; its thread's, but for what the queue's mutex guards. */
struct queue_lane {
	struct queue *q;
	char key[NAME_PART_MAX + 1];
	char from[AGENT_WORD_MAX + 1];
	bool may_backup, may_restore;
	pthread_cond_t work; /* with q->mu */
	struct agent *agent; /* guarded by q->mu; NULL: it does not serve */
	bool replaced;       /* guarded by q->mu */
	char by[2 * AGENT_WORD_MAX + 8]; /* by whom; guarded by q->mu */
	/* Tasks that nobody here knows, and the agent was told to end. */
	uint8_t stray[AGENT_RUNNING_MAX][TASK_LEN];
	unsigned nstray;
};

/* All of these: the mutex is held. */

/** entry_end(q, e, state, text): the job has ended without having begun, and
 * its task with it; frees ${e}. */
void entry_end(
    struct queue *q, struct entry *e, enum job_state state, const char *text);

/** entry_tell(q, e, state, text): its callback is called at queue_unlock. */
void entry_tell(
    struct queue *q, struct entry *e, enum job_state state, const char *text);

/** entry_back(q, e, why): a GIVEN one waits again, in its old place; or fails
 * after QUEUE_TRIES_MAX.  With ${lost} its agent may still come back with it:
 * entry_take_up, which says whether it could. */
void entry_back(struct queue *q, struct entry *e, bool lost, const char *why);
bool entry_take_up(
    struct queue *q, struct agent *g, const uint8_t task[TASK_LEN]);

/** entry_gone(q, e): the process of a LEAVING one has ended; frees ${e}. */
void entry_gone(struct queue *q, struct entry *e);

/** entry_give(q, e, g): a WAITING one is that agent's task from here on. */
void entry_give(struct queue *q, struct entry *e, struct agent *g);

/** queue_busy(q, e): the job that has one of its VMs in hand, or 0. */
uint64_t queue_busy(struct queue *q, const struct entry *e);

/** queue_dispatch(q): hand over all that can be; whoever frees a place, or
 * brings an agent or a job, calls it. */
void queue_dispatch(struct queue *q);

/** queue_nobody(q, e, out, len): why no agent that is connected could take it;
 * false: one could. */
bool queue_nobody(
    struct queue *q, const struct entry *e, char *out, size_t len);

/** queue_reason(q, e, out, len): why a WAITING one waits. */
void queue_reason(
    struct queue *q, const struct entry *e, char *out, size_t len);

/** queue_find_task(q, task): one that is out, or NULL. */
struct entry *queue_find_task(struct queue *q, const uint8_t task[TASK_LEN]);

/** queue_forget_lost(q, g): the agent's tasks after it was lost for longer than
 * a grace. */
void queue_forget_lost(struct queue *q, struct agent *g);

/** queue_lock; queue_unlock(q): and call back. */
void queue_lock(struct queue *q);
void queue_unlock(struct queue *q);

#endif
