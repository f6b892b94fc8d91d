/* SPDX-License-Identifier: Apache-2.0 */
/* fake_ga: a guest's agent, as the host sees it: it freezes nothing and says
 * so. */
#ifndef TESTS_UNIT_FAKE_GA_H
#define TESTS_UNIT_FAKE_GA_H

#include <pthread.h>
#include <stdbool.h>

struct fake_ga {
	pthread_t thread;
	char path[96];
	int listener;
	int stop[2];
	/* Guarded by mu. */
	pthread_mutex_t mu;
	bool frozen;
	unsigned freezes, thaws;
};

/** fake_ga_start(a, dir), fake_ga_end(a): it listens at ${a}->path, in
 * ${dir}. */
void fake_ga_start(struct fake_ga *a, const char *dir);
void fake_ga_end(struct fake_ga *a);

/** fake_ga_frozen(a): was it told to freeze, and not to thaw since? */
bool fake_ga_frozen(struct fake_ga *a);

#endif
