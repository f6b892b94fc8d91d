/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/ram/facts.h"
#include "agent/ram/ramstream.h"
#include "agent/ram/wire.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

enum { LOW_PAGES = 40, TAIL_LEN = 5000 };

static void
be32(struct buf *b, uint32_t v)
{
	put_be32(buf_extend(b, 4), v);
}

static void
be64(struct buf *b, uint64_t v)
{
	put_be64(buf_extend(b, 8), v);
}

static void
name(struct buf *b, const char *s)
{
	buf_u8(b, (uint8_t)strlen(s));
	buf_add(b, s, strlen(s));
}

static void
footer(struct buf *b)
{
	buf_u8(b, QEMU_FOOTER);
	be32(b, 1);
}

/* As QEMU begins a stream, with two blocks. */
static void
head(struct buf *b)
{
	be32(b, QEMU_MAGIC);
	be32(b, QEMU_VERSION);
	buf_u8(b, QEMU_CONFIGURATION);
	be32(b, 10);
	buf_add(b, "pc-q35-7.2", 10);
	buf_u8(b, QEMU_START);
	be32(b, 1);
	name(b, "ram");
	be32(b, 0);
	be32(b, QEMU_RAM_VERSION);
	be64(b, (LOW_PAGES + 2) * RAM_PAGE | QEMU_PAGE_SIZES);
	name(b, "pc.ram");
	be64(b, LOW_PAGES * RAM_PAGE);
	name(b, "pc.bios");
	be64(b, 2 * RAM_PAGE);
	be64(b, QEMU_PAGE_EOS);
	footer(b);
}

static void
data_page(struct buf *b, const char *block, uint64_t page, int fill)
{
	be64(b,
	    page * RAM_PAGE | QEMU_PAGE_DATA |
		(block == NULL ? QEMU_PAGE_SAME : 0));
	if (block != NULL)
		name(b, block);
	memset(buf_extend(b, RAM_PAGE), fill, RAM_PAGE);
}

static void
zero_page(struct buf *b, uint64_t page)
{
	be64(b, page * RAM_PAGE | QEMU_PAGE_ZERO | QEMU_PAGE_SAME);
	buf_u8(b, 0);
}

static void
part(struct buf *b, int kind)
{
	buf_u8(b, (uint8_t)kind);
	be32(b, 1);
}

static void
tail(struct buf *b)
{
	buf_u8(b, QEMU_FULL);
	memset(buf_extend(b, TAIL_LEN), 0x5a, TAIL_LEN);
}

/* Every form of a page; the second section goes on in the block of the first.
 */
static void
whole(struct buf *b)
{
	head(b);
	part(b, QEMU_PART);
	data_page(b, "pc.ram", 0, 1);
	for (unsigned i = 1; i < LOW_PAGES - 1; i++)
		if (i % 5 == 0)
			zero_page(b, i);
		else
			data_page(b, NULL, i, (int)i + 1);
	be64(b, QEMU_PAGE_EOS);
	footer(b);
	part(b, QEMU_END);
	data_page(b, NULL, LOW_PAGES - 1, 0x77);
	data_page(b, "pc.bios", 1, 0x78);
	data_page(b, "pc.bios", 1, 0x79); /* sent again: the last one counts */
	zero_page(b, 0);
	be64(b, QEMU_PAGE_EOS);
	footer(b);
	tail(b);
}

static int
file_of(const void *data, size_t len)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	assert_int_not_equal(fd, -1);
	assert_int_equal(pwrite_full(fd, data, len, 0), 0);
	return fd;
}

static int
open_stream(const struct buf *b, struct ramstream **out)
{
	struct err e;

	return ramstream_open(
	    file_of(b->data, b->len), file_of("", 0), out, &e);
}

static void
pages_lie_at_their_places(void **state)
{
	uint8_t page[RAM_PAGE], two[64];
	struct ramstream *s;
	struct source *v;
	struct buf b = { 0 };
	uint64_t len;
	bool hole;

	(void)state;
	whole(&b);
	assert_int_equal(open_stream(&b, &s), 0);
	assert_int_equal(ramstream_layout(s)->nblocks, 2);
	assert_int_equal(ramstream_layout(s)->block[1].offset, RAM_BLOCK_ALIGN);
	v = ramstream_source(s);
	assert_int_equal(v->size, 2 * RAM_BLOCK_ALIGN);
	for (unsigned i = 0; i < LOW_PAGES - 1; i++) {
		assert_int_equal(
		    source_read(v, page, RAM_PAGE, i * RAM_PAGE, NULL), 0);
		assert_int_equal(
		    page[17], i % 5 == 0 && i != 0 ? 0 : (uint8_t)(i + 1));
		assert_int_equal(page[17], page[RAM_PAGE - 1]);
	}
	assert_int_equal(
	    source_read(v, page, RAM_PAGE, RAM_BLOCK_ALIGN + RAM_PAGE, NULL),
	    0);
	assert_int_equal(page[0], 0x79);
	/* Over the edge of two pages. */
	assert_int_equal(
	    source_read(v, two, sizeof(two), 2 * RAM_PAGE - 32, NULL), 0);
	assert_int_equal(two[31], 2);
	assert_int_equal(two[32], 3);
	assert_int_equal(
	    source_map(v, LOW_PAGES * RAM_PAGE, &len, &hole, NULL), 0);
	assert_true(hole);
	assert_int_equal(
	    len, RAM_BLOCK_ALIGN + RAM_PAGE - LOW_PAGES * RAM_PAGE);
	source_close(v);
	buf_fini(&b);
}

/* A volume as a file. */
static int
volume(struct source *v)
{
	uint8_t *p = xmalloc(v->size);
	int fd;

	assert_int_equal(source_read(v, p, v->size, 0, NULL), 0);
	fd = file_of(p, v->size);
	free(p);
	return fd;
}

