/* SPDX-License-Identifier: Apache-2.0 */
/* Marks and the guard that goes by them, over a catalog of made-up backups. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "repo/retain/guard.h"

enum { DAY = 86400 };

#define T0 UINT64_C(1795000000)

static char dir[] = "/tmp/test_guard.XXXXXX";
static int fd;
static uint64_t wall, steady;
static struct retain_policy policy;
static struct catalog *catalog;
static struct guard *guard;
static struct manifest m[3];
static struct err e;

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

static struct retain_policy
the_policy(void *arg, const char *vm)
{
	(void)arg;
	(void)vm;
	return policy;
}

static void
start(void)
{
	guard = guard_open(&(struct guard_options){ .dirfd = fd,
	    .catalog = catalog,
	    .jump_s = 30 * DAY,
	    .source = &source,
	    .policy = the_policy });
}

static void
again(void)
{
	guard_close(guard);
	start();
}

static void
add(struct manifest *x, unsigned n, bool incomplete)
{
	*x = (struct manifest){ .id = { (uint8_t)(n + 1) },
		.vm = "web1",
		.seq = n + 1,
		.time = T0 + n,
		.incomplete = incomplete,
		.chunk_size = CHUNK_SIZE_DEFAULT };
	guard_stamp(guard, x);
	assert_int_equal(catalog_add(catalog, x), 0);
}

static int
setup(void **state)
{
	(void)state;
	e = (struct err){ 0 };
	wall = T0;
	steady = 500;
	policy = (struct retain_policy){ .set = 0 };
	unlinkat(fd, REPOTIME_FILE, 0);
	unlinkat(fd, MARKS_FILE, 0);
	catalog = catalog_new();
	start();
	for (unsigned i = 0; i < 3; i++)
		add(&m[i], i, false);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	guard_close(guard);
	catalog_free(catalog);
	return 0;
}

static int
hide(const struct manifest *x)
{
	bool held;

	return guard_hide(guard, x->vm, x->id, &held, &e);
}

static void
pass(uint64_t s)
{
	wall += s;
	steady += s;
}

static void
what_nobody_keeps_goes(void **state)
{
	(void)state;
	assert_int_equal(guard_check(guard, &m[0], &e), 0);
	assert_int_equal(hide(&m[0]), 0);
	assert_int_equal(hide(&m[0]), ERR_NOENT);
}

static void
what_is_protected_stays_until_it_is_not(void **state)
{
	struct mark x;

	(void)state;
	assert_int_equal(
	    guard_protect(guard, &m[1], true, "audit", "ann", &e), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(hide(&m[1]), ERR_DENIED);
		assert_non_null(strstr(e.text, "protected by ann"));
		assert_non_null(strstr(e.text, "audit"));
		guard_look(guard, &m[1], &x);
		assert_true(x.is_protected);
		assert_int_equal(x.at, T0);
		assert_int_equal(hide(&m[i == 0 ? 0 : 2]), 0);
		again();
	}
	assert_int_equal(guard_protect(guard, &m[1], false, "", "ann", &e), 0);
	again();
	assert_int_equal(hide(&m[1]), 0);
}

static void
notes_are_short_and_printable(void **state)
{
	char note[MARK_NOTE_MAX + 2];

	(void)state;
	memset(note, 'x', sizeof(note));
	note[MARK_NOTE_MAX + 1] = 0;
	assert_int_equal(
	    guard_protect(guard, &m[0], true, note, "ann", &e), ERR_INVAL);
	assert_int_equal(
	    guard_protect(guard, &m[0], true, "a\nb", "ann", &e), ERR_INVAL);
	note[MARK_NOTE_MAX] = 0;
	assert_int_equal(guard_protect(guard, &m[0], true, note, "ann", &e), 0);
	again();
	assert_false(guard_doubt(guard, NULL));
	assert_int_equal(hide(&m[0]), ERR_DENIED);
}

static void
a_lock_of_the_policy_stays_as_it_was_at_the_commit(void **state)
{
	struct manifest x;

	(void)state;
	policy.lock = 7 * DAY;
	add(&x, 10, false);
	assert_int_equal(x.locked_until, T0 + 7 * DAY);
	policy.lock = 0;
	assert_int_equal(hide(&m[0]), 0);
	pass(7 * DAY - 1);
	assert_int_equal(hide(&x), ERR_DENIED);
	assert_non_null(strstr(e.text, "locked until"));
	wall += 3650 * DAY;
	assert_int_equal(hide(&x), ERR_DENIED);
	again();
	assert_int_equal(hide(&x), ERR_DENIED);
	steady++;
	assert_int_equal(hide(&x), 0);
}

static void
a_lock_only_becomes_later(void **state)
{
	uint64_t until = T0 + 20 * DAY;

	(void)state;
	assert_int_equal(guard_lock(guard, &m[0], until, &e), 0);
	assert_int_equal(guard_lock(guard, &m[0], until, &e), 0);
	assert_int_equal(guard_lock(guard, &m[0], until - 1, &e), ERR_INVAL);
	assert_int_equal(guard_lock(guard, &m[1], T0, &e), ERR_INVAL);
	assert_int_equal(
	    guard_lock(guard, &m[1], T0 + GUARD_LOCK_MAX_S + 9, &e), ERR_INVAL);
	assert_int_equal(guard_lock(guard, &m[0], until + DAY, &e), 0);
	/* Protecting it, and not, leaves the lock. */
	assert_int_equal(guard_protect(guard, &m[0], true, "", "ann", &e), 0);
	assert_int_equal(guard_protect(guard, &m[0], false, "", "ann", &e), 0);
	again();
	pass(20 * DAY + DAY - 1);
	assert_int_equal(hide(&m[0]), ERR_DENIED);
	pass(1);
	assert_int_equal(hide(&m[0]), 0);
}

