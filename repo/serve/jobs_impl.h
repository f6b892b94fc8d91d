/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_impl: the registry of jobs, for its own files. */
#ifndef REPO_SERVE_JOBS_IMPL_H
#define REPO_SERVE_JOBS_IMPL_H

#include <pthread.h>

#include "repo/serve/jobs.h"

struct jobs {
	void (*let_go)(void *arg, struct job *j);
	void *arg;
	struct events *events;   /* set before the first job */
	struct pace *pace;       /* likewise; or NULL */
	struct numbers *numbers; /* likewise */
	pthread_mutex_t mu;
	pthread_cond_t gone;                    /* with mu: a job has ended */
	struct job *first;                      /* guarded by mu, */
	uint64_t last_id;                       /* with all below */
	struct job_face ended[JOBS_ENDED_KEPT]; /* a ring */
	uint64_t nended;
	struct jobs_counts counts; /* of those that have ended */
};

/** jobs_find_running(a, id), jobs_find_ended(a, id): or NULL.  The registry is
 * locked. */
struct job *jobs_find_running(struct jobs *a, uint64_t id);
const struct job_face *jobs_find_ended(const struct jobs *a, uint64_t id);

/** job_face_to_json(f): as PROTOCOL.md 6 has it, but for its lanes' traffic. */
json_t *job_face_to_json(const struct job_face *f);

#endif
