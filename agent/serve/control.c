/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/control.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/remote.h"
#include "agent/serve/backoff.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	/* A question under way holds up what else is to be said. */
	NEXT_IDLE_MS = 5000,
	NEXT_BUSY_MS = 1000,
	ANSWER_MS = 30000, /* beyond that */
	FIRST_LOOK_MS = 10000,
	/* A connection that did not last as long was none. */
	LASTED_MS = 10000,
	STOP_S = 4,
	STATUS_MAX = 200
};

struct control {
	struct control_options o; /* set before start, as is the next */
	pthread_t thread;

	/* The thread's: */
	struct remote remote;
	uint64_t told_version; /* of the lookout; 0: nothing was told */
	unsigned told_jobs;
	char said[ERR_TEXT_MAX]; /* the last complaint */
	struct backoff backoff;

	pthread_mutex_t mu; /* guards the rest */
	pthread_cond_t cond;
	bool open;     /* ${remote} may be shut down */
	bool stopping; /* nothing more is asked for */
	bool quit;     /* at once */
	bool ended;    /* the thread has */
	char status[STATUS_MAX];
};

static bool
stopping(struct control *c)
{
	bool stop;

	pthread_mutex_lock(&c->mu);
	stop = c->stopping || c->quit;
	pthread_mutex_unlock(&c->mu);
	return stop;
}

/* Stopping with nothing left to tell, or at once. */
static bool
finished(struct control *c)
{
	unsigned n, nrunning;
	bool stop, quit;

	desk_counts(c->o.desk, &n, &nrunning);
	pthread_mutex_lock(&c->mu);
	stop = c->stopping;
	quit = c->quit;
	pthread_mutex_unlock(&c->mu);
	return quit || (stop && n == 0);
}

static void
set_status(struct control *c, const char *text)
{
	pthread_mutex_lock(&c->mu);
	snprintf(c->status, sizeof(c->status), "%s", text);
	pthread_mutex_unlock(&c->mu);
	desk_wake(c->o.desk);
}

/* So long, or until somebody has something to say to us. */
static void
rest(struct control *c, unsigned ms)
{
	uint64_t until = now_ms() + ms;

	pthread_mutex_lock(&c->mu);
	while (!c->quit && cond_wait_until(&c->cond, &c->mu, until))
		if (c->stopping)
			break;
	pthread_mutex_unlock(&c->mu);
}

/* --- what is said */

static int
tell_list(struct control *c, struct err *e)
{
	const struct conf *conf = conf_get(c->o.now);
	const struct inventory *v = lookout_get(c->o.lookout);
	/* Before the list, so that what changes now is told again. */
	uint64_t version = lookout_version(c->o.lookout);
	unsigned jobs = (unsigned)conf_number(conf, CONF_JOBS);
	json_t *ask = remote_op("serve");
	char host[NAME_PART_MAX + 1];
	unsigned ntold = 0;
	int rc;

	identity_hostname(host, sizeof(host));
	json_set_str(ask, "version", c->o.version);
	json_set_str(ask, "host", host);
	json_set_u64(ask, "jobs", jobs);
	json_object_set_new(
	    ask, "vms", v != NULL ? inventory_json(v, &ntold) : json_array());
	if (v != NULL && ntold < v->nvms)
		log_error("of %u machines only the first %u are offered: more "
			  "cannot be told at once",
		    v->nvms, ntold);
	json_object_set_new(ask, "running", desk_running(c->o.desk));
	lookout_put(c->o.lookout, v);
	conf_put(c->o.now, conf);
	rc = remote_call(&c->remote, ask, REMOTE_CALL_MS, NULL, e);
	if (rc == ERR_UNSUP)
		return err_set(e, rc,
		    "%s does not know how to have agents do something: update "
		    "it",
		    lane_peer(c->remote.lane));
	if (rc == 0) {
		c->told_version = version;
		c->told_jobs = jobs;
	}
	return rc;
}

static bool
list_is_old(struct control *c)
{
	const struct conf *conf = conf_get(c->o.now);
	unsigned jobs = (unsigned)conf_number(conf, CONF_JOBS);

	conf_put(c->o.now, conf);
	return c->told_version != lookout_version(c->o.lookout) ||
	    c->told_jobs != jobs;
}

static int
tell_ends(struct control *c, struct err *e)
{
	struct desk_end end;
	json_t *ask;
	int rc;

	while (desk_ended(c->o.desk, &end)) {
		ask = remote_op("ended");
		json_set_str(ask, "task", end.token);
		json_set_bool(ask, "ok", end.ok);
		json_set_str(ask, "text", end.text);
		rc = remote_call(&c->remote, ask, REMOTE_CALL_MS, NULL, e);
		/* What it makes of it is its own affair. */
		if (rc != 0 && rc != ERR_NOENT && rc != ERR_INVAL)
			return rc;
		desk_told(c->o.desk, end.token);
	}
	return 0;
}

/* --- what is asked */

static void
take_task(struct control *c, const json_t *answer)
{
	struct task t;
	struct err e = { 0 };
	int rc = task_parse(answer, &t, &e);

	if (rc == 0 && desk_give(c->o.desk, &t)) {
		log_info("job %llu: %s of %s", (unsigned long long)t.job,
		    t.restore ? "restore" : "backup", t.vm);
		return;
	}
	/* Not in "running", so that it goes back into the queue, or fails with
	 * its second try. */
	if (rc != 0)
		log_error("a task that cannot be done: %s", e.text);
	task_fini(&t);
}

