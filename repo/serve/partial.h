/* SPDX-License-Identifier: Apache-2.0 */
/*
 * partial: incomplete manifests of running backups: so that one that is
 * interrupted sends nothing twice, and a long one does not stop the reclaimer.
 * STORE.md 8.
 */
#ifndef REPO_SERVE_PARTIAL_H
#define REPO_SERVE_PARTIAL_H

#include "repo/serve/serve.h"

/** partial_tick(srv, j, tools): publish what the backup ${j} has stored, if
 * that is due.  Its control lane, inside the job. */
void partial_tick(struct serve *srv, struct job *j, struct store_lane *tools);

/** partial_last(srv, j): the same for a backup that has failed, if it stored
 * anything since; from serve_let_go. */
void partial_last(struct serve *srv, struct job *j);

/** partial_expire(srv): drop those older than srv->keep_incomplete. */
void partial_expire(struct serve *srv);

#endif
