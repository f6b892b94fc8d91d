/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include <openssl/hmac.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/chunk.h"

static void
volume_is_cut_into_slices_of_which_only_the_last_is_short(void **state)
{
	const uint32_t c = CHUNK_SIZE_MIN;

	(void)state;
	assert_int_equal(chunk_nslices(0, c), 0);
	assert_int_equal(chunk_nslices(1, c), 1);
	assert_int_equal(chunk_nslices(c, c), 1);
	assert_int_equal(chunk_nslices(c + 1, c), 2);
	assert_true(chunk_nslices(VOLUME_SIZE_MAX, c) == VOLUME_SIZE_MAX / c);
	assert_int_equal(chunk_len(c + 1, c, 0), c);
	assert_int_equal(chunk_len(c + 1, c, 1), 1);
	assert_int_equal(chunk_len(2 * c, c, 1), c);
	assert_int_equal(chunk_len(VOLUME_SIZE_MAX, c, 0), c);
}

static void
chunk_sizes_are_powers_of_two_within_their_limits(void **state)
{
	(void)state;
	assert_true(chunk_size_ok(64 << 10));
	assert_true(chunk_size_ok(4 << 20));
	assert_false(chunk_size_ok(0));
	assert_false(chunk_size_ok(32 << 10));
	assert_false(chunk_size_ok(8 << 20));
	assert_false(chunk_size_ok(96 << 10));
	assert_false(chunk_size_ok((uint64_t)1 << 32));
	assert_false(chunk_size_ok(((uint64_t)1 << 32) + (64 << 10)));
}

static void
expect_id(const struct id *id, const char *text)
{
	char s[2 * ID_LEN + 1];

	assert_string_equal(hex(id->b, ID_LEN, s), text);
}

/* The examples that come with FIPS 180-4. */
static void
plain_ids_are_sha256_and_sha512_256(void **state)
{
	struct hasher *h = hasher_new(NULL);
	struct id id;

	(void)state;
	for (int i = 0; i < 2; i++) {
		hasher_chunk(h, "abc", 3, &id);
		expect_id(&id,
		    "ba7816bf8f01cfea414140de5dae2223"
		    "b00361a396177a9cb410ff61f20015ad");
		hasher_node(h, "abc", 3, &id);
		expect_id(&id,
		    "53048e2681941ef99b2e29b76b4c7dab"
		    "e4c2d0c634fc6d46e0e2f13107e7af23");
	}
	hasher_free(h);
}

static void
keyed_ids_equal_the_hmac_of_openssl(void **state)
{
	static const size_t lens[] = { 0, 1, 63, 64, 65, 127, 128, 4100,
		CHUNK_SIZE_MIN };
	uint8_t key[HASH_KEY_LEN], *data = xmalloc(CHUNK_SIZE_MIN);
	struct hasher *h;

	(void)state;
	random_bytes(key, sizeof(key));
	random_bytes(data, CHUNK_SIZE_MIN);
	h = hasher_new(key);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		uint8_t want[EVP_MAX_MD_SIZE];
		struct id id;
		unsigned n;

		HMAC(EVP_sha256(), key, sizeof(key), data, lens[i], want, &n);
		assert_int_equal(n, ID_LEN);
		hasher_chunk(h, data, lens[i], &id);
		assert_memory_equal(id.b, want, ID_LEN);
		HMAC(EVP_sha512_256(), key, sizeof(key), data, lens[i], want,
		    &n);
		assert_int_equal(n, ID_LEN);
		hasher_node(h, data, lens[i], &id);
		assert_memory_equal(id.b, want, ID_LEN);
	}
	hasher_free(h);
	free(data);
}

static void
two_keys_share_no_ids_and_neither_with_plain(void **state)
{
	uint8_t key[2][HASH_KEY_LEN] = { { 1 }, { 2 } };
	struct hasher *h[3] = { hasher_new(NULL), hasher_new(key[0]),
		hasher_new(key[1]) };
	struct id c[3], n[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		hasher_chunk(h[i], "abc", 3, &c[i]);
		hasher_node(h[i], "abc", 3, &n[i]);
	}
	for (int i = 0; i < 3; i++) {
		assert_false(id_equal(&c[i], &c[(i + 1) % 3]));
		assert_false(id_equal(&n[i], &n[(i + 1) % 3]));
		assert_false(id_equal(&c[i], &n[i]));
		hasher_free(h[i]);
	}
}

static void
only_the_zero_id_is_a_hole(void **state)
{
	struct id id = { { 0 } };

	(void)state;
	assert_true(id_is_hole(&id));
	id.b[ID_LEN - 1] = 1;
	assert_false(id_is_hole(&id));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    volume_is_cut_into_slices_of_which_only_the_last_is_short),
		cmocka_unit_test(
		    chunk_sizes_are_powers_of_two_within_their_limits),
		cmocka_unit_test(plain_ids_are_sha256_and_sha512_256),
		cmocka_unit_test(keyed_ids_equal_the_hmac_of_openssl),
		cmocka_unit_test(two_keys_share_no_ids_and_neither_with_plain),
		cmocka_unit_test(only_the_zero_id_is_a_hole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
