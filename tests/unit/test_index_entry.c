/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "tests/unit/index_fixture.h"

static void
merge_is_associative(void **state)
{
	(void)state;
	rnd_seed();
	for (unsigned i = 0; i < 200000; i++) {
		struct index_entry a = rnd_op(), b = rnd_op(), c = rnd_op();
		struct index_entry left = a, bc = b, right = a;

		index_merge(&left, &b);
		index_merge(&left, &c);
		index_merge(&bc, &c);
		index_merge(&right, &bc);
		assert_same(&left, &right);
	}
}

static void
entry_comes_back_from_both_forms(void **state)
{
	uint8_t b[INDEX_ENTRY_LEN];
	size_t shortest = SIZE_MAX, longest = 0;

	(void)state;
	rnd_seed();
	for (unsigned i = 0; i < 200000; i++) {
		struct index_entry e = rnd_op(), back;
		size_t len;

		/* Also what has hardly a byte of zero. */
		if (rnd() % 8 == 0)
			e.place.pack = (uint32_t)rnd() | 0x01010101;
		if (rnd() % 8 == 0)
			e.refs = (int64_t)(rnd() | 0x0101010101010101);
		if (rnd() % 8 == 0)
			e.stamp = rnd() | 0x0101010101010101;
		len = index_entry_print(&e, b);
		assert_true(len <= INDEX_ENTRY_LEN);
		shortest = len < shortest ? len : shortest;
		longest = len > longest ? len : longest;
		assert_int_equal(index_entry_parse(b, len, &back), 0);
		assert_same(&e, &back);
		print_whole(&e, b);
		assert_int_equal(
		    index_entry_parse(b, INDEX_ENTRY_LEN, &back), 0);
		assert_same(&e, &back);
	}
	assert_true(shortest < 10);
	assert_int_equal(longest, INDEX_ENTRY_LEN);
}

static void
entry_of_a_chunk_takes_at_most_22_bytes(void **state)
{
	struct index_entry e = { .place = { .pack = 10000,
				     .off = 512 << 20 | 12345,
				     .stored_len = 40000,
				     .raw_len = 65536,
				     .codec = 1 },
		.refs = 1,
		.stamp = 10000000,
		.kind = RECORD_CHUNK };
	uint8_t b[INDEX_ENTRY_LEN];

	(void)state;
	assert_true(index_entry_print(&e, b) <= 22);
}

static void
entry_refuses_wrong_lengths_and_bytes(void **state)
{
	struct index_entry e = { .refs = 3, .stamp = 0x10002, .kind = 1 }, back;
	uint8_t b[INDEX_ENTRY_LEN + 1] = { 0 };
	size_t len = index_entry_print(&e, b);

	(void)state;
	assert_int_equal(index_entry_parse(b, len, &back), 0);
	for (size_t i = 0; i <= sizeof(b); i++)
		if (i != len && i != INDEX_ENTRY_LEN)
			assert_int_equal(
			    index_entry_parse(b, i, &back), ERR_CORRUPT);
	/* A byte that is said to be there is not zero. */
	b[len - 1] = 0;
	assert_int_equal(index_entry_parse(b, len, &back), ERR_CORRUPT);
	b[len - 1] = 1;
	assert_int_equal(index_entry_parse(b, len, &back), 0);
	/* Three bytes are zero always, said one way or the other. */
	b[4] = 0x80;
	b[len] = 1;
	assert_int_equal(index_entry_parse(b, len + 1, &back), ERR_CORRUPT);
	print_whole(&e, b);
	assert_int_equal(index_entry_parse(b, INDEX_ENTRY_LEN, &back), 0);
	b[INDEX_ENTRY_LEN - 1] = 1;
	assert_int_equal(
	    index_entry_parse(b, INDEX_ENTRY_LEN, &back), ERR_CORRUPT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merge_is_associative),
		cmocka_unit_test(entry_comes_back_from_both_forms),
		cmocka_unit_test(entry_of_a_chunk_takes_at_most_22_bytes),
		cmocka_unit_test(entry_refuses_wrong_lengths_and_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
