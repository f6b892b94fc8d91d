/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cond: conditions that are waited for until a time of now_ms(): however the
 * machine's clock is set meanwhile.
 */
#ifndef PROTO_BASE_COND_H
#define PROTO_BASE_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/** cond_init(c): pthread_cond_destroy undoes it. */
void cond_init(pthread_cond_t *c);

/** cond_wait_until(c, mu, until_ms): as pthread_cond_timedwait; false: that
 * time has come. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *mu, uint64_t until_ms);

#endif
