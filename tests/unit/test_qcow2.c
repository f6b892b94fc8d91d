/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "agent/qcow2/header.h"
#include "agent/qcow2/inflate.h"
#include "agent/qcow2/names.h"
#include "agent/qcow2/tables.h"
#include "proto/base/bytes.h"

enum { CLUSTER = 64 << 10, FIRST = 1024, LEN = 512 };
#define DISK (UINT64_C(10) << 30)

/* The first bytes of a good image of 10 GiB: 20 entries of L1 at 192 KiB. */
static uint8_t *
first(uint32_t version)
{
	static uint8_t h[FIRST];

	memset(h, 0, sizeof(h));
	memcpy(h, QCOW2_MAGIC, QCOW2_MAGIC_LEN);
	put_be32(h + 4, version);
	put_be32(h + 20, 16);
	put_be64(h + 24, DISK);
	put_be32(h + 36, 20);
	put_be64(h + 40, 3 * CLUSTER);
	if (version == 3) {
		put_be32(h + 96, 4);
		put_be32(h + 100, 112);
	}
	return h;
}

static uint8_t *
extension(uint8_t *at, uint32_t type, const void *data, uint32_t len)
{
	put_be32(at, type);
	put_be32(at + 4, len);
	memcpy(at + 8, data, len);
	return at + 8 + (len + 7) / 8 * 8;
}

static void
refuses(const uint8_t *h, size_t len, int code, const char *words)
{
	struct qcow2_header out;
	struct err e = { 0 };

	assert_int_equal(qcow2_header_decode(h, len, &out, &e), code);
	if (strstr(e.text, words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.text, words);
}

static void
header_of_both_versions_decodes(void **state)
{
	(void)state;
	for (uint32_t v = 2; v <= 3; v++) {
		struct qcow2_header h;
		struct err e;

		assert_int_equal(
		    qcow2_header_decode(first(v), FIRST, &h, &e), 0);
		assert_int_equal(h.version, v);
		assert_int_equal(h.size, DISK);
		assert_int_equal(h.cluster_bits, 16);
		assert_int_equal(h.l2_bits, 13);
		assert_int_equal(h.l1_entries, 20);
		assert_int_equal(h.l1_offset, 3 * CLUSTER);
		assert_false(h.extended_l2 || h.data_file);
		assert_string_equal(h.backing, "");
	}
}

static void
header_tells_its_further_files(void **state)
{
	struct qcow2_header h;
	struct err e;
	uint8_t *d = first(3), *at = d + 112;

	(void)state;
	put_be64(d + 72, QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_DIRTY);
	at = extension(at, QCOW2_EXT_BACKING_FORMAT, "raw", 3);
	at = extension(at, 0x12345678, "ignored", 7);
	extension(at, QCOW2_EXT_DATA_FILE, "disk.data", 9);
	put_be64(d + 8, 512);
	put_be32(d + 16, 8);
	memcpy(d + 512, "base.img", 8);
	assert_int_equal(qcow2_header_decode(d, FIRST, &h, &e), 0);
	assert_string_equal(h.backing, "base.img");
	assert_string_equal(h.backing_format, "raw");
	assert_string_equal(h.data_file_name, "disk.data");
	assert_true(h.data_file);
}

static void
header_counts_only_the_l1_entries_it_needs(void **state)
{
	struct qcow2_header h;
	struct err e;
	uint8_t *d = first(3);

	(void)state;
	put_be32(d + 36, 1000);
	put_be64(d + 24, DISK + 1);
	assert_int_equal(qcow2_header_decode(d, FIRST, &h, &e), 0);
	assert_int_equal(h.l1_entries, 21);
}

static void
header_refuses_what_is_no_image(void **state)
{
	uint8_t *d = first(3);

	(void)state;
	refuses(d, 71, ERR_CORRUPT, "not a qcow2");
	refuses(d, 103, ERR_CORRUPT, "cut off");
	d[0] = 'q';
	refuses(d, FIRST, ERR_CORRUPT, "not a qcow2");
	refuses(first(1), FIRST, ERR_UNSUP, "version 1");
	refuses(first(4), FIRST, ERR_UNSUP, "version 4");
}

static void
header_refuses_fields_out_of_bounds(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
		int code;
		const char *words;
	} cases[] = {
		{ 20, 8, ERR_CORRUPT, "cluster size" },
		{ 20, 22, ERR_CORRUPT, "cluster size" },
		{ 20, 0xffffffff, ERR_CORRUPT, "cluster size" },
		{ 24, 0x80000000, ERR_LIMIT, "8 EiB" },
		{ 24, 0x40000000, ERR_LIMIT, "32 MiB" },
		{ 36, 19, ERR_CORRUPT, "too small" },
		{ 36, 0xffffffff, ERR_LIMIT, "32 MiB" },
		{ 44, 512, ERR_CORRUPT, "not aligned" },
		{ 96, 7, ERR_CORRUPT, "refcounts" },
		{ 100, 103, ERR_CORRUPT, "length" },
		{ 100, 0xfffffff8, ERR_CORRUPT, "length" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *d = first(3);

		put_be32(d + cases[i].at, cases[i].value);
		refuses(d, FIRST, cases[i].code, cases[i].words);
	}
}

static void
header_refuses_names_out_of_bounds(void **state)
{
	static const struct {
		uint64_t off;
		uint32_t len;
		const char *words;
	} cases[] = {
		{ 512, 1024, "too long" },
		{ 1020, 8, "out of bounds" },
		{ UINT64_MAX, 8, "out of bounds" },
		{ 100, 8, "out of bounds" },
		{ 512, 8, "NUL" },
	};
	uint8_t *d;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		d = first(3);
		put_be64(d + 8, cases[i].off);
		put_be32(d + 16, cases[i].len);
		refuses(d, FIRST, ERR_CORRUPT, cases[i].words);
	}
	d = first(3);
	put_be32(d + 112, 1);
	put_be32(d + 116, 0xfffffff0);
	refuses(d, FIRST, ERR_CORRUPT, "an extension");
	d = first(3);
	extension(d + 112, QCOW2_EXT_BACKING_FORMAT, "sixteen letters!", 16);
	refuses(d, FIRST, ERR_CORRUPT, "too long");
}

