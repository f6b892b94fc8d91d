/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "repo/store/record.h"

static const uint64_t tag = 0x1122334455667788;

static struct record
sample(void)
{
	struct record r = { .kind = RECORD_CHUNK,
		.codec = CODEC_ZSTD,
		.raw_len = 65536,
		.stored_len = 1234,
		.payload_crc = 0xdeadbeef };

	memset(r.id.b, 0x5a, sizeof(r.id.b));
	return r;
}

static void
record_comes_back_as_it_was(void **state)
{
	struct record r = sample(), back;
	uint8_t b[RECORD_HEADER_LEN];

	(void)state;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), 0);
	assert_int_equal(back.kind, r.kind);
	assert_int_equal(back.codec, r.codec);
	assert_int_equal(back.raw_len, r.raw_len);
	assert_int_equal(back.stored_len, r.stored_len);
	assert_int_equal(back.payload_crc, r.payload_crc);
	assert_true(id_equal(&back.id, &r.id));
}

static void
record_refuses_every_flipped_bit(void **state)
{
	struct record r = sample(), back;
	uint8_t b[RECORD_HEADER_LEN];

	(void)state;
	record_print(&r, tag, b);
	for (unsigned i = 0; i < RECORD_HEADER_LEN * 8; i++) {
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(record_parse(b, tag, &back), ERR_CORRUPT);
		b[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_equal(record_parse(b, tag ^ 1, &back), ERR_CORRUPT);
	assert_int_equal(record_parse(b, tag, &back), 0);
}

static void
record_bounds_lengths_and_names_the_unknown(void **state)
{
	struct record r = sample(), back;
	uint8_t b[RECORD_HEADER_LEN];

	(void)state;
	r.stored_len = RECORD_STORED_MAX + 1;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), ERR_CORRUPT);
	r = sample();
	r.raw_len = UINT32_MAX;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), ERR_CORRUPT);
	r = sample();
	r.kind = RECORD_MANIFEST;
	r.raw_len = r.stored_len = RECORD_MANIFEST_MAX + 1;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), ERR_CORRUPT);
	r = sample();
	r.kind = 9;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), ERR_UNSUP);
	assert_int_equal(back.stored_len, r.stored_len);
	r = sample();
	r.codec = 7;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), ERR_UNSUP);
	r = sample();
	r.flags = 1;
	record_print(&r, tag, b);
	assert_int_equal(record_parse(b, tag, &back), ERR_UNSUP);
}

static void
pack_header_comes_back_and_refuses_flipped_bits(void **state)
{
	struct pack_header h = { .type = PACK_META,
		.number = 7,
		.mirror = 8,
		.chunk_size = CHUNK_SIZE_DEFAULT,
		.hash = HASH_SHA256,
		.domain = 3,
		.tag = tag },
			   back;
	uint8_t b[PACK_HEADER_LEN];
	struct err e;

	(void)state;
	memset(h.uuid, 9, sizeof(h.uuid));
	pack_header_print(&h, b);
	assert_int_equal(pack_header_parse(b, &back, &e), 0);
	assert_int_equal(back.type, h.type);
	assert_int_equal(back.number, 7);
	assert_int_equal(back.mirror, 8);
	assert_int_equal(back.domain, 3);
	assert_true(back.tag == tag);
	assert_memory_equal(back.uuid, h.uuid, sizeof(h.uuid));
	for (unsigned i = 0; i < PACK_HEADER_LEN * 8; i++) {
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(pack_header_parse(b, &back, &e), ERR_CORRUPT);
		b[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	h.mirror = 7;
	pack_header_print(&h, b);
	assert_int_equal(pack_header_parse(b, &back, &e), ERR_CORRUPT);
}

static void
entry_and_trailer_come_back_and_are_bounded(void **state)
{
	struct pack_entry p = { .kind = RECORD_NODE,
		.off = 128,
		.raw_len = 36,
		.stored_len = 36 },
			  pback;
	struct pack_trailer t = { .footer_off = 4096, .count = 3, .tag = tag },
			    tback;
	uint8_t pb[PACK_ENTRY_LEN], tb[PACK_TRAILER_LEN];

	(void)state;
	pack_entry_print(&p, pb);
	assert_int_equal(pack_entry_parse(pb, &pback), 0);
	assert_int_equal(pback.off, 128);
	assert_int_equal(pback.stored_len, 36);
	p.off = 127;
	pack_entry_print(&p, pb);
	assert_int_equal(pack_entry_parse(pb, &pback), ERR_CORRUPT);
	p.off = 0x80000000;
	pack_entry_print(&p, pb);
	assert_int_equal(pack_entry_parse(pb, &pback), ERR_CORRUPT);
	p.off = 128;
	p.kind = RECORD_FOOTER;
	pack_entry_print(&p, pb);
	assert_int_equal(pack_entry_parse(pb, &pback), ERR_CORRUPT);

	pack_trailer_print(&t, tb);
	assert_int_equal(pack_trailer_parse(tb, &tback), 0);
	assert_int_equal(tback.footer_off, 4096);
	assert_int_equal(tback.count, 3);
	for (unsigned i = 0; i < PACK_TRAILER_LEN * 8; i++) {
		tb[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(pack_trailer_parse(tb, &tback), ERR_CORRUPT);
		tb[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	t.count = PACK_ENTRIES_MAX + 1;
	pack_trailer_print(&t, tb);
	assert_int_equal(pack_trailer_parse(tb, &tback), ERR_CORRUPT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(record_comes_back_as_it_was),
		cmocka_unit_test(record_refuses_every_flipped_bit),
		cmocka_unit_test(record_bounds_lengths_and_names_the_unknown),
		cmocka_unit_test(
		    pack_header_comes_back_and_refuses_flipped_bits),
		cmocka_unit_test(entry_and_trailer_come_back_and_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
