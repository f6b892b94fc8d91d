/* SPDX-License-Identifier: Apache-2.0 */
/* source_mem: volumes from memory and from plain files. */
#include "agent/source/source_mem.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"

static char path[64];
static char folder[32];

static int
set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/backstay-source-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/file", folder);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static void
bytes_in_memory_are_a_volume_of_their_own(void **state)
{
	char text[] = "<domain/>", got[16] = "";
	struct source *s = source_mem_new(text, 9, "libvirt-xml");
	uint64_t len;
	bool is;

	(void)state;
	memset(text, 0, sizeof(text));
	assert_int_equal(s->size, 9);
	assert_string_equal(s->format, "libvirt-xml");
	assert_int_equal(source_read(s, got, 8, 1, NULL), 0);
	assert_string_equal(got, "domain/>");
	assert_int_equal(source_map(s, 2, &len, &is, NULL), 0);
	assert_int_equal(len, 7);
	assert_false(is);
	assert_int_equal(source_clean(s, 2, &len, &is, NULL), 0);
	assert_int_equal(len, 7);
	assert_false(is);
	assert_int_equal(source_read(s, got, 8, 2, NULL), ERR_INVAL);
	source_close(s);
	s = source_mem_new(NULL, 0, "raw");
	assert_int_equal(s->size, 0);
	source_close(s);
}

static void
a_file_is_read_while_others_write_to_it(void **state)
{
	enum { SIZE = 4 << 20 };
	struct flock lock = { .l_type = F_WRLCK };
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct source *s;
	struct err e;
	uint64_t len, end;
	char got[8];
	bool hole;

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(pwrite_full(fd, "state", 6, SIZE / 2), 0);
	/* As QEMU holds what it has open. */
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(source_file_open(path, "raw", &s, &e), 0);
	assert_int_equal(s->size, SIZE);
	assert_int_equal(source_read(s, got, 6, SIZE / 2, &e), 0);
	assert_string_equal(got, "state");
	assert_int_equal(source_map(s, 0, &len, &hole, &e), 0);
	assert_true(hole);
	assert_in_range(len, 1 << 20, SIZE / 2);
	end = len;
	assert_int_equal(source_map(s, end, &len, &hole, &e), 0);
	assert_false(hole);
	/* What was cut off since is not made up. */
	assert_int_equal(ftruncate(fd, SIZE / 2), 0);
	assert_int_equal(source_read(s, got, 6, SIZE / 2, &e), ERR_CORRUPT);
	source_close(s);
	close(fd);
}

static void
a_copy_is_what_the_file_held(void **state)
{
	enum { SIZE = 100000 };
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct source *s;
	struct err e;
	char got[8];
	bool whole;

	(void)state;
	assert_int_equal(
	    source_file_copy(path, "raw", SIZE, &whole, &s, &e), 0);
	assert_true(whole);
	assert_int_equal(s->size, 0);
	source_close(s);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(pwrite_full(fd, "state", 6, SIZE - 6), 0);
	assert_int_equal(
	    source_file_copy(path, "raw", SIZE, &whole, &s, &e), 0);
	assert_true(whole);
	assert_int_equal(pwrite_full(fd, "other", 6, SIZE - 6), 0);
	assert_int_equal(ftruncate(fd, 10), 0);
	assert_int_equal(s->size, SIZE);
	assert_string_equal(s->format, "raw");
	assert_int_equal(source_read(s, got, 6, SIZE - 6, &e), 0);
	assert_string_equal(got, "state");
	source_close(s);
	/* What is too large is not copied, and read as it goes. */
	assert_int_equal(pwrite_full(fd, "state", 6, SIZE - 6), 0);
	assert_int_equal(
	    source_file_copy(path, "raw", SIZE - 1, &whole, &s, &e), 0);
	assert_false(whole);
	assert_int_equal(pwrite_full(fd, "other", 6, SIZE - 6), 0);
	assert_int_equal(source_read(s, got, 6, SIZE - 6, &e), 0);
	assert_string_equal(got, "other");
	source_close(s);
	close(fd);
	unlink(path);
	assert_int_equal(
	    source_file_copy(path, "raw", SIZE, &whole, &s, &e), ERR_NOENT);
	assert_int_equal(
	    source_file_copy(folder, "raw", SIZE, &whole, &s, &e), ERR_INVAL);
}

enum { TORN_SIZE = 1 << 20 };

struct torn {
	int fd;
	atomic_bool stop;
};

/* What it begins and what it ends with are the same but for a moment. */
static void *
write_on(void *arg)
{
	struct torn *t = arg;
	uint64_t n = 0; /* never the same again */

	while (!atomic_load(&t->stop)) {
		n++;
		pwrite_full(t->fd, &n, sizeof(n), 0);
		pwrite_full(t->fd, &n, sizeof(n), TORN_SIZE - sizeof(n));
	}
	return NULL;
}

static void
a_copy_of_two_moments_is_told_from_one(void **state)
{
	struct torn t = { .fd = open(path, O_RDWR | O_CREAT, 0600) };
	uint64_t end = now_ms() + 60000;
	pthread_t thread;
	struct source *s;
	unsigned torn = 0;
	uint64_t first, last;
	struct err e;
	bool whole;

	(void)state;
	assert_int_equal(ftruncate(t.fd, TORN_SIZE), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &t), 0);
	for (unsigned i = 0; i < 50 || (torn == 0 && now_ms() < end); i++) {
		assert_int_equal(
		    source_file_copy(path, "raw", TORN_SIZE, &whole, &s, &e),
		    0);
		assert_int_equal(
		    source_read(s, &first, sizeof(first), 0, &e), 0);
		assert_int_equal(source_read(s, &last, sizeof(last),
				     TORN_SIZE - sizeof(last), &e),
		    0);
		if (whole) /* or between the two writes */
			assert_true(first == last || first == last + 1);
		else
			torn++;
		source_close(s);
	}
	atomic_store(&t.stop, true);
	pthread_join(thread, NULL);
	close(t.fd);
	assert_int_not_equal(torn, 0);
	assert_int_equal(
	    source_file_copy(path, "raw", TORN_SIZE, &whole, &s, &e), 0);
	assert_true(whole);
	source_close(s);
}

static void
what_is_no_file_is_refused(void **state)
{
	struct source *s;
	struct err e;

	(void)state;
	assert_int_equal(source_file_open(path, "raw", &s, &e), ERR_NOENT);
	assert_int_equal(source_file_open(folder, "raw", &s, &e), ERR_INVAL);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(source_file_open(path, "raw", &s, &e), ERR_INVAL);
	assert_non_null(strstr(e.text, path));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(bytes_in_memory_are_a_volume_of_their_own),
		CASE(a_file_is_read_while_others_write_to_it),
		CASE(a_copy_is_what_the_file_held),
		CASE(a_copy_of_two_moments_is_told_from_one),
		CASE(what_is_no_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