static void
what_is_younger_than_min_age_stays(void **state)
{
	(void)state;
	policy.min_age = DAY;
	pass(DAY - 1);
	assert_int_equal(hide(&m[0]), ERR_DENIED);
	assert_non_null(strstr(e.text, "younger than min-age"));
	pass(1);
	assert_int_equal(hide(&m[0]), 0);
	assert_int_equal(hide(&m[1]), ERR_DENIED);
}

static void
age_goes_by_the_repositorys_time_where_the_clock_was_wrong(void **state)
{
	struct manifest x = { .vm = "web1", .time = T0 };

	(void)state;
	guard_stamp(guard, &x);
	assert_int_equal(x.repo_time, 0);
	x.time = T0 - 400 * DAY;
	guard_stamp(guard, &x);
	assert_int_equal(x.repo_time, T0);
	assert_int_equal(manifest_age_from(&x), T0);
	x.time = T0 + 3650 * DAY;
	policy.lock = DAY;
	guard_stamp(guard, &x);
	assert_int_equal(x.repo_time, T0);
	assert_int_equal(x.locked_until, T0 + DAY);
}

static void
what_is_incomplete_is_kept_by_nobody(void **state)
{
	struct manifest x;

	(void)state;
	policy.min_age = DAY;
	add(&x, 10, true);
	assert_int_equal(hide(&x), 0);
}

static void
what_leaves_is_not_protected_any_more(void **state)
{
	(void)state;
	assert_int_equal(hide(&m[0]), 0);
	assert_int_equal(
	    guard_protect(guard, &m[0], true, "", "ann", &e), ERR_NOENT);
	/* Its drop failed, and it is back. */
	assert_false(catalog_hidden(catalog, m[0].vm, m[0].id, false));
	assert_int_equal(guard_protect(guard, &m[0], true, "", "ann", &e), 0);
	assert_int_equal(hide(&m[0]), ERR_DENIED);
}

static void
put(const void *data, size_t len)
{
	assert_int_equal(file_replace(fd, MARKS_FILE, data, len, 0600), 0);
}

static void
any_damage_of_the_file_keeps_all(void **state)
{
	struct buf good = { 0 };
	char why[ERR_TEXT_MAX];

	(void)state;
	assert_int_equal(guard_protect(guard, &m[0], true, "a", "ann", &e), 0);
	assert_int_equal(guard_lock(guard, &m[1], T0 + DAY, &e), 0);
	guard_close(guard);
	assert_int_equal(file_read(fd, MARKS_FILE, 4096, &good), 0);
	for (size_t i = 0; i < good.len; i++) {
		/* Each byte otherwise, and the end cut off there. */
		for (int how = 0; how < 2; how++) {
			good.data[i] ^= how == 0 ? 0x10 : 0;
			put(good.data, how == 0 ? good.len : i);
			good.data[i] ^= how == 0 ? 0x10 : 0;
			start();
			assert_true(guard_doubt(guard, why));
			assert_int_equal(hide(&m[2]), ERR_DENIED);
			assert_non_null(strstr(e.text, "--mend"));
			assert_int_equal(
			    guard_protect(guard, &m[2], true, "", "ann", &e),
			    ERR_CORRUPT);
			guard_close(guard);
		}
	}
	put(good.data, good.len);
	start();
	assert_false(guard_doubt(guard, NULL));
	assert_int_equal(hide(&m[0]), ERR_DENIED);
	assert_int_equal(hide(&m[2]), 0);
	buf_fini(&good);
}

static void
an_older_file_or_none_keeps_all(void **state)
{
	struct buf old = { 0 };

	(void)state;
	assert_int_equal(guard_protect(guard, &m[0], true, "a", "ann", &e), 0);
	assert_int_equal(file_read(fd, MARKS_FILE, 4096, &old), 0);
	assert_int_equal(guard_protect(guard, &m[1], true, "b", "ann", &e), 0);
	put(old.data, old.len);
	again();
	assert_true(guard_doubt(guard, NULL));
	assert_int_equal(hide(&m[1]), ERR_DENIED);
	assert_int_equal(unlinkat(fd, MARKS_FILE, 0), 0);
	again();
	assert_true(guard_doubt(guard, NULL));
	assert_int_equal(hide(&m[1]), ERR_DENIED);
	buf_fini(&old);
}

