/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/live/alive.h"

#include "proto/base/cond.h"
#include "proto/base/io.h"

enum { ALIVE_EVERY_MS = 10000 };

static void *
alive_main(void *arg)
{
	struct alive *a = arg;
	bool late;

	pthread_mutex_lock(&a->mu);
	while (!a->stop) {
		late = !cond_wait_until(
		    &a->cond, &a->mu, now_ms() + ALIVE_EVERY_MS);
		/* What it says is heard by the begin that follows. */
		if (late && !a->stop)
			backup_alive(a->backup, NULL);
	}
	pthread_mutex_unlock(&a->mu);
	return NULL;
}

void
alive_begin(struct alive *a, struct backup *b)
{
	*a = (struct alive){ .backup = b };
	pthread_mutex_init(&a->mu, NULL);
	cond_init(&a->cond);
	a->stop = pthread_create(&a->thread, NULL, alive_main, a) != 0;
}

void
alive_end(struct alive *a)
{
	bool started;

	pthread_mutex_lock(&a->mu);
	started = !a->stop;
	a->stop = true;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->mu);
	if (started)
		pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->cond);
	pthread_mutex_destroy(&a->mu);
}
