/* SPDX-License-Identifier: Apache-2.0 */
/* Orders of two threads that happen once a year, forced by fault points. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "repo/catalog/locks.h"
#include "repo/store/ledger_impl.h"
#include "repo/store/store_impl.h"
#include "tests/crash/world.h"

enum { WHOLE = CHUNK_SIZE_MIN };

static char base[] = "/tmp/backstay-races-XXXXXX";
static char repo[64], journal[64];
static struct world w;
static struct manifest a, b, c;
static struct err e;

static int
setup(void **state)
{
	(void)state;
	strcpy(strrchr(base, '-'), "-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(repo, sizeof(repo), "%s/repo", base);
	snprintf(journal, sizeof(journal), "%s/journal", base);
	fault_arm(NULL);
	world_begin(&w, repo, journal);
	assert_int_equal(store_init(repo, CHUNK_SIZE_MIN, false, NULL, &e), 0);
	assert_int_equal(world_open(&w), 0);
	return 0;
}

/* Whatever happened: the store must be whole. */
static int
teardown(void **state)
{
	char command[96];

	(void)state;
	fault_arm(NULL);
	world_close(&w);
	world_verify(&w, UINT64_MAX);
	close(w.acks);
	free(w.told);
	snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command);
}

/* What a thread does, and what came of it. */
struct job {
	pthread_t thread;
	struct store_session *x;
	const struct manifest *m;
	struct manifest part;
	int rc;
};

static void
begin(struct job *j, void *(*what)(void *arg))
{
	assert_int_equal(pthread_create(&j->thread, NULL, what, j), 0);
}

static int
end(struct job *j)
{
	pthread_join(j->thread, NULL);
	return j->rc;
}

static void *
ask_for_40(void *arg)
{
	struct job *j = arg;

	j->rc = world_ask(&w, j->x, 0, 40);
	return NULL;
}

static void *
read_it(void *arg)
{
	struct job *j = arg;
	struct err why;

	j->rc = world_read(&w, j->m, &why);
	return NULL;
}

static void *
delete_it(void *arg)
{
	struct job *j = arg;

	j->rc = world_delete(&w, j->m);
	return NULL;
}

static void *
checkpoint_it(void *arg)
{
	struct job *j = arg;

	j->rc = world_checkpoint(&w, j->x, NULL, &j->part);
	return NULL;
}

/* a backup between whose chunks others lie, that were never referenced: when
 * those are swept, its packs are worth a rewrite. */
static void
sparse_backup(uint32_t first, uint32_t nchunks, struct manifest *out)
{
	struct store_session *x;

	assert_int_equal(store_begin(w.store, 0, &x, &e), 0);
	for (uint32_t i = 0; i < nchunks; i++) {
		assert_int_equal(world_put(&w, x, first + i, WHOLE), 0);
		for (uint32_t k = 1; k < 4; k++)
			assert_int_equal(
			    world_put(&w, x, first + i + 10000 * k, WHOLE), 0);
	}
	assert_int_equal(
	    world_commit(&w, x, "sparse", first, nchunks, NULL, out), 0);
	store_end(x);
}

static void
an_answer_holds_while_the_last_reference_is_dropped(void **state)
{
	struct job asker = { 0 };

	(void)state;
	assert_int_equal(world_backup(&w, "a", 0, 41, NULL, &a), 0);
	assert_int_equal(store_begin(w.store, 0, &asker.x, &e), 0);
	assert_true(fault_arm("answer=block"));
	begin(&asker, ask_for_40);
	assert_true(fault_await(FAULT_ANSWER));
	assert_int_equal(world_delete(&w, &a), 0);
	assert_int_equal(world_gc(&w), 0);
	fault_release(FAULT_ANSWER);
	assert_int_equal(end(&asker), 0);
	assert_int_equal(world_commit(&w, asker.x, "b", 0, 41, NULL, &b), 0);
	store_end(asker.x);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_read(&w, &b, &e), 0);
}

