/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/effort.h"

#include <stdio.h>
#include <time.h>

#include "proto/codec.h"

#define SECOND_NS UINT64_C(1000000000)

static uint64_t
clock_ns(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* Of all processors since the host began.  Where it does not tell, none was
 * ever idle. */
static void
read_host(uint64_t *idle, uint64_t *ticks)
{
	unsigned long long v[8] = { 0 };
	FILE *f = fopen("/proc/stat", "re");

	*idle = *ticks = 0;
	if (f == NULL)
		return;
	if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0],
		&v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8) {
		*idle = v[3] + v[4];
		for (int i = 0; i < 8; i++)
			*ticks += v[i];
	}
	fclose(f);
}

void
effort_init(struct effort *f, int level, unsigned nlanes)
{
	f->adapts = level == EFFORT_AUTO;
	f->nlanes = nlanes;
	atomic_init(&f->level, f->adapts ? CODEC_LEVEL_DEFAULT : level);
	atomic_init(&f->waited_ns, 0);
	pthread_mutex_init(&f->mu, NULL);
	f->looked_ns = clock_ns(CLOCK_MONOTONIC);
	read_host(&f->idle, &f->ticks);
}

void
effort_fini(struct effort *f)
{
	pthread_mutex_destroy(&f->mu);
}

int
effort_level(const struct effort *f)
{
	return atomic_load(&f->level);
}

int
effort_next(int level, double waited, double idle)
{
	/* Apart, so that it does not swing. */
	if (waited > 0.4 && idle > 0.25)
		return level < EFFORT_MAX ? level + 1 : level;
	if (waited < 0.1 || idle < 0.1)
		return level > CODEC_LEVEL_DEFAULT ? level - 1 : level;
	return level;
}

/* mu is held. */
static void
look(struct effort *f, uint64_t now)
{
	uint64_t idle, ticks, waited = atomic_exchange(&f->waited_ns, 0);
	double all = (double)(now - f->looked_ns) * f->nlanes;
	double free_share = 0;

	read_host(&idle, &ticks);
	if (ticks > f->ticks && idle >= f->idle)
		free_share =
		    (double)(idle - f->idle) / (double)(ticks - f->ticks);
	atomic_store(&f->level,
	    effort_next(
		atomic_load(&f->level), (double)waited / all, free_share));
	f->looked_ns = now;
	f->idle = idle;
	f->ticks = ticks;
}

struct effort_clock
effort_begin(void)
{
	return (struct effort_clock){ .wall_ns = clock_ns(CLOCK_MONOTONIC),
		.cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) };
}

void
effort_end(struct effort *f, struct effort_clock from)
{
	struct effort_clock to;
	uint64_t wall, cpu;

	if (!f->adapts)
		return;
	to = effort_begin();
	wall = to.wall_ns - from.wall_ns;
	cpu = to.cpu_ns - from.cpu_ns;
	atomic_fetch_add(&f->waited_ns, wall > cpu ? wall - cpu : 0);
	if (pthread_mutex_trylock(&f->mu) != 0)
		return; /* another lane looks */
	if (to.wall_ns - f->looked_ns >= SECOND_NS)
		look(f, to.wall_ns);
	pthread_mutex_unlock(&f->mu);
}
