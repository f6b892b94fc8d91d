/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "repo/catalog/locks.h"

enum { PATIENCE_MS = 20000 };

static const uint8_t one[BACKUP_ID_LEN] = { 1 }, two[BACKUP_ID_LEN] = { 2 };
static _Thread_local struct err e;

static struct lock_request
ask(const char *vm, enum lock_mode mode, const uint8_t *backup)
{
	return (struct lock_request){ .vm = vm,
		.mode = mode,
		.backup = backup,
		.job = 17,
		.host = "kvm03",
		.since = (uint64_t)time(NULL) };
}

static int
try_lock(struct locks *l, const char *vm, enum lock_mode mode,
    const uint8_t *backup, struct lock **out)
{
	struct lock_request q = ask(vm, mode, backup);

	return lock_take(l, &q, 0, out, &e);
}

static void
every_pair_is_as_the_table_says(void **state)
{
	/* STORE.md 8: for the same backup, and for different ones. */
	static const bool same[4][4] = { { 0, 1, 0, 1 }, { 1, 1, 1, 0 },
		{ 0, 1, 0, 0 }, { 1, 0, 0, 0 } };
	static const bool other[4][4] = { { 0, 1, 0, 1 }, { 1, 1, 1, 1 },
		{ 0, 1, 0, 0 }, { 1, 1, 0, 0 } };
	struct lock *a, *b;
	struct locks *l = locks_new();

	(void)state;
	for (enum lock_mode h = 0; h < LOCK_MODES; h++) {
		for (enum lock_mode w = 0; w < LOCK_MODES; w++) {
			assert_int_equal(try_lock(l, "a", h, one, &a), 0);
			if (same[h][w]) {
				assert_int_equal(
				    try_lock(l, "a", w, one, &b), 0);
				lock_release(b);
			} else {
				assert_int_equal(
				    try_lock(l, "a", w, one, &b), ERR_BUSY);
			}
			if (other[h][w]) {
				assert_int_equal(
				    try_lock(l, "a", w, two, &b), 0);
				lock_release(b);
			} else {
				assert_int_equal(
				    try_lock(l, "a", w, two, &b), ERR_BUSY);
			}
			/* Of any backup: as of the same. */
			assert_int_equal(try_lock(l, "a", w, NULL, &b),
			    same[h][w] ? 0 : ERR_BUSY);
			if (same[h][w])
				lock_release(b);
			/* Other VMs are never touched. */
			assert_int_equal(try_lock(l, "b", w, one, &b), 0);
			lock_release(b);
			lock_release(a);
		}
	}
	locks_free(l);
}

static void
a_delete_and_another_of_the_vm_exclude_each_other(void **state)
{
	struct locks *l = locks_new();
	struct lock *a, *b;

	(void)state;
	assert_int_equal(try_lock(l, "a", LOCK_FOR_DELETE, one, &a), 0);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_DELETE, two, &b), ERR_BUSY);
	lock_release(a);
	locks_free(l);
}

static void
a_delete_of_several_is_kept_from_readers_of_each(void **state)
{
	static const uint8_t ids[3][BACKUP_ID_LEN] = { { 7 }, { 1 }, { 2 } };
	static const uint8_t other[BACKUP_ID_LEN] = { 9 };
	struct locks *l = locks_new();
	struct lock_request q = ask("a", LOCK_FOR_DELETE, ids[0]);
	struct lock *a, *b;

	(void)state;
	q.nmore = 2;
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, two, &a), 0);
	assert_int_equal(lock_take(l, &q, 0, &b, &e), ERR_BUSY);
	q.nmore = 1;
	assert_int_equal(lock_take(l, &q, 0, &b, &e), 0);
	lock_release(a);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, one, &a), ERR_BUSY);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, ids[0], &a), ERR_BUSY);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, NULL, &a), ERR_BUSY);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, other, &a), 0);
	lock_release(a);
	lock_release(b);
	locks_free(l);
}

struct waiter {
	struct locks *l;
	enum lock_mode mode;
	int wait_ms;
	int rc;
	struct lock *lock;
	atomic_bool done;
	pthread_t thread;
};

static int
look_thrice(void *arg, struct err *err)
{
	int *n = arg;

	return ++*n < 3 ? 0 : err_set(err, ERR_CLOSED, "the peer is gone");
}

