/* SPDX-License-Identifier: Apache-2.0 */
/* frame and msg. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "proto/codec.h"
#include "proto/frame.h"
#include "proto/msg.h"

static struct buf b; /* of the test that runs */
static struct err e;

static int
setup(void **state)
{
	(void)state;
	b.len = 0;
	return 0;
}

static int
group_teardown(void **state)
{
	(void)state;
	buf_fini(&b);
	return 0;
}

static void
frame_header_comes_back(void **state)
{
	static const uint8_t want[] = { 0x00, 0x00, 0x41, 0x00, 0x03, 0, 0, 0,
		0x78, 0x56, 0x34, 0x12 };
	struct frame f = {
		.type = MSG_PUT, .request = 0x12345678, .len = FRAME_PAYLOAD_MAX
	};
	uint8_t h[FRAME_HEADER_LEN];

	(void)state;
	frame_print(&f, h);
	assert_memory_equal(h, want, sizeof(want));
	f = (struct frame){ 0 };
	assert_int_equal(frame_parse(h, &f, &e), 0);
	assert_int_equal(f.type, MSG_PUT);
	assert_int_equal(f.request, 0x12345678);
	assert_int_equal(f.len, FRAME_PAYLOAD_MAX);
}

static void
frame_header_with_flags_or_too_long_is_refused(void **state)
{
	struct frame f = { .type = MSG_CALL, .len = FRAME_PAYLOAD_MAX };
	uint8_t h[FRAME_HEADER_LEN];

	(void)state;
	for (size_t i = 5; i < 8; i++) {
		frame_print(&f, h);
		h[i] = 1;
		assert_int_equal(frame_parse(h, &f, &e), ERR_PROTO);
	}
	frame_print(&f, h);
	h[0]++;
	assert_int_equal(frame_parse(h, &f, &e), ERR_LIMIT);
	memset(h, 0xff, 4);
	assert_int_equal(frame_parse(h, &f, &e), ERR_LIMIT);
}

static void
query_comes_back_for_every_count(void **state)
{
	struct id ids[MSG_QUERY_MAX + 1];
	struct msg_query q;

	(void)state;
	for (unsigned i = 0; i <= MSG_QUERY_MAX; i++)
		memset(ids[i].b, (int)i, ID_LEN);
	for (unsigned n = 0; n <= MSG_QUERY_MAX; n++) {
		b.len = 0;
		msg_query_print(&b, &ids[n], n, ids);
		assert_int_equal(msg_query_parse(b.data, b.len, &q, &e), 0);
		assert_int_equal(q.n, n);
		assert_true(id_equal(q.leaf, &ids[n]));
		assert_memory_equal(q.id, ids, n * ID_LEN);
	}
}

static void
query_without_leaf_with_parts_or_too_many_is_refused(void **state)
{
	uint8_t p[(MSG_QUERY_MAX + 2) * ID_LEN] = { 0 };
	struct msg_query q;

	(void)state;
	assert_int_equal(msg_query_parse(p, 0, &q, &e), ERR_PROTO);
	assert_int_equal(msg_query_parse(p, 31, &q, &e), ERR_PROTO);
	assert_int_equal(msg_query_parse(p, 33, &q, &e), ERR_PROTO);
	assert_int_equal(msg_query_parse(p, sizeof(p), &q, &e), ERR_LIMIT);
}

static void
have_comes_back_for_every_count(void **state)
{
	struct msg_have m = { .leaf = false }, again;

	(void)state;
	memset(m.bits, 0xa5, sizeof(m.bits));
	for (unsigned n = 0; n <= MSG_QUERY_MAX; n++) {
		b.len = 0;
		msg_have_print(&b, n, &m);
		assert_int_equal(b.len, 1 + (n + 7) / 8);
		assert_int_equal(
		    msg_have_parse(b.data, b.len, n, &again, &e), 0);
		assert_false(again.leaf);
		for (unsigned i = 0; i < MSG_QUERY_MAX; i++)
			assert_int_equal(again.bits[i / 8] >> i % 8 & 1,
			    i < n ? 0xa5 >> i % 8 & 1 : 0);
	}
}

