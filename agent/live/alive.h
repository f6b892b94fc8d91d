/* SPDX-License-Identifier: Apache-2.0 */
/* alive: shows the daemon that the agent lives while a guest is worked on. */
#ifndef AGENT_LIVE_ALIVE_H
#define AGENT_LIVE_ALIVE_H

#include <pthread.h>
#include <stdbool.h>

#include "agent/pipeline/backup.h"

struct alive {
	struct backup *backup;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t cond;
	bool stop; /* guarded by mu */
};

/** alive_begin(a, b): from here to alive_end backup_alive is called now and
 * then, by another thread; nobody else uses ${b} meanwhile. */
void alive_begin(struct alive *a, struct backup *b);
void alive_end(struct alive *a);

#endif
