/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: what runs now, and how the last ones ended.
 *
 * A job is made by a lane, its control lane, and ends with it; other lanes of
 * the same key join by its token.  It owns its locks and its session with the
 * store: they are let go as soon as the job has ended and no call is inside.
 * The memory stays until the last of its lanes has detached.  Any thread.
 */
#ifndef REPO_SERVE_JOBS_H
#define REPO_SERVE_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/manifest.h"
#include "repo/catalog/domain.h"
#include "repo/catalog/locks.h"
#include "repo/dispatch/queue.h"
#include "repo/notify/events.h"
#include "repo/serve/keyring.h"
#include "repo/serve/numbers.h"
#include "repo/serve/pace.h"
#include "repo/serve/plans.h"
#include "repo/serve/traffic.h"
#include "repo/store/store.h"

enum {
	JOB_TOKEN_LEN = 16,
	JOBS_ENDED_KEPT = 100,
	JOB_PHASE_MAX = 15,     /* what it does now, a word */
	JOB_SILENCE_MS = 120000 /* no frame on any lane: it ends */
};

enum { JOB_KINDS = JOB_VERIFY + 1, JOB_STATES = JOB_CANCELLED + 1 };

/* What its agent told last, in bytes.  PROTOCOL.md 6. */
struct job_progress {
	uint64_t done;
	uint64_t total;
	uint64_t read;
	uint64_t holes;
	uint64_t unchanged;
	uint64_t deduplicated;
	uint64_t sent;
	uint64_t stored;
};

/* How a job looks from outside; kept after its end. */
struct job_face {
	uint64_t id;
	enum job_kind kind;
	char vm[VM_NAME_MAX + 1];
	char other[VM_NAME_MAX + 1];  /* of a restore from one to another; "" */
	char host[NAME_PART_MAX + 1]; /* name of the key */
	uint64_t since;               /* seconds since 1970 */
	enum job_state state;         /* guarded by the registry's mutex, */
	unsigned lanes;               /* with all below */
	struct job_progress progress;
	char phase[JOB_PHASE_MAX + 1];
	uint64_t started_ms;     /* now_ms() of its start, */
	uint64_t took_ms;        /* and to its end, once that has come */
	char text[ERR_TEXT_MAX]; /* the backup's name, or why it failed */
};

struct jobs;

struct job {
	struct jobs *all;
	struct job_face face;
	uint8_t token[JOB_TOKEN_LEN];
	bool by_task; /* the queue has it, too: as this */
	uint8_t task[TASK_LEN];

	/* Set by the control lane before job_start. */
	unsigned lanes_max;
	struct domain domain;
	struct manifest manifest; /* being made, or being restored */
	bool has_parent;
	struct manifest parent;
	int parent_volume[MANIFEST_VOLUMES_MAX]; /* of each; -1: none */
	struct store_session *session;
	struct lock *lock[2];
	struct usage *usage;
	uint64_t audit; /* number of its line in the audit log, or 0 */
	bool onto; /* a restore that is told of before disks become others */
	struct plans *plans;     /* of a restore's lanes; freed with the job */
	struct traffic traffic;  /* of its lanes */
	struct pace_lanes *pace; /* likewise; freed with the job */
	/* The control lane's, then whoever lets go: */
	bool has_partial; /* its last incomplete manifest */
	uint8_t partial[BACKUP_ID_LEN];

	/* Guarded by the registry's mutex. */
	struct job *next;
	bool started;
	bool torn;    /* what it owned was let go */
	bool settled; /* it cannot be cancelled any more */
	int code;     /* of its failure */
	unsigned refs;
	unsigned inside;
	uint64_t heard_ms;
	uint64_t ended_ms;
};

/** jobs_new(let_go, arg): ${let_go} releases what a job owns; it is called
 * once for each, without any lock.  jobs_free(j): all have ended, no lane is
 * left. */
struct jobs *jobs_new(void (*let_go)(void *arg, struct job *j), void *arg);
void jobs_free(struct jobs *a);

/** jobs_tell(a, v): their ends are posted there; before the first job. */
void jobs_tell(struct jobs *a, struct events *v);

/** jobs_number(a, n): before the first job: where their numbers come from; else
 * they are 1, 2, 3, ... */
void jobs_number(struct jobs *a, struct numbers *n);

/** jobs_pace(a, p): before the first job: what their lanes are held to. */
void jobs_pace(struct jobs *a, struct pace *p);

