/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/live/alive.h"

#include <time.h>

enum { ALIVE_EVERY_S = 10 };

static void *
alive_main(void *arg)
{
	struct alive *a = arg;
	struct timespec until;
	int rc;

	pthread_mutex_lock(&a->mu);
	while (!a->stop) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += ALIVE_EVERY_S;
		rc = pthread_cond_timedwait(&a->cond, &a->mu, &until);
		/* What it says is heard by the begin that follows. */
		if (rc != 0 && !a->stop)
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
	pthread_cond_init(&a->cond, NULL);
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