static void
have_of_a_leaf_says_so_for_all_its_chunks(void **state)
{
	struct msg_have m = { .leaf = true }, again;

	(void)state;
	for (unsigned n = 0; n <= MSG_QUERY_MAX; n++) {
		b.len = 0;
		msg_have_print(&b, n, &m);
		assert_int_equal(
		    msg_have_parse(b.data, b.len, n, &again, &e), 0);
		assert_true(again.leaf);
		for (unsigned i = 0; i < MSG_QUERY_MAX; i++)
			assert_int_equal(again.bits[i / 8] >> i % 8 & 1, i < n);
		if (n == 0)
			continue;
		b.data[1] &= 0xfe;
		assert_int_equal(
		    msg_have_parse(b.data, b.len, n, &again, &e), ERR_PROTO);
	}
}

static void
have_for_other_counts_is_refused(void **state)
{
	static const uint8_t p[] = { 0, 0xff, 0x07 }, flag[] = { 2, 0, 0 };
	struct msg_have m;

	(void)state;
	assert_int_equal(msg_have_parse(p, 3, 11, &m, &e), 0);
	assert_int_equal(msg_have_parse(p, 3, 10, &m, &e), ERR_PROTO);
	assert_int_equal(msg_have_parse(p, 3, 8, &m, &e), ERR_PROTO);
	assert_int_equal(msg_have_parse(p, 3, 17, &m, &e), ERR_PROTO);
	assert_int_equal(msg_have_parse(p, 0, 0, &m, &e), ERR_PROTO);
	assert_int_equal(msg_have_parse(flag, 3, 11, &m, &e), ERR_PROTO);
}

static const uint8_t some[200] = "some bytes that stand for a chunk";

static void
add(uint8_t codec, uint32_t raw_len, uint32_t stored_len)
{
	struct msg_chunk c = { .id = { { 1, 2 } },
		.codec = codec,
		.raw_len = raw_len,
		.stored_len = stored_len,
		.data = some };

	msg_put_add(&b, &c);
}

static void
put_yields_its_chunks_one_after_another(void **state)
{
	struct msg_chunk c;
	struct rd r;

	(void)state;
	add(CODEC_PLAIN, 10, 10);
	add(CODEC_ZSTD, CHUNK_SIZE_MAX, 150);
	add(CODEC_PLAIN, 1, 1);
	assert_int_equal(b.len, 3 * MSG_CHUNK_HEADER_LEN + 161);
	r = rd_over(b.data, b.len);
	assert_int_equal(msg_put_next(&r, &c, &e), 0);
	assert_int_equal(c.raw_len, 10);
	assert_int_equal(c.id.b[1], 2);
	assert_memory_equal(c.data, some, 10);
	assert_int_equal(msg_put_next(&r, &c, &e), 0);
	assert_int_equal(c.codec, CODEC_ZSTD);
	assert_int_equal(c.raw_len, CHUNK_SIZE_MAX);
	assert_int_equal(c.stored_len, 150);
	assert_memory_equal(c.data, some, 150);
	assert_int_equal(msg_put_next(&r, &c, &e), 0);
	assert_true(rd_done(&r));
}

static int
put_first(size_t len)
{
	struct rd r = rd_over(b.data, len);
	struct msg_chunk c;

	return msg_put_next(&r, &c, &e);
}

static void
put_that_ends_early_is_refused(void **state)
{
	(void)state;
	add(CODEC_PLAIN, 100, 100);
	for (size_t len = 0; len < b.len; len++)
		assert_int_equal(put_first(len), ERR_PROTO);
	assert_int_equal(put_first(b.len), 0);
}

static int
put_of(uint8_t codec, uint32_t raw_len, uint32_t stored_len)
{
	b.len = 0;
	add(codec, raw_len, stored_len <= sizeof(some) ? stored_len : 0);
	put_le32(b.data + 40, stored_len);
	return put_first(b.len);
}

