/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "agent/image/vmdk.h"
#include "agent/source/source.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

enum {
	SECTOR = VMDK_SECTOR,
	GRAIN = 64 << 10,
	SPAN = GRAIN * VMDK_PER_TABLE, /* of a table */
	DISK = SPAN + 3 * GRAIN + 512,
	DESCRIPTOR = 1, /* sectors */
	DESCRIPTOR_LEN = 20,
	TABLE_0 = 32,
	TABLE_1 = TABLE_0 + 4,
	DIRECTORY = TABLE_1 + 4,
	FIRST = 128, /* grain */
	EACH = 16,   /* sectors of a grain: they pack well */
	NGRAINS = 4,
	FOOTER = FIRST + NGRAINS * EACH + 1,
	SECTORS = FOOTER + 2
};

/* Grains that are there, and what is in them. */
static const struct {
	uint32_t number;
	uint8_t byte;
} grains[NGRAINS] = { { 0, 'a' }, { 511, 'b' }, { 513, 'c' }, { 515, 'd' } };

static uint8_t image[SECTORS * SECTOR];

static void
header(uint8_t *h, uint64_t directory)
{
	memcpy(h, VMDK_MAGIC, VMDK_MAGIC_LEN);
	put_le32(h + 4, 3);
	put_le32(h + 8, 0x30001);
	put_le64(h + 12, DISK / SECTOR);
	put_le64(h + 20, GRAIN / SECTOR);
	put_le64(h + 28, DESCRIPTOR);
	put_le64(h + 36, DESCRIPTOR_LEN);
	put_le32(h + 44, VMDK_PER_TABLE);
	put_le64(h + 56, directory);
	put_le64(h + 64, FIRST);
	memcpy(h + 73, "\n \r\n", 4);
	put_le16(h + 77, 1);
}

static void
describe(const char *text)
{
	memset(image + SECTOR, 0, DESCRIPTOR_LEN * SECTOR);
	strcpy((char *)image + SECTOR, text);
}

static uint8_t *
grain_at(unsigned i)
{
	return image + (size_t)(FIRST + i * EACH) * SECTOR;
}

/* As many bytes as one has, or fewer. */
static void
pack(unsigned i, size_t len)
{
	static uint8_t data[2 * GRAIN];
	uint8_t *p = grain_at(i);
	uLongf n = EACH * SECTOR - 12;

	memset(data, grains[i].byte, sizeof(data));
	assert_int_equal(compress(p + 12, &n, data, len), Z_OK);
	put_le64(p, (uint64_t)grains[i].number * GRAIN / SECTOR);
	put_le32(p + 8, (uint32_t)n);
}

static uint8_t *
entry_of(unsigned i)
{
	uint32_t n = grains[i].number;

	return image +
	    (size_t)(n < VMDK_PER_TABLE ? TABLE_0 : TABLE_1) * SECTOR +
	    (size_t)(n % VMDK_PER_TABLE) * 4;
}

static void
make(void)
{
	char text[512];

	memset(image, 0, sizeof(image));
	header(image, UINT64_MAX);
	snprintf(text, sizeof(text),
	    "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
	    "createType=\"streamOptimized\"\n# Extent\n"
	    "RDONLY %d SPARSE \"x.vmdk\"\nddb.adapterType = \"ide\"\n",
	    DISK / SECTOR);
	describe(text);
	for (unsigned i = 0; i < NGRAINS; i++) {
		pack(i, i == 3 ? 512 : GRAIN);
		put_le32(entry_of(i), FIRST + i * EACH);
	}
	put_le32(image + DIRECTORY * SECTOR, TABLE_0);
	put_le32(image + DIRECTORY * SECTOR + 4, TABLE_1);
	put_le32(image + (FOOTER - 1) * SECTOR + 12, 3);
	header(image + FOOTER * SECTOR, DIRECTORY);
}