static void
what_is_put_while_the_reclaimer_decides_stays(void **state)
{
	(void)state;
	assert_int_equal(world_backup(&w, "a", 0, 41, NULL, &a), 0);
	assert_true(fault_arm("sweep.read=block"));
	assert_int_equal(world_delete(&w, &a), 0);
	assert_true(fault_await(FAULT_SWEEP_READ));
	assert_int_equal(world_backup(&w, "b", 0, 41, NULL, &b), 0);
	fault_release(FAULT_SWEEP_READ);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_read(&w, &b, &e), 0);
}

static void
a_reader_goes_on_when_its_pack_is_rewritten(void **state)
{
	struct job reader = { .m = &a };
	struct store_status before, after;

	(void)state;
	reclaimer_hold(w.reclaimer, 600);
	sparse_backup(0, 40, &a);
	world_close(&w);
	assert_int_equal(world_open(&w), 0);
	reclaimer_hold(w.reclaimer, 600);
	assert_int_equal(store_status(w.store, &before), 0);
	assert_true(fault_arm("read.placed=block"));
	begin(&reader, read_it);
	assert_true(fault_await(FAULT_READ_PLACED));
	reclaimer_hold(w.reclaimer, 0);
	assert_int_equal(world_gc(&w), 0);
	assert_true(fault_hits(FAULT_PACK_UNLINKED) > 0);
	assert_true(fault_hits(FAULT_MOVE_COPIED) > 0);
	assert_int_equal(store_status(w.store, &after), 0);
	assert_true(after.stored < before.stored);
	fault_release(FAULT_READ_PLACED);
	assert_int_equal(end(&reader), 0);
}

static void *
commit_it(void *arg)
{
	struct job *j = arg;

	j->rc = world_commit(&w, j->x, "b", 0, 2, NULL, &j->part);
	return NULL;
}

static void
await_removed(uint64_t entries)
{
	uint64_t deadline = now_ms() + 10000;
	struct reclaim_status st;

	do {
		reclaimer_wake(w.reclaimer);
		reclaimer_status(w.reclaimer, &st);
	} while (st.entries < entries && now_ms() < deadline);
	assert_true(st.entries >= entries);
}

static void
a_commit_goes_on_when_the_pack_of_its_root_is_rewritten(void **state)
{
	struct job job = { 0 };

	(void)state;
	assert_int_equal(world_backup(&w, "a", 0, 2, NULL, &a), 0);
	assert_int_equal(world_backup(&w, "fill", 2000, 600, NULL, &b), 0);
	world_close(&w);
	assert_int_equal(world_open(&w), 0);
	reclaimer_hold(w.reclaimer, 600);
	assert_int_equal(world_delete(&w, &b), 0);
	await_removed(600);
	assert_int_equal(store_begin(w.store, 0, &job.x, &e), 0);
	assert_true(fault_arm("root.placed=block"));
	begin(&job, commit_it);
	assert_true(fault_await(FAULT_ROOT_PLACED));
	reclaimer_hold(w.reclaimer, 0);
	assert_int_equal(world_gc(&w), 0);
	assert_true(fault_hits(FAULT_MOVE_MANIFEST) > 0);
	assert_true(fault_hits(FAULT_PACK_UNLINKED) > 0);
	fault_release(FAULT_ROOT_PLACED);
	assert_int_equal(end(&job), 0);
	store_end(job.x);
}