static void
put_with_lengths_that_cannot_be_is_refused(void **state)
{
	(void)state;
	assert_int_equal(put_of(CODEC_PLAIN, 0, 0), ERR_PROTO);
	assert_int_equal(put_of(CODEC_ZSTD, 100, 0), ERR_PROTO);
	assert_int_equal(put_of(CODEC_ZSTD, 100, 101), ERR_PROTO);
	assert_int_equal(put_of(CODEC_ZSTD, 100, 100), 0);
	assert_int_equal(put_of(CODEC_PLAIN, 100, 99), ERR_PROTO);
	assert_int_equal(
	    put_of(CODEC_ZSTD, CHUNK_SIZE_MAX + 1, 100), ERR_LIMIT);
	assert_int_equal(put_of(CODEC_ZSTD, 100, UINT32_MAX), ERR_PROTO);
	assert_int_equal(put_of(CODEC_ZSTD, UINT32_MAX, UINT32_MAX), ERR_LIMIT);
	assert_int_equal(put_of(CODEC_ZSTD + 1, 100, 100), ERR_PROTO);
}

static void
put_of_a_hole_or_with_reserved_bytes_is_refused(void **state)
{
	(void)state;
	for (size_t i = 33; i < 36; i++) {
		b.len = 0;
		add(CODEC_PLAIN, 10, 10);
		b.data[i] = 1;
		assert_int_equal(put_first(b.len), ERR_PROTO);
	}
	b.data[35] = 0;
	assert_int_equal(put_first(b.len), 0);
	memset(b.data, 0, ID_LEN);
	assert_int_equal(put_first(b.len), ERR_PROTO);
}

static void
put_done_comes_back(void **state)
{
	struct msg_put_done m = { .nstored = 7, .stored = UINT64_MAX - 1 };

	(void)state;
	msg_put_done_print(&b, &m);
	m = (struct msg_put_done){ 0 };
	assert_int_equal(msg_put_done_parse(b.data, b.len, &m, &e), 0);
	assert_int_equal(m.nstored, 7);
	assert_true(m.stored == UINT64_MAX - 1);
	assert_int_equal(
	    msg_put_done_parse(b.data, b.len - 1, &m, &e), ERR_PROTO);
}

static void
node_done_comes_back(void **state)
{
	struct msg_node_done m = { .taken = true }, again;

	(void)state;
	m.missing[3] = 9; /* means nothing where it is taken */
	msg_node_done_print(&b, &m);
	assert_int_equal(msg_node_done_parse(b.data, b.len, &again, &e), 0);
	assert_true(again.taken);
	assert_true(bytes_zero(again.missing, sizeof(again.missing)));
	m.taken = false;
	b.len = 0;
	msg_node_done_print(&b, &m);
	assert_int_equal(msg_node_done_parse(b.data, b.len, &again, &e), 0);
	assert_false(again.taken);
	assert_memory_equal(again.missing, m.missing, sizeof(m.missing));
}

static void
node_done_that_contradicts_itself_is_refused(void **state)
{
	struct msg_node_done m = { .taken = true };

	(void)state;
	msg_node_done_print(&b, &m);
	b.data[5] = 1;
	assert_int_equal(msg_node_done_parse(b.data, b.len, &m, &e), ERR_PROTO);
	b.data[5] = 0;
	b.data[0] = 0;
	assert_int_equal(msg_node_done_parse(b.data, b.len, &m, &e), ERR_PROTO);
	b.data[0] = 3;
	assert_int_equal(msg_node_done_parse(b.data, b.len, &m, &e), ERR_PROTO);
	b.data[0] = 1;
	assert_int_equal(msg_node_done_parse(b.data, b.len, &m, &e), 0);
	assert_int_equal(
	    msg_node_done_parse(b.data, b.len - 1, &m, &e), ERR_PROTO);
}

static int
tree_of(uint8_t level, uint64_t index)
{
	struct msg_tree m = { .volume = 9, .level = level, .index = index };
	struct msg_tree again = { 0 };
	int rc;

	b.len = 0;
	msg_tree_print(&b, &m);
	rc = msg_tree_parse(b.data, b.len, &again, &e);
	if (rc == 0) {
		assert_int_equal(again.volume, 9);
		assert_int_equal(again.level, level);
		assert_true(again.index == index);
	}
	return rc;
}