static int
ask_next(struct control *c, struct err *e)
{
	const char *cancel = NULL;
	unsigned n, nrunning, wait;
	json_t *ask = remote_op("next"), *answer;
	int rc;

	desk_counts(c->o.desk, &n, &nrunning);
	wait = n > 0 ? NEXT_BUSY_MS : NEXT_IDLE_MS;
	json_set_u64(ask, "wait", wait);
	json_object_set_new(ask, "running", desk_running(c->o.desk));
	rc = remote_call(&c->remote, ask, (int)wait + ANSWER_MS, &answer, e);
	if (rc != 0)
		return rc;
	rc = json_opt_str(answer, "cancel", &cancel, e);
	if (rc == 0 && cancel != NULL && task_token_ok(cancel))
		desk_cancel(c->o.desk, cancel);
	if (rc == 0 && json_object_get(answer, "task") != NULL)
		take_task(c, answer);
	json_decref(answer);
	return rc;
}

/* --- the lane */

/* As long as it lasts. */
static int
serve(struct control *c, struct err *e)
{
	int rc = tell_list(c, e);

	if (rc != 0)
		return rc;
	log_info(
	    "serves %s as \"%s\"", lane_peer(c->remote.lane), c->remote.key);
	set_status(c, "connected");
	c->said[0] = 0;
	while (rc == 0 && !finished(c)) {
		rc = tell_ends(c, e);
		if (rc == 0 && stopping(c)) {
			/* Its children have a moment to end. */
			if (!finished(c))
				rest(c, NEXT_BUSY_MS / 10);
			continue;
		}
		if (rc == 0 && list_is_old(c))
			rc = tell_list(c, e);
		if (rc == 0)
			rc = ask_next(c, e);
	}
	return rc;
}

static void
set_open(struct control *c, bool open)
{
	pthread_mutex_lock(&c->mu);
	c->open = open;
	if (open && c->quit)
		lane_shutdown(c->remote.lane);
	pthread_mutex_unlock(&c->mu);
}

static void
complain(struct control *c, const struct err *e)
{
	char text[STATUS_MAX];

	snprintf(text, sizeof(text), "not connected: %.170s", e->text);
	set_status(c, text);
	/* Once, and not with every try. */
	if (strcmp(c->said, e->text) == 0)
		return;
	log_error("not connected: %s", e->text);
	memcpy(c->said, e->text, sizeof(c->said));
}

static void *
control_main(void *arg)
{
	struct control *c = arg;
	uint64_t began;
	uint32_t chance;
	struct err e;
	int rc;

	/* Without a list, tasks would find no VM. */
	(void)lookout_wait(c->o.lookout, FIRST_LOOK_MS);
	while (!finished(c)) {
		began = now_ms();
		memset(&e, 0, sizeof(e));
		rc =
		    remote_open_for(c->o.url, c->o.id, "serve", &c->remote, &e);
		if (rc == 0) {
			set_open(c, true);
			rc = serve(c, &e);
			set_open(c, false);
			remote_close(&c->remote);
			if (now_ms() - began > LASTED_MS)
				backoff_reset(&c->backoff);
		}
		if (rc == 0 || finished(c))
			break;
		complain(c, &e);
		/* Who is to stop and cannot tell does not wait for long. */
		if (stopping(c))
			break;
		random_bytes(&chance, sizeof(chance));
		rest(c, backoff_ms(&c->backoff, chance));
	}
	pthread_mutex_lock(&c->mu);
	c->ended = true;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->mu);
	return NULL;
}

struct control *
control_new(const struct control_options *o)
{
	struct control *c = xcalloc(1, sizeof(*c));

	c->o = *o;
	snprintf(c->status, sizeof(c->status), "connecting");
	pthread_mutex_init(&c->mu, NULL);
	cond_init(&c->cond);
	if (pthread_create(&c->thread, NULL, control_main, c) != 0) {
		log_error("no thread can be started");
		abort();
	}
	return c;
}

/* Idle, it waits in a question that need not be answered any more. */
static void
cut_if_idle(struct control *c)
{
	unsigned n, nrunning;

	desk_counts(c->o.desk, &n, &nrunning);
	if (c->open && (n == 0 || c->quit))
		lane_shutdown(c->remote.lane);
}

void
control_stop(struct control *c)
{
	pthread_mutex_lock(&c->mu);
	c->stopping = true;
	cut_if_idle(c);
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->mu);
}

/* Has the thread ended, within STOP_S? */
static bool
wait_ended(struct control *c)
{
	uint64_t until = now_ms() + STOP_S * 1000;
	bool ended;

	pthread_mutex_lock(&c->mu);
	while (!c->ended && cond_wait_until(&c->cond, &c->mu, until))
		;
	ended = c->ended;
	pthread_mutex_unlock(&c->mu);
	return ended;
}

bool
control_free(struct control *c)
{
	/* What there is to tell is told first. */
	control_stop(c);
	if (!wait_ended(c)) {
		pthread_mutex_lock(&c->mu);
		c->quit = true;
		cut_if_idle(c);
		pthread_cond_broadcast(&c->cond);
		pthread_mutex_unlock(&c->mu);
		if (!wait_ended(c))
			return false;
	}
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->mu);
	free(c);
	return true;
}

void
control_status(struct control *c, char *out, size_t len)
{
	pthread_mutex_lock(&c->mu);
	snprintf(out, len, "%s", c->status);
	pthread_mutex_unlock(&c->mu);
}
