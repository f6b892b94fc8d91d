/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/top_link.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

enum {
	JOBS_EVERY_MS = 1000,
	AGENTS_EVERY_MS = 2000,
	STATUS_EVERY_MS = 3000,
	STUCK_MS = 1500 /* nobody who quits waits for longer */
};

struct top_link {
	struct console console; /* the thread's, as are the next three */
	uint64_t jobs_ms, agents_ms, status_ms;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t cond;
	bool stop; /* guarded by mu, as are all below */
	bool ended;
	bool fresh;
	struct top_news news;
	json_t *ask;
	char done[TOP_SAID_MAX];
};

static void
publish(struct top_link *l, json_t **where, json_t *answer, uint64_t untold)
{
	pthread_mutex_lock(&l->mu);
	json_decref(*where);
	*where = answer;
	if (where == &l->news.jobs)
		l->news.untold = untold;
	l->fresh = true;
	pthread_mutex_unlock(&l->mu);
}

static void
lose(struct top_link *l, const struct err *e)
{
	console_close(&l->console);
	l->agents_ms = l->status_ms = 0;
	pthread_mutex_lock(&l->mu);
	l->news.lost = true;
	snprintf(l->news.why, sizeof(l->news.why), "%.199s",
	    e->text[0] != 0 ? e->text : err_name(e->code));
	l->fresh = true;
	pthread_mutex_unlock(&l->mu);
}

/* Whether its time has come; if so, when it does again. */
static bool
is_due(uint64_t *at, unsigned every_ms)
{
	uint64_t now = now_ms();

	if (*at != 0 && now - *at < every_ms)
		return false;
	*at = now;
	return true;
}

static int
poll_jobs(struct top_link *l, struct err *e)
{
	json_t *answer, *list;
	int rc;

	rc = console_call(&l->console, console_op("jobs"), &answer, e);
	if (rc == 0) {
		rc = json_get_array(answer, "jobs", &list, e);
		if (rc == 0) {
			publish(l, &l->news.jobs, json_incref(list),
			    answer_u64(answer, "untold"));
		}
		json_decref(answer);
	}
	return rc;
}

static int
poll_agents(struct top_link *l, struct err *e)
{
	json_t *list = json_array();
	int rc = console_agents(&l->console, list, e);

	if (rc == 0) {
		publish(l, &l->news.agents, list, 0);
		return 0;
	}
	json_decref(list);
	return rc;
}

static int
poll_daemon(struct top_link *l, struct err *e)
{
	json_t *answer;
	int rc = 0;

	if (is_due(&l->jobs_ms, JOBS_EVERY_MS))
		rc = poll_jobs(l, e);
	if (rc == 0 && is_due(&l->agents_ms, AGENTS_EVERY_MS))
		rc = poll_agents(l, e);
	if (rc == 0 && is_due(&l->status_ms, STATUS_EVERY_MS)) {
		rc =
		    console_call(&l->console, console_op("status"), &answer, e);
		if (rc == 0)
			publish(l, &l->news.status, answer, 0);
	}
	return rc;
}

static void
answer_ask(struct top_link *l, json_t *ask)
{
	struct err e = { 0 };
	json_t *answer;
	int rc;

	rc = console_call(&l->console, ask, &answer, &e);
	if (rc == 0)
		json_decref(answer);
	/* What it changed is seen at once. */
	l->jobs_ms = l->status_ms = 0;
	pthread_mutex_lock(&l->mu);
	l->news.answered = true;
	l->news.refused = rc != 0;
	snprintf(l->news.said, sizeof(l->news.said), "%.199s",
	    rc == 0              ? l->done
		: e.text[0] != 0 ? e.text
				 : err_name(rc));
	l->done[0] = 0;
	l->fresh = true;
	pthread_mutex_unlock(&l->mu);
}

static void *
link_main(void *arg)
{
	struct top_link *l = arg;

	for (;;) {
		uint64_t until = now_ms() + JOBS_EVERY_MS / 4;
		struct err e = { 0 };
		json_t *ask;

		pthread_mutex_lock(&l->mu);
		while (!l->stop && l->ask == NULL &&
		    cond_wait_until(&l->cond, &l->mu, until))
			;
		ask = l->ask;
		l->ask = NULL;
		if (l->stop)
			break;
		pthread_mutex_unlock(&l->mu);
		if (ask != NULL)
			answer_ask(l, ask);
		if (poll_daemon(l, &e) != 0)
			lose(l, &e);
	}
	json_decref(l->ask);
	l->ended = true;
	pthread_cond_signal(&l->cond);
	pthread_mutex_unlock(&l->mu);
	return NULL;
}

struct top_link *
top_link_start(const char *dir)
{
	struct top_link *l = xcalloc(1, sizeof(*l));

	l->console.dir = dir;
	pthread_mutex_init(&l->mu, NULL);
	cond_init(&l->cond);
	errno = pthread_create(&l->thread, NULL, link_main, l);
	if (errno == 0)
		return l;
	log_sys("no thread to ask the daemon");
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->mu);
	free(l);
	return NULL;
}

bool
top_link_take(struct top_link *l, struct top_news *out)
{
	bool fresh;

	pthread_mutex_lock(&l->mu);
	fresh = l->fresh;
	*out = l->news;
	l->news = (struct top_news){ 0 };
	l->fresh = false;
	pthread_mutex_unlock(&l->mu);
	return fresh;
}

bool
top_link_ask(struct top_link *l, json_t *ask, const char *done)
{
	bool taken;

	pthread_mutex_lock(&l->mu);
	taken = l->done[0] == 0;
	if (taken) {
		l->ask = ask;
		snprintf(l->done, sizeof(l->done), "%s", done);
		pthread_cond_signal(&l->cond);
	}
	pthread_mutex_unlock(&l->mu);
	if (!taken)
		json_decref(ask);
	return taken;
}

void
top_link_stop(struct top_link *l)
{
	uint64_t until = now_ms() + STUCK_MS;
	bool ended;

	pthread_mutex_lock(&l->mu);
	l->stop = true;
	pthread_cond_signal(&l->cond);
	while (!l->ended && cond_wait_until(&l->cond, &l->mu, until))
		;
	ended = l->ended;
	pthread_mutex_unlock(&l->mu);
	if (!ended) {
		pthread_detach(l->thread);
		return;
	}
	pthread_join(l->thread, NULL);
	console_close(&l->console);
	json_decref(l->news.status);
	json_decref(l->news.jobs);
	json_decref(l->news.agents);
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->mu);
	free(l);
}
