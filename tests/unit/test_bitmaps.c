/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps that QEMU made, against what QEMU itself says of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/source/source.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "tests/unit/nbd_fixture.h"

#define MIB (UINT64_C(1) << 20)
#define SERVER "qemu-nbd -r -f qcow2 -B b0 disk"
#define CONTEXT "qemu:dirty-bitmap:b0"

enum { HEADER_MAX = 1024, EXTENSIONS_AT = 112 };

static struct source *
open_with(const char *spec, const char *name, const char *words)
{
	struct source *s;
	char why[160];
	struct err e = { 0 };

	if (source_open_bitmap(spec, name, &s, why, sizeof(why), &e) != 0)
		fail_msg("%s: %s", spec, e.text);
	if (words == NULL && why[0] != 0)
		fail_msg("%s: \"%s\"", spec, why);
	if (words != NULL && strstr(why, words) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", spec, why, words);
	return s;
}

/* Not to be relied on: it opens, nothing is clean, and all can be read. */
static void
unusable(const char *words)
{
	struct source *s = open_with("qcow2:disk", "b0", words);
	uint8_t data[512];
	uint64_t len = 0;
	bool clean = true;
	struct err e;

	assert_int_equal(source_clean(s, 0, &len, &clean, &e), 0);
	assert_false(clean);
	assert_int_equal(len, s->size);
	assert_int_equal(source_read(s, data, sizeof(data), 0, &e), 0);
	source_close(s);
}

/* Each of QEMU's extents is one of ours, to the byte. */
static void
same_as_qemu(void)
{
	static struct extents x;
	struct source *s = open_with("disk", "b0", NULL);
	struct err e;

	nbdinfo_map(&x, CONTEXT, SERVER);
	for (unsigned i = 0; i < x.n; i++) {
		uint64_t off = x.at[i].off, end = off + x.at[i].len, len;
		bool clean;

		for (; off < end; off += len) {
			assert_int_equal(
			    source_clean(s, off, &len, &clean, &e), 0);
			assert_int_equal(clean, x.at[i].flags == 0);
			assert_in_range(len, 1, s->size - off);
			/* The next extent is not alike. */
			assert_in_range(off + len, off + 1, end);
			/* From the middle it looks the same. */
			assert_int_equal(clean_at(s, off + len / 2), clean);
			assert_int_equal(clean_at(s, off + len - 1), clean);
		}
	}
	source_close(s);
}

static void
bitmap_tells_what_was_written_since(void **state)
{
	static const struct {
		unsigned cluster;
		unsigned granularity;
		uint64_t size;
	} cases[] = {
		{ 65536, 65536, 1024 * MIB },
		{ 65536, 512, 96 * MIB + 512 },
		{ 512, 512, 16 * MIB + 1536 },
		{ 2 * MIB, 4096, 300 * MIB + 512 },
		{ 4096, 1 * MIB, 4096 * MIB - 512 },
	};
	unsigned seed = test_seed();

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		run("rm -f disk; qemu-img create -q -f qcow2 -o "
		    "cluster_size=%u disk %llu",
		    cases[i].cluster, (unsigned long long)cases[i].size);
		write_random("disk", 10, cases[i].size, &seed);
		run("qemu-img bitmap --add -g %u disk b0",
		    cases[i].granularity);
		same_as_qemu();
		write_random("disk", 60, cases[i].size, &seed);
		same_as_qemu();
	}
}

static void
bitmap_is_found_among_others(void **state)
{
	struct source *s;

	(void)state;
	run("qemu-img create -q -f qcow2 disk 8M");
	run("for i in b b00 a0 b1; do qemu-img bitmap --add disk $i; done");
	run("qemu-io -f qcow2 -c 'write -q 0 1M' disk");
	run("qemu-img bitmap --add disk b0");
	run("qemu-io -f qcow2 -c 'write -q 1M 64k' disk");
	s = open_with("qcow2:disk", "b0", NULL);
	assert_true(clean_at(s, 0));
	assert_false(clean_at(s, MIB));
	source_close(s);
	s = open_with("disk", "b00", NULL);
	assert_false(clean_at(s, 0));
	assert_true(clean_at(s, MIB + 65536));
	source_close(s);
	source_close(open_with("disk", "b000", "no such bitmap"));
	source_close(open_with("disk", "", "no such bitmap"));
}

