/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: the threads of a backup or restore.  The main thread owns the control
 * lane and shows the progress; each data lane is one thread with a connection
 * of its own.  The first failure is the job's; it stops all others, and all
 * are joined.
 */
#ifndef AGENT_PIPELINE_JOB_H
#define AGENT_PIPELINE_JOB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/pipeline/identity.h"
#include "agent/pipeline/progress.h"
#include "agent/pipeline/rate.h"
#include "agent/pipeline/remote.h"

enum { JOB_LANES_MAX = 64, JOB_LANES_DEFAULT = 4, JOB_TOKEN_MAX = 128 };

struct job;

/* Something else to look at while lanes run: what it returns but 0 ends the
 * job. */
typedef int job_watch(void *arg, struct err *e);

struct job_lane {
	struct job *job; /* set before start, as is the next */
	pthread_t thread;
	struct remote remote; /* owner thread only */
	bool open;            /* guarded by mu: ${remote} may be shut down */
};

struct job {
	/* Set before start: */
	const struct repo_url *url;
	const struct identity *id;
	struct remote control; /* main thread only */
	char token[JOB_TOKEN_MAX];
	uint64_t number;
	unsigned nlanes;
	bool has_key;
	uint8_t hash_key[HASH_KEY_LEN];
	uint64_t started_ms;
	int event_fd; /* written when a lane ends or the job fails */

	uint64_t stall_ms; /* 0: nobody minds */
	job_watch *watch;  /* or NULL */
	void *watch_arg;

	const char *phase; /* what it does now; main thread only */
	struct counters count;
	struct rate rate;
	struct lane_meter meter; /* of the data lanes */
	atomic_bool stop;

	pthread_mutex_t mu;
	bool failed;       /* guarded by mu */
	struct err err;    /* guarded by mu: the first failure */
	struct err limit;  /* guarded by mu: why a lane was turned away */
	unsigned nrunning; /* guarded by mu */
	unsigned nserved;  /* guarded by mu: lanes that came in */
	struct job_lane lane[JOB_LANES_MAX];
};

struct job_options {
	const struct repo_url *url;
	const struct identity *id;
	unsigned lanes;
	uint64_t bwlimit; /* bytes a second; 0: none */
	int wait_ms;      /* for a lock on the VM; 0: not, -1: for ever */
	/* So long no byte over any data lane, though one wants to send or to
	 * receive: ERR_TIMEOUT.  0: only LANE_STALL_MS counts. */
	unsigned stall_timeout_s;
	job_watch *watch; /* about 10 times a second, by the main thread */
	void *watch_arg;
};

/** job_open(j, o, e): connect the control lane, and from here on take signals
 * for a request to stop.  As remote_open. */
int job_open(struct job *j, const struct job_options *o, struct err *e);
void job_close(struct job *j);

/** job_begun(j, answer, e): take job, token, lanes_max and hash_key out of the
 * answer to "begin" or "restore".  ERR_PROTO. */
int job_begun(struct job *j, const json_t *answer, struct err *e);

/** What a lane does: use l->remote, attached to the job.  0 when there is no
 * more to do. */
typedef int job_work(struct job_lane *l, void *arg, struct err *e);

/** job_tell(j, phase, e): what it does from here on, as the daemon shows it: a
 * word; and tell the daemon, who may have ended the job.  Main thread. */
int job_tell(struct job *j, const char *phase, struct err *e);

/** job_run(j, what, quiet, work, arg, e): until all lanes are done.  ${what}
 * stands before the bar.  0 or the first failure.  May be called again: the
 * lanes then attach anew. */
int job_run(struct job *j, const char *what, bool quiet, job_work *work,
    void *arg, struct err *e);

/** job_stopped(j): whoever works should not begin anything new.  Any thread. */
static inline bool
job_stopped(const struct job *j)
{
	return atomic_load(&j->stop);
}

/** job_aside(j, work, arg, e): have a thread do what may take long, while this
 * one shows the daemon that the job lives; what ${work} returns.  Main thread.
 * If the daemon has ended the job, the next call says so. */
int job_aside(struct job *j, int (*work)(void *arg, struct err *e), void *arg,
    struct err *e);

/** job_finish(j, ok, text, e): tell the daemon how it ended; ${e} may be
 * NULL.  Main thread. */
int job_finish(struct job *j, bool ok, const char *text, struct err *e);

#endif
