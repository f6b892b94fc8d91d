/* SPDX-License-Identifier: Apache-2.0 */
/* log: what a line begins with, for people and for the journal. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/log.h"

/* What a process writes whose stderr is a file; "here": the variable names
 * that. */
static void
lines_of(const char *journal, char *out, size_t size)
{
	char path[] = "/tmp/test_log.XXXXXX", place[64];
	int fd = mkstemp(path), status;
	struct stat st;
	ssize_t n;
	pid_t pid;

	assert_true(fd != -1);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(fstat(fd, &st), 0);
	snprintf(place, sizeof(place), "%llu:%llu",
	    (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	pid = fork();
	assert_true(pid != -1);
	if (pid == 0) {
		if (strcmp(journal, "here") == 0)
			journal = place;
		setenv("JOURNAL_STREAM", journal, 1);
		if (dup2(fd, STDERR_FILENO) == -1)
			_exit(1);
		log_set_level(LOG_LEVEL_DEBUG);
		log_error("a %d", 1);
		log_info("b\n<0>c");
		log_debug("d");
		errno = ENOENT;
		log_sys("e");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	n = pread(fd, out, size - 1, 0);
	assert_true(n >= 0);
	out[n] = 0;
	close(fd);
}

static const char plain[] = "error: a 1\ninfo: b?<0>c\ndebug: d\n"
			    "error: e: No such file or directory\n";

static void
lines_begin_with_their_level(void **state)
{
	char out[512];

	(void)state;
	lines_of("", out, sizeof(out));
	assert_string_equal(out, plain);
}

static void
the_journal_gets_priorities_instead(void **state)
{
	char out[512];

	(void)state;
	lines_of("here", out, sizeof(out));
	assert_string_equal(
	    out, "<3>a 1\n<6>b?<0>c\n<7>d\n<3>e: No such file or directory\n");
}

/* As where a service's child writes into a file. */
static void
the_variable_of_another_place_means_nothing(void **state)
{
	static const char *const values[] = { "1:2", "x", "9", ":" };
	char out[512];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		lines_of(values[i], out, sizeof(out));
		assert_string_equal(out, plain);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_begin_with_their_level),
		cmocka_unit_test(the_journal_gets_priorities_instead),
		cmocka_unit_test(the_variable_of_another_place_means_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