static void *
come_and_go(void *arg)
{
	struct waiter *w = arg;
	struct lock *k;

	while (!atomic_load(&w->done)) {
		if (try_lock(w->l, "b", LOCK_FOR_READ, one, &k) == 0)
			lock_release(k);
		sched_yield();
	}
	return NULL;
}

static void
who_waits_looks_around_and_can_leave(void **state)
{
	struct waiter busy = { .l = locks_new() };
	struct lock_request q = ask("a", LOCK_FOR_DELETE, one);
	struct lock *a, *b;
	int n = 0;

	(void)state;
	assert_int_equal(try_lock(busy.l, "a", LOCK_FOR_READ, one, &a), 0);
	/* However often others wake it. */
	assert_int_equal(
	    pthread_create(&busy.thread, NULL, come_and_go, &busy), 0);
	q.look = look_thrice;
	q.arg = &n;
	assert_int_equal(lock_take(busy.l, &q, -1, &b, &e), ERR_CLOSED);
	assert_string_equal(e.text, "the peer is gone");
	assert_int_equal(n, 3);
	atomic_store(&busy.done, true);
	pthread_join(busy.thread, NULL);
	/* It is forgotten: nobody waits for it. */
	assert_int_equal(try_lock(busy.l, "a", LOCK_FOR_READ, one, &b), 0);
	lock_release(b);
	lock_release(a);
	locks_free(busy.l);
}

static void
a_refusal_says_who_since_when(void **state)
{
	struct locks *l = locks_new();
	char want[128], when[16];
	struct lock_request q = ask("web1", LOCK_FOR_RESTORE, NULL);
	struct lock *a, *b;
	time_t t = (time_t)q.since;
	struct tm tm;

	(void)state;
	strftime(when, sizeof(when), "%H:%M", localtime_r(&t, &tm));
	assert_int_equal(lock_take(l, &q, 0, &a, &e), 0);
	assert_int_equal(
	    try_lock(l, "web1", LOCK_FOR_INGEST, NULL, &b), ERR_BUSY);
	snprintf(want, sizeof(want),
	    "web1 is being restored by job 17 (kvm03, since %s)", when);
	assert_string_equal(e.text, want);
	lock_release(a);
	q.mode = LOCK_FOR_INGEST;
	q.job = 3;
	q.host = "kvm01";
	q.since = 86400 + 60;
	assert_int_equal(lock_take(l, &q, 0, &a, &e), 0);
	assert_int_equal(
	    try_lock(l, "web1", LOCK_FOR_RESTORE, NULL, &b), ERR_BUSY);
	assert_non_null(strstr(e.text,
	    "web1 is being backed up by job 3 (kvm01, since 1970-01-0"));
	lock_release(a);
	locks_free(l);
}

static void *
wait_main(void *arg)
{
	struct waiter *w = arg;
	struct lock_request q = ask("a", w->mode, one);

	q.job = 99;
	w->rc = lock_take(w->l, &q, w->wait_ms, &w->lock, NULL);
	atomic_store(&w->done, true);
	return NULL;
}

static void
start(struct waiter *w, struct locks *l, enum lock_mode mode, int wait_ms)
{
	*w = (struct waiter){ .l = l, .mode = mode, .wait_ms = wait_ms };
	assert_int_equal(pthread_create(&w->thread, NULL, wait_main, w), 0);
}

/* Until a restore that comes now is refused because of one who waits. */
static void
await_waiter(struct locks *l, enum lock_mode probe, const char *says)
{
	uint64_t end = now_ms() + PATIENCE_MS;
	struct lock *k;

	for (;;) {
		if (try_lock(l, "a", probe, one, &k) == 0)
			lock_release(k);
		else if (strstr(e.text, says) != NULL)
			return;
		assert_true(now_ms() < end);
		sched_yield();
	}
}

static void
nobody_overtakes_an_earlier_one(void **state)
{
	struct locks *l = locks_new();
	struct waiter w;
	struct lock *a, *b;

	(void)state;
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, one, &a), 0);
	/* A read is held; a delete waits for it; another read of that backup
	 * would keep it waiting for ever. */
	start(&w, l, LOCK_FOR_DELETE, -1);
	await_waiter(l, LOCK_FOR_READ,
	    "a backup of a is waiting to be deleted by job 99");
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, one, &b), ERR_BUSY);
	/* Who is not in its way goes ahead. */
	assert_int_equal(try_lock(l, "a", LOCK_FOR_READ, two, &b), 0);
	lock_release(b);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_INGEST, NULL, &b), 0);
	lock_release(b);
	assert_false(atomic_load(&w.done));
	lock_release(a);
	pthread_join(w.thread, NULL);
	assert_int_equal(w.rc, 0);
	lock_release(w.lock);
	locks_free(l);
}