static void
mended_what_can_be_read_is_as_before_and_the_rest_is_protected(void **state)
{
	struct buf all = { 0 };
	struct mark x;
	unsigned n;

	(void)state;
	assert_int_equal(guard_mend(guard, "ann", &n, &e), ERR_INVAL);
	assert_int_equal(guard_protect(guard, &m[0], true, "a", "ann", &e), 0);
	assert_int_equal(guard_lock(guard, &m[1], T0 + 5 * DAY, &e), 0);
	assert_int_equal(file_read(fd, MARKS_FILE, 4096, &all), 0);
	/* The end of the second line, which is of the lock. */
	put(all.data, all.len - 3);
	again();
	assert_int_equal(guard_mend(guard, "bob", &n, &e), 0);
	assert_int_equal(n, 2);
	again();
	assert_false(guard_doubt(guard, NULL));
	guard_look(guard, &m[0], &x);
	assert_string_equal(x.by, "ann");
	guard_look(guard, &m[1], &x);
	assert_string_equal(x.by, "bob");
	assert_int_equal(hide(&m[2]), ERR_DENIED);
	assert_int_equal(guard_protect(guard, &m[2], false, "", "bob", &e), 0);
	assert_int_equal(hide(&m[2]), 0);
	buf_fini(&all);
}

static void
a_mark_that_cannot_be_written_is_not_told(void **state)
{
	(void)state;
	assert_int_equal(mkdirat(fd, MARKS_FILE ".tmp", 0700), 0);
	assert_int_equal(
	    guard_protect(guard, &m[0], true, "", "ann", &e), ERR_SYS);
	assert_int_equal(unlinkat(fd, MARKS_FILE ".tmp", AT_REMOVEDIR), 0);
	assert_int_equal(hide(&m[0]), 0);
}

static void
locks_that_ended_are_forgotten(void **state)
{
	struct buf text = { 0 };

	(void)state;
	assert_int_equal(guard_lock(guard, &m[0], T0 + DAY, &e), 0);
	pass(2 * DAY);
	assert_int_equal(guard_protect(guard, &m[1], true, "", "ann", &e), 0);
	assert_int_equal(file_read(fd, MARKS_FILE, 4096, &text), 0);
	assert_null(strstr(buf_cstr(&text), "locked_until"));
	buf_fini(&text);
}

static pthread_barrier_t line;
static int protected_rc;

static void *
protect_it(void *arg)
{
	struct err why;

	pthread_barrier_wait(&line);
	protected_rc = guard_protect(guard, arg, true, "", "ann", &why);
	return NULL;
}

static void
nobody_is_told_that_what_goes_just_then_is_protected(void **state)
{
	enum { ROUNDS = 100 };

	(void)state;
	pthread_barrier_init(&line, NULL, 2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct manifest x;
		pthread_t t;
		int rc;

		add(&x, 10 + i, false);
		assert_int_equal(pthread_create(&t, NULL, protect_it, &x), 0);
		pthread_barrier_wait(&line);
		rc = hide(&x);
		pthread_join(t, NULL);
		if (rc == 0)
			assert_int_equal(protected_rc, ERR_NOENT);
		else
			assert_int_equal(protected_rc, 0);
	}
	pthread_barrier_destroy(&line);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_nobody_keeps_goes),
		TEST(what_is_protected_stays_until_it_is_not),
		TEST(notes_are_short_and_printable),
		TEST(a_lock_of_the_policy_stays_as_it_was_at_the_commit),
		TEST(a_lock_only_becomes_later),
		TEST(what_is_younger_than_min_age_stays),
		TEST(
		    age_goes_by_the_repositorys_time_where_the_clock_was_wrong),
		TEST(what_is_incomplete_is_kept_by_nobody),
		TEST(what_leaves_is_not_protected_any_more),
		TEST(any_damage_of_the_file_keeps_all),
		TEST(an_older_file_or_none_keeps_all),
		TEST(
		    mended_what_can_be_read_is_as_before_and_the_rest_is_protected),
		TEST(a_mark_that_cannot_be_written_is_not_told),
		TEST(locks_that_ended_are_forgotten),
		TEST(nobody_is_told_that_what_goes_just_then_is_protected),
	};
	int rc;

	if (mkdtemp(dir) == NULL)
		return 1;
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlinkat(fd, REPOTIME_FILE, 0);
	unlinkat(fd, MARKS_FILE, 0);
	close(fd);
	rmdir(dir);
	return rc;
}
