/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/job.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/pipeline/interrupt.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "proto/base/log.h"

enum { TELL_EVERY_MS = 1000, FINISH_MS = 10000, WATCH_EVERY_MS = 100 };

/* What a lane's thread is started with. */
struct start {
	struct job_lane *lane;
	job_work *work;
	void *arg;
};

int
job_open(struct job *j, const struct job_options *o, struct err *e)
{
	int rc;

	memset(j, 0, sizeof(*j));
	j->url = o->url;
	j->id = o->id;
	j->nlanes = o->lanes;
	j->stall_ms = (uint64_t)o->stall_timeout_s * 1000;
	j->watch = o->watch;
	j->watch_arg = o->watch_arg;
	rc = remote_open(o->url, o->id, &j->control, e);
	if (rc != 0)
		return rc;
	interrupt_init();
	j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (j->event_fd == -1) {
		remote_close(&j->control);
		return err_set(e, ERR_SYS, "eventfd: %s", strerror(errno));
	}
	pthread_mutex_init(&j->mu, NULL);
	rate_init(&j->rate, o->bwlimit);
	j->started_ms = now_ms();
	return 0;
}

void
job_close(struct job *j)
{
	remote_close(&j->control);
	close(j->event_fd);
	rate_fini(&j->rate);
	pthread_mutex_destroy(&j->mu);
}

int
job_begun(struct job *j, const json_t *answer, struct err *e)
{
	uint64_t lanes_max = j->nlanes;
	const char *token;
	int rc;

	rc = json_get_str(answer, "token", &token, e);
	if (rc == 0)
		rc = json_opt_u64(answer, "job", &j->number, e);
	if (rc == 0)
		rc = json_opt_u64(answer, "lanes_max", &lanes_max, e);
	if (rc == 0 && json_object_get(answer, "hash_key") != NULL) {
		rc = json_get_hex(
		    answer, "hash_key", j->hash_key, HASH_KEY_LEN, e);
		j->has_key = true;
	}
	if (rc != 0)
		return err_prefix(e, "%s", lane_peer(j->control.lane));
	if (strlen(token) >= sizeof(j->token))
		return err_set(e, ERR_PROTO, "%s: the token is too long",
		    lane_peer(j->control.lane));
	memcpy(j->token, token, strlen(token) + 1);
	if (lanes_max < j->nlanes)
		j->nlanes = lanes_max > 0 ? (unsigned)lanes_max : 1;
	return 0;
}

static void
wake(struct job *j)
{
	uint64_t one = 1;

	if (write(j->event_fd, &one, sizeof(one)) == -1)
		return; /* full: it is awake already */
}

/* The first failure wins; whoever waits for the daemon stops waiting. */
static void
fail(struct job *j, const struct err *e)
{
	pthread_mutex_lock(&j->mu);
	if (!j->failed) {
		j->failed = true;
		j->err = *e;
	}
	atomic_store(&j->stop, true);
	for (unsigned i = 0; i < j->nlanes; i++)
		if (j->lane[i].open)
			lane_shutdown(j->lane[i].remote.lane);
	pthread_mutex_unlock(&j->mu);
	wake(j);
}

static int
attach(struct job_lane *l, struct err *e)
{
	json_t *ask = remote_op("attach");

	json_set_str(ask, "token", l->job->token);
	return remote_call(&l->remote, ask, REMOTE_CALL_MS, NULL, e);
}

/* A daemon may have no room for all the lanes: those that it takes will do. */
static int
turned_away(struct job *j, int rc, const struct err *e)
{
	if (rc != ERR_LIMIT)
		return rc;
	pthread_mutex_lock(&j->mu);
	j->limit = *e;
	pthread_mutex_unlock(&j->mu);
	return 0;
}