static void
bitmap_of_a_backing_image_is_not_taken(void **state)
{
	(void)state;
	run("qemu-img create -q -f qcow2 base 8M");
	run("qemu-img bitmap --add base b0");
	run("qemu-img create -q -f qcow2 -b base -F qcow2 disk");
	unusable("has no bitmaps");
}

static void
bitmap_that_does_not_record_is_not_taken(void **state)
{
	(void)state;
	run("qemu-img create -q -f qcow2 disk 8M");
	run("qemu-img bitmap --add --disable disk b0");
	unusable("does not record");
	run("qemu-img bitmap --enable disk b0");
	same_as_qemu();
}

static void
bitmap_that_was_not_saved_is_not_taken(void **state)
{
	(void)state;
	run("qemu-img create -q -f qcow2 disk 8M");
	run("qemu-img bitmap --add disk b0");
	run("! qemu-io -f qcow2 -c 'write -q 0 64k' -c flush -c abort disk "
	    ">/dev/null 2>&1");
	unusable("not saved");
}

static void
image_with_a_data_file_has_no_bitmap_to_rely_on(void **state)
{
	(void)state;
	run("qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=on "
	    "disk 8M");
	run("qemu-img bitmap --add disk b0");
	unusable("another file");
}

static void
raw_image_has_no_bitmap(void **state)
{
	struct source *s;

	(void)state;
	run("truncate -s 1M raw");
	s = open_with("raw:raw", "b0", "raw");
	assert_false(clean_at(s, 0));
	source_close(s);
}

static void
source_that_does_not_open_says_so(void **state)
{
	struct source *s;
	char why[160];
	struct err e;

	(void)state;
	assert_int_equal(
	    source_open_bitmap("nothing-here", "b0", &s, why, sizeof(why), &e),
	    ERR_NOENT);
}

/* Where things lie in an image of one bitmap. */
struct places {
	int fd;
	uint64_t ext;   /* the extension's data */
	uint64_t dir;   /* the only entry of the directory */
	uint64_t table; /* of the bitmap */
};

static uint64_t
be64_at(int fd, uint64_t off)
{
	uint8_t b[8];

	assert_int_equal(pread_full(fd, b, sizeof(b), off), sizeof(b));
	return get_be64(b);
}

static void
find_places(struct places *p)
{
	uint8_t h[HEADER_MAX];

	p->fd = open("disk", O_RDWR | O_CLOEXEC);
	assert_int_not_equal(p->fd, -1);
	assert_int_equal(pread_full(p->fd, h, sizeof(h), 0), sizeof(h));
	assert_int_equal(get_be32(h + 100), EXTENSIONS_AT);
	p->ext = EXTENSIONS_AT;
	while (get_be32(h + p->ext) != 0x23852875) {
		p->ext += 8 + (get_be32(h + p->ext + 4) + 7) / 8 * 8;
		assert_in_range(p->ext, 0, HEADER_MAX - 32);
	}
	p->ext += 8;
	p->dir = be64_at(p->fd, p->ext + 16);
	p->table = be64_at(p->fd, p->dir);
}

static void
put(const struct places *p, uint64_t off, const void *data, size_t len)
{
	assert_int_equal(pwrite_full(p->fd, data, len, off), 0);
}

static void
put_u64(const struct places *p, uint64_t off, uint64_t v)
{
	uint8_t b[8];

	put_be64(b, v);
	put(p, off, b, sizeof(b));
}

static void
make_one(void)
{
	run("rm -f disk; qemu-img create -q -f qcow2 disk 64M");
	run("qemu-img bitmap --add -g 512 disk b0");
	run("qemu-io -f qcow2 -c 'write -q 1M 1M' disk");
}

static void
clusters_that_are_alike_need_no_data(void **state)
{
	struct places p;

	(void)state;
	/* 8 clusters of bits, of 32 MiB each. */
	run("qemu-img create -q -f qcow2 -o cluster_size=8k disk 256M");
	run("qemu-img bitmap --add -g 512 disk b0");
	run("qemu-io -f qcow2 -c 'write -q 64M 5k' disk");
	find_places(&p);
	put_u64(&p, p.table + 8, 1);
	put_u64(&p, p.table + 7 * 8, 1);
	close(p.fd);
	same_as_qemu();
}

