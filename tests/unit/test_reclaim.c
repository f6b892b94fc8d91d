/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "repo/reclaim/freed.h"
#include "repo/reclaim/reclaimer.h"
#include "tests/unit/store_fixture.h"

static struct fixture f;
static struct reclaimer *reclaimer;

static int
setup(void **state)
{
	struct reclaim_options o = { 0 };

	(void)state;
	fixture_make(&f);
	assert_int_equal(reclaimer_start(f.store, &o, &reclaimer), 0);
	return 0;
}

static void
stop(void)
{
	reclaimer_stop(reclaimer);
	reclaimer = NULL;
	if (f.store != NULL)
		fixture_close(&f);
}

static int
teardown(void **state)
{
	(void)state;
	stop();
	fixture_remove(&f);
	return 0;
}

static int
drop(const struct manifest *m)
{
	struct store_drop d = { .held = false };
	struct err e = { 0 };
	int rc;

	memcpy(d.id, m->id, sizeof(d.id));
	rc = store_drop(f.store, &d, 1, &e);
	reclaimer_wake(reclaimer);
	return rc;
}

static void
settle(void)
{
	struct err e = { 0 };
	int rc = reclaimer_wait(reclaimer, 20000, &e);

	if (rc != 0)
		print_error("gc: %s\n", e.text);
	assert_int_equal(rc, 0);
}

static uint64_t
stored(void)
{
	struct store_status st;

	assert_int_equal(store_status(f.store, &st), 0);
	return st.stored;
}

static void
check(unsigned nbackups)
{
	stop();
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, nbackups);
	fixture_close(&f);
	fixture_fsck(&f, true);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, nbackups);
}

static void
deleting_one_of_two_frees_what_only_it_needs(void **state)
{
	struct manifest a, b;
	struct err e = { 0 };
	uint64_t bytes, before;

	(void)state;
	fixture_backup(&f, "a", 0, 400, &a);
	fixture_backup(&f, "b", 300, 100, &b);
	before = stored();
	assert_int_equal(freed(f.store, &a, 1, &bytes, &e), 0);
	/* 300 chunks and 1000 bytes of the last are its own. */
	assert_true(bytes > 300ull * FIXTURE_CHUNK);
	assert_true(bytes < 303ull * FIXTURE_CHUNK);
	assert_int_equal(drop(&a), 0);
	settle();
	assert_true(stored() < before - 290ull * FIXTURE_CHUNK);
	fixture_verify(&f, &b, 300);
	check(1);
	fixture_verify(&f, &b, 300);
}

static void
a_store_can_be_emptied(void **state)
{
	struct manifest m[10];

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		fixture_backup(&f, "a", i * 30, 200, &m[i]);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(drop(&m[i]), 0);
	settle();
	/* An open pack of less than a MiB is not worth rewriting. */
	assert_true(stored() < 1 << 20);
	check(0);
	assert_true(stored() < 1 << 20);
}

static void
what_is_deleted_is_deleted_once(void **state)
{
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 0, 10, &m);
	assert_int_equal(drop(&m), 0);
	assert_int_equal(drop(&m), ERR_NOENT);
	settle();
	assert_int_equal(drop(&m), ERR_NOENT);
	check(0);
}

static void
a_session_keeps_what_it_may_rely_on(void **state)
{
	struct store_session *x;
	struct manifest a, b = { 0 };
	struct err e = { 0 };
	uint64_t bytes;

	(void)state;
	fixture_backup(&f, "a", 0, 200, &a);
	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	assert_int_equal(drop(&a), 0);
	settle();
	/* The last reference went after it began: it may still build on it. */
	for (uint32_t i = 0; i < 199; i++) {
		assert_int_equal(
		    fixture_put(&f, x, i, FIXTURE_CHUNK, &bytes), 0);
		assert_int_equal(bytes, 0);
	}
	strcpy(b.vm, "b");
	strcpy(b.host, "test");
	strcpy(b.consistency, "offline");
	b.nvolumes = 1;
	strcpy(b.volume[0].name, "vda");
	strcpy(b.volume[0].kind, "disk");
	strcpy(b.volume[0].format, "raw");
	b.volume[0].size = fixture_tree(&f, x, 0, 200, 1000, &b.volume[0].root);
	assert_int_equal(store_commit(x, f.lane, &b, NULL, 0, &e), 0);
	store_end(x);
	reclaimer_wake(reclaimer);
	settle();
	fixture_verify(&f, &b, 0);
	check(1);
	fixture_verify(&f, &b, 0);
}

