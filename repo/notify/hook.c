/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/notify/hook.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { LOOK_MS = 1000 };

struct hook {
	struct events *v;
	char *repo;
	pthread_t thread;
	int wake; /* eventfd: the program is to end now */
	atomic_bool cut;
	pthread_mutex_t mu;
	pthread_cond_t changed; /* something was told, or the thread ends */
	char *command;          /* guarded by mu, with all below */
	uint64_t timeout_s;
	uint64_t runs, failures, now;
	uint64_t nlast;
	struct hook_outcome last[HOOK_LAST_KEPT]; /* a ring */
	bool ended;
};

static void
say(const struct event *e, const struct hook_outcome *o)
{
	char what[VM_NAME_MAX + 80];

	snprintf(what, sizeof(what), "hook: event %" PRIu64 ", %s%s%s",
	    e->number, event_kind_name(e->kind), e->vm[0] != 0 ? " of " : "",
	    e->vm);
	if (o->code != 0)
		log_error("%s: %s", what, o->text);
	else if (o->status != 0)
		log_error("%s: ended with %d after %u ms: %s", what, o->status,
		    o->ms, o->text[0] != 0 ? o->text : "it said nothing");
	else if (o->text[0] != 0)
		log_info("%s: %s", what, o->text);
	else
		log_debug("%s: done in %u ms", what, o->ms);
}

static void
run(struct hook *h, const char *command, uint64_t timeout_s,
    const struct event *e, struct hook_outcome *o)
{
	char *repo = xasprintf("BACKSTAY_REPO=%s", h->repo);
	const char *args[] = { event_kind_name(e->kind), e->vm, e->outcome,
		NULL };
	/* Nothing of the daemon's own. */
	const char *env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
		"/sbin:/bin",
		"LC_ALL=C.UTF-8", repo, NULL
	};
	struct hook_call c = { .command = command,
		.args = args,
		.env = env,
		.input = e->text,
		.timeout_ms = (unsigned)timeout_s * 1000,
		.wake = h->wake };
	struct hook_result r;
	struct err why = { 0 };

	o->told = true;
	o->code = hook_run(&c, &r, &why);
	o->status = r.status;
	o->ms = r.ms;
	if (o->code == 0)
		snprintf(o->text, sizeof(o->text), "%s", r.line);
	else
		snprintf(o->text, sizeof(o->text), "%.130s%s%s",
		    why.text[0] != 0 ? why.text : err_name(o->code),
		    r.line[0] != 0 ? ": " : "", r.line);
	free(repo);
	say(e, o);
}

static void
tell(struct hook *h, const struct event *e)
{
	struct hook_outcome o = { .kind = e->kind, .number = e->number };
	uint64_t timeout_s;
	char *command;

	pthread_mutex_lock(&h->mu);
	command = xstrdup(h->command);
	timeout_s = h->timeout_s;
	h->now = e->number;
	pthread_mutex_unlock(&h->mu);
	if (command[0] == 0) {
		snprintf(o.text, sizeof(o.text), "no hook is set");
	} else if (atomic_load(&h->cut)) {
		o.code = ERR_CLOSED;
		snprintf(o.text, sizeof(o.text), "the daemon stops");
		say(e, &o);
	} else {
		run(h, command, timeout_s, e, &o);
	}
	o.at = (uint64_t)time(NULL);
	free(command);
	pthread_mutex_lock(&h->mu);
	h->now = 0;
	h->runs += o.told;
	h->failures += o.code != 0 || o.status != 0;
	h->last[h->nlast++ % HOOK_LAST_KEPT] = o;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->mu);
}

static void *
hook_main(void *arg)
{
	struct hook *h = arg;
	struct event e;
	int rc;

	do {
		rc = events_take(h->v, LOOK_MS, &e);
		if (rc != 0)
			continue;
		tell(h, &e);
		event_fini(&e);
	} while (rc != ERR_CLOSED);
	pthread_mutex_lock(&h->mu);
	h->ended = true;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->mu);
	return NULL;
}

static void
hook_free(struct hook *h)
{
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->mu);
	if (h->wake != -1)
		close(h->wake);
	free(h->command);
	free(h->repo);
	free(h);
}

int
hook_start(struct events *v, const char *repo, struct hook **out)
{
	struct hook *h = xcalloc(1, sizeof(*h));
	int rc;

	h->v = v;
	h->repo = xstrdup(repo);
	h->command = xstrdup("");
	pthread_mutex_init(&h->mu, NULL);
	cond_init(&h->changed);
	h->wake = eventfd(0, EFD_CLOEXEC);
	if (h->wake == -1) {
		rc = log_sys("hook: eventfd");
		goto err_free;
	}
	errno = pthread_create(&h->thread, NULL, hook_main, h);
	if (errno != 0) {
		rc = log_sys("hook: start its thread");
		goto err_free;
	}
	*out = h;
	return 0;
err_free:
	hook_free(h);
	return rc;
}

void
hook_stop(struct hook *h, unsigned within_ms)
{
	uint64_t until = now_ms() + within_ms, one = 1;

	if (h == NULL)
		return;
	events_close(h->v);
	pthread_mutex_lock(&h->mu);
	while (!h->ended && now_ms() < until)
		cond_wait_until(&h->changed, &h->mu, until);
	pthread_mutex_unlock(&h->mu);
	atomic_store(&h->cut, true);
	if (write(h->wake, &one, sizeof(one)) != sizeof(one))
		log_sys("hook: wake");
	pthread_join(h->thread, NULL);
	hook_free(h);
}

void
hook_set(struct hook *h, const char *command, uint64_t timeout_s)
{
	pthread_mutex_lock(&h->mu);
	free(h->command);
	h->command = xstrdup(command);
	h->timeout_s = timeout_s;
	pthread_mutex_unlock(&h->mu);
}

void
hook_status(struct hook *h, struct hook_status *out)
{
	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&h->mu);
	out->command = xstrdup(h->command);
	out->timeout_s = h->timeout_s;
	out->runs = h->runs;
	out->failures = h->failures;
	out->now = h->now;
	while (out->nlast < HOOK_LAST_KEPT && out->nlast < h->nlast) {
		out->last[out->nlast] =
		    h->last[(h->nlast - 1 - out->nlast) % HOOK_LAST_KEPT];
		out->nlast++;
	}
	pthread_mutex_unlock(&h->mu);
}

/* Locked. */
static int
look_up(const struct hook *h, uint64_t number, struct hook_outcome *out)
{
	for (uint64_t i = 0; i < h->nlast && i < HOOK_LAST_KEPT; i++)
		if (h->last[i].number == number) {
			*out = h->last[i];
			return 0;
		}
	/* They are told in order, near enough. */
	for (uint64_t i = 0; i < h->nlast && i < HOOK_LAST_KEPT; i++)
		if (h->last[i].number > number + HOOK_LAST_KEPT)
			return ERR_NOENT;
	return ERR_TIMEOUT;
}

int
hook_wait(
    struct hook *h, uint64_t number, int timeout_ms, struct hook_outcome *out)
{
	uint64_t until = now_ms() + (uint64_t)timeout_ms;
	int rc;

	pthread_mutex_lock(&h->mu);
	while ((rc = look_up(h, number, out)) == ERR_TIMEOUT &&
	    now_ms() < until && !h->ended)
		cond_wait_until(&h->changed, &h->mu, until);
	pthread_mutex_unlock(&h->mu);
	return rc;
}