/* The daemon takes these locks: a restore and a delete of what it reads. */
static void
a_restore_refuses_the_delete_of_its_backup_only(void **state)
{
	struct locks *l = locks_new();
	struct lock_request read = {
		.vm = "a", .mode = LOCK_FOR_READ, .backup = a.id, .host = "h"
	};
	struct lock_request del = {
		.vm = "a", .mode = LOCK_FOR_DELETE, .backup = a.id, .host = "h"
	};
	struct job reader = { .m = &a };
	struct lock *k, *d;

	(void)state;
	assert_int_equal(world_backup(&w, "a", 0, 40, NULL, &a), 0);
	assert_int_equal(world_backup(&w, "a", 30, 40, NULL, &b), 0);
	assert_int_equal(lock_take(l, &read, 0, &k, &e), 0);
	assert_true(fault_arm("read.placed=block"));
	begin(&reader, read_it);
	assert_true(fault_await(FAULT_READ_PLACED));
	assert_int_equal(lock_take(l, &del, 0, &d, &e), ERR_BUSY);
	del.backup = b.id;
	assert_int_equal(lock_take(l, &del, 0, &d, &e), 0);
	assert_int_equal(world_delete(&w, &b), 0);
	assert_int_equal(world_gc(&w), 0);
	lock_release(d);
	fault_release(FAULT_READ_PLACED);
	assert_int_equal(end(&reader), 0);
	lock_release(k);
	locks_free(l);
}

static void
an_incremental_outlives_its_parent(void **state)
{
	struct store_session *x;

	(void)state;
	assert_int_equal(world_backup(&w, "a", 0, 200, NULL, &a), 0);
	assert_int_equal(store_begin(w.store, 0, &x, &e), 0);
	assert_int_equal(world_ask(&w, x, 0, 128), 0);
	assert_int_equal(world_hide(&w, &a), 0);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_commit(&w, x, "a", 0, 200, NULL, &b), 0);
	store_end(x);
	assert_int_equal(world_delete_hidden(&w, &a), 0);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_read(&w, &b, &e), 0);
}

/* An answer that was given before the turn is in the frontier that is held. */
static void
a_checkpoint_waits_for_an_answer_on_its_way(void **state)
{
	struct job asker = { 0 }, holder = { 0 };

	(void)state;
	assert_int_equal(world_backup(&w, "a", 0, 41, NULL, &a), 0);
	assert_int_equal(store_begin(w.store, 0, &asker.x, &e), 0);
	holder.x = asker.x;
	assert_int_equal(world_put(&w, asker.x, 900, WHOLE), 0);
	assert_true(fault_arm("answer=block,checkpoint.turn=block"));
	begin(&asker, ask_for_40);
	assert_true(fault_await(FAULT_ANSWER));
	begin(&holder, checkpoint_it);
	assert_true(fault_await(FAULT_CHECKPOINT_TURN));
	assert_int_equal(world_delete(&w, &a), 0);
	fault_release(FAULT_CHECKPOINT_TURN);
	assert_int_equal(fault_hits(FAULT_CHECKPOINT_COMMIT), 0);
	fault_release(FAULT_ANSWER);
	assert_int_equal(end(&asker), 0);
	assert_int_equal(end(&holder), 0);
	assert_int_equal(world_gc(&w), 0);
	/* The start has moved: only the incomplete manifest holds them. */
	assert_int_equal(
	    world_commit(&w, asker.x, "b", 0, 41, &holder.part, &b), 0);
	store_end(asker.x);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_read(&w, &b, &e), 0);
}

/* Until ${n} requests wait in the open batch. */
static void
await_requests(unsigned n)
{
	struct ledger *l = w.store->ledger;
	uint64_t deadline = now_ms() + 10000;
	unsigned seen;

	do {
		seen = 0;
		pthread_mutex_lock(&l->mu);
		for (struct request *r = l->open->requests; r != NULL;
		     r = r->next)
			seen++;
		pthread_mutex_unlock(&l->mu);
	} while (seen < n && now_ms() < deadline);
	assert_int_equal(seen, n);
}

