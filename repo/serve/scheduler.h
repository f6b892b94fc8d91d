/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scheduler: the thread that has VMs backed up when the settings say so, and
 * the one that then lets go of what their rules do not keep.  What is due, and
 * when: repo/dispatch/schedule.h; what runs then: repo/dispatch/queue.h.
 */
#ifndef REPO_SERVE_SCHEDULER_H
#define REPO_SERVE_SCHEDULER_H

#include "repo/serve/session.h"

struct scheduler;

/**
 * scheduler_start(srv, out): reads REPO/schedule.json and goes on from there;
 * the catalog is filled, and the folder in srv->audit outlives it.  A file that
 * is lost or damaged is reported, and what was run is taken from the newest
 * backups.  ERR_SYS.
 * scheduler_stop(s): its threads have ended.  NULL, or twice, is nothing.
 * scheduler_free(s): behind queue_free, whose jobs tell it their ends.
 */
int scheduler_start(struct serve *srv, struct scheduler **out);
void scheduler_stop(struct scheduler *s);
void scheduler_free(struct scheduler *s);

/** scheduler_to_json(srv, key): for status: how many VMs that the key sees have
 * a schedule, and of how many the last run was missed or failed, or the last
 * prune stopped. */
json_t *scheduler_to_json(struct serve *srv, const struct auth_key *key);

int schedule_call(struct session *s, const json_t *q, json_t *a, struct err *e);

#endif