static void
header_refuses_encryption_by_its_kind(void **state)
{
	uint8_t *d = first(2);

	(void)state;
	put_be32(d + 32, 1);
	refuses(d, FIRST, ERR_UNSUP, "AES");
	put_be32(d + 32, 2);
	refuses(d, FIRST, ERR_UNSUP, "LUKS");
}

static void
header_refuses_unknown_features_by_name(void **state)
{
	uint8_t table[96] = { 1, 9, 'c', 'o', 'm', 'p', 'a', 't' };
	uint8_t *d = first(3);

	(void)state;
	put_be64(d + 72, 1 << 9);
	refuses(d, FIRST, ERR_UNSUP, "(incompatible bit 9)");
	table[49] = 9;
	memcpy(table + 50, "sideways", 8);
	extension(d + 112, QCOW2_EXT_FEATURES, table, sizeof(table));
	refuses(d, FIRST, ERR_UNSUP, "\"sideways\"");
	put_be64(d + 72, UINT64_C(1) << 63);
	refuses(d, FIRST, ERR_UNSUP, "bit 63");
}

static void
header_refuses_contradictions(void **state)
{
	uint8_t *d = first(3);

	(void)state;
	put_be64(d + 72, QCOW2_INCOMPAT_CORRUPT);
	refuses(d, FIRST, ERR_CORRUPT, "marked corrupt");
	put_be64(d + 72, QCOW2_INCOMPAT_COMPRESSION);
	refuses(d, FIRST, ERR_CORRUPT, "disagree");
	d[104] = 2;
	refuses(d, FIRST, ERR_UNSUP, "compression type 2");
	put_be64(d + 72, 0);
	refuses(d, FIRST, ERR_CORRUPT, "disagree");
	d[104] = 0;
	put_be64(d + 72, QCOW2_INCOMPAT_DATA_FILE);
	refuses(d, FIRST, ERR_CORRUPT, "without a name");
	put_be64(d + 72, QCOW2_INCOMPAT_EXTENDED_L2);
	put_be32(d + 20, 13);
	refuses(d, FIRST, ERR_CORRUPT, "too small for extended");
}

static const struct qcow2_header plain = { .version = 3, .cluster_bits = 16 };
static const struct qcow2_header version2 = { .version = 2,
	.cluster_bits = 16 };
static const struct qcow2_header with_data_file = {
	.version = 3, .cluster_bits = 16, .data_file = true
};
static const struct qcow2_header extended = {
	.version = 3, .cluster_bits = 16, .extended_l2 = true
};

static struct qcow2_extent
l2(const struct qcow2_header *h, uint64_t entry, uint64_t bitmap,
    uint32_t inner, int code)
{
	struct qcow2_extent x = { 0 };
	uint8_t bytes[16];

	put_be64(bytes, entry);
	put_be64(bytes + 8, bitmap);
	assert_int_equal(qcow2_l2_decode(h, bytes, inner, &x, NULL), code);
	return x;
}

