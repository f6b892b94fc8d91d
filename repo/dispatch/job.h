/* SPDX-License-Identifier: Apache-2.0 */
/* job: what jobs are called; the words of the queue and of repo/serve/jobs. */
#ifndef REPO_DISPATCH_JOB_H
#define REPO_DISPATCH_JOB_H

#include <stdbool.h>

enum job_kind { JOB_BACKUP, JOB_RESTORE, JOB_DELETE, JOB_VERIFY };

/*
 * A job is in one of these, and goes one way only: queued, running, and then
 * one of the other three; or from queued to failed or cancelled.
 */
enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_QUEUED, JOB_CANCELLED };

/** job_kind_name(kind): "backup".  job_state_name(state): "running". */
const char *job_kind_name(enum job_kind kind);
const char *job_state_name(enum job_state state);

#endif