static int
lane_run(struct start *s, struct err *e)
{
	struct job_lane *l = s->lane;
	struct job *j = l->job;
	bool stopped;
	int rc;

	/* A lane that cannot connect waits like any other. */
	atomic_fetch_add(&j->meter.waiting, 1);
	rc = remote_open(j->url, j->id, &l->remote, e);
	atomic_fetch_sub(&j->meter.waiting, 1);
	if (rc != 0)
		return turned_away(j, rc, e);
	if (j->stall_ms > 0)
		lane_measure(l->remote.lane, &j->meter);
	pthread_mutex_lock(&j->mu);
	stopped = job_stopped(j);
	l->open = !stopped;
	pthread_mutex_unlock(&j->mu);
	if (stopped) {
		remote_close(&l->remote);
		return 0;
	}
	rc = attach(l, e);
	if (rc == 0) {
		pthread_mutex_lock(&j->mu);
		j->nserved++;
		pthread_mutex_unlock(&j->mu);
		rc = s->work(l, s->arg, e);
	} else {
		rc = turned_away(j, rc, e);
	}
	pthread_mutex_lock(&j->mu);
	l->open = false;
	pthread_mutex_unlock(&j->mu);
	remote_close(&l->remote);
	return rc;
}

static void *
lane_main(void *arg)
{
	struct start *s = arg;
	struct job *j = s->lane->job;
	struct err e = { 0 };

	if (lane_run(s, &e) != 0)
		fail(j, &e);
	pthread_mutex_lock(&j->mu);
	j->nrunning--;
	pthread_mutex_unlock(&j->mu);
	wake(j);
	return NULL;
}

static json_t *
progress_ask(struct job *j)
{
	struct manifest_stats s;
	json_t *ask = remote_op("progress");

	counters_stats(&j->count, 0, &s);
	json_set_u64(ask, "done", atomic_load(&j->count.done));
	json_set_u64(ask, "total", j->count.total);
	json_set_u64(ask, "read", s.read);
	json_set_u64(ask, "holes", s.holes);
	json_set_u64(ask, "unchanged", s.unchanged);
	json_set_u64(ask, "deduplicated", s.deduplicated);
	json_set_u64(ask, "sent", s.sent);
	json_set_u64(ask, "stored", s.stored);
	if (j->phase != NULL)
		json_set_str(ask, "phase", j->phase);
	return ask;
}

int
job_tell(struct job *j, const char *phase, struct err *e)
{
	j->phase = phase;
	return remote_call(
	    &j->control, progress_ask(j), REMOTE_CALL_MS, NULL, e);
}

/* Talk with the daemon about how it goes: it may have ended the job. */
static int
tell(struct job *j, uint64_t *told_ms, struct err *e)
{
	int rc = remote_poll(&j->control, e);

	if (rc != 0 || j->control.posted != 0 ||
	    now_ms() - *told_ms < TELL_EVERY_MS)
		return rc;
	*told_ms = now_ms();
	return remote_post(&j->control, progress_ask(j), e);
}

static bool
running(struct job *j)
{
	bool r;

	pthread_mutex_lock(&j->mu);
	r = j->nrunning > 0;
	pthread_mutex_unlock(&j->mu);
	return r;
}

/* What the main thread looks at, and when it did last. */
struct watcher {
	uint64_t told_ms;
	uint64_t watched_ms;
	uint64_t moved; /* over all lanes, at ${moved_ms} */
	uint64_t moved_ms;
};

static int
check_stall(struct job *j, struct watcher *w, struct err *e)
{
	uint64_t moved = atomic_load(&j->meter.moved), now = now_ms();

	if (moved != w->moved || atomic_load(&j->meter.waiting) == 0) {
		w->moved = moved;
		w->moved_ms = now;
	}
	if (j->stall_ms == 0 || now - w->moved_ms < j->stall_ms)
		return 0;
	return err_set(e, ERR_TIMEOUT,
	    "%s: no byte has moved over any connection for %llu s: the "
	    "repository or the network to it is stuck",
	    lane_peer(j->control.lane),
	    (unsigned long long)(j->stall_ms / 1000));
}

static int
look(struct job *j, struct watcher *w, struct err *e)
{
	int rc;

	if (interrupt_pending())
		return err_set(e, ERR_CLOSED, "stopped by a signal");
	rc = check_stall(j, w, e);
	if (rc == 0 && j->watch != NULL &&
	    now_ms() - w->watched_ms >= WATCH_EVERY_MS) {
		w->watched_ms = now_ms();
		rc = j->watch(j->watch_arg, e);
	}
	return rc != 0 ? rc : tell(j, &w->told_ms, e);
}

