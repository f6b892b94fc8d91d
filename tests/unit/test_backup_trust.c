/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trust: what is known to be clean is not read, and the backup is the same as
 * if all had been read; where that knowledge is wrong, a sample finds it.
 * SEED=N repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "tests/unit/fake_daemon.h"
#include "tests/unit/fake_disk.h"

#define TIB ((uint64_t)1 << 40)

static void
mutate(struct disk *p)
{
	unsigned runs = fake_rnd(6);

	while (runs-- > 0) {
		uint64_t g = fake_rnd((unsigned)p->n),
			 n = 1 + fake_rnd(fake_rnd(8) == 0 ? 99 : 4);
		bool discard = fake_rnd(4) == 0;

		for (; n > 0 && g < p->n; n--, g++) {
			disk_touch(p, g, true);
			if (discard)
				p->gen[g] = 0;
		}
	}
	if (fake_rnd(4) == 0) /* noted, but the same */
		p->dirty[fake_rnd((unsigned)p->n)] = 1;
	if (fake_rnd(4) == 0)
		disk_touch(p, p->n - 1, true);
}

/* Data in some places of a disk. */
static struct disk *
random_disk(void)
{
	static const uint32_t cs[] = { CS, CS, CS, 4 * CS, CHUNK_SIZE_MAX };
	static const uint32_t gran[] = { CS, CS, CS / 2, 2 * CS, 8 * CS };
	struct disk *p;
	uint64_t size;

	d.cs = cs[fake_rnd(5)];
	/* A leaf or two, some leaves, more than a node of level 1 has. */
	size = d.cs *
	    (uint64_t)(1 +
		fake_rnd(fake_rnd(2)  ? 300
			: fake_rnd(2) ? 3000
				      : 40000));
	if (d.cs == CHUNK_SIZE_MAX)
		size = d.cs * (uint64_t)(1 + fake_rnd(300));
	size += fake_rnd(2) * fake_rnd(d.cs);
	p = disk_new(size, gran[fake_rnd(5)]);
	p->answer_max =
	    fake_rnd(2) ? UINT64_MAX : p->gran * (1 + fake_rnd(200));
	for (unsigned runs = 1 + fake_rnd(8); runs > 0; runs--) {
		uint64_t g = fake_rnd((unsigned)p->n);

		for (unsigned n = 1 + fake_rnd(60); n > 0 && g < p->n; n--)
			disk_touch(p, g++, false);
	}
	if (fake_rnd(2) == 0)
		disk_touch(p, p->n - 1, false);
	return p;
}

static void
random_changes_give_the_tree_of_who_reads_all(void **state)
{
	static const double percent[] = { 0, 0, 0.5, 20, 100 };

	(void)state;
	for (unsigned i = 0; i < 25; i++) {
		struct disk *p = random_disk();
		struct backup_result r;
		struct err e;

		d.has_backup = false;
		fake_first(p);
		for (unsigned k = 0; k < 4; k++) {
			bool all;

			mutate(p);
			fake_set(percent[fake_rnd(5)]);
			all = fake_options.verify_clean > 99;
			fake_must(fake_send(p, "a", "a", &r, &e), &e);
			assert_true(r.trusted);
			assert_false(r.condemned);
			fake_check(p);
			if (fake_options.verify_clean < 0.1)
				assert_true(r.stats.read <= disk_dirty(p));
			assert_int_equal(r.stats.read, atomic_load(&p->nread));
			if (!all)
				assert_true(r.stats.unchanged + r.stats.holes +
					r.stats.deduplicated <=
				    p->s.size);
			disk_forget(p);
		}
		disk_free(p);
	}
}

static void
what_is_clean_is_neither_read_nor_asked_for(void **state)
{
	struct disk *p = disk_full(5000, 77); /* levels 0 to 1, 40 leaves */
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	fake_set(0);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	assert_int_equal(atomic_load(&p->nread), 0);
	assert_int_equal(r.stats.unchanged, p->s.size);
	assert_int_equal(d.nputs, 0);
	assert_true(d.ntrees <= 4); /* lanes begin at the same time */
	fake_check(p);
	assert_string_equal(d.backup.checkpoint, "b");
	assert_string_equal(d.backup.consistency, "crash");
	/* One changed, in the middle of a leaf. */
	disk_touch(p, 1000, true);
	fake_must(fake_send(p, "c", "b", &r, &e), &e);
	assert_int_equal(atomic_load(&p->nread), CS);
	assert_int_equal(r.stats.unchanged, p->s.size - CS);
	assert_int_equal(d.nputs, 1);
	fake_check(p);
	disk_free(p);
}

