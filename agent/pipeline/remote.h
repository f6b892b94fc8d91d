/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote: a connection to a daemon: hello, and calls that answer JSON.
 * One thread's, as its lane is.
 */
#ifndef AGENT_PIPELINE_REMOTE_H
#define AGENT_PIPELINE_REMOTE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/pipeline/repo_url.h"
#include "proto/base/err.h"
#include "proto/lane.h"

struct identity;

enum {
	REMOTE_CALL_MS = 120000,
	/* All that was sent before must be on the NAS's disks first. */
	REMOTE_COMMIT_MS = 1200000,
	REMOTE_NAME_MAX = 64,
	REMOTE_UUID_LEN = 32
};

struct remote {
	struct lane *lane;
	uint32_t chunk_size;            /* of the repository */
	char key[REMOTE_NAME_MAX + 1];  /* what our key is called there */
	char uuid[REMOTE_UUID_LEN + 1]; /* of the repository, hex digits */
	uint32_t request;               /* of the last call */
	uint32_t posted;                /* unanswered remote_post, or 0 */
};

/**
 * remote_open(url, id, out, e): connect and say hello.  ${id} is looked at for
 * an ssh URL only.  ERR_UNSUP (another protocol, an unknown hash), ERR_PROTO,
 * ERR_LIMIT (too many connections), and what the lane says.  ${out} is to be
 * closed if 0 was returned.
 */
int remote_open(const struct repo_url *url, const struct identity *id,
    struct remote *out, struct err *e);

/** remote_open_for(..., feature, ...): the same, and hello has that feature:
 * "serve", on which the daemon lets an agent in beside full lanes of work. */
int remote_open_for(const struct repo_url *url, const struct identity *id,
    const char *feature, struct remote *out, struct err *e);
void remote_close(struct remote *r);

/**
 * remote_call(r, ask, timeout_ms, &answer, e): ${ask} is an object with "op",
 * and is used up.  ${answer} is the caller's (json_decref); NULL: not wanted.
 * A signal that asks us to stop ends the wait with ERR_CLOSED.  Otherwise the
 * peer's code and text, ERR_TIMEOUT, or what the lane says.
 */
int remote_call(struct remote *r, json_t *ask, int timeout_ms, json_t **answer,
    struct err *e);

/**
 * remote_post(r, ask, e): send a call and do not wait; one at a time.
 * remote_poll(r, e): take its answer if it is there: 0 if it was fine or is
 * not there yet (r->posted tells), else the peer's code and text.
 */
int remote_post(struct remote *r, json_t *ask, struct err *e);
int remote_poll(struct remote *r, struct err *e);

/** remote_op(op): a new question. */
json_t *remote_op(const char *op);

/** remote_ask_task(ask): this process does a task for `backstay-agent serve`
 * ($BACKSTAY_AGENT_TASK): have the daemon know which. */
void remote_ask_task(json_t *ask);

/** remote_ask_wait(ask, wait_ms): have the daemon wait for locks; -1: for ever.
 * remote_wait_ms(call_ms, wait_ms): how long to wait for such an answer. */
void remote_ask_wait(json_t *ask, int wait_ms);
int remote_wait_ms(int call_ms, int wait_ms);

#endif