static void
a_wait_ends_in_time_and_is_forgotten(void **state)
{
	struct locks *l = locks_new();
	struct lock_request q = ask("a", LOCK_FOR_INGEST, NULL);
	uint64_t start_ms;
	struct lock *a, *b;

	(void)state;
	assert_int_equal(try_lock(l, "a", LOCK_FOR_RESTORE, NULL, &a), 0);
	start_ms = now_ms();
	assert_int_equal(lock_take(l, &q, 50, &b, &e), ERR_BUSY);
	assert_true(now_ms() - start_ms >= 45);
	assert_non_null(strstr(e.text, "a is being restored by job 17"));
	lock_release(a);
	assert_int_equal(try_lock(l, "a", LOCK_FOR_RESTORE, NULL, &a), 0);
	lock_release(a);
	locks_free(l);
}

static void
closing_wakes_who_waits(void **state)
{
	struct locks *l = locks_new();
	struct waiter w;
	struct lock *a, *b;

	(void)state;
	assert_int_equal(try_lock(l, "a", LOCK_FOR_INGEST, NULL, &a), 0);
	start(&w, l, LOCK_FOR_RESTORE, -1);
	await_waiter(l, LOCK_FOR_DELETE, "waiting to be restored");
	locks_close(l);
	pthread_join(w.thread, NULL);
	assert_int_equal(w.rc, ERR_CLOSED);
	assert_int_equal(try_lock(l, "b", LOCK_FOR_READ, one, &b), ERR_CLOSED);
	lock_release(a);
	locks_free(l);
}

/* Many threads; what must exclude each other is counted while it is held. */
struct crowd {
	struct locks *l;
	unsigned seed;
	pthread_t thread;
};
static atomic_int nheld[LOCK_MODES];
static atomic_int nwrong;

static void *
crowd_main(void *arg)
{
	struct crowd *c = arg;

	for (int i = 0; i < 300; i++) {
		enum lock_mode mode =
		    (enum lock_mode)((unsigned)rand_r(&c->seed) % LOCK_MODES);
		struct lock_request q = ask("a", mode, one);
		struct lock *k;

		if (lock_take(c->l, &q, -1, &k, NULL) != 0) {
			atomic_fetch_add(&nwrong, 1);
			continue;
		}
		atomic_fetch_add(&nheld[mode], 1);
		if (mode != LOCK_FOR_READ && atomic_load(&nheld[mode]) > 1)
			atomic_fetch_add(&nwrong, 1);
		if (mode == LOCK_FOR_RESTORE &&
		    (atomic_load(&nheld[LOCK_FOR_INGEST]) > 0 ||
			atomic_load(&nheld[LOCK_FOR_DELETE]) > 0))
			atomic_fetch_add(&nwrong, 1);
		if (mode == LOCK_FOR_DELETE &&
		    atomic_load(&nheld[LOCK_FOR_READ]) > 0)
			atomic_fetch_add(&nwrong, 1);
		atomic_fetch_sub(&nheld[mode], 1);
		lock_release(k);
	}
	return NULL;
}

static void
a_crowd_is_kept_apart_and_nobody_starves(void **state)
{
	struct crowd c[6];
	struct locks *l = locks_new();

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		c[i] = (struct crowd){ .l = l, .seed = 70 + i };
		assert_int_equal(
		    pthread_create(&c[i].thread, NULL, crowd_main, &c[i]), 0);
	}
	for (int i = 0; i < 6; i++)
		pthread_join(c[i].thread, NULL);
	assert_int_equal(atomic_load(&nwrong), 0);
	locks_free(l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair_is_as_the_table_says),
		cmocka_unit_test(
		    a_delete_and_another_of_the_vm_exclude_each_other),
		cmocka_unit_test(
		    a_delete_of_several_is_kept_from_readers_of_each),
		cmocka_unit_test(who_waits_looks_around_and_can_leave),
		cmocka_unit_test(a_refusal_says_who_since_when),
		cmocka_unit_test(nobody_overtakes_an_earlier_one),
		cmocka_unit_test(a_wait_ends_in_time_and_is_forgotten),
		cmocka_unit_test(closing_wakes_who_waits),
		cmocka_unit_test(a_crowd_is_kept_apart_and_nobody_starves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