static void
two_tebibytes_without_a_change_take_no_time(void **state)
{
	struct disk *p = disk_new(2 * TIB + 5000, CS);
	struct id root;
	struct backup_result r;
	struct err e;
	uint64_t ms;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		disk_touch(p,
		    ((uint64_t)fake_rnd(1u << 15) << 10) + fake_rnd(1 << 10),
		    false);
	disk_touch(p, p->n - 1, false); /* the short slice */
	fake_set(0);
	fake_must(fake_send(p, "a", NULL, &r, &e), &e);
	root = d.backup.volume[0].root;
	for (unsigned i = 0; i < 3; i++) {
		disk_forget(p);
		d.ntrees = 0;
		d.nnode_frames = 0;
		fake_set(i == 2 ? BACKUP_VERIFY_CLEAN : 0);
		if (i == 1)
			p->dirty[p->n / 3] = 1;
		ms = now_ms();
		fake_must(fake_send(p, "a", "a", &r, &e), &e);
		ms = now_ms() - ms;
		printf("2 TiB, %s: %u ms, %u TREE, %u NODE, %u bytes read\n",
		    i == 0       ? "clean"
			: i == 1 ? "one slice dirty"
				 : "clean, with a sample",
		    (unsigned)ms, d.ntrees, d.nnode_frames,
		    (unsigned)atomic_load(&p->nread));
		assert_memory_equal(&d.backup.volume[0].root, &root, ID_LEN);
		assert_true(i == 2 || d.ntrees <= 100);
		assert_true(i > 0 || atomic_load(&p->nread) == 0);
		/* However long it took: nothing grows with the volume. */
		assert_true(d.ntrees <= 1000 && d.nnode_frames <= 100);
	}
	disk_free(p);
}

static void
a_wrong_note_is_found_where_whole_subtrees_are_taken(void **state)
{
	struct disk *p = disk_full(3000, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	disk_touch(p, 2222, false);
	fake_set(100);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	assert_true(r.trusted);
	assert_true(r.condemned);
	assert_string_equal(r.condemned_disk, "vda");
	assert_int_equal(r.condemned_offset, 2222ull * CS);
	assert_int_equal(d.nputs, 1);
	assert_true(r.stats.unchanged == p->s.size - CS);
	fake_check(p);
	disk_free(p);
}

static void
a_wrong_note_is_found_beside_what_changed(void **state)
{
	struct disk *p = disk_full(100, 9);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	disk_touch(p, 20, true);
	disk_touch(p, 22, false);
	fake_set(100);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	assert_true(r.condemned);
	assert_int_equal(r.condemned_offset, 22ull * CS);
	assert_int_equal(d.nputs, 2);
	fake_check(p);
	/* Zeroes that nobody noted are wrong, too. */
	disk_forget(p);
	p->gen[50] = 0;
	p->dirty[51] = 1;
	fake_must(fake_send(p, "c", "b", &r, &e), &e);
	assert_true(r.condemned);
	assert_int_equal(r.condemned_offset, 50ull * CS);
	fake_check(p);
	disk_free(p);
}

/* In a part of a leaf, in a leaf, in subtrees, behind the parent's last data.
 */
static void
what_was_written_into_a_hole_is_found(void **state)
{
	static const uint64_t where[] = { 2, 130, 3000, 20000, 39999 };
	struct disk *p;
	struct backup_result r;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		p = disk_new(40000ull * CS + 17, CS);
		disk_touch(p, 0, false);
		disk_touch(p, 2500, false);
		fake_first(p);
		disk_touch(p, 1, true);
		disk_touch(p, where[i], false);
		fake_set(100);
		fake_must(fake_send(p, "b", "a", &r, &e), &e);
		assert_true(r.condemned);
		assert_int_equal(r.condemned_offset, where[i] * CS);
		fake_check(p);
		disk_free(p);
	}
}

