/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "repo/serve/numbers.h"

static char dir[] = "/tmp/test_numbers.XXXXXX";
static int dirfd;

static int
setup(void **state)
{
	(void)state;
	memcpy(strrchr(dir, '.') + 1, "XXXXXX", 6);
	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_not_equal(dirfd, -1);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlinkat(dirfd, NUMBERS_FILE, 0);
	close(dirfd);
	assert_int_equal(rmdir(dir), 0);
	return 0;
}

static size_t
content(char out[80])
{
	struct buf b = { 0 };
	size_t n;

	assert_int_equal(file_read(dirfd, NUMBERS_FILE, 79, &b), 0);
	n = b.len;
	memcpy(out, b.data, n);
	out[n] = 0;
	buf_fini(&b);
	return n;
}

static void
write_content(const char *text, size_t len)
{
	assert_int_equal(file_replace(dirfd, NUMBERS_FILE, text, len, 0600), 0);
}

/* Open as after a start at which no more was known. */
static struct numbers *
reopen(void)
{
	struct numbers *n = numbers_open(dirfd);

	numbers_known(n, 0, false);
	return n;
}

static void
the_first_is_one_and_an_end_leaves_none_out(void **state)
{
	struct numbers *n = numbers_open(dirfd);

	(void)state;
	assert_true(numbers_lost(n));
	numbers_known(n, 0, false);
	for (uint64_t i = 1; i <= 5; i++)
		assert_int_equal(numbers_next(n), i);
	numbers_close(n);
	n = numbers_open(dirfd);
	assert_false(numbers_lost(n));
	numbers_known(n, 5, true);
	assert_int_equal(numbers_next(n), 6);
	numbers_close(n);
	/* One that gives none changes nothing. */
	numbers_close(reopen());
	n = reopen();
	assert_int_equal(numbers_next(n), 7);
	numbers_close(n);
	numbers_close(NULL);
}

static void
what_was_given_is_never_given_after_a_crash(void **state)
{
	char before[80], after[80];
	struct numbers *n = reopen(), *next;
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 3 * NUMBERS_BLOCK + 7; i++) {
		uint64_t id = numbers_next(n);

		assert_true(id > last);
		last = id;
		/* As the disk has it now: a start finds nothing that was. */
		if (i % 331 == 0 || i % NUMBERS_BLOCK < 2) {
			next = numbers_open(dirfd);
			assert_false(numbers_lost(next));
			numbers_known(next, 0, true);
			content(before);
			assert_true(numbers_next(next) > last);
			numbers_close(next);
			write_content(before, strlen(before));
		}
	}
	/* One write a block. */
	content(before);
	last = numbers_next(n);
	content(after);
	assert_string_equal(before, after);
	numbers_close(n);
}

static void
a_file_that_is_damaged_is_none_and_nothing_known_comes_again(void **state)
{
	struct numbers *n = reopen();
	char good[80], bad[80];
	size_t len;

	(void)state;
	numbers_next(n);
	numbers_close(n);
	len = content(good);
	for (size_t i = 0; i <= len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			size_t l = len;

			memcpy(bad, good, len);
			/* Behind the last one: cut there. */
			if (bit == 7)
				l = i;
			else if (i < len)
				bad[i] = (char)(bad[i] ^ 1 << bit);
			else
				bad[l++] = '\n';
			if (l == len && memcmp(bad, good, len) == 0)
				continue;
			write_content(bad, l);
			n = numbers_open(dirfd);
			assert_true(numbers_lost(n));
			numbers_known(n, 41, true);
			assert_int_equal(numbers_next(n), 42 + NUMBERS_LEAP);
			numbers_close(n);
		}
	}
	/* And then there is a sound one. */
	n = numbers_open(dirfd);
	assert_false(numbers_lost(n));
	numbers_known(n, 41, true);
	assert_int_equal(numbers_next(n), 43 + NUMBERS_LEAP);
	numbers_close(n);
}

static void
a_file_of_yesterday_counts_less_than_what_is_known(void **state)
{
	struct numbers *n = reopen();

	(void)state;
	assert_int_equal(numbers_next(n), 1);
	numbers_close(n);
	n = numbers_open(dirfd);
	numbers_known(n, 5000, true);
	assert_int_equal(numbers_next(n), 5001);
	numbers_close(n);
	n = numbers_open(dirfd);
	numbers_known(n, 5000, true);
	assert_int_equal(numbers_next(n), 5002);
	numbers_close(n);
}

static void
numbers_go_on_where_the_file_cannot_be_written(void **state)
{
	struct numbers *n;
	char text[80];

	(void)state;
	assert_int_equal(mkdirat(dirfd, NUMBERS_FILE, 0700), 0);
	n = reopen();
	for (uint64_t i = 1; i <= 3 * NUMBERS_AGAIN; i++)
		assert_int_equal(numbers_next(n), i);
	assert_int_equal(unlinkat(dirfd, NUMBERS_FILE, AT_REMOVEDIR), 0);
	/* As soon as it can be. */
	assert_int_equal(numbers_next(n), 3 * NUMBERS_AGAIN + 1);
	content(text);
	numbers_close(n);
	n = reopen();
	assert_int_equal(numbers_next(n), 3 * NUMBERS_AGAIN + 2);
	numbers_close(n);
}

enum { THREADS = 4, EACH = 2500 };

static struct numbers *shared;

static void *
take(void *arg)
{
	uint64_t *out = arg;

	for (int i = 0; i < EACH; i++)
		out[i] = numbers_next(shared);
	return NULL;
}

static void
threads_get_each_number_once(void **state)
{
	static uint64_t got[THREADS][EACH];
	static bool seen[THREADS * EACH + 1];
	pthread_t t[THREADS];

	(void)state;
	shared = reopen();
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, take, got[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	numbers_close(shared);
	for (int i = 0; i < THREADS; i++)
		for (int k = 0; k < EACH; k++) {
			uint64_t id = got[i][k];

			assert_in_range(id, 1, THREADS * EACH);
			assert_false(seen[id]);
			seen[id] = true;
		}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_first_is_one_and_an_end_leaves_none_out),
		T(what_was_given_is_never_given_after_a_crash),
		T(a_file_that_is_damaged_is_none_and_nothing_known_comes_again),
		T(a_file_of_yesterday_counts_less_than_what_is_known),
		T(numbers_go_on_where_the_file_cannot_be_written),
		T(threads_get_each_number_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
