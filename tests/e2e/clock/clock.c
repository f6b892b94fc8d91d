/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks that a test sets, linked around the daemon's own (ld --wrap); the
 * daemon that is installed has nothing of it.  The file that
 * BACKSTAY_TEST_CLOCK names has two numbers, seconds to add: to the wall clock,
 * and to the clock that goes on while the machine sleeps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

time_t __real_time(time_t *out);
int __real_clock_gettime(clockid_t id, struct timespec *out);
time_t __wrap_time(time_t *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);

static void
offsets(long long *wall, long long *steady)
{
	const char *name = getenv("BACKSTAY_TEST_CLOCK");
	FILE *f = name != NULL ? fopen(name, "re") : NULL;

	*wall = *steady = 0;
	if (f == NULL)
		return;
	if (fscanf(f, "%lld %lld", wall, steady) != 2) {
		fprintf(stderr, "%s: two numbers, please\n", name);
		abort();
	}
	fclose(f);
}

time_t
__wrap_time(time_t *out)
{
	long long wall, steady;
	time_t t;

	offsets(&wall, &steady);
	t = __real_time(NULL) + (time_t)wall;
	if (out != NULL)
		*out = t;
	return t;
}

int
__wrap_clock_gettime(clockid_t id, struct timespec *out)
{
	long long wall, steady;
	int rc = __real_clock_gettime(id, out);

	if (rc != 0 || id != CLOCK_BOOTTIME)
		return rc;
	offsets(&wall, &steady);
	out->tv_sec += (time_t)steady;
	return 0;
}