/* Or else the cases above would prove nothing. */
static void
without_a_sample_a_wrong_note_is_believed(void **state)
{
	struct disk *p = disk_full(300, 0);
	struct backup_result r;
	struct err e;
	struct id root;

	(void)state;
	fake_first(p);
	disk_touch(p, 222, false);
	fake_set(0);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	assert_false(r.condemned);
	root = disk_root(p);
	assert_memory_not_equal(&d.backup.volume[0].root, &root, ID_LEN);
	disk_free(p);
}

static void
the_sample_is_of_the_size_that_was_asked_for(void **state)
{
	struct disk *p = disk_full(6000, 0);
	struct backup_result r;
	uint64_t nread[3];
	struct err e;
	uint8_t *was;

	(void)state;
	fake_first(p);
	was = xcalloc(p->n, 1);
	setenv("BACKSTAY_SAMPLE_SEED", "4711", 1);
	for (unsigned i = 0; i < 3; i++) {
		fake_set(5);
		fake_must(fake_send(p, "a", "a", &r, &e), &e);
		assert_false(r.condemned);
		nread[i] = atomic_load(&p->nread) / CS;
		assert_int_equal(r.stats.read, nread[i] * CS);
		/* 300, more or less, within five deviations. */
		assert_in_range(nread[i], 215, 385);
		if (i == 0)
			memcpy(was, p->seen, p->n);
		if (i == 1)
			assert_memory_equal(was, p->seen, p->n);
		if (i == 2)
			assert_memory_not_equal(was, p->seen, p->n);
		disk_forget(p);
		if (i == 1)
			unsetenv("BACKSTAY_SAMPLE_SEED");
	}
	free(was);
	disk_free(p);
}

static void
what_is_damaged_in_the_store_is_read(void **state)
{
	struct disk *p = disk_full(4000, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	d.damaged = "[[5, 2], [500, 300], [3999, 1]]";
	fake_set(0);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	fake_check(p);
	assert_int_equal(atomic_load(&p->nread), 303ull * CS);
	for (unsigned i = 0; i < p->n; i++)
		assert_int_equal(p->seen[i],
		    i == 5 || i == 6 || (i >= 500 && i < 800) || i == 3999);
	d.damaged = NULL;
	disk_free(p);
}

static void
what_the_store_cannot_tell_is_read(void **state)
{
	struct disk *p = disk_new(20000ull * CS + 5, CS); /* level 2 */
	struct backup_result r;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < 400; i++)
		disk_touch(p, i, false);
	for (unsigned i = 16384; i < p->n; i += 3)
		disk_touch(p, i, false);
	fake_first(p);
	/* The level 1 node over the leaves up to 128; one is dirty there. */
	d.fault = FAULT_TREE_PLACE;
	d.bad_first = 0;
	d.bad_end = 16384;
	d.bad_level = 1;
	disk_touch(p, 300, true);
	fake_set(0);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	d.fault = FAULT_NONE;
	fake_check(p);
	assert_int_equal(atomic_load(&p->nread), 400ull * CS);
	for (unsigned i = 0; i < p->n; i++)
		assert_int_equal(p->seen[i], i < 400);
	disk_free(p);
}

/* It would be good for nothing, though its root is known. */
static void
what_a_sample_cannot_be_compared_with_is_read(void **state)
{
	struct disk *p = disk_full(4000, 5);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	d.fault = FAULT_TREE_PLACE;
	d.bad_first = 1000;
	d.bad_end = 1001;
	d.bad_level = 0;
	fake_set(100);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	d.fault = FAULT_NONE;
	fake_check(p);
	assert_false(r.condemned);
	assert_true(atomic_load(&p->nread) >= p->s.size);
	disk_free(p);
}