static void
damage_makes_a_bitmap_unusable_and_no_more(void **state)
{
	static const struct {
		char base; /* of what the offset is */
		unsigned at;
		uint64_t value;
		const char *words;
	} cases[] = {
		{ 'h', 88, 0, "does not know of bitmaps" },
		{ 'x', 0, UINT64_C(0xffffffff) << 32, "list" },
		{ 'x', 0, UINT64_C(2) << 32, "list" },
		{ 'x', 0, 0, "list" },
		{ 'x', 0, UINT64_C(1) << 32 | 1, "list" },
		{ 'x', 8, 0, "list" },
		{ 'x', 8, 16, "list" },
		{ 'x', 8, 40, "list" },
		{ 'x', 8, UINT64_MAX, "list" },
		{ 'x', 16, 0, "list" },
		{ 'x', 16, UINT64_MAX, "list" },
		{ 'x', 16, INT64_MAX, "beyond its end" },
		{ 'd', 0, 0, "table is damaged" },
		{ 'd', 0, 65536 + 512, "table is damaged" },
		{ 'd', 0, UINT64_MAX << 16, "beyond its end" },
		{ 'd', 8, UINT64_C(2) << 32 | 2, "another size" },
		{ 'd', 8, UINT64_C(0xffffffff) << 32 | 2, "too large" },
		{ 'd', 8, UINT64_C(1) << 32 | 3, "not saved" },
		{ 'd', 8, UINT64_C(1) << 32 | 0, "does not record" },
		{ 'd', 8, UINT64_C(1) << 32 | 10, "kind" },
		{ 'd', 16, UINT64_C(0x0209000200000000), "kind" },
		{ 'd', 16, UINT64_C(0x0108000200000000), "granularity" },
		{ 'd', 16, UINT64_C(0x0120000200000000), "granularity" },
		{ 'd', 16, UINT64_C(0x0109000000000000), "list" },
		{ 'd', 16, UINT64_C(0x0109ffff00000000), "list" },
		{ 'd', 16, UINT64_C(0x01090002ffffffff), "list" },
		{ 't', 0, 2, "table is damaged" },
		{ 't', 0, 65536 + 512, "table is damaged" },
		{ 't', 0, 65536 + 1, "table is damaged" },
		{ 't', 0, UINT64_C(1) << 56, "table is damaged" },
		{ 't', 0, UINT64_C(1) << 40, "table is damaged" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct places p;
		uint64_t base;

		make_one();
		find_places(&p);
		base = cases[i].base == 'h' ? 0
		    : cases[i].base == 'x'  ? p.ext
		    : cases[i].base == 'd'  ? p.dir
					    : p.table;
		put_u64(&p, base + cases[i].at, cases[i].value);
		close(p.fd);
		unusable(cases[i].words);
	}
}

/* Extra data: the entry is 32 bytes, 24 and a name; 8 more with it. */
static void
extra_data_may_say_that_it_does_no_harm(void **state)
{
	static const uint8_t tail[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 'b', '0' };

	(void)state;
	for (uint64_t flags = 2; flags <= 6; flags += 4) {
		struct places p;

		make_one();
		find_places(&p);
		put_u64(&p, p.ext + 8, 40);
		put_u64(&p, p.dir + 8, UINT64_C(1) << 32 | flags);
		put_u64(&p, p.dir + 16, UINT64_C(0x0109000200000008));
		put(&p, p.dir + 24, tail, sizeof(tail));
		close(p.fd);
		if (flags == 2)
			unusable("kind");
		else
			source_close(open_with("disk", "b0", NULL));
	}
}

static void
image_that_was_cut_off_has_no_bitmap(void **state)
{
	struct places p;
	uint64_t data;

	(void)state;
	make_one();
	find_places(&p);
	data = be64_at(p.fd, p.table);
	assert_int_equal(ftruncate(p.fd, (off_t)data + 512), 0);
	close(p.fd);
	source_close(open_with("disk", "b0", "beyond its end"));
}

#define CASE(f)                                                                \
	cmocka_unit_test_setup_teardown(                                       \
	    f, nbd_folder_setup, nbd_folder_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(bitmap_tells_what_was_written_since),
		CASE(bitmap_is_found_among_others),
		CASE(bitmap_of_a_backing_image_is_not_taken),
		CASE(bitmap_that_does_not_record_is_not_taken),
		CASE(bitmap_that_was_not_saved_is_not_taken),
		CASE(image_with_a_data_file_has_no_bitmap_to_rely_on),
		CASE(raw_image_has_no_bitmap),
		CASE(source_that_does_not_open_says_so),
		CASE(clusters_that_are_alike_need_no_data),
		CASE(damage_makes_a_bitmap_unusable_and_no_more),
		CASE(extra_data_may_say_that_it_does_no_harm),
		CASE(image_that_was_cut_off_has_no_bitmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