static void
extent_is(
    struct qcow2_extent x, enum qcow2_kind kind, uint64_t host, uint64_t len)
{
	assert_int_equal(x.kind, kind);
	assert_int_equal(x.len, len);
	if (kind == QCOW2_DATA)
		assert_int_equal(x.host, host);
}

static void
l1_entries_decode(void **state)
{
	uint64_t off;

	(void)state;
	assert_int_equal(
	    qcow2_l1_decode(&plain, QCOW2_COPIED | 0x50000, &off, NULL), 0);
	assert_int_equal(off, 0x50000);
	assert_int_equal(qcow2_l1_decode(&plain, 0, &off, NULL), 0);
	assert_int_equal(off, 0);
	assert_int_equal(
	    qcow2_l1_decode(&plain, 0x50200, &off, NULL), ERR_CORRUPT);
}

static void
plain_l2_entries_decode(void **state)
{
	(void)state;
	extent_is(l2(&plain, 0, 0, 0, 0), QCOW2_UNALLOCATED, 0, CLUSTER);
	extent_is(l2(&plain, QCOW2_COPIED | 0x70000, 0, 100, 0), QCOW2_DATA,
	    0x70064, CLUSTER - 100);
	extent_is(l2(&plain, 1, 0, 0, 0), QCOW2_ZERO, 0, CLUSTER);
	extent_is(l2(&plain, 0x70001, 0, 512, 0), QCOW2_ZERO, 0, CLUSTER - 512);
	l2(&plain, 0x70200, 0, 0, ERR_CORRUPT);
	l2(&version2, 0x70001, 0, 0, ERR_CORRUPT);
}

static void
offset_0_is_a_place_in_a_data_file_only(void **state)
{
	(void)state;
	extent_is(
	    l2(&plain, QCOW2_COPIED, 0, 0, 0), QCOW2_UNALLOCATED, 0, CLUSTER);
	extent_is(
	    l2(&with_data_file, QCOW2_COPIED, 0, 0, 0), QCOW2_DATA, 0, CLUSTER);
	extent_is(
	    l2(&with_data_file, 0, 0, 0, 0), QCOW2_UNALLOCATED, 0, CLUSTER);
	l2(&with_data_file, UINT64_C(1) << 62, 0, 0, ERR_CORRUPT);
}

static void
compressed_entries_decode(void **state)
{
	/* 64 KiB clusters: 54 bits of offset, 8 of further sectors. */
	uint64_t entry = UINT64_C(1) << 62 | UINT64_C(3) << 54 | 0x50064;
	struct qcow2_extent x = l2(&plain, entry, 0, 1000, 0);

	(void)state;
	assert_int_equal(x.kind, QCOW2_COMPRESSED);
	assert_int_equal(x.host, 0x50064);
	assert_int_equal(x.packed_len, 4 * 512 - 0x64);
	assert_int_equal(x.inner, 1000);
	assert_int_equal(x.len, CLUSTER - 1000);
}

static void
subclusters_decode(void **state)
{
	const uint32_t sub = CLUSTER / 32;
	uint64_t zero2 = UINT64_C(3) << 34;

	(void)state;
	/* 0 and 1 allocated, 2 and 3 zero, the others as the backing says. */
	extent_is(l2(&extended, 0x70000, zero2 | 3, 0, 0), QCOW2_DATA, 0x70000,
	    2 * sub);
	extent_is(l2(&extended, 0x70000, zero2 | 3, sub + 1, 0), QCOW2_DATA,
	    0x70000 + sub + 1, sub - 1);
	extent_is(l2(&extended, 0x70000, zero2 | 3, 2 * sub, 0), QCOW2_ZERO, 0,
	    2 * sub);
	extent_is(l2(&extended, 0x70000, zero2 | 3, 4 * sub, 0),
	    QCOW2_UNALLOCATED, 0, 28 * sub);
	extent_is(l2(&extended, 0, zero2, 0, 0), QCOW2_UNALLOCATED, 0, 2 * sub);
	extent_is(l2(&extended, 0, zero2, 3 * sub, 0), QCOW2_ZERO, 0, sub);
	extent_is(l2(&extended, 0x70000, 0xffffffff, 31 * sub, 0), QCOW2_DATA,
	    0x70000 + 31 * sub, sub);
	l2(&extended, 0, 1, 0, ERR_CORRUPT);
	l2(&extended, 0x70000, UINT64_C(1) << 32 | 1, 0, ERR_CORRUPT);
}

