/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/session.h"

#include <limits.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"
#include "repo/serve/audited.h"
#include "repo/serve/conn.h"
#include "repo/serve/leaving.h"
#include "repo/serve/partial.h"

/* Before a lane has a job: a job's bytes shall not be on their way unpaid. */
enum { CALLS_WINDOW = 256 << 10 };

void
serve_dropped(struct serve *srv)
{
	atomic_store(&srv->drop_ms, now_ms());
	reclaimer_wake(srv->reclaimer);
}

void
serve_let_go(void *arg, struct job *j)
{
	struct serve *srv = arg;

	audited_job_end(srv, j);
	/* The session first: until then it may still change the store. */
	if (j->session != NULL) {
		if (j->face.state == JOB_FAILED ||
		    j->face.state == JOB_CANCELLED)
			partial_last(srv, j);
		store_end(j->session);
		/* It may have kept the reclaimer back. */
		reclaimer_wake(srv->reclaimer);
	}
	j->session = NULL;
	if (j->has_parent)
		leaving_release(srv, j->parent.vm, j->parent.id);
	for (int i = 0; i < 2; i++) {
		lock_release(j->lock[i]);
		j->lock[i] = NULL;
	}
	if (j->usage != NULL)
		keyring_job_end(srv->keyring, j->usage);
	j->usage = NULL;
	/* Last: its VM is free for the next one. */
	queue_job_ended(srv->queue, j->face.id, j->face.state, j->face.text);
}

int
session_works(struct session *s, struct err *e)
{
	int rc;

	if (s->use == LANE_WORKS)
		return 0;
	rc = conn_works(s->conn, e);
	if (rc == 0)
		rc = keyring_lane_use(
		    s->srv->keyring, s->key, s->usage, s->use, LANE_WORKS, e);
	s->ends = rc != 0;
	if (rc != 0)
		return rc;
	s->use = LANE_WORKS;
	lane_limit(s->lane, FRAME_PAYLOAD_MAX);
	return 0;
}

int
session_wait_ms(const json_t *q, int *wait_ms, struct err *e)
{
	const json_t *j = json_object_get(q, "wait");
	json_int_t v = json_integer_value(j);

	*wait_ms = 0;
	if (j == NULL)
		return 0;
	if (!json_is_integer(j) || v < -1 || v > INT_MAX)
		return err_set(e, ERR_PROTO,
		    "\"wait\" is a number of milliseconds, or -1");
	*wait_ms = (int)v;
	return 0;
}

int
session_look(void *arg, struct err *e)
{
	struct session *s = arg;

	if (atomic_load(&s->srv->stopping))
		return err_set(e, ERR_CLOSED, "the daemon is stopping");
	/* The daemon itself has none. */
	return s->lane != NULL ? lane_look(s->lane, e) : 0;
}

int
session_explain(struct err *e, int rc, const char *what)
{
	if (e->code == rc && e->text[0] != 0)
		return rc;
	if (rc == ERR_SYS)
		return err_set(e, rc,
		    "%s: the daemon's system failed; its log says how", what);
	return err_set(e, rc, "%s: %s", what, err_name(rc));
}

void
session_job(struct session *s, struct job *j, bool control)
{
	s->job = j;
	s->control = control;
	s->tools = store_lane_new(s->srv->store, domain_key(&j->domain));
	s->counted = traffic_join(&j->traffic);
	pace_lane(j->pace, 1);
	if (control && s->key != keyset_console())
		pace_key(j->pace, &s->key->bwlimit);
}

void
session_no_job(struct session *s)
{
	if (s->job == NULL)
		return;
	store_lane_free(s->tools);
	s->tools = NULL;
	traffic_leave(&s->job->traffic, s->counted);
	pace_lane(s->job->pace, -1);
	job_detach(s->job);
	s->job = NULL;
	s->control = false;
}

int
session_need_job(
    struct session *s, enum job_kind kind, uint8_t type, struct err *e)
{
	if (s->job == NULL)
		return err_set(
		    e, ERR_PROTO, "%s: this lane has no job", msg_name(type));
	if (s->job->face.kind != kind)
		return err_set(e, ERR_PROTO, "%s: this is a %s job",
		    msg_name(type), job_kind_name(s->job->face.kind));
	return 0;
}

static int
answer(struct session *s, const struct frame *f, struct err *e)
{
	if (!s->greeted && f->type != MSG_CALL)
		return err_set(e, ERR_PROTO, "%s: the first call is hello",
		    msg_name(f->type));
	switch (f->type) {
	case MSG_QUERY: return ingest_query(s, f, e);
	case MSG_PUT: return ingest_put(s, f, e);
	case MSG_NODE: return ingest_node(s, f, e);
	case MSG_TREE: return restore_tree(s, f, e);
	case MSG_READ: return restore_read(s, f, e);
	case MSG_CALL: return control_call(s, f, e);
	default:
		return err_set(e, ERR_UNSUP,
		    "a frame of type 0x%02x (%s) is no request of version %d",
		    f->type, msg_name(f->type), PROTOCOL_VERSION);
	}
}

/* As long as the lane has not to end: 0. */
static int
say_error(struct session *s, uint32_t request, const struct err *e)
{
	msg_error_print(lane_begin(s->lane, MSG_ERROR, request), e);
	return lane_end(s->lane, NULL);
}

