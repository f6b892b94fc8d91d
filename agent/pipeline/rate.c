/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/rate.h"

#include <time.h>

#define NS_PER_S 1000000000ull

enum {
	BURST_NS = 100000000, /* what an idle limit may make up for */
	NAP_NS = 100000000    /* how late a stop may be noticed */
};

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void
rate_init(struct rate *r, uint64_t bytes_per_s)
{
	r->bytes_per_s = bytes_per_s;
	r->free_at_ns = 0;
	pthread_mutex_init(&r->mu, NULL);
}

void
rate_fini(struct rate *r)
{
	pthread_mutex_destroy(&r->mu);
}

void
rate_take(struct rate *r, uint64_t len, const atomic_bool *stop)
{
	struct timespec nap = { 0 };
	uint64_t now, until;

	if (r->bytes_per_s == 0)
		return;
	now = now_ns();
	pthread_mutex_lock(&r->mu);
	if (r->free_at_ns + BURST_NS < now)
		r->free_at_ns = now - BURST_NS;
	until = r->free_at_ns;
	r->free_at_ns +=
	    (uint64_t)((double)len / (double)r->bytes_per_s * NS_PER_S);
	pthread_mutex_unlock(&r->mu);
	while (now < until && !atomic_load(stop)) {
		uint64_t left = until - now;

		nap.tv_nsec = left < NAP_NS ? (long)left : NAP_NS;
		nanosleep(&nap, NULL);
		now = now_ns();
	}
}
