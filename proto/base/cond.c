/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/cond.h"

#include <time.h>

void
cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

bool
cond_wait_until(pthread_cond_t *c, pthread_mutex_t *mu, uint64_t until_ms)
{
	const struct timespec t = { .tv_sec = (time_t)(until_ms / 1000),
		.tv_nsec = (long)(until_ms % 1000) * 1000000 };

	return pthread_cond_timedwait(c, mu, &t) == 0;
}
