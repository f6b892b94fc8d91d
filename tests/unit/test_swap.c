/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child swaps two or three disks and ends, without a word, before or after
 * any of the calls that change something; then the disks are looked at, and
 * recovered.  Linked with these calls wrapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/image/imglock.h"
#include "agent/sink/swap_impl.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { LEN = 300000, NEVER = 100000, STEPS_MAX = 200, ENDED = 42 };
#define STAMP "20261122T070503Z"

static char dir[] = "/tmp/test_swap.XXXXXX";

/* The end comes at that call: before it if even, after it if odd; or the call
 * fails. */
static int calls, end_at = NEVER, fail_at = NEVER;

int __real_renameat(int, const char *, int, const char *);
int __real_linkat(int, const char *, int, const char *, int);
int __real_unlinkat(int, const char *, int);
int __real_fsync(int);
int __wrap_renameat(int, const char *, int, const char *);
int __wrap_linkat(int, const char *, int, const char *, int);
int __wrap_unlinkat(int, const char *, int);
int __wrap_fsync(int);

static int
after(int r)
{
	if (2 * calls + 1 == end_at)
		_exit(ENDED);
	calls++;
	return r;
}

static bool
before(void)
{
	if (2 * calls == end_at)
		_exit(ENDED);
	if (calls != fail_at)
		return true;
	calls++;
	errno = EIO;
	return false;
}

int
__wrap_renameat(int a, const char *b, int c, const char *d)
{
	return before() ? after(__real_renameat(a, b, c, d)) : -1;
}

int
__wrap_linkat(int a, const char *b, int c, const char *d, int f)
{
	return before() ? after(__real_linkat(a, b, c, d, f)) : -1;
}

int
__wrap_unlinkat(int a, const char *b, int f)
{
	return before() ? after(__real_unlinkat(a, b, f)) : -1;
}

int
__wrap_fsync(int fd)
{
	return before() ? after(__real_fsync(fd)) : -1;
}

static int
set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL || chdir(dir) == -1;
}

static int
tear_down(void **state)
{
	(void)state;
	return chdir("/") == -1 || rmdir(dir) == -1;
}

static const char *const path[] = { "a/vda.raw", "b/vdb.raw", "a/vdc.raw" };
static unsigned stride = 1; /* which of them swap() takes */

static uint8_t *
content(unsigned disk, bool is_new)
{
	uint8_t *p = xmalloc(LEN);

	memset(p, (int)(disk * 2 + is_new + 1), LEN);
	return p;
}

static void
write_disk(const char *at, unsigned disk, bool is_new)
{
	uint8_t *p = content(disk, is_new);
	int fd = open(at, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd != -1);
	assert_int_equal(pwrite_full(fd, p, LEN, 0), 0);
	close(fd);
	free(p);
}

/* 0: old, 1: new, -1: neither. */
static int
which(const char *at, unsigned disk)
{
	struct buf is = { 0 };
	int found = -1;

	if (file_read(AT_FDCWD, at, 2 * LEN, &is) != 0)
		is.len = 0;
	for (int n = 0; n < 2; n++) {
		uint8_t *p = content(disk, n == 1);

		if (is.len == LEN && memcmp(is.data, p, LEN) == 0)
			found = n;
		free(p);
	}
	buf_fini(&is);
	return found;
}

static unsigned
files_in(const char *folder, bool remove)
{
	DIR *d = opendir(folder);
	struct dirent *it;
	unsigned n = 0;

	assert_non_null(d);
	while ((it = readdir(d)) != NULL) {
		if (strcmp(it->d_name, ".") == 0 ||
		    strcmp(it->d_name, "..") == 0)
			continue;
		n++;
		if (remove)
			__real_unlinkat(dirfd(d), it->d_name, 0);
	}
	closedir(d);
	return n;
}

