/* SPDX-License-Identifier: Apache-2.0 */
/* session: one lane of the daemon, from hello to its end, in one thread. */
#ifndef REPO_SERVE_SESSION_H
#define REPO_SERVE_SESSION_H

#include <sys/types.h>

#include "proto/lane.h"
#include "proto/msg.h"
#include "repo/serve/serve.h"

/* Owner thread only. */
struct session {
	struct serve *srv;
	struct lane *lane;
	const struct auth_key *key;
	struct conn *conn; /* that it is of */
	struct usage *usage;
	enum lane_use use;         /* as usage counts it */
	struct queue_lane *served; /* or NULL: it is an agent's */
	bool ends;                 /* after what is answered now */
	uid_t uid;                 /* of a console */
	bool greeted;              /* said hello */
	bool control;              /* made ${job}, and ends it */
	struct job *job;           /* or NULL */
	struct job *prepared;     /* or NULL: for the begin that is to follow */
	struct store_lane *tools; /* while there is a job */
	int counted;              /* its number in the job's traffic, or -1 */
	uint64_t in, out;         /* what was counted there */
};

/**
 * session_run(s, refused): serve the lane until it ends, then let go of its
 * job.  The caller has set srv, lane, key, conn and usage, and keeps
 * them.  With
 * ${refused} the first frame is answered by that, and no other is read.
 */
void session_run(struct session *s, const struct err *refused);

/* For the modules that answer frames: */

/** session_works(s, e): the lane has work to do and counts as such from here
 * on.  ERR_LIMIT: there are too many; the lane then ends. */
int session_works(struct session *s, struct err *e);

/** session_job(s, j): the lane has a job from here on: ${s} gets its tools.
 * session_no_job(s): it has let go of it. */
void session_job(struct session *s, struct job *j, bool control);
void session_no_job(struct session *s);

/** session_need_job(s, kind, type, e): the lane has a job of that kind, or
 * ERR_PROTO naming the message. */
int session_need_job(
    struct session *s, enum job_kind kind, uint8_t type, struct err *e);

/** session_wait_ms(q, &wait_ms, e): the member "wait" of a call: how long to
 * wait for a lock; 0 where it is missing, -1: for ever. */
int session_wait_ms(const json_t *q, int *wait_ms, struct err *e);

/** session_look(s, e): while the lane waits for something else than frames:
 * 0, or ERR_CLOSED: the peer is gone, or the daemon stops.  A struct session,
 * so that it can be a lock's. */
int session_look(void *s, struct err *e);

/** session_explain(e, rc, what): make sure that ${e} says ${rc} and a text,
 * also where the failing call had none; returns ${rc}. */
int session_explain(struct err *e, int rc, const char *what);

/*
 * Answers to frames.  0: answered.  Else the caller answers ERROR with ${e};
 * a lane that cannot be written to fails at its next receive.
 */
int ingest_query(struct session *s, const struct frame *f, struct err *e);
int ingest_put(struct session *s, const struct frame *f, struct err *e);
int ingest_node(struct session *s, const struct frame *f, struct err *e);
int restore_tree(struct session *s, const struct frame *f, struct err *e);
int restore_read(struct session *s, const struct frame *f, struct err *e);
int control_call(struct session *s, const struct frame *f, struct err *e);

/* Calls that make and end jobs: ${q} asks, ${a} is filled. */
int ingest_prepare(
    struct session *s, const json_t *q, json_t *a, struct err *e);
int ingest_begin(struct session *s, const json_t *q, json_t *a, struct err *e);
int ingest_commit(struct session *s, const json_t *q, json_t *a, struct err *e);
int restore_begin(struct session *s, const json_t *q, json_t *a, struct err *e);

/* Calls without a lane's job. */
int delete_backups(
    struct session *s, const json_t *q, json_t *a, struct err *e);
int gc_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int set_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int hold_call(struct session *s, const json_t *q, json_t *a, struct err *e);

/** gc_to_json(srv): the reclaimer's state, as calls answer it. */
json_t *gc_to_json(struct serve *srv);

#endif