/* What came before it had the job counts as little as what follows. */
static void
count(struct session *s)
{
	uint64_t in, out;

	lane_traffic(s->lane, &in, &out);
	atomic_fetch_add(&s->srv->bytes_in, in - s->in);
	atomic_fetch_add(&s->srv->bytes_out, out - s->out);
	if (s->job != NULL)
		traffic_count(
		    &s->job->traffic, s->counted, in - s->in, out - s->out);
	s->in = in;
	s->out = out;
}

/* What comes without a job, calls, is held to no rate: there is little. */
static size_t
pay(void *arg, size_t len, int timeout_ms)
{
	struct session *s = arg;
	size_t n;

	count(s);
	if (s->job == NULL || atomic_load(&s->srv->stopping))
		return len;
	n = pace_pay(s->job->pace, len, timeout_ms);
	if (n > 0)
		return n;
	/* It only waits for its turn; after its end for nothing. */
	if (job_ended_ms(s->job) != 0)
		return len;
	job_heard(s->job);
	return 0;
}

static size_t
window(void *arg)
{
	struct session *s = arg;

	return s->job != NULL ? pace_window(s->job->pace, LANE_WINDOW)
			      : CALLS_WINDOW;
}

/* Nothing came for a while: whether the lane should end, and what of. */
static int
look_around(struct session *s, uint64_t heard_ms, struct err *e)
{
	uint64_t idle = now_ms() - heard_ms, ended;

	/* But for the last word of one that is about to say it; then it is cut.
	 */
	if (atomic_load(&s->srv->stopping))
		return s->control && s->job != NULL && job_settled(s->job)
		    ? 0
		    : err_set(e, ERR_CLOSED, "the daemon is stopping");
	if (s->use == LANE_FRESH)
		return idle < SERVE_HELLO_MS
		    ? 0
		    : err_set(e, ERR_TIMEOUT, "no %s within %d s",
			  s->greeted ? "serve" : "hello",
			  SERVE_HELLO_MS / 1000);
	if (s->served != NULL && queue_lane_replaced(s->served, e))
		return ERR_CLOSED;
	if (s->job == NULL) {
		uint64_t most =
		    s->served != NULL ? SERVE_AGENT_IDLE_MS : SERVE_IDLE_MS;

		return idle < most ? 0
				   : err_set(e, ERR_TIMEOUT, "no call for %u s",
					 (unsigned)(most / 1000));
	}
	ended = job_ended_ms(s->job);
	if (ended == 0 || idle < SERVE_LINGER_MS ||
	    now_ms() - ended < SERVE_LINGER_MS)
		return 0;
	return job_alive(s->job, e);
}

/* Until the lane has to end; ${e} says why. */
static void
serve_frames(struct session *s, struct err *e)
{
	uint64_t heard = now_ms();
	struct frame f;
	int rc;

	for (;;) {
		rc = lane_recv(s->lane, SERVE_TICK_MS, &f, e);
		if (rc == ERR_TIMEOUT) {
			rc = look_around(s, heard, e);
			if (rc == 0)
				continue;
			say_error(s, 0, e);
			return;
		}
		if (rc == ERR_PROTO || rc == ERR_LIMIT)
			say_error(s, 0, e);
		if (rc != 0)
			return;
		*e = (struct err){ 0 };
		rc = answer(s, &f, e);
		if (rc != 0) {
			session_explain(e, rc, msg_name(f.type));
			say_error(s, f.request, e);
			/* A peer that cannot even say hello is no peer. */
			if (!s->greeted || s->ends)
				return;
		}
		heard = now_ms();
		count(s);
	}
}

/* Why the job of a lane ends that ended as ${e} says. */
static const char *
reason(const struct session *s, const struct err *e)
{
	struct keyset *keys;
	bool gone;

	if (atomic_load(&s->srv->stopping))
		return "the daemon is stopping";
	if (s->key == keyset_console())
		return e->text;
	keys = keyring_get(s->srv->keyring);
	gone = auth_find_blob(keyset_auth(keys), s->key->base64) == NULL;
	keyset_put(keys);
	return gone ? "its key was removed" : e->text;
}

void
session_run(struct session *s, const struct err *refused)
{
	struct err e = { 0 };
	struct frame f;

	if (refused != NULL) {
		if (lane_recv(s->lane, SERVE_HELLO_MS, &f, &e) == 0)
			say_error(s, f.request, refused);
		lane_flush(s->lane, NULL);
		return;
	}
	/* Until it is known what it is for. */
	lane_limit(s->lane, JSON_LEN_MAX);
	lane_pace(s->lane,
	    &(struct lane_pace){ .pay = pay, .window = window, .arg = s });
	atomic_fetch_add(&s->srv->nlanes, 1);
	serve_frames(s, &e);
	atomic_fetch_sub(&s->srv->nlanes, 1);
	lane_flush(s->lane, NULL);
	if (s->job != NULL && s->control)
		job_lost(s->job, ERR_CLOSED, reason(s, &e));
	session_no_job(s);
	if (s->prepared != NULL)
		job_drop(s->prepared);
	s->prepared = NULL;
	queue_lane_end(s->served);
	s->served = NULL;
	log_debug("lane of %s ended: %s", s->key->name, e.text);
}