static void
make_disks(unsigned n)
{
	assert_int_equal(mkdir("a", 0700), 0);
	assert_int_equal(mkdir("b", 0700), 0);
	for (unsigned i = 0; i < n; i++)
		write_disk(path[i], i, false);
}

static void
remove_disks(void)
{
	files_in("a", true);
	files_in("b", true);
	assert_int_equal(rmdir("a"), 0);
	assert_int_equal(rmdir("b"), 0);
}

/* All of it, as a restore does. */
static int
swap(unsigned n, const char *stamp, struct err *e)
{
	struct target t[3], *all[3];
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *p = content(i * stride, true);

		rc = target_open(&t[i], path[i * stride], true, e);
		if (rc != 0)
			return rc;
		t[i].held = true;
		all[i] = &t[i];
		rc = outfile_write(&t[i].out, p, LEN, 0, e);
		free(p);
	}
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = target_finish(&t[i], e);
	if (rc == 0)
		rc = swap_run(all, n, stamp, e);
	for (unsigned i = 0; i < n; i++)
		target_close(&t[i]);
	return rc;
}

/* True: it ran to its end. */
static bool
swap_in_child(unsigned n, const char *stamp, int end)
{
	struct err e = { 0 };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		calls = 0;
		end_at = end;
		_exit(swap(n, stamp, &e) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == ENDED);
	return WEXITSTATUS(status) == 0;
}

/* Each is whole; how many are new. */
static unsigned
count_new(unsigned n)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++) {
		int w = which(path[i], i);

		assert_in_range(w, 0, 1);
		found += (unsigned)w;
	}
	return found;
}

/* ${what}, of 200 bytes: what was done. */
static void
expect_recovery(unsigned disk, int want, char *what)
{
	struct err e = { 0 };
	int rc = swap_recover(path[disk], what, 200, &e);

	if (rc != want)
		fail_msg("recovery of %s: %s (%s), not %s", path[disk],
		    err_name(rc), e.text, err_name(want));
}

static bool
recover_all(unsigned n, unsigned from)
{
	char what[200];
	bool any = false;

	for (unsigned i = 0; i < n; i++) {
		expect_recovery((from + i) % n, 0, what);
		any = any || what[0] != 0;
		assert_false(swap_pending(path[(from + i) % n]));
	}
	return any;
}

static void
killed_at_each_step(unsigned n, const char *stamp)
{
	unsigned kept = stamp != NULL ? n : 0, mixed = 0, forward = 0, back = 0;
	char old[200];
	int end = 0;
	bool ended;

	do {
		unsigned before_it, after_it;

		make_disks(n);
		ended = swap_in_child(n, stamp, end);
		before_it = count_new(n);
		if (before_it > 0 && before_it < n)
			mixed++;
		recover_all(n, (unsigned)end % n);
		after_it = count_new(n);
		/* All or none; and what had begun goes on. */
		assert_true(after_it == 0 || after_it == n);
		assert_true(before_it == 0 || after_it == n);
		if (ended)
			assert_int_equal(after_it, n);
		if (after_it == n) {
			forward += before_it < n;
			assert_int_equal(
			    files_in("a", false) + files_in("b", false),
			    n + kept);
			for (unsigned i = 0; i < kept; i++) {
				snprintf(old, sizeof(old), "%s.old-%s", path[i],
				    stamp);
				assert_int_equal(which(old, i), 0);
			}
		} else {
			back++;
			/* And the next restore does not stumble over it. */
			assert_true(swap_in_child(n, stamp, NEVER));
			assert_int_equal(count_new(n), n);
			assert_int_equal(
			    files_in("a", false) + files_in("b", false),
			    n + kept);
		}
		remove_disks();
		end++;
		assert_true(end < STEPS_MAX);
	} while (!ended);
	/* It was killed where it matters. */
	assert_true(n == 1 || mixed > 0);
	assert_true(forward > 0 && back > 0);
}

