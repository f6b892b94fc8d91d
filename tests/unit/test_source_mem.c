/* SPDX-License-Identifier: Apache-2.0 */
/* source_mem: volumes from memory and from plain files. */
#include "agent/source/source_mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
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
		CASE(what_is_no_file_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