static void
a_checkpoint_lets_the_reclaimer_pass_and_keeps_the_rest(void **state)
{
	struct manifest a, part = { 0 }, again = { 0 };
	struct store_drop d = { .held = false };
	struct store_session *x, *y;
	struct err e = { 0 };
	uint64_t bytes, before;
	struct id root;

	(void)state;
	fixture_backup(&f, "a", 1000, 300, &a);
	/* ${y} takes the pack in which a lies: one in use is not rewritten. */
	assert_int_equal(store_begin(f.store, 0, &y, &e), 0);
	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	store_end(y);
	/* A whole tree, a leaf's worth of chunks, a short one. */
	fixture_tree(&f, x, 0, 200, 1000, &root);
	for (uint32_t i = 500; i < 540; i++)
		assert_int_equal(
		    fixture_put(&f, x, i, FIXTURE_CHUNK, &bytes), 0);
	assert_int_equal(drop(&a), 0);
	settle();
	before = stored(); /* all of it: the session began before the delete */
	assert_true(before > 530ull * FIXTURE_CHUNK);
	strcpy(part.vm, "b");
	strcpy(part.host, "test");
	assert_int_equal(store_checkpoint(x, f.lane, &part, NULL, 0, &e), 0);
	assert_true(part.incomplete);
	settle();
	/* Each takes the place of the one before; a level of a's tree goes
	 * with each, since what a removal lets go of is stamped anew. */
	for (int i = 0; i < 3; i++) {
		memcpy(d.id, part.id, sizeof(d.id));
		assert_int_equal(
		    store_checkpoint(x, f.lane, &part, &d, 1, &e), 0);
		settle();
	}
	assert_true(stored() < before - 250ull * FIXTURE_CHUNK);
	fixture_tree(&f, x, 500, 41, 1000, &root);
	memcpy(d.id, part.id, sizeof(d.id));
	strcpy(again.vm, "b");
	strcpy(again.host, "test");
	assert_int_equal(store_checkpoint(x, f.lane, &again, &d, 1, &e), 0);
	settle();
	/* Interrupted: a new session finds all of it. */
	store_end(x);
	settle();
	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	for (uint32_t i = 0; i < 199; i++) {
		assert_int_equal(
		    fixture_put(&f, x, i, FIXTURE_CHUNK, &bytes), 0);
		assert_int_equal(bytes, 0);
	}
	for (uint32_t i = 500; i < 540; i++) {
		assert_int_equal(
		    fixture_put(&f, x, i, FIXTURE_CHUNK, &bytes), 0);
		assert_int_equal(bytes, 0);
	}
	store_end(x);
	check(1);
	assert_true(f.backups[0].incomplete);
}

static void
a_held_backup_is_hidden_and_dropped_later(void **state)
{
	struct store_drop d = { .held = true };
	struct manifest a;
	struct err e = { 0 };
	uint64_t before;

	(void)state;
	fixture_backup(&f, "a", 0, 200, &a);
	before = stored();
	memcpy(d.id, a.id, sizeof(d.id));
	assert_int_equal(store_drop(f.store, &d, 1, &e), 0);
	settle();
	assert_true(stored() >= before);
	fixture_verify(&f, &a, 0);
	d = (struct store_drop){ .hidden = true };
	memcpy(d.id, a.id, sizeof(d.id));
	assert_int_equal(store_drop(f.store, &d, 1, &e), 0);
	reclaimer_wake(reclaimer);
	settle();
	assert_true(stored() < 65536);
	check(0);
}

static void
a_hidden_backup_goes_at_the_next_start(void **state)
{
	struct store_drop d = { .held = true };
	struct reclaim_options o = { 0 };
	struct manifest a;
	struct err e = { 0 };

	(void)state;
	fixture_backup(&f, "a", 0, 200, &a);
	memcpy(d.id, a.id, sizeof(d.id));
	assert_int_equal(store_drop(f.store, &d, 1, &e), 0);
	stop();
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 0);
	assert_int_equal(reclaimer_start(f.store, &o, &reclaimer), 0);
	settle();
	assert_true(stored() < 65536);
	check(0);
}

/* Backs up and deletes for as long as it is told to. */
static void *
keep_deleting(void *arg)
{
	atomic_bool *stop = arg;
	struct manifest m;

	for (unsigned n = 0; !atomic_load(stop); n++) {
		fixture_backup(&f, "busy", 1000 + n % 100 * 50, 60, &m);
		if (drop(&m) != 0)
			abort();
	}
	return NULL;
}

static void
a_wait_ends_while_others_go_on_deleting(void **state)
{
	atomic_bool stopping = false;
	pthread_t thread;
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 0, 400, &m);
	assert_int_equal(
	    pthread_create(&thread, NULL, keep_deleting, &stopping), 0);
	assert_int_equal(drop(&m), 0);
	for (int i = 0; i < 3; i++)
		settle();
	atomic_store(&stopping, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	settle();
	check(0);
}

static void
pause_and_hold_keep_packs(void **state)
{
	struct manifest m;
	struct err e = { 0 };
	uint64_t before;

	(void)state;
	fixture_backup(&f, "a", 0, 200, &m);
	before = stored();
	reclaimer_hold(reclaimer, 3600);
	assert_int_equal(drop(&m), 0);
	assert_int_equal(reclaimer_wait(reclaimer, 5000, &e), ERR_BUSY);
	assert_true(stored() >= before);
	reclaimer_hold(reclaimer, 0);
	reclaimer_pause(reclaimer, true);
	assert_int_equal(reclaimer_wait(reclaimer, 5000, &e), ERR_BUSY);
	assert_true(stored() >= before);
	reclaimer_pause(reclaimer, false);
	settle();
	assert_true(stored() < 65536);
	check(0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(deleting_one_of_two_frees_what_only_it_needs),
		T(a_store_can_be_emptied),
		T(what_is_deleted_is_deleted_once),
		T(a_session_keeps_what_it_may_rely_on),
		T(a_checkpoint_lets_the_reclaimer_pass_and_keeps_the_rest),
		T(a_held_backup_is_hidden_and_dropped_later),
		T(a_hidden_backup_goes_at_the_next_start),
		T(a_wait_ends_while_others_go_on_deleting),
		T(pause_and_hold_keep_packs),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