static void
a_kill_at_any_step_leaves_all_disks_old_or_all_new(void **state)
{
	(void)state;
	killed_at_each_step(1, NULL);
	killed_at_each_step(2, NULL);
	killed_at_each_step(3, NULL);
}

static void
so_it_does_where_the_old_disks_are_kept(void **state)
{
	(void)state;
	killed_at_each_step(1, STAMP);
	killed_at_each_step(2, STAMP);
}

static void
a_recovery_that_is_killed_itself_is_finished_by_the_next(void **state)
{
	(void)state;
	for (int end = 0; end < STEPS_MAX; end++) {
		bool ended;

		make_disks(2);
		ended = swap_in_child(2, NULL, end);
		for (int again = 0; !ended && again < STEPS_MAX; again++) {
			pid_t pid = fork();
			int status;

			if (pid == 0) {
				char what[200];
				struct err e;

				calls = 0;
				end_at = again;
				(void)swap_recover(
				    path[1], what, sizeof(what), &e);
				_exit(0);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			(void)count_new(2);
			if (WEXITSTATUS(status) == 0)
				break;
		}
		recover_all(2, 0);
		assert_true(count_new(2) != 1);
		remove_disks();
		if (ended)
			return;
	}
	fail();
}

static void
a_step_that_fails_leaves_all_old_or_a_swap_to_be_finished(void **state)
{
	struct err e = { 0 };
	unsigned clean = 0, pending = 0;
	int rc, at = 0;

	(void)state;
	do {
		unsigned n;

		make_disks(2);
		calls = 0;
		fail_at = at++;
		rc = swap(2, NULL, &e);
		fail_at = NEVER;
		n = count_new(2);
		if (rc != 0 && !swap_pending(path[0])) {
			assert_int_equal(n, 0);
			clean++;
		} else if (rc != 0) {
			pending++;
		} else {
			assert_int_equal(n, 2);
		}
		recover_all(2, 1);
		assert_true(n == 0 || count_new(2) == 2);
		remove_disks();
		assert_true(at < STEPS_MAX);
		/* The first call that never comes. */
	} while (calls >= at);
	assert_int_equal(rc, 0);
	assert_true(clean > 0 && pending > 0);
}

static void
a_disk_without_a_predecessor_is_swapped_with_the_others(void **state)
{
	struct err e = { 0 };

	(void)state;
	make_disks(1);
	assert_int_equal(swap(2, STAMP, &e), 0);
	assert_int_equal(count_new(2), 2);
	assert_int_equal(files_in("b", false), 1);
	remove_disks();
}

static void
an_interrupted_swap_is_in_the_way_of_a_restore_until_it_is_recovered(
    void **state)
{
	struct target t;
	struct err e;

	(void)state;
	for (int end = 0;; end++) {
		make_disks(2);
		assert_false(swap_in_child(2, NULL, end));
		if (swap_pending(path[0]) && swap_pending(path[1]))
			break;
		remove_disks();
	}
	assert_int_equal(target_open(&t, path[1], true, &e), ERR_EXIST);
	assert_non_null(strstr(e.text, "--finish"));
	assert_true(recover_all(2, 1));
	assert_int_equal(target_open(&t, path[1], true, &e), 0);
	target_close(&t);
	remove_disks();
}

static void
recovery_leaves_a_disk_alone_that_somebody_uses_or_replaced(void **state)
{
	char what[200];
	struct err e;
	int fd, end;

	(void)state;
	for (end = 0;; end++) {
		make_disks(2);
		assert_false(swap_in_child(2, NULL, end));
		if (count_new(2) == 1)
			break;
		remove_disks();
	}
	fd = open(path[0], O_RDWR | O_CLOEXEC);
	assert_int_equal(imglock_take(fd, "x", IMGLOCK_WRITE, &e), 0);
	expect_recovery(1, ERR_BUSY, what);
	close(fd);
	assert_int_equal(count_new(2), 1);
	write_disk("b/other", 1, false);
	assert_int_equal(rename("b/other", path[1]), 0);
	expect_recovery(1, ERR_CORRUPT, what);
	assert_int_equal(count_new(2), 1);
	remove_disks();
}

/* The first restore has left a journal that it had no time to remove; then its
 * first disk, and another one, are swapped again, and that is cut short. */
static void
what_an_earlier_swap_left_does_not_end_a_later_one(void **state)
{
	char what[200];
	int end;

	(void)state;
	for (end = 0;; end++) {
		make_disks(3);
		assert_false(swap_in_child(2, NULL, end));
		if (count_new(2) == 2 && !swap_pending(path[0]) &&
		    swap_pending(path[1]))
			break;
		remove_disks();
	}
	stride = 2;
	for (end = 0;; end++) {
		write_disk(path[0], 0, false);
		write_disk(path[2], 2, false);
		assert_false(swap_in_child(2, NULL, end));
		if (which(path[0], 0) == 1 && which(path[2], 2) == 0)
			break;
		for (unsigned i = 0; i < 3; i += 2)
			expect_recovery(i, 0, what);
	}
	stride = 1;
	/* In the order in which somebody may find them. */
	assert_true(recover_all(3, 1));
	assert_int_equal(count_new(3), 3);
	assert_int_equal(files_in("a", false) + files_in("b", false), 3);
	remove_disks();
}

static void
a_journal_of_nonsense_is_refused(void **state)
{
	char what[200];

	(void)state;
	make_disks(1);
	write_disk("a/.vda.raw.swap", 0, false);
	expect_recovery(0, ERR_CORRUPT, what);
	assert_int_equal(count_new(1), 0);
	/* Nor is one that is too long for a journal. */
	assert_int_equal(truncate("a/.vda.raw.swap", 2 << 20), 0);
	expect_recovery(0, ERR_CORRUPT, what);
	assert_int_equal(count_new(1), 0);
	remove_disks();
}

/* Some file systems number their files over all 64 bits. */
static void
a_journal_bears_any_inode_number(void **state)
{
	struct swap *w = swap_new(), *is = NULL;
	struct err e = { 0 };

	(void)state;
	make_disks(1);
	assert_int_equal(swap_add(w, dir, "vda.raw", &e), 0);
	w->disk[0].new_ino = UINT64_MAX - 4;
	w->disk[0].old_ino = (uint64_t)1 << 63;
	assert_int_equal(swap_note(w, 0, &e), 0);
	if (swap_read(w->disk[0].dirfd, w->disk[0].journal, "it", &is, &e) != 0)
		fail_msg("%s", e.text);
	assert_true(is->disk[0].new_ino == w->disk[0].new_ino);
	assert_true(is->disk[0].old_ino == w->disk[0].old_ino);
	assert_int_equal(swap_forget(w, 0), 0);
	swap_free(is);
	swap_free(w);
	remove_disks();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_kill_at_any_step_leaves_all_disks_old_or_all_new),
		cmocka_unit_test(so_it_does_where_the_old_disks_are_kept),
		cmocka_unit_test(
		    a_recovery_that_is_killed_itself_is_finished_by_the_next),
		cmocka_unit_test(
		    a_step_that_fails_leaves_all_old_or_a_swap_to_be_finished),
		cmocka_unit_test(
		    a_disk_without_a_predecessor_is_swapped_with_the_others),
		cmocka_unit_test(
		    an_interrupted_swap_is_in_the_way_of_a_restore_until_it_is_recovered),
		cmocka_unit_test(
		    recovery_leaves_a_disk_alone_that_somebody_uses_or_replaced),
		cmocka_unit_test(
		    what_an_earlier_swap_left_does_not_end_a_later_one),
		cmocka_unit_test(a_journal_of_nonsense_is_refused),
		cmocka_unit_test(a_journal_bears_any_inode_number),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
