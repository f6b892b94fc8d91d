/* SPDX-License-Identifier: Apache-2.0 */
/* A store that is opened again: after a death, without its index, damaged,
 * owned by another, of a newer format. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "repo/store/fsck.h"
#include "tests/unit/store_fixture.h"

static struct fixture f;

static int
setup(void **state)
{
	(void)state;
	fixture_make(&f);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_remove(&f);
	return 0;
}

static void
commit_and_leave_a_tail(void)
{
	struct store_session *x;
	struct err e = { 0 };
	struct manifest m;
	struct id root;

	fixture_backup(&f, "a", 1, 300, &m);
	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	fixture_tree(&f, x, 1000, 200, 1000, &root);
}

/*
 * Another process does it and dies without closing anything.  It runs this
 * program anew: of RocksDB's threads, which outlive a store, a fork alone would
 * have none.
 */
static void
die_after_commit(void)
{
	int status;
	pid_t pid;

	fixture_close(&f);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_store_open", f.dir, NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
a_death_after_commit_loses_nothing(void **state)
{
	(void)state;
	die_after_commit();
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 1);
	fixture_verify(&f, &f.backups[0], 1);
	fixture_close(&f);
	fixture_fsck(&f, false);
}

/* The index of an earlier day: what the packs hold since then is put. */
static void
an_old_index_is_rolled_forward(void **state)
{
	char command[256];
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 1, 300, &m);
	fixture_close(&f);
	snprintf(command, sizeof(command), "cp -r %s/index %s/index.day1",
	    f.dir, f.dir);
	assert_int_equal(system(command), 0);
	fixture_open(&f);
	fixture_backup(&f, "b", 200, 300, &m);
	fixture_backup(&f, "a", 2000, 3, &m);
	fixture_close(&f);
	snprintf(command, sizeof(command),
	    "rm -r %s/index && mv %s/index.day1 %s/index", f.dir, f.dir, f.dir);
	assert_int_equal(system(command), 0);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 3);
	for (unsigned i = 0; i < 3; i++)
		fixture_verify(&f, &f.backups[i],
		    f.backups[i].seq == 1       ? 1
			: f.backups[i].seq == 2 ? 200
						: 2000);
	fixture_close(&f);
	fixture_fsck(&f, false);
}

static void
a_lost_index_is_rebuilt_from_packs(void **state)
{
	struct store_options o = { .batch_ms = 20 };
	struct err e = { 0 };
	char command[128];
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 1, 300, &m);
	fixture_backup(&f, "a", 100, 300, &m);
	fixture_close(&f);
	snprintf(command, sizeof(command), "rm -r %s/index", f.dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(
	    store_open(f.dir, &o, NULL, NULL, &f.store, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.text, "--rebuild-index"));
	f.store = NULL;
	fixture_fsck(&f, true);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 2);
	for (unsigned i = 0; i < 2; i++)
		fixture_verify(
		    &f, &f.backups[i], f.backups[i].seq == 1 ? 1 : 100);
	/* And it goes on from there. */
	fixture_backup(&f, "a", 150, 10, &m);
	assert_int_equal(m.seq, 3);
	fixture_close(&f);
	fixture_fsck(&f, false);
}

static void
count_line(void *arg, const char *line)
{
	(void)line;
	++*(unsigned *)arg;
}

static void
fsck_finds_a_flipped_bit(void **state)
{
	struct fsck_options o = { .data = true };
	struct fsck_report r;
	unsigned lines = 0;
	struct err e = { 0 };
	struct manifest m;
	char path[128];
	uint8_t b;
	int fd;

	(void)state;
	fixture_backup(&f, "a", 1, 20, &m);
	fixture_close(&f);
	snprintf(path, sizeof(path), "%s/packs/0000/00000001.pack", f.dir);
	fd = open(path, O_RDWR);
	assert_true(fd != -1);
	assert_int_equal(pread(fd, &b, 1, 300000), 1);
	b ^= 4;
	assert_int_equal(pwrite(fd, &b, 1, 300000), 1);
	close(fd);
	assert_int_equal(fsck(f.dir, &o, count_line, &lines, &r, &e), 0);
	assert_false(fsck_clean(&r));
	assert_int_equal(r.damaged, 1);
	assert_true(lines > 0);
}

static void
a_second_owner_is_refused(void **state)
{
	struct store_options o = { .batch_ms = 20 };
	struct fsck_options fo = { .data = false };
	struct fsck_report r;
	struct err e = { 0 };
	struct store *other;
	char pid[32];

	(void)state;
	assert_int_equal(
	    store_open(f.dir, &o, NULL, NULL, &other, &e), ERR_BUSY);
	snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	assert_non_null(strstr(e.text, pid));
	assert_int_equal(fsck(f.dir, &fo, NULL, NULL, &r, &e), ERR_BUSY);
}

static void
a_newer_format_is_refused_with_both_numbers(void **state)
{
	char command[256];
	struct store_options o = { .batch_ms = 20 };
	struct err e = { 0 };
	struct store *other;

	(void)state;
	fixture_close(&f);
	snprintf(command, sizeof(command),
	    "sed -i 's/\"version\":1/\"version\":7/' %s/backstay.json", f.dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(
	    store_open(f.dir, &o, NULL, NULL, &other, &e), ERR_UNSUP);
	assert_non_null(strstr(e.text, "format 7"));
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(a_death_after_commit_loses_nothing),
		T(an_old_index_is_rolled_forward),
		T(a_lost_index_is_rebuilt_from_packs),
		T(fsck_finds_a_flipped_bit),
		T(a_second_owner_is_refused),
		T(a_newer_format_is_refused_with_both_numbers),
#undef T
	};

	if (argc == 2) { /* die_after_commit */
		snprintf(f.dir, sizeof(f.dir), "%s", argv[1]);
		fixture_open(&f);
		commit_and_leave_a_tail();
		_exit(0);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
