/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/run_agent.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/buf.h"

/* Beside this program if it is there, as after a build; else in PATH. */
int
run_agent(char **argv, const char *what, struct err *e)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *beside, *slash;

	fflush(stdout);
	if (n > 0) {
		self[n] = 0;
		slash = strrchr(self, '/');
		beside =
		    xasprintf("%.*s/backstay-agent", (int)(slash - self), self);
		if (access(beside, X_OK) == 0)
			execv(beside, argv);
		free(beside);
	}
	execvp("backstay-agent", argv);
	return err_set(e, ERR_NOENT,
	    "backstay-agent cannot be run: %s; it does the %s: install "
	    "it beside this program or in PATH",
	    strerror(errno), what);
}

char *
agent_url(const char *dir)
{
	char *whole = realpath(dir, NULL);
	char *url = xasprintf("unix:%s/socket", whole != NULL ? whole : dir);

	free(whole);
	return url;
}