static void
watch(struct job *j, struct progress *p)
{
	struct pollfd fds[2] = { { .fd = j->event_fd, .events = POLLIN },
		{ .fd = interrupt_fd(), .events = POLLIN } };
	struct watcher w = { .told_ms = now_ms(),
		.moved = atomic_load(&j->meter.moved),
		.moved_ms = now_ms() };
	struct err e = { 0 };
	bool failed = false;
	uint64_t events;
	int rc;

	while (running(j)) {
		if (poll(fds, 2, WATCH_EVERY_MS) > 0 &&
		    read(j->event_fd, &events, sizeof(events)) == -1 &&
		    errno != EAGAIN)
			log_sys("eventfd");
		progress_tick(p);
		if (failed)
			continue;
		rc = look(j, &w, &e);
		if (rc != 0) {
			fail(j, &e);
			failed = true;
			fds[1].fd = -1;
		}
	}
}

int
job_run(struct job *j, const char *what, bool quiet, job_work *work, void *arg,
    struct err *e)
{
	struct start start[JOB_LANES_MAX];
	struct progress p;
	struct err local;
	unsigned n;
	int rc;

	j->failed = false;
	j->nserved = 0;
	atomic_store(&j->stop, false);
	progress_init(&p, what, quiet, &j->count);
	for (n = 0; n < j->nlanes; n++) {
		start[n] = (struct start){ &j->lane[n], work, arg };
		j->lane[n].job = j;
		pthread_mutex_lock(&j->mu);
		j->nrunning++;
		pthread_mutex_unlock(&j->mu);
		rc = pthread_create(
		    &j->lane[n].thread, NULL, lane_main, &start[n]);
		if (rc != 0) {
			pthread_mutex_lock(&j->mu);
			j->nrunning--;
			pthread_mutex_unlock(&j->mu);
			err_set(&local, ERR_SYS, "cannot start a thread: %s",
			    strerror(rc));
			fail(j, &local);
			break;
		}
	}
	watch(j, &p);
	while (n > 0)
		pthread_join(j->lane[--n].thread, NULL);
	progress_close(&p);
	if (!j->failed && j->nserved == 0) {
		j->failed = true;
		j->err = j->limit;
	}
	if (!j->failed)
		return 0;
	*e = j->err;
	return j->err.code;
}

struct aside {
	struct job *job;
	int (*work)(void *arg, struct err *e);
	void *arg;
	struct err *e; /* the thread's until it has ended, as is the next */
	int rc;
	atomic_bool done;
};

static void *
aside_main(void *arg)
{
	struct aside *a = arg;

	a->rc = a->work(a->arg, a->e);
	atomic_store(&a->done, true);
	wake(a->job);
	return NULL;
}

int
job_aside(struct job *j, int (*work)(void *arg, struct err *e), void *arg,
    struct err *e)
{
	struct aside a = { .job = j, .work = work, .arg = arg, .e = e };
	struct pollfd fd = { .fd = j->event_fd, .events = POLLIN };
	uint64_t told_ms = now_ms(), events;
	struct err unheard;
	bool heard = true;
	pthread_t thread;

	if (pthread_create(&thread, NULL, aside_main, &a) != 0)
		return work(arg, e);
	while (!atomic_load(&a.done)) {
		if (poll(&fd, 1, WATCH_EVERY_MS) > 0 &&
		    read(j->event_fd, &events, sizeof(events)) == -1 &&
		    errno != EAGAIN)
			log_sys("eventfd");
		heard = heard && tell(j, &told_ms, &unheard) == 0;
	}
	pthread_join(thread, NULL);
	return a.rc;
}

int
job_finish(struct job *j, bool ok, const char *text, struct err *e)
{
	json_t *ask = remote_op("finish");
	struct err local;

	if (e == NULL)
		e = &local;
	json_set_bool(ask, "ok", ok);
	json_set_str(ask, "text", text);
	/* After a signal the daemon sees it from the lane that ends. */
	return remote_call(&j->control, ask, FINISH_MS, NULL, e);
}
