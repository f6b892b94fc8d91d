/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/chunk.h"
#include "proto/codec.h"

enum { LEN = CHUNK_SIZE_MIN, GUARD = 64 };

static uint8_t raw[LEN], coded[LEN], again[LEN + GUARD];

/* Text with some order in it. */
static void
fill(void)
{
	for (size_t i = 0; i < LEN; i++)
		raw[i] = (uint8_t)("backstay"[i % 8] + (int)(i / 997 % 7));
}

static bool
guard_whole(size_t from)
{
	for (size_t i = from; i < sizeof(again); i++)
		if (again[i] != 0xee)
			return false;
	return true;
}

static void
what_was_packed_comes_back(void **state)
{
	static const int levels[] = { 1, 3, CODEC_LEVEL_MAX };
	size_t n = 0;

	(void)state;
	fill();
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++) {
		struct codec *c = codec_new(levels[i]);

		for (size_t len = 1000; len <= LEN; len += 10757) {
			assert_int_equal(
			    codec_pack(c, raw, len, coded, &n), CODEC_ZSTD);
			assert_true(n <= len - len / 32);
			assert_int_equal(
			    codec_unpack(c, CODEC_ZSTD, coded, n, again, len),
			    0);
			assert_memory_equal(raw, again, len);
		}
		codec_free(c);
	}
}

static void
bytes_that_do_not_shrink_stay_plain(void **state)
{
	struct codec *c = codec_new(CODEC_LEVEL_DEFAULT);
	size_t n = 4711;

	(void)state;
	random_bytes(raw, LEN);
	assert_int_equal(codec_pack(c, raw, LEN, coded, &n), CODEC_PLAIN);
	assert_int_equal(n, 4711);
	/* What zstd would still take is not worth the decoding. */
	memset(raw, 0, LEN / 48);
	assert_int_equal(codec_pack(c, raw, LEN, coded, &n), CODEC_PLAIN);
	memset(raw, 0, LEN / 8);
	assert_int_equal(codec_pack(c, raw, LEN, coded, &n), CODEC_ZSTD);
	codec_free(c);
}

static void
level_0_and_short_inputs_stay_plain(void **state)
{
	struct codec *c = codec_new(0);
	size_t n;

	(void)state;
	memset(raw, 'x', LEN);
	assert_int_equal(codec_pack(c, raw, LEN, coded, &n), CODEC_PLAIN);
	codec_free(c);
	c = codec_new(1);
	assert_int_equal(codec_pack(c, raw, 0, coded, &n), CODEC_PLAIN);
	assert_int_equal(codec_pack(c, raw, 63, coded, &n), CODEC_PLAIN);
	codec_free(c);
}

static void
unpack_writes_no_more_than_its_room(void **state)
{
	struct codec *c = codec_new(1);
	size_t n;

	(void)state;
	fill();
	assert_int_equal(codec_pack(c, raw, LEN, coded, &n), CODEC_ZSTD);
	for (size_t room = 0; room < LEN; room += 4093) {
		memset(again, 0xee, sizeof(again));
		assert_int_equal(
		    codec_unpack(c, CODEC_ZSTD, coded, n, again, room),
		    ERR_CORRUPT);
		assert_true(guard_whole(room));
	}
	/* More wanted than comes out. */
	assert_int_equal(
	    codec_unpack(c, CODEC_ZSTD, coded, n, again, LEN + 1), ERR_CORRUPT);
	codec_free(c);
}

static void
unpack_refuses_plain_bytes_of_another_length(void **state)
{
	struct codec *c = codec_new(1);

	(void)state;
	memset(again, 0xee, sizeof(again));
	assert_int_equal(
	    codec_unpack(c, CODEC_PLAIN, raw, 10, again, 9), ERR_CORRUPT);
	assert_int_equal(
	    codec_unpack(c, CODEC_PLAIN, raw, 9, again, 10), ERR_CORRUPT);
	assert_true(guard_whole(0));
	assert_int_equal(codec_unpack(c, CODEC_PLAIN, raw, 9, again, 9), 0);
	assert_true(guard_whole(9));
	codec_free(c);
}

static void
unpack_refuses_unknown_codecs_and_cut_or_flipped_bytes(void **state)
{
	struct codec *c = codec_new(1);
	size_t n;

	(void)state;
	fill();
	assert_int_equal(codec_unpack(c, 2, raw, LEN, again, LEN), ERR_UNSUP);
	assert_int_equal(codec_pack(c, raw, LEN, coded, &n), CODEC_ZSTD);
	for (size_t i = 0; i < n; i += 7)
		assert_int_equal(
		    codec_unpack(c, CODEC_ZSTD, coded, i, again, LEN),
		    ERR_CORRUPT);
	coded[0] ^= 1;
	assert_int_equal(
	    codec_unpack(c, CODEC_ZSTD, coded, n, again, LEN), ERR_CORRUPT);
	coded[0] ^= 1;
	assert_int_equal(codec_unpack(c, CODEC_ZSTD, coded, n, again, LEN), 0);
	codec_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_packed_comes_back),
		cmocka_unit_test(bytes_that_do_not_shrink_stay_plain),
		cmocka_unit_test(level_0_and_short_inputs_stay_plain),
		cmocka_unit_test(unpack_writes_no_more_than_its_room),
		cmocka_unit_test(unpack_refuses_plain_bytes_of_another_length),
		cmocka_unit_test(
		    unpack_refuses_unknown_codecs_and_cut_or_flipped_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
