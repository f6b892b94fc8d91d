/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/tender.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "proto/base/buf.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/serve/partial.h"

struct tender {
	struct serve *srv;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	bool stopping; /* guarded by mu */
};

/* True: it goes on. */
static bool
rest(struct tender *t)
{
	uint64_t until = now_ms() + TENDER_EVERY_MS;
	bool go;

	pthread_mutex_lock(&t->mu);
	while (!t->stopping && now_ms() < until)
		cond_wait_until(&t->changed, &t->mu, until);
	go = !t->stopping;
	pthread_mutex_unlock(&t->mu);
	return go;
}

static void *
tender_main(void *arg)
{
	struct tender *t = arg;

	do {
		partial_expire(t->srv);
		repotime_tick(guard_time(t->srv->guard));
	} while (rest(t));
	return NULL;
}

static void
tender_free(struct tender *t)
{
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->mu);
	free(t);
}

int
tender_start(struct serve *srv, struct tender **out)
{
	struct tender *t = xcalloc(1, sizeof(*t));

	t->srv = srv;
	pthread_mutex_init(&t->mu, NULL);
	cond_init(&t->changed);
	errno = pthread_create(&t->thread, NULL, tender_main, t);
	if (errno != 0) {
		tender_free(t);
		return log_sys("tender: start its thread");
	}
	*out = t;
	return 0;
}

void
tender_stop(struct tender *t)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&t->mu);
	t->stopping = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->mu);
	pthread_join(t->thread, NULL);
	tender_free(t);
}
