/* SPDX-License-Identifier: Apache-2.0 */
/*
 * examine: the two halves of replay.sh.
 *
 *   examine run REPO JOURNAL LOG      the scenario, on a disk whose writes are
 *                                     logged in LOG
 *   examine first JOURNAL             how long LOG was at the first answer
 *   examine verify REPO JOURNAL UPTO  what had been answered when LOG was that
 *                                     long must hold
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash/journal.h"
#include "tests/crash/scenario.h"

static int
run(const char *repo, const char *journal, const char *log)
{
	struct world w;
	int status;
	pid_t pid;

	pid = fork();
	if (pid == -1)
		return 1;
	world_begin(&w, repo, journal);
	journal_watch(open(log, O_RDONLY | O_CLOEXEC));
	if (pid == 0)
		scenario_prepare(&w, LEFT_COMMITTING);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return 1;
	scenario_run(&w);
}

int
main(int argc, char **argv)
{
	struct world w;

	if (argc == 5 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], argv[4]);
	if (argc == 3 && strcmp(argv[1], "first") == 0) {
		printf("%" PRIu64 "\n",
		    journal_first(open(argv[2], O_RDONLY | O_CLOEXEC)));
		return 0;
	}
	if (argc == 5 && strcmp(argv[1], "verify") == 0) {
		world_begin(&w, argv[2], argv[3]);
		world_verify(&w, strtoull(argv[4], NULL, 10));
		return 0;
	}
	fprintf(stderr, "usage: see the head of tests/crash/examine.c\n");
	return 2;
}