static void
of_two_deletes_in_one_batch_one_finds_it(void **state)
{
	struct job one = { .m = &a }, two = { .m = &a }, other = { .m = &b };

	(void)state;
	reclaimer_pause(w.reclaimer, true);
	assert_int_equal(world_backup(&w, "a", 0, 40, NULL, &a), 0);
	assert_int_equal(world_backup(&w, "b", 0, 40, NULL, &b), 0);
	assert_int_equal(world_backup(&w, "c", 0, 40, NULL, &c), 0);
	assert_true(fault_arm("batch.swapped=block"));
	begin(&other, delete_it);
	assert_true(fault_await(FAULT_BATCH_SWAPPED));
	begin(&one, delete_it);
	begin(&two, delete_it);
	await_requests(2);
	fault_release(FAULT_BATCH_SWAPPED);
	assert_int_equal(end(&other), 0);
	end(&one);
	end(&two);
	assert_int_equal(one.rc + two.rc, ERR_NOENT);
	reclaimer_pause(w.reclaimer, false);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_read(&w, &c, &e), 0);
}

static void *
collect(void *arg)
{
	struct job *j = arg;

	j->rc = world_gc(&w);
	return NULL;
}

/* A move that is published with the delete does not bring it back. */
static void
a_manifest_is_moved_and_deleted_in_one_batch(void **state)
{
	static struct manifest fill;
	struct job one = { .m = &a }, other = { .m = &b }, gc = { 0 };

	(void)state;
	reclaimer_pause(w.reclaimer, true);
	assert_int_equal(world_backup(&w, "a", 0, 2, NULL, &a), 0);
	assert_int_equal(world_backup(&w, "f", 2000, 600, NULL, &fill), 0);
	world_close(&w);
	assert_int_equal(world_open(&w), 0);
	reclaimer_pause(w.reclaimer, true);
	assert_int_equal(world_backup(&w, "b", 40, 40, NULL, &b), 0);
	assert_int_equal(world_delete(&w, &fill), 0);
	assert_true(fault_arm("move.manifest=block"));
	reclaimer_pause(w.reclaimer, false);
	begin(&gc, collect);
	assert_true(fault_await(FAULT_MOVE_MANIFEST));
	/* Hold the ledger inside of a batch, so that both come into the next.
	 */
	assert_true(fault_arm("batch.swapped=block,move.entries=block"));
	begin(&other, delete_it);
	assert_true(fault_await(FAULT_BATCH_SWAPPED));
	begin(&one, delete_it);
	await_requests(1);
	assert_true(fault_await(FAULT_MOVE_ENTRIES));
	fault_release(FAULT_MOVE_ENTRIES);
	await_requests(2);
	fault_release(FAULT_BATCH_SWAPPED);
	assert_int_equal(end(&one), 0);
	assert_int_equal(end(&other), 0);
	assert_int_equal(end(&gc), 0);
}

/* So that the current meta pack is another from here on. */
static void
fill_meta_pack(uint32_t first, struct manifest *out)
{
	assert_int_equal(world_backup(&w, "fill", first, 600, NULL, out), 0);
}

/* ${a} is deleted while the reclaimer is about to copy its manifest. */
static void
delete_under_a_move(void)
{
	static struct manifest fill[3];
	bool blocked = false;

	reclaimer_pause(w.reclaimer, true);
	/* One small manifest in a meta pack of which all else goes. */
	assert_int_equal(world_backup(&w, "a", 0, 2, NULL, &a), 0);
	fill_meta_pack(2000, &fill[0]);
	fill_meta_pack(3000, &fill[1]);
	world_close(&w);
	assert_int_equal(world_open(&w), 0);
	reclaimer_pause(w.reclaimer, true);
	assert_int_equal(world_delete(&w, &fill[0]), 0);
	assert_int_equal(world_delete(&w, &fill[1]), 0);
	assert_true(fault_arm("move.manifest=block"));
	reclaimer_pause(w.reclaimer, false);
	blocked = fault_await(FAULT_MOVE_MANIFEST);
	assert_true(blocked);
	assert_int_equal(world_delete(&w, &a), 0);
}

/* A copy of ${a}, which is deleted, is in a pack that stays; its tombstone is
 * in one that has nothing else any more.  What happens there is not known yet.
 */