/**
 * job_new(a, kind, vm, host): ${host} is the key's name, or that of
 * keyset_console() itself; with an id, a token and one lane: the caller's.
 * job_new_as: with a number that jobs_id gave, of the queue's.  job_new may
 * sync a file, as numbers_next: no lock is held.
 * job_start(j): it is listed and can be attached to.
 * job_drop(j): it could not start: what it owns is let go, and it is freed.
 */
struct job *job_new(
    struct jobs *a, enum job_kind kind, const char *vm, const char *host);
struct job *job_new_as(struct jobs *a, uint64_t id, enum job_kind kind,
    const char *vm, const char *host);
void job_start(struct job *j);
void job_drop(struct job *j);

/** job_attach(a, token, host, out, e): one more lane.  ERR_NOENT (no running
 * job of that key has this token), ERR_LIMIT.  job_detach(j): a lane, the
 * control lane too, has done with it. */
int job_attach(struct jobs *a, const uint8_t token[JOB_TOKEN_LEN],
    const char *host, struct job **out, struct err *e);
void job_detach(struct job *j);

/** job_enter(j, e): until job_leave what it owns stays.  ERR_CLOSED, with why
 * it ended.  job_alive(j, e): the same look without staying. */
int job_enter(struct job *j, struct err *e);
void job_leave(struct job *j);
int job_alive(struct job *j, struct err *e);

/** job_heard(j): something moved on one of its lanes. */
void job_heard(struct job *j);

/** job_ended_ms(j): now_ms() of its end, or 0. */
uint64_t job_ended_ms(struct job *j);

void job_progress(struct job *j, const struct job_progress *p);

/** job_phase(j, phase, e): what it does now: a word of [a-z-], or ERR_INVAL. */
int job_phase(struct job *j, const char *phase, struct err *e);

/** job_end(j, state, code, text): the first end counts, others are nothing.
 * ${text}: the name of the backup, or why it failed. */
void job_end(struct job *j, enum job_state state, int code, const char *text);

/** job_lost(j, code, text): job_end as a failure, of one whose lanes went or
 * went silent.  Of a settled restore nobody here knows how it ended then, and
 * its text says so. */
void job_lost(struct job *j, int code, const char *text);

/** job_settle(j, e): what it is for is done now, and neither a cancel nor a
 * stop of the daemon ends it any more: ERR_CLOSED if it has ended before.
 * job_settled(j): that was said, and it has not ended. */
int job_settle(struct job *j, struct err *e);
bool job_settled(struct job *j);

/** jobs_cancel(a, id, who, e): end one that runs.  ERR_NOENT; ERR_BUSY: it is
 * settled; ERR_CLOSED: it has ended already. */
int jobs_cancel(struct jobs *a, uint64_t id, const char *who, struct err *e);

/** jobs_id(a): the next number, as numbers_next.  jobs_note(a, end): one of the
 * queue's has ended and never began.  jobs_busy(a, vm): a backup or restore of
 * that VM that runs, or 0.  For struct queue_options. */
uint64_t jobs_id(struct jobs *a);
void jobs_note(struct jobs *a, const struct queue_end *end);
uint64_t jobs_busy(struct jobs *a, const char *vm);

/** jobs_expire(a, silence_ms): end those that were silent for longer.
 * jobs_end_all(a, text): all of them, but those that are settled, which are
 * about to end as what they are.  jobs_settled_wait(a, until_ms): until then,
 * or until these have ended: whether they have. */
void jobs_expire(struct jobs *a, uint64_t silence_ms);
void jobs_end_all(struct jobs *a, const char *text);
bool jobs_settled_wait(struct jobs *a, uint64_t until_ms);

/** jobs_running(a): how many.  jobs_to_json(a): an array as PROTOCOL.md 6 has
 * it: running ones first, then the last that ended, newest first. */
unsigned jobs_running(struct jobs *a);
json_t *jobs_to_json(struct jobs *a);

/** jobs_with_queued(a, queued): with those between running and ended ones; of
 * them which have begun since they were looked up are left out. */
json_t *jobs_with_queued(struct jobs *a, json_t *queued);

/** jobs_one_to_json(a, id): that one as it is in such an array; or null. */
json_t *jobs_one_to_json(struct jobs *a, uint64_t id);

/* By kind and state: JOB_RUNNING now, the others since the start. */
struct jobs_counts {
	uint64_t n[JOB_KINDS][JOB_STATES];
};
void jobs_counts(struct jobs *a, struct jobs_counts *out);

#endif