static void
a_store_that_lost_what_was_not_read_gets_it_again(void **state)
{
	struct disk *p = disk_full(4000, 5);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	disk_touch(p, 1, true);
	d.fault = FAULT_LOSE_INNER_ONCE;
	fake_set(0);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	assert_int_equal(d.nlost, 1);
	assert_false(r.condemned);
	fake_check(p);
	assert_true(atomic_load(&p->nread) >= p->s.size);
	/* And one that goes on losing is told of. */
	disk_forget(p);
	disk_touch(p, 1, true);
	d.fault = FAULT_LOSE_INNER;
	assert_int_equal(fake_send(p, "c", "b", &r, &e), ERR_MISSING);
	/* A chunk: its leaf is read again, and nothing else. */
	disk_forget(p);
	d.nlost = 0;
	d.fault = FAULT_LOSE_ONCE;
	disk_touch(p, 1, true);
	fake_must(fake_send(p, "c", "b", &r, &e), &e);
	assert_int_equal(atomic_load(&p->nread), (1 + 128) * CS);
	fake_check(p);
	d.fault = FAULT_NONE;
	disk_free(p);
}

static void
nothing_is_trusted_that_is_not_of_the_parent(void **state)
{
	struct disk *p = disk_full(300, 0), *more = disk_full(400, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	fake_set(0);
	/* Notes since another backup. */
	fake_must(fake_send(p, "b", "x", &r, &e), &e);
	assert_false(r.trusted);
	assert_int_equal(atomic_load(&p->nread), p->s.size);
	/* None. */
	fake_must(fake_send(p, NULL, NULL, &r, &e), &e);
	assert_false(r.trusted);
	/* A parent that has none. */
	fake_must(fake_send(p, "c", "b", &r, &e), &e);
	assert_false(r.trusted);
	/* It has grown. */
	fake_must(fake_send(more, "d", "c", &r, &e), &e);
	assert_false(r.trusted);
	assert_true(r.has_parent);
	assert_int_equal(atomic_load(&more->nread), more->s.size);
	fake_check(more);
	/* And is as before. */
	fake_must(fake_send(p, "e", "d", &r, &e), &e);
	assert_false(r.trusted);
	fake_check(p);
	/* None is wanted. */
	fake_options.full = true;
	fake_must(fake_send(p, "f", "e", &r, &e), &e);
	assert_false(r.trusted);
	assert_false(r.has_parent);
	disk_free(more);
	disk_free(p);
}

static void
a_parent_of_zeroes_is_as_good_as_any(void **state)
{
	struct disk *p = disk_new(40000ull * CS + 17, CS);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	disk_touch(p, 33333, true);
	fake_set(100);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	assert_true(r.trusted);
	assert_int_equal(atomic_load(&p->nread), CS);
	assert_int_equal(r.stats.holes, p->s.size - CS);
	fake_check(p);
	disk_free(p);
}

static void
a_parent_that_is_wrong_about_its_end_does_no_harm(void **state)
{
	struct disk *p = disk_full(4000, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	fake_first(p);
	disk_touch(p, 1, true);
	d.fault = FAULT_TREE_TAIL;
	fake_set(0);
	fake_must(fake_send(p, "b", "a", &r, &e), &e);
	d.fault = FAULT_NONE;
	fake_check(p);
	disk_free(p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fake_start, fake_stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(random_changes_give_the_tree_of_who_reads_all),
		CASE(what_is_clean_is_neither_read_nor_asked_for),
		CASE(two_tebibytes_without_a_change_take_no_time),
		CASE(a_wrong_note_is_found_where_whole_subtrees_are_taken),
		CASE(a_wrong_note_is_found_beside_what_changed),
		CASE(what_was_written_into_a_hole_is_found),
		CASE(without_a_sample_a_wrong_note_is_believed),
		CASE(the_sample_is_of_the_size_that_was_asked_for),
		CASE(what_is_damaged_in_the_store_is_read),
		CASE(what_the_store_cannot_tell_is_read),
		CASE(what_a_sample_cannot_be_compared_with_is_read),
		CASE(a_store_that_lost_what_was_not_read_gets_it_again),
		CASE(nothing_is_trusted_that_is_not_of_the_parent),
		CASE(a_parent_of_zeroes_is_as_good_as_any),
		CASE(a_parent_that_is_wrong_about_its_end_does_no_harm),
	};

	fake_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