static size_t
pack_zlib(const uint8_t *in, size_t len, uint8_t *out, size_t max)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)in,
		.avail_in = (uInt)len,
		.next_out = out,
		.avail_out = (uInt)max };

	assert_int_equal(
	    deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return max - z.avail_out;
}

static void
inflate_gives_the_cluster_or_refuses(void **state)
{
	static uint8_t in[CLUSTER], packed[2 * CLUSTER], out[CLUSTER];
	enum qcow2_compression how[] = { QCOW2_ZLIB, QCOW2_ZSTD };

	(void)state;
	for (size_t i = 0; i < CLUSTER; i++)
		in[i] = (uint8_t)(i / 7 * 31);
	for (size_t i = 0; i < 2; i++) {
		size_t n = how[i] == QCOW2_ZLIB
		    ? pack_zlib(in, CLUSTER, packed, CLUSTER)
		    : ZSTD_compress(packed, CLUSTER, in, CLUSTER, 3);

		memset(packed + n, 0xee, 512); /* what fills its sector */
		memset(out, 0, CLUSTER);
		assert_int_equal(
		    qcow2_inflate(how[i], packed, n + 512, out, CLUSTER), 0);
		assert_memory_equal(in, out, CLUSTER);
		/* Too short by input, by output, and too long for output. */
		assert_int_equal(
		    qcow2_inflate(how[i], packed, n / 2, out, CLUSTER),
		    ERR_CORRUPT);
		n = how[i] == QCOW2_ZLIB
		    ? pack_zlib(in, LEN, packed, CLUSTER)
		    : ZSTD_compress(packed, CLUSTER, in, LEN, 3);
		assert_int_equal(qcow2_inflate(how[i], packed, n, out, CLUSTER),
		    ERR_CORRUPT);
		memset(packed, 0xff, LEN);
		assert_int_equal(
		    qcow2_inflate(how[i], packed, LEN, out, CLUSTER),
		    ERR_CORRUPT);
	}
}

static void
names_resolve_beside_the_image(void **state)
{
	static const struct {
		const char *image, *name, *path;
	} cases[] = {
		{ "/vm/a.qcow2", "b.raw", "/vm/b.raw" },
		{ "/vm/a.qcow2", "../x/b:c", "/vm/../x/b:c" },
		{ "/vm/a.qcow2", "/x/b", "/x/b" },
		{ "a.qcow2", "b.raw", "b.raw" },
		{ "d/a.qcow2", "file:b.raw", "d/b.raw" },
		{ "/a.qcow2", "b", "/b" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e;
		char *path;

		assert_int_equal(names_resolve(cases[i].image, cases[i].name,
				     "backing file", &path, &e),
		    0);
		assert_string_equal(path, cases[i].path);
		free(path);
	}
}

static void
names_refuse_protocols_and_guessing(void **state)
{
	static const char *const names[] = { "nbd://h/x", "http://h/x",
		"json:{}", "fd:3", "rbd:pool/x", "file:nbd:x" };
	struct err e;
	char *path;
	bool raw;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(
		    names_resolve("a", names[i], "backing file", &path, &e),
		    ERR_UNSUP);
	assert_int_equal(names_format("a", "", &raw, &e), ERR_INVAL);
	assert_non_null(strstr(e.text, "qemu-img rebase -u -F"));
	assert_int_equal(names_format("a", "vmdk", &raw, &e), ERR_UNSUP);
	assert_int_equal(names_format("a", "raw", &raw, &e), 0);
	assert_true(raw);
	assert_int_equal(names_format("a", "qcow2", &raw, &e), 0);
	assert_false(raw);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_of_both_versions_decodes),
		cmocka_unit_test(header_tells_its_further_files),
		cmocka_unit_test(header_counts_only_the_l1_entries_it_needs),
		cmocka_unit_test(header_refuses_what_is_no_image),
		cmocka_unit_test(header_refuses_fields_out_of_bounds),
		cmocka_unit_test(header_refuses_names_out_of_bounds),
		cmocka_unit_test(header_refuses_encryption_by_its_kind),
		cmocka_unit_test(header_refuses_unknown_features_by_name),
		cmocka_unit_test(header_refuses_contradictions),
		cmocka_unit_test(l1_entries_decode),
		cmocka_unit_test(plain_l2_entries_decode),
		cmocka_unit_test(offset_0_is_a_place_in_a_data_file_only),
		cmocka_unit_test(compressed_entries_decode),
		cmocka_unit_test(subclusters_decode),
		cmocka_unit_test(inflate_gives_the_cluster_or_refuses),
		cmocka_unit_test(names_resolve_beside_the_image),
		cmocka_unit_test(names_refuse_protocols_and_guessing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