static int
open_image(size_t len, struct source **s, struct err *e)
{
	int fd = memfd_create("vmdk", MFD_CLOEXEC), rc;
	char path[64];

	assert_true(fd != -1);
	assert_int_equal(pwrite_full(fd, image, len, 0), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = source_open_vmdk(path, "x.vmdk", s, e);
	close(fd);
	return rc;
}

static void
refused(int code, const char *words)
{
	struct err e = { 0 };
	struct source *s;

	assert_int_equal(open_image(sizeof(image), &s, &e), code);
	if (strstr(e.text, words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.text, words);
}

static void
good_is_read(void)
{
	static uint8_t got[DISK];
	struct source *s;
	struct err e = { 0 };

	assert_int_equal(open_image(sizeof(image), &s, &e), 0);
	assert_int_equal(s->size, DISK);
	assert_int_equal(source_read(s, got, DISK, 0, &e), 0);
	for (uint64_t off = 0; off < DISK; off += SECTOR) {
		uint8_t want = 0;

		for (unsigned i = 0; i < NGRAINS; i++)
			if (off / GRAIN == grains[i].number)
				want = grains[i].byte;
		assert_int_equal(got[off], want);
		assert_int_equal(got[off + SECTOR - 1], want);
	}
	/* Parts of grains, and over their ends. */
	assert_int_equal(source_read(s, got, 1000, SPAN - 500, &e), 0);
	assert_int_equal(got[499], 'b');
	assert_int_equal(got[500], 0);
	source_close(s);
}

static void
an_image_is_read_wherever_its_directory_is_told(void **state)
{
	(void)state;
	make();
	good_is_read();
	header(image, DIRECTORY);
	good_is_read();
	/* Without a footer, which then nobody looks for. */
	memset(image + (FOOTER - 1) * SECTOR, 0xff, (size_t)3 * SECTOR);
	good_is_read();
}

static void
holes_are_told(void **state)
{
	static const struct {
		uint64_t end;
		bool hole;
	} want[] = {
		{ GRAIN, false },
		{ UINT64_C(511) * GRAIN, true },
		{ SPAN, false },
		{ SPAN + GRAIN, true },
		{ SPAN + 2 * GRAIN, false },
		{ SPAN + 3 * GRAIN, true },
		{ DISK, false },
	};
	uint64_t off = 0, len;
	struct source *s;
	struct err e;
	bool hole;

	(void)state;
	make();
	assert_int_equal(open_image(sizeof(image), &s, &e), 0);
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		assert_int_equal(source_map(s, off, &len, &hole, &e), 0);
		off += len;
		assert_int_equal(off, want[i].end);
		assert_int_equal(hole, want[i].hole);
	}
	source_close(s);
	/* No table: all of what it covers. */
	put_le32(image + DIRECTORY * SECTOR, 0);
	assert_int_equal(open_image(sizeof(image), &s, &e), 0);
	assert_int_equal(source_map(s, 0, &len, &hole, &e), 0);
	assert_true(hole);
	assert_int_equal(len, SPAN);
	source_close(s);
}

static void
zeroed_grains_are_holes_where_the_header_has_such(void **state)
{
	uint8_t got[16];
	struct source *s;
	uint64_t len;
	struct err e;
	bool hole;

	(void)state;
	make();
	put_le32(entry_of(0), 1);
	assert_int_equal(open_image(sizeof(image), &s, &e), 0);
	assert_int_equal(source_read(s, got, 16, 0, &e), ERR_INVAL);
	source_close(s);
	put_le32(image + FOOTER * SECTOR + 8, 0x30005);
	assert_int_equal(open_image(sizeof(image), &s, &e), 0);
	assert_int_equal(source_read(s, got, 16, 0, &e), 0);
	assert_true(bytes_zero(got, 16));
	assert_int_equal(source_map(s, 0, &len, &hole, &e), 0);
	assert_true(hole);
	source_close(s);
}

static void
headers_of_other_forms_and_damaged_ones_are_refused(void **state)
{
	static const struct {
		unsigned at, len; /* in the header */
		uint64_t value;
		int code;
		const char *words;
	} bad[] = {
		{ 0, 4, 0x12345678, ERR_INVAL, "no header" },
		{ 4, 4, 4, ERR_UNSUP, "unknown version 4" },
		{ 8, 4, 0x3, ERR_UNSUP, "not streamOptimized" },
		{ 8, 4, 0x10001, ERR_UNSUP, "not streamOptimized" },
		{ 77, 2, 0, ERR_UNSUP, "not streamOptimized" },
		{ 73, 4, 0x0a0a2020, ERR_INVAL, "as if it were a text" },
		{ 12, 8, 0, ERR_INVAL, "no size" },
		{ 12, 8, UINT64_MAX, ERR_LIMIT, "tables" },
		{ 12, 8, UINT64_C(1) << 40, ERR_LIMIT, "tables" },
		{ 20, 8, 0, ERR_INVAL, "its grains" },
		{ 20, 8, 127, ERR_INVAL, "its grains" },
		{ 20, 8, UINT64_C(1) << 62, ERR_INVAL, "its grains" },
		{ 44, 4, 511, ERR_INVAL, "its tables" },
		{ 28, 8, UINT64_MAX, ERR_INVAL, "beyond all files" },
		{ 28, 8, 1 << 20, ERR_INVAL, "no descriptor" },
		{ 28, 8, 0, ERR_INVAL, "no descriptor" },
		{ 36, 8, 0, ERR_INVAL, "no descriptor" },
		{ 36, 8, 1 << 20, ERR_LIMIT, "descriptor" },
		{ 56, 8, 0, ERR_INVAL, "no directory" },
		{ 56, 8, UINT64_MAX - 1, ERR_INVAL, "beyond all files" },
		{ 56, 8, SECTORS, ERR_INVAL, "beyond its end" },
		{ 56, 8, 1 << 30, ERR_INVAL, "beyond its end" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		make();
		for (unsigned k = 0; k < bad[i].len; k++)
			image[bad[i].at + k] = (uint8_t)(bad[i].value >> 8 * k);
		refused(bad[i].code, bad[i].words);
	}
}

static void
what_is_cut_off_has_no_footer(void **state)
{
	struct err e = { 0 };
	struct source *s;

	(void)state;
	make();
	for (size_t len = 0; len < sizeof(image); len += 100)
		assert_int_equal(open_image(len, &s, &e), ERR_INVAL);
	/* One that says another thing. */
	put_le64(image + FOOTER * SECTOR + 12, DISK / SECTOR + 1);
	refused(ERR_INVAL, "another thing than its header");
	make();
	put_le64(image + FOOTER * SECTOR + 56, UINT64_MAX);
	refused(ERR_INVAL, "another thing than its header");
	make();
	image[sizeof(image) - SECTOR] = 1;
	refused(ERR_INVAL, "no footer");
}

static void
descriptors_that_name_other_files_are_refused(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} bad[] = {
		{ "", ERR_UNSUP, "not streamOptimized" },
		{ "createType=\"monolithicSparse\"\n", ERR_UNSUP,
		    "not streamOptimized" },
		{ "createType=\"streamOptimized\"\nparentCID=12345678\n"
		  "RW 1 SPARSE \"x\"\n",
		    ERR_UNSUP, "builds on another" },
		{ "createType=\"streamOptimized\"\n"
		  "parentFileNameHint=\"/etc/shadow\"\nRW 1 SPARSE \"x\"\n",
		    ERR_UNSUP, "builds on another" },
		{ "createType=\"streamOptimized\"\nparentCID=ffffffff\n",
		    ERR_UNSUP, "several files" },
		{ "createType=\"streamOptimized\"\nRW 1 SPARSE \"x\"\n"
		  "RW 1 SPARSE \"y\"\n",
		    ERR_UNSUP, "several files" },
		{ "createType=\"streamOptimized\"\n"
		  "RW 1 FLAT \"/etc/shadow\" 0\n",
		    ERR_UNSUP, "several files" },
		{ "createType=\"streamOptimized\"\nRW 1 SPARSE \"x\"\n",
		    ERR_INVAL, "another size" },
		{ "createType=\"streamOptimized\"\n"
		  "RW 99999999999999999999999 SPARSE \"x\"\n",
		    ERR_INVAL, "another size" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		make();
		describe(bad[i].text);
		refused(bad[i].code, bad[i].words);
	}
}

static void
read_fails(const char *words)
{
	struct err e = { 0 };
	struct source *s;
	uint8_t got[16];

	assert_int_equal(open_image(sizeof(image), &s, &e), 0);
	assert_int_equal(source_read(s, got, 16, 0, &e), ERR_INVAL);
	if (strstr(e.text, words) == NULL)
		fail_msg("\"%s\" lacks \"%s\"", e.text, words);
	/* The others are what they were. */
	assert_int_equal(source_read(s, got, 16, UINT64_C(511) * GRAIN, &e), 0);
	assert_int_equal(got[0], 'b');
	source_close(s);
}

static void
damaged_grains_are_told_with_their_place(void **state)
{
	(void)state;
	for (int i = 0; i < 9; i++) {
		make();
		switch (i) {
		case 0: put_le32(entry_of(0), UINT32_MAX); break;
		case 1: put_le32(entry_of(0), FIRST + EACH); break;
		case 2: put_le64(grain_at(0), 1); break;
		case 3: put_le32(grain_at(0) + 8, 0); break;
		case 4: put_le32(grain_at(0) + 8, 2 * GRAIN + 1); break;
		case 5: put_le32(grain_at(0) + 8, UINT32_MAX); break;
		case 6: /* its checksum */
			grain_at(0)[11 + get_le32(grain_at(0) + 8)] ^= 1;
			break;
		case 7: pack(0, GRAIN - 1); break; /* too little */
		default: pack(0, GRAIN + 1);       /* too much */
		}
		read_fails("x.vmdk at byte 0: damaged VMDK: ");
	}
}

static void
tables_beyond_the_end_are_refused(void **state)
{
	(void)state;
	make();
	put_le32(image + DIRECTORY * SECTOR, UINT32_MAX);
	refused(ERR_INVAL, "a table lies beyond its end");
	put_le32(image + DIRECTORY * SECTOR, SECTORS - 3);
	refused(ERR_INVAL, "a table lies beyond its end");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    an_image_is_read_wherever_its_directory_is_told),
		cmocka_unit_test(holes_are_told),
		cmocka_unit_test(
		    zeroed_grains_are_holes_where_the_header_has_such),
		cmocka_unit_test(
		    headers_of_other_forms_and_damaged_ones_are_refused),
		cmocka_unit_test(what_is_cut_off_has_no_footer),
		cmocka_unit_test(descriptors_that_name_other_files_are_refused),
		cmocka_unit_test(damaged_grains_are_told_with_their_place),
		cmocka_unit_test(tables_beyond_the_end_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
