/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/standstill.h"

#include <setjmp.h>
#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"

enum { DEADLINE_MS = 20000, LOOK_US = 1000 };

/* Of /proc/PID/task: its state stands behind the last parenthesis. */
static bool
thread_stands(const char *tasks, const char *tid)
{
	char name[300], line[512] = "", *state;
	FILE *f;

	snprintf(name, sizeof(name), "%s/%s/stat", tasks, tid);
	f = fopen(name, "r");
	if (f == NULL)
		return true; /* it has ended */
	if (fgets(line, sizeof(line), f) == NULL)
		line[0] = 0;
	fclose(f);
	state = strrchr(line, ')');
	return state == NULL || strchr("TtZX", state[2]) != NULL;
}

static bool
all_stand(pid_t pid)
{
	char tasks[64];
	struct dirent *it;
	bool all = true;
	DIR *d;

	snprintf(tasks, sizeof(tasks), "/proc/%d/task", (int)pid);
	d = opendir(tasks);
	assert_non_null(d);
	while (all && (it = readdir(d)) != NULL)
		all = it->d_name[0] == '.' || thread_stands(tasks, it->d_name);
	closedir(d);
	return all;
}

void
standstill(pid_t pid)
{
	uint64_t until = now_ms() + DEADLINE_MS;

	assert_int_equal(kill(pid, SIGSTOP), 0);
	while (!all_stand(pid)) {
		if (now_ms() > until)
			fail_msg("process %d does not stop", (int)pid);
		usleep(LOOK_US);
	}
}
