/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "repo/store/joined.h"
#include "tests/unit/store_fixture.h"

enum { KIB = 1 << 10, MIB = 1 << 20, MANY = 4096 };

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

/* ${n} records of ${len} bytes with their header, ${gap} between them. */
static void
lay_out(struct wanted *w, uint32_t n, uint32_t len, uint32_t gap)
{
	for (uint32_t i = 0; i < n; i++)
		w[i] = (struct wanted){ .at = i,
			.place = { .pack = 1,
			    .off = 128 + i * (len + gap),
			    .stored_len = len - RECORD_HEADER_LEN } };
}

static void
only_what_is_kept_counts(void **state)
{
	static struct wanted w[MANY];
	struct joined j;

	(void)state;
	lay_out(w, MANY, 64 * KIB, 0);
	j = joined_bounds(w, MANY, 0);
	assert_int_equal(joined_count(w, MANY, j), 512); /* 32 MiB */
	/* With as much again between them. */
	lay_out(w, 1000, MIB, MIB / 2);
	j = joined_bounds(w, 1000, 0);
	assert_int_equal(joined_count(w, 1000, j), 32);
	/* So short that it is kept: 80 KiB each. */
	lay_out(w, MANY, 64 * KIB, 16 * KIB);
	assert_int_equal(joined_count(w, MANY, j), 409);
	/* No more stretches than one call takes: a record and a gap are two. */
	lay_out(w, MANY, 16 * KIB, 17 * KIB);
	assert_int_equal(joined_count(w, MANY, j), 512);
}

static void
a_read_ends_with_its_pack_and_at_a_wide_gap(void **state)
{
	static struct wanted w[MANY];
	struct joined j = { .most = 32 * MIB, .gap = 2 * MIB };

	(void)state;
	lay_out(w, 100, 64 * KIB, 0);
	w[10].place.pack = 2;
	assert_int_equal(joined_count(w, 100, j), 10);
	lay_out(w, 100, 64 * KIB, 0);
	for (unsigned i = 20; i < 100; i++)
		w[i].place.off += 2 * MIB;
	assert_int_equal(joined_count(w, 100, j), 20);
	for (unsigned i = 20; i < 100; i++)
		w[i].place.off--;
	assert_int_equal(joined_count(w, 100, j), 100);
	/* What comes twice is kept once. */
	lay_out(w, 1, 8 * MIB, 0);
	for (unsigned i = 1; i < 100; i++)
		w[i] = w[0];
	assert_int_equal(joined_count(w, 100, j), 100);
	/* And one that is larger than all: alone. */
	j.most = MIB;
	lay_out(w, 2, 2 * MIB, 0);
	assert_int_equal(joined_count(w, 2, j), 1);
}

static void
no_more_is_passed_over_than_is_wanted(void **state)
{
	static struct wanted w[MANY];

	(void)state;
	/* What costs less than a seek, always. */
	lay_out(w, 20, 64 * KIB, MIB - 1);
	assert_int_equal(joined_count(w, 20, joined_bounds(w, 20, 0)), 20);
	lay_out(w, 20, 64 * KIB, 4 * MIB);
	assert_int_equal(joined_count(w, 20, joined_bounds(w, 20, 0)), 1);
	assert_true(joined_bounds(w, 20, 80 * MIB).gap > 4 * MIB);
	lay_out(w, 100, 5 * MIB, 4 * MIB);
	assert_true(joined_bounds(w, 100, 0).gap > 4 * MIB);
	lay_out(w, 100, 3 * MIB, 4 * MIB);
	assert_true(joined_bounds(w, 100, 0).gap <= 4 * MIB);
	/* The short ones first. */
	lay_out(w, 60, 3 * MIB, 2 * MIB);
	for (unsigned i = 30; i < 60; i++)
		w[i].place.off += (i - 29) * 5 * MIB;
	assert_true(joined_bounds(w, 60, 0).gap > 2 * MIB);
	assert_true(joined_bounds(w, 60, 0).gap <= 7 * MIB);
	assert_int_equal(joined_bounds(w, 0, 0).gap, 8 * MIB);
}

struct seen {
	unsigned n, bad;
};