static void
a_stream_put_together_again_has_the_same_pages_and_state(void **state)
{
	int rest = file_of("", 0), out = file_of("", 0), rest2 = file_of("", 0);
	struct ramstream_layout l;
	struct ramstream *s;
	struct source *v, *v2;
	struct buf b = { 0 };
	uint8_t a[256], c[256];
	struct err e;
	int ram, ram2;

	(void)state;
	whole(&b);
	assert_int_equal(open_stream(&b, &s), 0);
	assert_int_equal(ramstream_state(s, rest, &e), 0);
	l = *ramstream_layout(s);
	v = ramstream_source(s);
	ram = volume(v);
	assert_int_equal(ramstream_compose(&l, ram, rest, out, &e), 0);

	assert_int_equal(ramstream_open(out, file_of("", 0), &s, &e), 0);
	assert_int_equal(ramstream_state(s, rest2, &e), 0);
	v2 = ramstream_source(s);
	ram2 = volume(v2);
	assert_int_equal(lseek(ram, 0, SEEK_END), lseek(ram2, 0, SEEK_END));
	for (uint64_t i = 0; i < v->size; i += sizeof(a)) {
		pread_full(ram, a, sizeof(a), i);
		pread_full(ram2, c, sizeof(c), i);
		assert_memory_equal(a, c, sizeof(a));
	}
	assert_int_equal(lseek(rest, 0, SEEK_END), lseek(rest2, 0, SEEK_END));
	assert_int_equal(
	    lseek(rest, 0, SEEK_END), (off_t)l.head + TAIL_LEN + 1);
	source_close(v);
	source_close(v2);
	close(ram);
	close(ram2);
	close(rest);
	close(rest2);
	buf_fini(&b);
}

static void
refused(struct buf *b, int why)
{
	struct ramstream *s;

	assert_int_equal(open_stream(b, &s), why);
	buf_fini(b);
}

static void
what_is_not_understood_is_refused(void **state)
{
	struct buf b = { 0 };

	(void)state;
	/* A page of a block that there is not. */
	head(&b);
	part(&b, QEMU_PART);
	data_page(&b, "vga.vram", 0, 1);
	refused(&b, ERR_UNSUP);
	/* Beyond its block's end. */
	head(&b);
	part(&b, QEMU_PART);
	data_page(&b, "pc.bios", 2, 1);
	refused(&b, ERR_UNSUP);
	/* The same block as that of no page. */
	head(&b);
	part(&b, QEMU_PART);
	data_page(&b, NULL, 0, 1);
	refused(&b, ERR_UNSUP);
	/* A compressed page. */
	head(&b);
	part(&b, QEMU_PART);
	be64(&b, 0x100);
	name(&b, "pc.ram");
	refused(&b, ERR_UNSUP);
	/* Another section that may come more than once. */
	head(&b);
	buf_u8(&b, QEMU_PART);
	be32(&b, 2);
	refused(&b, ERR_UNSUP);
	/* Something else altogether. */
	buf_add(&b, "LibvirtQemudSave", 16);
	refused(&b, ERR_UNSUP);
}

static void
a_stream_that_is_cut_off_is_damaged(void **state)
{
	struct ramstream *s;
	struct buf b = { 0 };
	size_t all;

	(void)state;
	whole(&b);
	all = b.len - TAIL_LEN - 1;
	for (size_t n = 120; n <= all; n += 997) {
		b.len = n;
		assert_int_equal(open_stream(&b, &s), ERR_CORRUPT);
	}
	buf_fini(&b);
}

static void
facts_read_back_are_what_was_written(void **state)
{
	struct ram_facts f = { .form = RAM_FORM_PLACED,
		.qemu = "7.2.22",
		.machine = "pc-q35-7.2" };
	struct ram_facts *g = xmalloc(sizeof(*g));
	struct buf b = { 0 }, stream = { 0 }, again = { 0 };
	struct ramstream *s;
	struct err e;

	(void)state;
	whole(&stream);
	assert_int_equal(open_stream(&stream, &s), 0);
	f.layout = *ramstream_layout(s);
	ramstream_close(s);
	f.nbackends = 1;
	snprintf(f.backend[0].id, sizeof(f.backend[0].id), "ram-node0");
	snprintf(f.backend[0].volume, sizeof(f.backend[0].volume), "ram0");
	f.backend[0].size = 1 << 20;
	ram_facts_print(&f, &b);
	assert_int_equal(ram_facts_parse(b.data, b.len, g, &e), 0);
	ram_facts_print(g, &again);
	assert_int_equal(b.len, again.len);
	assert_memory_equal(b.data, again.data, b.len);
	buf_fini(&again);

	/* Names become files: none that leads elsewhere. */
	snprintf(f.backend[0].volume, sizeof(f.backend[0].volume), "../ram0");
	b.len = 0;
	ram_facts_print(&f, &b);
	assert_int_equal(ram_facts_parse(b.data, b.len, g, &e), ERR_PROTO);
	snprintf(f.backend[0].volume, sizeof(f.backend[0].volume), "ram0");
	f.layout.block[1].offset = 4096;
	b.len = 0;
	ram_facts_print(&f, &b);
	assert_int_equal(ram_facts_parse(b.data, b.len, g, &e), ERR_PROTO);
	buf_fini(&b);
	buf_fini(&stream);
	free(g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_lie_at_their_places),
		cmocka_unit_test(
		    a_stream_put_together_again_has_the_same_pages_and_state),
		cmocka_unit_test(what_is_not_understood_is_refused),
		cmocka_unit_test(a_stream_that_is_cut_off_is_damaged),
		cmocka_unit_test(facts_read_back_are_what_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
