/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "repo/retain/repotime.h"

enum { DAY = 86400 };

#define T0 UINT64_C(1795000000)

static char dir[] = "/tmp/test_repotime.XXXXXX";
static int fd;
static uint64_t wall, steady;

static uint64_t
the_wall(void)
{
	return wall;
}

static uint64_t
the_steady(void)
{
	return steady * 1000;
}

static const struct repotime_source source = { the_wall, the_steady };

static int
none(void **state)
{
	(void)state;
	wall = T0;
	steady = 500;
	unlinkat(fd, REPOTIME_FILE, 0);
	return 0;
}

static struct repotime *
start(uint64_t newest)
{
	return repotime_open(&(struct repotime_options){ .dirfd = fd,
	    .floor = newest,
	    .jump_s = 30 * DAY,
	    .source = &source });
}

static void
write_file(const char *text)
{
	assert_int_equal(
	    file_replace(fd, REPOTIME_FILE, text, strlen(text), 0600), 0);
}

static void
it_goes_on_with_the_steady_clock_alone(void **state)
{
	struct repotime *t;

	(void)state;
	t = start(0);
	assert_int_equal(repotime_now(t), T0);
	steady += 100;
	assert_int_equal(repotime_now(t), T0 + 100);
	wall += 3650 * DAY;
	assert_int_equal(repotime_now(t), T0 + 100);
	assert_true(repotime_is_off(t));
	assert_int_equal(repotime_off(t), 3650 * DAY - 100);
	wall = 0;
	assert_int_equal(repotime_now(t), T0 + 100);
	assert_true(repotime_is_off(t));
	wall = T0 + 100;
	assert_false(repotime_is_off(t));
	repotime_close(t);
}

static void
a_start_believes_the_clock_up_to_the_bound(void **state)
{
	struct repotime *t;

	(void)state;
	repotime_close(start(0));
	wall = T0 + 30 * DAY;
	steady = 3; /* the machine was started anew */
	t = start(0);
	assert_int_equal(repotime_now(t), T0 + 30 * DAY);
	repotime_close(t);
	wall += 30 * DAY + 1;
	t = start(0);
	assert_int_equal(repotime_now(t), T0 + 30 * DAY);
	assert_true(repotime_is_off(t));
	repotime_close(t);
}

static void
time_is_never_taken_back(void **state)
{
	struct repotime *t;

	(void)state;
	t = start(0);
	steady += 5 * DAY;
	repotime_close(t);
	wall = T0 - 400 * DAY;
	t = start(0);
	assert_int_equal(repotime_now(t), T0 + 5 * DAY);
	steady += 7;
	assert_int_equal(repotime_now(t), T0 + 5 * DAY + 7);
	repotime_close(t);
}

static void
what_was_seen_is_kept_now_and_then(void **state)
{
	struct repotime *t, *again;

	(void)state;
	t = start(0);
	steady += REPOTIME_KEEP_MS / 1000 - 1;
	repotime_tick(t);
	wall = 0;
	again = start(0);
	assert_int_equal(repotime_now(again), T0);
	steady += 1;
	repotime_tick(t);
	/* As if the daemon had been killed here. */
	repotime_close(again);
	steady += REPOTIME_KEEP_MS / 1000;
	repotime_tick(t);
	again = start(0);
	assert_int_equal(
	    repotime_now(again), T0 + 2 * (REPOTIME_KEEP_MS / 1000));
	repotime_close(again);
	repotime_close(t);
}

static void
without_its_file_it_begins_at_the_newest_backup(void **state)
{
	struct repotime *t;

	(void)state;
	t = start(T0 - 10 * DAY); /* near enough: the clock is right */
	assert_int_equal(repotime_now(t), T0);
	repotime_close(t);
	none(NULL);
	t = start(T0 - 31 * DAY);
	assert_int_equal(repotime_now(t), T0 - 31 * DAY);
	repotime_close(t);
	/* A backup that says to be from the future makes nothing old. */
	none(NULL);
	t = start(T0 + 3650 * DAY);
	assert_int_equal(repotime_now(t), T0);
	repotime_close(t);
}

static void
a_damaged_file_counts_as_none(void **state)
{
	static const char *const bad[] = { "", "{", "{}\n", "[]",
		"{\"version\":1,\"seen\":\"soon\",\"number\":1}",
		"{\"version\":2,\"seen\":\"2036-01-01T00:00:00Z\"}",
		"{\"version\":1,\"seen\":\"2036-01-01T00:00:00Z\"}" };
	struct repotime *t;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		write_file(bad[i]);
		t = start(T0 - DAY);
		assert_int_equal(repotime_now(t), T0);
		assert_int_equal(repotime_number(t), 0);
		repotime_close(t);
	}
}

static void
an_older_file_only_takes_time_back(void **state)
{
	struct buf old = { 0 };
	struct repotime *t;

	(void)state;
	repotime_close(start(0));
	assert_int_equal(file_read(fd, REPOTIME_FILE, 4096, &old), 0);
	t = start(0);
	steady += 100 * DAY;
	repotime_close(t);
	write_file(buf_cstr(&old));
	wall = T0 + 100 * DAY;
	t = start(0);
	assert_int_equal(repotime_now(t), T0);
	repotime_close(t);
	buf_fini(&old);
}

static void
a_number_is_durable_and_never_less(void **state)
{
	struct repotime *t;
	struct stat st;

	(void)state;
	t = start(0);
	assert_int_equal(repotime_number(t), 0);
	assert_int_equal(repotime_count(t, 7), 0);
	assert_int_equal(repotime_count(t, 5), 0);
	assert_int_equal(repotime_number(t), 7);
	/* Killed here. */
	{
		struct repotime *again = start(0);

		assert_int_equal(repotime_number(again), 7);
		repotime_close(again);
	}
	repotime_close(t);
	assert_int_equal(fstatat(fd, REPOTIME_FILE, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void
a_full_disk_does_not_keep_it_from_starting(void **state)
{
	struct repotime *t;

	(void)state;
	assert_int_equal(mkdirat(fd, REPOTIME_FILE ".tmp", 0700), 0);
	t = start(0);
	assert_int_equal(repotime_now(t), T0);
	assert_int_equal(repotime_count(t, 3), ERR_SYS);
	repotime_close(t);
	assert_int_equal(unlinkat(fd, REPOTIME_FILE ".tmp", AT_REMOVEDIR), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    it_goes_on_with_the_steady_clock_alone, none),
		cmocka_unit_test_setup(
		    a_start_believes_the_clock_up_to_the_bound, none),
		cmocka_unit_test_setup(time_is_never_taken_back, none),
		cmocka_unit_test_setup(
		    what_was_seen_is_kept_now_and_then, none),
		cmocka_unit_test_setup(
		    without_its_file_it_begins_at_the_newest_backup, none),
		cmocka_unit_test_setup(a_damaged_file_counts_as_none, none),
		cmocka_unit_test_setup(
		    an_older_file_only_takes_time_back, none),
		cmocka_unit_test_setup(
		    a_number_is_durable_and_never_less, none),
		cmocka_unit_test_setup(
		    a_full_disk_does_not_keep_it_from_starting, none),
	};
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlinkat(fd, REPOTIME_FILE, 0);
	close(fd);
	rmdir(dir);
	return rc;
}
