/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve/desk.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/log.h"

enum state { WAITS, RUNS, ENDED };

struct entry {
	struct task task; /* its options go with desk_start */
	enum state state;
	bool cancelled, stop_told;
	bool ok;
	char text[TASK_TEXT_MAX];
};

struct desk {
	int fd;             /* set before start */
	pthread_mutex_t mu; /* guards the rest */
	bool closed;
	unsigned n;
	struct entry entry[DESK_TASKS_MAX]; /* as they came */
};

struct desk *
desk_new(void)
{
	struct desk *d = xcalloc(1, sizeof(*d));

	d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->fd == -1) {
		log_sys("eventfd");
		abort();
	}
	pthread_mutex_init(&d->mu, NULL);
	return d;
}

void
desk_free(struct desk *d)
{
	if (d == NULL)
		return;
	for (unsigned i = 0; i < d->n; i++)
		task_fini(&d->entry[i].task);
	pthread_mutex_destroy(&d->mu);
	close(d->fd);
	free(d);
}

int
desk_fd(const struct desk *d)
{
	return d->fd;
}

void
desk_seen(struct desk *d)
{
	uint64_t n;

	if (read(d->fd, &n, sizeof(n)) == -1)
		return; /* nothing was there */
}

void
desk_wake(struct desk *d)
{
	uint64_t one = 1;

	if (write(d->fd, &one, sizeof(one)) == -1)
		return; /* it is readable as it is */
}

/* Locked. */
static struct entry *
find(struct desk *d, const char *token)
{
	for (unsigned i = 0; i < d->n; i++)
		if (strcmp(d->entry[i].task.token, token) == 0)
			return &d->entry[i];
	return NULL;
}

/* Locked. */
static void
end(struct entry *e, bool ok, const char *text)
{
	task_fini(&e->task);
	e->state = ENDED;
	e->ok = ok;
	snprintf(e->text, sizeof(e->text), "%s", text);
}

bool
desk_give(struct desk *d, struct task *t)
{
	struct entry *e;
	bool taken = false;

	pthread_mutex_lock(&d->mu);
	if (!d->closed && d->n < DESK_TASKS_MAX && find(d, t->token) == NULL) {
		e = &d->entry[d->n++];
		memset(e, 0, sizeof(*e));
		e->task = *t;
		e->state = WAITS;
		taken = true;
	}
	pthread_mutex_unlock(&d->mu);
	if (taken)
		desk_wake(d);
	return taken;
}

void
desk_cancel(struct desk *d, const char *token)
{
	struct entry *e;

	pthread_mutex_lock(&d->mu);
	e = find(d, token);
	if (e != NULL && e->state == WAITS)
		end(e, false, "cancelled before it began");
	else if (e != NULL)
		e->cancelled = true;
	pthread_mutex_unlock(&d->mu);
	desk_wake(d);
}

json_t *
desk_running(struct desk *d)
{
	json_t *list = json_array();

	pthread_mutex_lock(&d->mu);
	for (unsigned i = 0; i < d->n; i++)
		json_array_append_new(
		    list, json_string(d->entry[i].task.token));
	pthread_mutex_unlock(&d->mu);
	return list;
}

bool
desk_ended(struct desk *d, struct desk_end *out)
{
	struct entry *e = NULL;

	pthread_mutex_lock(&d->mu);
	for (unsigned i = 0; e == NULL && i < d->n; i++)
		if (d->entry[i].state == ENDED)
			e = &d->entry[i];
	if (e != NULL) {
		memcpy(out->token, e->task.token, sizeof(out->token));
		memcpy(out->text, e->text, sizeof(out->text));
		out->ok = e->ok;
	}
	pthread_mutex_unlock(&d->mu);
	return e != NULL;
}

void
desk_told(struct desk *d, const char *token)
{
	struct entry *e;

	pthread_mutex_lock(&d->mu);
	e = find(d, token);
	if (e != NULL && e->state == ENDED) {
		d->n--;
		memmove(e, e + 1, (size_t)(&d->entry[d->n] - e) * sizeof(*e));
	}
	pthread_mutex_unlock(&d->mu);
	desk_wake(d);
}

bool
desk_start(struct desk *d, struct task *out)
{
	struct entry *e = NULL;

	pthread_mutex_lock(&d->mu);
	for (unsigned i = 0; e == NULL && i < d->n; i++)
		if (d->entry[i].state == WAITS)
			e = &d->entry[i];
	if (e != NULL) {
		e->state = RUNS;
		*out = e->task;
		e->task.options = NULL;
	}
	pthread_mutex_unlock(&d->mu);
	return e != NULL;
}

bool
desk_to_stop(struct desk *d, char token[TASK_TOKEN_LEN + 1])
{
	struct entry *e = NULL;

	pthread_mutex_lock(&d->mu);
	for (unsigned i = 0; e == NULL && i < d->n; i++) {
		struct entry *x = &d->entry[i];

		if (x->state == RUNS && x->cancelled && !x->stop_told)
			e = x;
	}
	if (e != NULL) {
		e->stop_told = true;
		memcpy(token, e->task.token, TASK_TOKEN_LEN + 1);
	}
	pthread_mutex_unlock(&d->mu);
	return e != NULL;
}

void
desk_end(struct desk *d, const char *token, bool ok, const char *text)
{
	struct entry *e;

	pthread_mutex_lock(&d->mu);
	e = find(d, token);
	if (e != NULL && e->state != ENDED)
		end(e, ok, text);
	pthread_mutex_unlock(&d->mu);
}

void
desk_close(struct desk *d, const char *text)
{
	pthread_mutex_lock(&d->mu);
	d->closed = true;
	for (unsigned i = 0; i < d->n; i++)
		if (d->entry[i].state == WAITS)
			end(&d->entry[i], false, text);
	pthread_mutex_unlock(&d->mu);
}

void
desk_counts(struct desk *d, unsigned *n, unsigned *nrunning)
{
	pthread_mutex_lock(&d->mu);
	*n = d->n;
	*nrunning = 0;
	for (unsigned i = 0; i < d->n; i++)
		*nrunning += d->entry[i].state != ENDED;
	pthread_mutex_unlock(&d->mu);
}
