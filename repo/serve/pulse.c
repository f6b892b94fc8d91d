/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/pulse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/base/notify.h"

enum { EVERY_MS = 5000 };

struct pulse {
	struct serve *srv;
	struct listener *listener;
	unsigned every_ms;
	bool watchdog;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	bool stopping; /* guarded by mu */

	/* The thread's own. */
	uint64_t asked;   /* now_ms() when the ledger last gave an answer */
	uint64_t at_disk; /* now_ms() when a thread was last seen there */
	bool slow;
	bool stuck;
	char told[PULSE_TEXT_MAX];
};

bool
pulse_alive(const struct pulse_look *l)
{
	uint64_t ms =
	    l->ledger_ms > l->listener_ms ? l->ledger_ms : l->listener_ms;

	if (ms > PULSE_LOST_MS)
		return false;
	return ms <= PULSE_STUCK_MS || l->disk_ms <= PULSE_STUCK_MS;
}

/* The state stands behind the name, which may hold anything. */
static bool
waits_for_disk(int tasks, const char *id)
{
	char name[64], line[512];
	const char *state;
	ssize_t n;
	int fd;

	snprintf(name, sizeof(name), "%.32s/stat", id);
	fd = openat(tasks, name, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return false; /* it has ended */
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return false;
	line[n] = 0;
	state = strrchr(line, ')');
	return state != NULL && state[1] == ' ' && state[2] == 'D';
}

bool
pulse_at_disk(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *t;
	bool found = false;

	if (d == NULL)
		return false;
	while (!found && (t = readdir(d)) != NULL)
		found =
		    t->d_name[0] != '.' && waits_for_disk(dirfd(d), t->d_name);
	closedir(d);
	return found;
}

static void
look(struct pulse *p, struct pulse_look *l)
{
	/* Its lock is held by who waits for a pack, that is for a disk. */
	if (store_waiting_ms(p->srv->store, &l->ledger_ms) == 0)
		p->asked = now_ms();
	else
		l->ledger_ms = now_ms() - p->asked;
	l->listener_ms = listener_quiet_ms(p->listener);
	if ((l->ledger_ms < PULSE_SLOW_MS && l->listener_ms < PULSE_SLOW_MS) ||
	    pulse_at_disk())
		p->at_disk = now_ms();
	l->disk_ms = now_ms() - p->at_disk;
}

/*
 * The locks of jobs, queue and catalog are held over nothing that waits: where
 * one of them is not to be had this thread stands still like all others, and
 * the watchdog goes hungry.
 */
void
pulse_text(struct serve *srv, char text[PULSE_TEXT_MAX])
{
	unsigned n = jobs_running(srv->jobs), waiting, running, agents;
	struct catalog_totals t;

	catalog_totals(srv->catalog, &t);
	queue_counts(srv->queue, &waiting, &running, &agents);
	snprintf(text, PULSE_TEXT_MAX,
	    "%u job%s run%s, %u wait%s; %u agent%s; %llu backups of %llu VMs",
	    n, n == 1 ? "" : "s", n == 1 ? "s" : "", waiting,
	    waiting == 1 ? "s" : "", agents, agents == 1 ? "" : "s",
	    (unsigned long long)t.nbackups, (unsigned long long)t.nvms);
}

/* Once when it begins and once when it is over, and in the manager's line. */
static void
tell_slow(struct pulse *p, const struct pulse_look *l)
{
	if (l->ledger_ms >= PULSE_SLOW_MS) {
		if (!p->slow)
			log_error("the repository's disk is slow: what is to "
				  "be made durable waits since %llu s",
			    (unsigned long long)l->ledger_ms / 1000);
		p->slow = true;
	} else if (p->slow) {
		log_info("the repository's disk has answered");
		p->slow = false;
	}
}

static void
tell(struct pulse *p, const struct pulse_look *l)
{
	char text[PULSE_TEXT_MAX];

	tell_slow(p, l);
	pulse_text(p->srv, text);
	if (p->slow)
		snprintf(text, sizeof(text),
		    "waits for the repository's disk since %llu s",
		    (unsigned long long)l->ledger_ms / 1000);
	if (strcmp(text, p->told) == 0)
		return;
	memcpy(p->told, text, sizeof(text));
	notify_status("%s", text);
}

static void
beat(struct pulse *p)
{
	struct pulse_look l;

	look(p, &l);
	tell(p, &l);
	if (pulse_alive(&l)) {
		p->stuck = false;
		if (p->watchdog)
			notify_alive();
		return;
	}
	if (!p->stuck)
		log_error("stuck: the ledger waits since %llu s, connections "
			  "since %llu s; the watchdog is not fed any more",
		    (unsigned long long)l.ledger_ms / 1000,
		    (unsigned long long)l.listener_ms / 1000);
	p->stuck = true;
}

/* True: it goes on. */
static bool
rest(struct pulse *p)
{
	uint64_t until = now_ms() + p->every_ms;
	bool go;

	pthread_mutex_lock(&p->mu);
	while (!p->stopping && now_ms() < until)
		cond_wait_until(&p->changed, &p->mu, until);
	go = !p->stopping;
	pthread_mutex_unlock(&p->mu);
	return go;
}

static void *
pulse_main(void *arg)
{
	struct pulse *p = arg;

	do
		beat(p);
	while (rest(p));
	return NULL;
}

static void
pulse_free(struct pulse *p)
{
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

int
pulse_start(struct serve *srv, struct listener *l, struct pulse **out)
{
	unsigned ms = notify_watchdog_ms();
	struct pulse *p;

	*out = NULL;
	if (!notify_wanted())
		return 0;
	p = xcalloc(1, sizeof(*p));
	p->srv = srv;
	p->listener = l;
	p->watchdog = ms != 0;
	p->every_ms = ms != 0 && ms < EVERY_MS ? ms : EVERY_MS;
	p->at_disk = p->asked = now_ms();
	pthread_mutex_init(&p->mu, NULL);
	cond_init(&p->changed);
	errno = pthread_create(&p->thread, NULL, pulse_main, p);
	if (errno != 0) {
		pulse_free(p);
		return log_sys("pulse: start its thread");
	}
	*out = p;
	return 0;
}

void
pulse_stop(struct pulse *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->mu);
	p->stopping = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->mu);
	pthread_join(p->thread, NULL);
	pulse_free(p);
}
