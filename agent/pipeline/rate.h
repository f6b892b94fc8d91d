/* SPDX-License-Identifier: Apache-2.0 */
/* rate: a limit in bytes a second that all lanes of a job share. */
#ifndef AGENT_PIPELINE_RATE_H
#define AGENT_PIPELINE_RATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct rate {
	uint64_t bytes_per_s; /* 0: no limit; set before start */
	pthread_mutex_t mu;
	uint64_t
	    free_at_ns; /* guarded by mu: all that was taken is paid then */
};

void rate_init(struct rate *r, uint64_t bytes_per_s);
void rate_fini(struct rate *r);

/** rate_take(r, len, stop): wait until ${len} more bytes are due, or until
 * ${stop} becomes true.  Any thread. */
void rate_take(struct rate *r, uint64_t len, const atomic_bool *stop);

#endif