static void
tree_beyond_any_volume_is_refused(void **state)
{
	struct msg_tree m;

	(void)state;
	assert_int_equal(tree_of(0, 0), 0);
	assert_int_equal(tree_of(0, ((uint64_t)1 << 37) - 1), 0);
	assert_int_equal(tree_of(0, (uint64_t)1 << 37), ERR_LIMIT);
	assert_int_equal(tree_of(NODE_LEVEL_MAX, 0), 0);
	assert_int_equal(tree_of(NODE_LEVEL_MAX, 1), ERR_LIMIT);
	assert_int_equal(tree_of(NODE_LEVEL_MAX + 1, 0), ERR_LIMIT);
	assert_int_equal(tree_of(255, 0), ERR_LIMIT);
	assert_int_equal(tree_of(0, UINT64_MAX), ERR_LIMIT);
	assert_int_equal(tree_of(0, 0), 0);
	assert_int_equal(msg_tree_parse(b.data, 11, &m, &e), ERR_PROTO);
	b.data[3] = 1;
	assert_int_equal(msg_tree_parse(b.data, 12, &m, &e), ERR_PROTO);
}

static int
read_of(uint64_t slice, uint32_t n)
{
	struct msg_read m = { .volume = 3, .part = 4, .nparts = 5 }, again;
	int rc;

	m.slice = slice;
	m.n = n;
	b.len = 0;
	msg_read_print(&b, &m);
	rc = msg_read_parse(b.data, b.len, &again, &e);
	if (rc == 0) {
		assert_int_equal(again.volume, 3);
		assert_true(again.slice == slice);
		assert_int_equal(again.n, n);
		assert_int_equal(again.part, 4);
		assert_int_equal(again.nparts, 5);
	}
	return rc;
}

static void
read_of_nothing_or_too_much_is_refused(void **state)
{
	const uint64_t end = VOLUME_SIZE_MAX / CHUNK_SIZE_MIN;
	struct msg_read m;

	(void)state;
	assert_int_equal(read_of(0, 1), 0);
	assert_int_equal(read_of(0, 0), ERR_PROTO);
	assert_int_equal(read_of(0, 65536), 0);
	assert_int_equal(read_of(0, 65537), ERR_LIMIT);
	assert_int_equal(read_of(end - 256, 256), 0);
	assert_int_equal(read_of(end - 255, 256), ERR_LIMIT);
	assert_int_equal(read_of(UINT64_MAX, 1), ERR_LIMIT);
	assert_int_equal(read_of(UINT64_MAX - 255, 256), ERR_LIMIT);
	assert_int_equal(read_of(0, UINT32_MAX), ERR_LIMIT);
	assert_int_equal(read_of(0, 1), 0);
	assert_int_equal(msg_read_parse(b.data, 15, &m, &e), ERR_PROTO);
	b.data[2] = 5;
	assert_int_equal(msg_read_parse(b.data, 16, &m, &e), ERR_PROTO);
	b.data[2] = b.data[3] = 0;
	assert_int_equal(msg_read_parse(b.data, 16, &m, &e), ERR_PROTO);
}

static void
data_comes_back_and_its_lengths_are_checked(void **state)
{
	struct msg_data m = { .slice = 0x0102030405,
		.codec = CODEC_ZSTD,
		.raw_len = 65536,
		.data = some,
		.len = 77 };
	struct msg_data again;

	(void)state;
	msg_data_print(&b, &m);
	assert_int_equal(b.len, MSG_DATA_HEADER_LEN + 77);
	assert_int_equal(msg_data_parse(b.data, b.len, &again, &e), 0);
	assert_true(again.slice == m.slice);
	assert_int_equal(again.codec, CODEC_ZSTD);
	assert_int_equal(again.raw_len, 65536);
	assert_int_equal(again.len, 77);
	assert_memory_equal(again.data, some, 77);
	for (size_t len = 0; len <= MSG_DATA_HEADER_LEN; len++)
		assert_int_equal(
		    msg_data_parse(b.data, len, &again, &e), ERR_PROTO);
	b.data[8] = CODEC_PLAIN;
	assert_int_equal(msg_data_parse(b.data, b.len, &again, &e), ERR_PROTO);
	b.data[8] = CODEC_ZSTD;
	b.data[9] = 1;
	assert_int_equal(msg_data_parse(b.data, b.len, &again, &e), ERR_PROTO);
	b.data[9] = 0;
	memset(b.data, 0xff, 8);
	assert_int_equal(msg_data_parse(b.data, b.len, &again, &e), ERR_LIMIT);
}

