/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agents: the calls of connected agents, and those by which people have agents
 * do something.  PROTOCOL.md 6.  What waits and who does it: repo/dispatch.
 */
#ifndef REPO_SERVE_AGENTS_H
#define REPO_SERVE_AGENTS_H

#include "repo/serve/session.h"

/** agents_queue(srv, jobs): the queue of the daemon; srv->jobs is there. */
struct queue *agents_queue(struct serve *srv, unsigned jobs);

/** agents_lane(s, op, e): what a lane is for is known by its calls: it works,
 * or it is an agent's.  Before each call but hello. */
int agents_lane(struct session *s, const char *op, struct err *e);

/** agents_task(s, q, kind, vm, other, job_vm, j, e): a job of ${job_vm} for a
 * call that may have the member "task": with that one's number, or with a new
 * one.  ${vm} and ${other} as queue_task_check has them, which says why not.
 * agents_begin(s, j, e): job_start, in one step with its task's. */
int agents_task(struct session *s, const json_t *q, enum job_kind kind,
    const char *vm, const char *other, const char *job_vm, struct job **j,
    struct err *e);
int agents_begin(struct session *s, struct job *j, struct err *e);

int serve_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int next_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int ended_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int agents_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int backup_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int restore_on_call(
    struct session *s, const json_t *q, json_t *a, struct err *e);
int cancel_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int jobs_call(struct session *s, const json_t *q, json_t *a, struct err *e);

#endif