static int
see(void *arg, const struct wanted *w, const uint8_t *payload, struct err *e)
{
	static uint8_t want[FIXTURE_CHUNK];
	struct seen *s = arg;
	struct id id;

	(void)e;
	s->n++;
	if (payload == NULL) {
		s->bad++;
		return 0;
	}
	fixture_chunk((uint32_t)w->at, FIXTURE_CHUNK, &id, want);
	assert_true(id_equal(&id, w->id));
	assert_memory_equal(payload, want, FIXTURE_CHUNK);
	return 0;
}

/* Every ${step}th chunk, some twice, with reads of at most ${most}. */
static struct seen
read_each(unsigned step, uint64_t most)
{
	static struct wanted w[2 * MANY];
	static struct id id[MANY];
	static uint8_t data[FIXTURE_CHUNK];
	struct seen seen = { 0 };
	struct index_entry x;
	struct err e = { 0 };
	struct joined j;
	uint32_t n = 0;

	for (uint32_t i = 0; i < 600; i += step) {
		fixture_chunk(i, FIXTURE_CHUNK, &id[i], data);
		assert_int_equal(index_get(f.store->index, &id[i], &x), 0);
		for (int k = i % 5 == 0 ? 2 : 1; k > 0; k--)
			w[n++] = (struct wanted){
				.at = i, .id = &id[i], .place = x.place
			};
	}
	joined_sort(w, n);
	j = joined_bounds(w, n, 0);
	j.most = most;
	assert_int_equal(
	    joined_read(f.store, f.lane, w, n, j, RECORD_CHUNK, see, &seen, &e),
	    0);
	assert_int_equal(seen.n, n);
	return seen;
}

static void
what_lies_between_is_not_taken_for_what_is_wanted(void **state)
{
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 0, 601, &m);
	for (unsigned step = 1; step < 12; step++)
		assert_int_equal(read_each(step, 32 * MIB).bad, 0);
	assert_int_equal(read_each(1, 3 * MIB).bad, 0);
	assert_int_equal(read_each(7, 300 * KIB).bad, 0);
	assert_int_equal(read_each(3, 1).bad, 0);
}

static void
who_reads_little_leaves_the_large_buffers_to_others(void **state)
{
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 0, 601, &m);
	assert_int_equal(read_each(200, 32 * MIB).bad, 0);
	assert_int_equal(atomic_load(&f.store->ranges_left), STORE_RANGES);
	assert_int_equal(read_each(1, 32 * MIB).bad, 0);
	assert_int_equal(
	    atomic_load(&f.store->ranges_left), STORE_RANGES - 32 * MIB);
	joined_free(f.lane);
	assert_int_equal(atomic_load(&f.store->ranges_left), STORE_RANGES);
}

static void
what_is_not_there_is_told_and_the_others_are_read(void **state)
{
	static struct wanted w[3];
	struct seen seen = { 0 };
	struct index_entry x;
	struct err e = { 0 };
	struct manifest m;
	struct id id[3];
	uint8_t data[FIXTURE_CHUNK];

	(void)state;
	fixture_backup(&f, "a", 0, 4, &m);
	for (uint32_t i = 0; i < 3; i++) {
		fixture_chunk(i, FIXTURE_CHUNK, &id[i], data);
		assert_int_equal(index_get(f.store->index, &id[i], &x), 0);
		w[i] =
		    (struct wanted){ .at = i, .id = &id[i], .place = x.place };
	}
	w[1].id = &id[2];
	assert_int_equal(
	    joined_read(f.store, f.lane, w, 3, joined_bounds(w, 3, 0),
		RECORD_CHUNK, see, &seen, &e),
	    0);
	assert_int_equal(seen.bad, 1);
	/* A length that no record has. */
	seen = (struct seen){ 0 };
	w[0].place.stored_len = UINT32_MAX;
	assert_int_equal(
	    joined_read(f.store, f.lane, w, 1, joined_bounds(w, 1, 0),
		RECORD_CHUNK, see, &seen, &e),
	    0);
	assert_int_equal(seen.bad, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_kept_counts),
		cmocka_unit_test(a_read_ends_with_its_pack_and_at_a_wide_gap),
		cmocka_unit_test(no_more_is_passed_over_than_is_wanted),
		cmocka_unit_test_setup_teardown(
		    what_lies_between_is_not_taken_for_what_is_wanted, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    who_reads_little_leaves_the_large_buffers_to_others, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    what_is_not_there_is_told_and_the_others_are_read, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