static void
read_done_comes_back(void **state)
{
	uint32_t n = 0;

	(void)state;
	msg_read_done_print(&b, 256);
	assert_int_equal(msg_read_done_parse(b.data, b.len, &n, &e), 0);
	assert_int_equal(n, 256);
	assert_int_equal(msg_read_done_parse(b.data, 3, &n, &e), ERR_PROTO);
	b.data[2] = 2;
	assert_int_equal(msg_read_done_parse(b.data, 4, &n, &e), ERR_PROTO);
}

static void
error_comes_back_also_with_a_code_of_the_future(void **state)
{
	struct err said;

	(void)state;
	err_set(&said, ERR_BUSY, "web1 is being restored by job 17");
	msg_error_print(&b, &said);
	assert_int_equal(msg_error_parse(b.data, b.len, &e), 0);
	assert_int_equal(e.code, ERR_BUSY);
	assert_string_equal(e.text, said.text);
	b.data[1] = 0x7f;
	assert_int_equal(msg_error_parse(b.data, b.len, &e), 0);
	assert_int_equal(e.code, 0x7f00 | ERR_BUSY);
	assert_int_equal(msg_error_parse(b.data, 2, &e), 0);
	assert_string_equal(e.text, "");
}

static void
error_text_carries_no_control_characters(void **state)
{
	struct err said;

	(void)state;
	err_set(&said, ERR_INVAL, "a\x1b[2Jb\nc\x7f");
	msg_error_print(&b, &said);
	assert_int_equal(msg_error_parse(b.data, b.len, &e), 0);
	assert_string_equal(e.text, "a?[2Jb?c?");
	b.data[2] = 0x1b;
	assert_int_equal(msg_error_parse(b.data, b.len, &e), ERR_PROTO);
	b.data[2] = 0;
	assert_int_equal(msg_error_parse(b.data, b.len, &e), ERR_PROTO);
}

static void
error_without_code_or_too_long_is_refused(void **state)
{
	uint8_t p[2 + MSG_ERROR_TEXT_MAX + 1];

	(void)state;
	memset(p, 'x', sizeof(p));
	assert_int_equal(msg_error_parse(p, 0, &e), ERR_PROTO);
	assert_int_equal(msg_error_parse(p, 1, &e), ERR_PROTO);
	assert_int_equal(msg_error_parse(p, sizeof(p), &e), ERR_LIMIT);
	assert_int_equal(msg_error_parse(p, sizeof(p) - 1, &e), 0);
	assert_int_equal(strlen(e.text), MSG_ERROR_TEXT_MAX);
	p[0] = 0;
	p[1] = 0;
	assert_int_equal(msg_error_parse(p, 10, &e), ERR_PROTO);
}

static void
every_type_has_its_name(void **state)
{
	(void)state;
	for (int t = MSG_QUERY; t <= MSG_READ_DONE; t++)
		assert_string_not_equal(msg_name((uint8_t)t), "unknown");
	assert_string_equal(msg_name(MSG_CALL), "CALL");
	assert_string_equal(msg_name(MSG_RESULT), "RESULT");
	assert_string_equal(msg_name(MSG_ERROR), "ERROR");
	assert_string_equal(msg_name(0), "unknown");
	assert_string_equal(msg_name(255), "unknown");
}

#define T(f) cmocka_unit_test_setup(f, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(frame_header_comes_back),
		T(frame_header_with_flags_or_too_long_is_refused),
		T(query_comes_back_for_every_count),
		T(query_without_leaf_with_parts_or_too_many_is_refused),
		T(have_comes_back_for_every_count),
		T(have_of_a_leaf_says_so_for_all_its_chunks),
		T(have_for_other_counts_is_refused),
		T(put_yields_its_chunks_one_after_another),
		T(put_that_ends_early_is_refused),
		T(put_with_lengths_that_cannot_be_is_refused),
		T(put_of_a_hole_or_with_reserved_bytes_is_refused),
		T(put_done_comes_back),
		T(node_done_comes_back),
		T(node_done_that_contradicts_itself_is_refused),
		T(tree_beyond_any_volume_is_refused),
		T(read_of_nothing_or_too_much_is_refused),
		T(data_comes_back_and_its_lengths_are_checked),
		T(read_done_comes_back),
		T(error_comes_back_also_with_a_code_of_the_future),
		T(error_text_carries_no_control_characters),
		T(error_without_code_or_too_long_is_refused),
		T(every_type_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, group_teardown);
}