static void
leave_a_tombstone_alone(void)
{
	static struct manifest fill[3];

	delete_under_a_move();
	/* The copy comes to lie in another pack than the tombstone. */
	fill_meta_pack(5000, &fill[0]);
	fill_meta_pack(6000, &fill[1]);
	fault_release(FAULT_MOVE_MANIFEST);
	assert_int_equal(world_gc(&w), 0);
	assert_int_equal(world_backup(&w, "c", 7000, 500, NULL, &c), 0);
	world_close(&w);
	assert_int_equal(world_open(&w), 0);
	reclaimer_pause(w.reclaimer, true);
	assert_int_equal(world_delete(&w, &fill[0]), 0);
	assert_int_equal(world_delete(&w, &fill[1]), 0);
}

static void
a_copy_that_was_made_too_late_stays_deleted_after_a_rebuild(void **state)
{
	(void)state;
	leave_a_tombstone_alone();
	reclaimer_pause(w.reclaimer, false);
	assert_int_equal(world_gc(&w), 0);
	world_close(&w);
	assert_int_equal(world_rebuild(&w), 0);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(w.ntold, 1);
}

/* A read of that pass fails once, and then all from it on. */
static void
a_tombstone_that_cannot_be_read_now_is_not_lost(void **state)
{
	const char *how = getenv("CRASH");
	unsigned step = how != NULL && strcmp(how, "long") == 0 ? 1 : 6;
	bool hit = true;

	for (unsigned n = 1; hit; n += step) {
		for (int all = 0; all < 2; all++) {
			char spec[40];

			if (n > 1 || all > 0)
				assert_int_equal(setup(state), 0);
			leave_a_tombstone_alone();
			snprintf(spec, sizeof(spec), "pack.read:%u%s=eio", n,
			    all > 0 ? "+" : "");
			assert_true(fault_arm(spec));
			reclaimer_pause(w.reclaimer, false);
			(void)world_gc(&w);
			hit = fault_hits(FAULT_PACK_READ) >= n;
			fault_arm(NULL);
			world_close(&w);
			assert_int_equal(world_rebuild(&w), 0);
			assert_int_equal(world_open(&w), 0);
			assert_int_equal(w.ntold, 1);
			assert_int_equal(teardown(state), 0);
		}
		assert_true(n < 1000);
	}
	assert_int_equal(setup(state), 0);
}

static void
a_copy_that_was_made_too_late_stays_deleted_after_a_kill(void **state)
{
	static struct manifest fill;
	int status;
	pid_t pid;

	(void)state;
	/* A process of its own has the store, and dies with it. */
	world_close(&w);
	pid = fork();
	if (pid == 0) {
		if (world_open(&w) != 0)
			_exit(1);
		delete_under_a_move();
		fill_meta_pack(5000, &fill);
		fill_meta_pack(6000, &fill);
		fault_arm("batch.swapped=kill");
		(void)world_gc(&w);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(world_open(&w), 0);
	for (unsigned i = 0; i < w.ntold; i++)
		assert_string_equal(w.told[i].vm, "fill");
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(an_answer_holds_while_the_last_reference_is_dropped),
		T(what_is_put_while_the_reclaimer_decides_stays),
		T(a_reader_goes_on_when_its_pack_is_rewritten),
		T(a_commit_goes_on_when_the_pack_of_its_root_is_rewritten),
		T(a_restore_refuses_the_delete_of_its_backup_only),
		T(an_incremental_outlives_its_parent),
		T(a_checkpoint_waits_for_an_answer_on_its_way),
		T(of_two_deletes_in_one_batch_one_finds_it),
		T(a_manifest_is_moved_and_deleted_in_one_batch),
		T(a_copy_that_was_made_too_late_stays_deleted_after_a_rebuild),
		T(a_copy_that_was_made_too_late_stays_deleted_after_a_kill),
		T(a_tombstone_that_cannot_be_read_now_is_not_lost),
#undef T
	};

	if (argc > 1) /* a pattern: only some */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
