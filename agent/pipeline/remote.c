/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/remote.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/identity.h"
#include "agent/pipeline/interrupt.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/chunk.h"
#include "proto/lane_ssh.h"
#include "proto/lane_unix.h"
#include "proto/msg.h"

enum { SLICE_MS = 250 }; /* how late a signal may be noticed */

json_t *
remote_op(const char *op)
{
	json_t *j = json_object();

	json_set_str(j, "op", op);
	return j;
}

void
remote_ask_task(json_t *ask)
{
	const char *task = getenv("BACKSTAY_AGENT_TASK");

	if (task != NULL && *task != 0)
		json_set_str(ask, "task", task);
}

void
remote_ask_wait(json_t *ask, int wait_ms)
{
	if (wait_ms != 0)
		json_object_set_new(ask, "wait", json_integer(wait_ms));
}

int
remote_wait_ms(int call_ms, int wait_ms)
{
	return wait_ms < 0 ? INT_MAX : call_ms + wait_ms;
}

static int
send_call(struct remote *r, json_t *ask, struct err *e)
{
	struct buf *b;
	int rc;

	r->request++;
	b = lane_begin(r->lane, MSG_CALL, r->request);
	json_print(ask, b);
	json_decref(ask);
	rc = lane_end(r->lane, e);
	return rc != 0 ? rc : lane_flush(r->lane, e);
}

/* The peer's own words, with its name before them. */
static int
peer_error(struct remote *r, const struct frame *f, struct err *e)
{
	int rc = msg_error_parse(f->payload, f->len, e);

	if (rc != 0)
		return rc;
	return err_prefix(e, "%s", lane_peer(r->lane));
}

/* One frame; *done: it is the answer to ${request}. */
static int
take(struct remote *r, uint32_t request, int timeout_ms, struct frame *f,
    bool *done, struct err *e)
{
	int rc;

	*done = false;
	rc = lane_recv(r->lane, timeout_ms, f, e);
	if (rc != 0)
		return rc;
	if (f->type == MSG_ERROR)
		return peer_error(r, f, e);
	if (f->type != MSG_RESULT ||
	    (f->request != request && f->request != r->posted))
		return err_set(e, ERR_PROTO, "%s: %s where none was asked for",
		    lane_peer(r->lane), msg_name(f->type));
	if (f->request == r->posted)
		r->posted = 0;
	*done = f->request == request;
	return 0;
}

int
remote_call(struct remote *r, json_t *ask, int timeout_ms, json_t **answer,
    struct err *e)
{
	uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
	char op[32] = "";
	struct frame f;
	json_t *j;
	bool done;
	int rc;

	strncpy(
	    op, json_string_value(json_object_get(ask, "op")), sizeof(op) - 1);
	rc = send_call(r, ask, e);
	if (rc != 0)
		return rc;
	do {
		rc = take(r, r->request, SLICE_MS, &f, &done, e);
		if (rc != 0 && rc != ERR_TIMEOUT)
			return rc;
		if (!done && interrupt_pending())
			return err_set(e, ERR_CLOSED, "stopped by a signal");
		if (!done && now_ms() > deadline)
			return err_set(e, ERR_TIMEOUT,
			    "%s: no answer to \"%s\" within %d seconds",
			    lane_peer(r->lane), op, timeout_ms / 1000);
	} while (!done);
	rc = json_parse(f.payload, f.len, &j, e);
	if (rc != 0)
		return err_prefix(
		    e, "%s: answer to \"%s\"", lane_peer(r->lane), op);
	if (answer != NULL)
		*answer = j;
	else
		json_decref(j);
	return 0;
}

int
remote_post(struct remote *r, json_t *ask, struct err *e)
{
	int rc = send_call(r, ask, e);

	r->posted = r->request;
	return rc;
}

int
remote_poll(struct remote *r, struct err *e)
{
	struct frame f;
	bool done;
	int rc;

	if (r->posted == 0)
		return 0;
	rc = take(r, r->posted, 0, &f, &done, e);
	return rc == ERR_TIMEOUT ? 0 : rc;
}

static int
read_hello(struct remote *r, const json_t *j, struct err *e)
{
	const char *hash, *program = "?", *key = "", *uuid = "";
	uint64_t version, chunk_size;
	int rc;

	rc = json_get_u64(j, "version", &version, e);
	if (rc == 0)
		rc = json_opt_str(j, "program", &program, e);
	if (rc == 0)
		rc = json_get_u64(j, "chunk_size", &chunk_size, e);
	if (rc == 0)
		rc = json_get_str(j, "hash", &hash, e);
	if (rc == 0)
		rc = json_opt_str(j, "key", &key, e);
	if (rc == 0)
		rc = json_opt_str(j, "uuid", &uuid, e);
	if (rc != 0)
		return rc;
	if (version != PROTOCOL_VERSION)
		return err_set(e, ERR_UNSUP,
		    "the daemon (%.40s) speaks protocol %llu and this agent "
		    "%d: update the older of the two",
		    program, (unsigned long long)version, PROTOCOL_VERSION);
	if (strcmp(hash, "sha256") != 0)
		return err_set(e, ERR_UNSUP,
		    "the repository uses the hash \"%.40s\", which this agent "
		    "does not know: update the agent",
		    hash);
	if (!chunk_size_ok(chunk_size))
		return err_set(e, ERR_PROTO, "a chunk size of %llu",
		    (unsigned long long)chunk_size);
	r->chunk_size = (uint32_t)chunk_size;
	strncpy(r->key, key, sizeof(r->key) - 1);
	strncpy(r->uuid, uuid, sizeof(r->uuid) - 1);
	return 0;
}

static int
hello(struct remote *r, const char *feature, struct err *e)
{
	json_t *ask = remote_op("hello"), *answer, *features = json_array();
	int rc;

	json_set_u64(ask, "version", PROTOCOL_VERSION);
	json_set_str(ask, "program", "backstay-agent");
	if (feature != NULL)
		json_array_append_new(features, json_string(feature));
	json_object_set_new(ask, "features", features);
	rc = remote_call(r, ask, REMOTE_CALL_MS, &answer, e);
	if (rc != 0)
		return rc;
	rc = read_hello(r, answer, e);
	if (rc != 0)
		err_prefix(e, "%s", lane_peer(r->lane));
	json_decref(answer);
	return rc;
}

int
remote_open(const struct repo_url *url, const struct identity *id,
    struct remote *out, struct err *e)
{
	return remote_open_for(url, id, NULL, out, e);
}

int
remote_open_for(const struct repo_url *url, const struct identity *id,
    const char *feature, struct remote *out, struct err *e)
{
	struct lane_ssh_target t = { .host = url->host, .port = url->port };
	int rc;

	memset(out, 0, sizeof(*out));
	if (url->port == 0) {
		rc = lane_unix_connect(url->path, &out->lane, e);
	} else {
		t.key = id->key;
		t.known_hosts = id->known_hosts;
		rc = lane_ssh_connect(&t, &out->lane, e);
	}
	if (rc != 0)
		return rc;
	rc = hello(out, feature, e);
	if (rc != 0)
		remote_close(out);
	return rc;
}

void
remote_close(struct remote *r)
{
	lane_close(r->lane);
	r->lane = NULL;
}
