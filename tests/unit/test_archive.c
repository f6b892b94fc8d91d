/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/archive/arcin.h"
#include "agent/archive/arcout.h"
#include "agent/archive/head.h"
#include "agent/archive/qstream.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"

enum { CLUSTER = 65536, IMAGE = 8 * CLUSTER, DISK = 5 << 20 };
#define COPIED (UINT64_C(1) << 63)

/* --- an archive in a nameless file */

static int
keep(void *arg, const void *data, size_t len, struct err *e)
{
	(void)e;
	buf_add(arg, data, len);
	return 0;
}

static int
file_of(const struct buf *b)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd != -1);
	assert_int_equal(write(fd, b->data, b->len), (ssize_t)b->len);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static struct arcin *
open_in(int fd)
{
	struct arcin *a;
	struct err e;

	assert_int_equal(arcin_open(fd, "x", &a, &e), 0);
	assert_non_null(a);
	return a;
}

static void
put_member(struct arcout *o, const char *name, const void *data, size_t len)
{
	struct err e;

	assert_int_equal(arcout_begin(o, name, len, 1, NULL, 0, &e), 0);
	assert_int_equal(arcout_data(o, data, len, &e), 0);
	assert_int_equal(arcout_end(o, &e), 0);
}

static void
archive_one(enum arcout_kind kind, const char *name, const void *data,
    size_t len, struct buf *out)
{
	struct arcout *o;
	struct err e;

	assert_int_equal(arcout_open(kind, keep, out, &o, &e), 0);
	put_member(o, name, data, len);
	assert_int_equal(arcout_finish(o, &e), 0);
	arcout_free(o);
}

static void
what_is_written_comes_back_in_each_kind(void **state)
{
	uint8_t data[100000], got[100000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	for (int kind = ARCOUT_TAR; kind <= ARCOUT_ZIP; kind++) {
		struct buf b = { 0 };
		struct arcin *a;
		struct err e;
		int fd;

		archive_one(
		    (enum arcout_kind)kind, "a/b", data, sizeof(data), &b);
		fd = file_of(&b);
		a = open_in(fd);
		assert_int_equal(arcin_next(a, &e), 0);
		assert_string_equal(arcin_member(a)->name, "a/b");
		/* Forward, with a gap. */
		assert_int_equal(arcin_read(a, got, 10, 0, &e), 0);
		assert_memory_equal(got, data, 10);
		assert_int_equal(arcin_read(a, got, 50000, 50000, &e), 0);
		assert_memory_equal(got, data + 50000, 50000);
		assert_int_equal(arcin_read(a, got, 1, 99999, &e), ERR_INVAL);
		assert_int_equal(arcin_next(a, &e), ERR_NOENT);
		arcin_close(a);
		close(fd);
		buf_fini(&b);
	}
}

static void
holes_take_no_room_and_are_told(void **state)
{
	struct arcout_extent x[] = { { 1 << 20, 512 }, { 1 << 30, 512 } };
	uint64_t size = UINT64_C(1) << 40, len;
	uint8_t data[512], got[1024];
	struct buf b = { 0 };
	struct arcout *o;
	struct arcin *a;
	struct err e;
	bool hole;
	int fd;

	(void)state;
	memset(data, 'x', sizeof(data));
	assert_int_equal(arcout_open(ARCOUT_TAR, keep, &b, &o, &e), 0);
	assert_int_equal(arcout_begin(o, "big", size, 1, x, 2, &e), 0);
	assert_int_equal(arcout_hole(o, 1 << 20, &e), 0);
	assert_int_equal(arcout_data(o, data, 512, &e), 0);
	assert_int_equal(arcout_hole(o, (1 << 30) - (1 << 20) - 512, &e), 0);
	assert_int_equal(arcout_data(o, data, 512, &e), 0);
	assert_int_equal(arcout_hole(o, size - (1 << 30) - 512, &e), 0);
	assert_int_equal(arcout_end(o, &e), 0);
	assert_int_equal(arcout_finish(o, &e), 0);
	arcout_free(o);
	assert_true(b.len < 100000);
	fd = file_of(&b);
	a = open_in(fd);
	assert_int_equal(arcin_next(a, &e), 0);
	assert_true(arcin_member(a)->has_size);
	assert_int_equal(arcin_member(a)->size, size);
	assert_int_equal(arcin_map(a, 0, &len, &hole, &e), 0);
	assert_true(hole);
	assert_int_equal(len, 1 << 20);
	assert_int_equal(arcin_read(a, got, 1024, (1 << 20) - 512, &e), 0);
	assert_true(bytes_zero(got, 512));
	assert_memory_equal(got + 512, data, 512);
	assert_int_equal(arcin_map(a, (1 << 20) + 512, &len, &hole, &e), 0);
	assert_true(hole);
	assert_int_equal(arcin_read(a, got, 1024, 1 << 30, &e), 0);
	assert_memory_equal(got, data, 512);
	assert_true(bytes_zero(got + 512, 512));
	assert_int_equal(arcin_map(a, (1 << 30) + 1024, &len, &hole, &e), 0);
	assert_true(hole);
	assert_int_equal(arcin_drain(a, &e), 0);
	arcin_close(a);
	close(fd);
	buf_fini(&b);
}

/* Hypervisors take no pax headers, however large a disk is. */
static void
tars_for_hypervisors_have_plain_headers(void **state)
{
	static const struct {
		enum arcout_kind kind;
		uint64_t size;
		const char *magic;
		uint8_t first; /* of the size: base 256 has its high bit */
	} of[] = {
		{ ARCOUT_USTAR, ARCOUT_USTAR_MAX, "ustar", '7' },
		{ ARCOUT_GNUTAR, UINT64_C(1) << 40, "ustar  ", 0x80 },
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct buf b = { 0 };
		static uint8_t data[1 << 20];
		struct arcout *o;
		struct err e;

		assert_int_equal(arcout_open(of[i].kind, keep, &b, &o, &e), 0);
		assert_int_equal(
		    arcout_begin(o, "vda.vmdk", of[i].size, 1, NULL, 0, &e), 0);
		assert_int_equal(arcout_data(o, data, sizeof(data), &e), 0);
		assert_true(b.len > 512);
		assert_string_equal(b.data, "vda.vmdk");
		assert_int_equal(b.data[156], '0');
		assert_string_equal(b.data + 257, of[i].magic);
		assert_int_equal(b.data[124], of[i].first);
		arcout_free(o);
		buf_fini(&b);
	}
}

static void
what_is_cut_off_is_no_end(void **state)
{
	static uint8_t data[300000];
	uint8_t got[1000];
	struct buf b = { 0 };
	struct arcin *a;
	struct err e;
	int fd;

	(void)state;
	archive_one(ARCOUT_TAR, "a", data, sizeof(data), &b);
	b.len = 200000;
	fd = file_of(&b);
	a = open_in(fd);
	assert_int_equal(arcin_next(a, &e), 0);
	assert_int_equal(arcin_read(a, got, 1000, 299000, &e), ERR_INVAL);
	arcin_close(a);
	close(fd);
	buf_fini(&b);
}

static void
an_archive_that_failed_has_no_end(void **state)
{
	static uint8_t data[1000];
	struct buf b = { 0 }, whole = { 0 };
	struct arcout *o;
	struct err e;

	(void)state;
	archive_one(ARCOUT_TAR_GZ, "a", data, sizeof(data), &whole);
	assert_int_equal(arcout_open(ARCOUT_TAR_GZ, keep, &b, &o, &e), 0);
	put_member(o, "a", data, sizeof(data));
	arcout_free(o);
	assert_true(b.len < whole.len);
	buf_fini(&b);
	buf_fini(&whole);
}

static int
full(void *arg, const void *data, size_t len, struct err *e)
{
	(void)arg;
	(void)data;
	(void)len;
	return err_set(e, ERR_NOSPC, "there is no room");
}

static void
what_the_sink_says_is_what_failed(void **state)
{
	static uint8_t data[1 << 20];
	struct arcout *o;
	struct err e;

	(void)state;
	assert_int_equal(arcout_open(ARCOUT_TAR, full, NULL, &o, &e), 0);
	assert_int_equal(arcout_begin(o, "a", sizeof(data), 1, NULL, 0, &e), 0);
	assert_int_equal(arcout_data(o, data, sizeof(data), &e), ERR_NOSPC);
	assert_string_equal(e.text, "there is no room");
	arcout_free(o);
}

/* --- heads */

static struct head *
make_head(void)
{
	struct head *h = calloc(1, sizeof(*h));
	struct manifest *m = &h->manifest;

	strcpy(m->vm, "a/b");
	m->time = m->agent_time = 1000;
	m->seq = 1;
	strcpy(m->host, "k");
	strcpy(m->consistency, "offline");
	m->chunk_size = 65536;
	m->nvolumes = 2;
	for (unsigned i = 0; i < 2; i++) {
		struct manifest_volume *v = &m->volume[i];

		snprintf(v->name, sizeof(v->name), "vd%c", 'a' + (int)i);
		strcpy(v->kind, "disk");
		strcpy(v->format, "raw");
		v->size = 1 << 20;
	}
	h->n = 2;
	h->member[0].form = HEAD_QCOW2;
	h->member[0].size = 12345;
	strcpy(h->member[0].name, "a-b/vda.qcow2");
	h->member[1].volume = 1;
	h->member[1].form = HEAD_RAW;
	h->member[1].size = 1 << 20;
	strcpy(h->member[1].name, "a-b/vdb.raw");
	return h;
}

static void
a_head_that_was_printed_is_parsed_as_it_was(void **state)
{
	struct head *h = make_head(), *got = calloc(1, sizeof(*got));
	struct buf b = { 0 }, again = { 0 };
	struct err e;

	(void)state;
	h->since = true;
	h->since_time = 900;
	h->since_id[3] = 7;
	h->member[0].overlay = true;
	h->member[0].since_root.b[0] = 9;
	head_print(h, &b);
	assert_int_equal(head_parse(b.data, b.len, got, &e), 0);
	head_print(got, &again);
	assert_int_equal(b.len, again.len);
	assert_memory_equal(b.data, again.data, b.len);
	buf_fini(&b);
	buf_fini(&again);
	free(h);
	free(got);
}

static void
heads_that_make_no_sense_are_refused(void **state)
{
	struct head *got = calloc(1, sizeof(*got));
	struct err e;

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct head *h = make_head();
		struct buf b = { 0 };

		switch (i) {
		case 0: h->member[1].volume = 0; break;
		case 1: strcpy(h->member[1].name, h->member[0].name); break;
		case 2: h->member[0].overlay = true; break; /* on nothing */
		case 3: h->member[1].size = 5; break;
		default: h->n = 0;
		}
		head_print(h, &b);
		assert_int_equal(head_parse(b.data, b.len, got, &e), ERR_PROTO);
		buf_fini(&b);
		free(h);
	}
	free(got);
}

static void
a_wrong_checksum_is_found(void **state)
{
	struct head *h = make_head();
	struct buf b = { 0 };
	struct err e;

	(void)state;
	strcpy(h->member[0].sum, "00aa");
	strcpy(h->member[1].sum, "11bb");
	head_last_print(h, &b);
	assert_int_equal(head_last_check(h, b.data, b.len, &e), 0);
	h->member[1].sum[0] = '2';
	assert_int_equal(head_last_check(h, b.data, b.len, &e), ERR_CORRUPT);
	h->member[1].sum[0] = '1';
	/* What the first text says has no sum of its own. */
	h->manifest.time++;
	assert_int_equal(head_last_check(h, b.data, b.len, &e), ERR_CORRUPT);
	buf_fini(&b);
	free(h);
}

/* --- images */

/* Header, L1, refcounts (2), L2, clusters 3 and 7 of the disk; 5 is zero. */
static uint8_t *
make_image(void)
{
	uint8_t *p = calloc(1, IMAGE), *l2 = p + 4 * CLUSTER;

	memcpy(p, "QFI\xfb", 4);
	put_be32(p + 4, 3);
	put_be32(p + 20, 16);
	put_be64(p + 24, DISK);
	put_be32(p + 36, 1);
	put_be64(p + 40, CLUSTER);
	put_be64(p + CLUSTER, UINT64_C(4) * CLUSTER | COPIED);
	put_be64(l2 + 3 * 8, UINT64_C(5) * CLUSTER | COPIED);
	put_be64(l2 + 5 * 8, 1);
	put_be64(l2 + 7 * 8, UINT64_C(6) * CLUSTER | COPIED);
	memset(p + 5 * CLUSTER, 3, CLUSTER);
	memset(p + 6 * CLUSTER, 7, CLUSTER);
	return p;
}

struct image {
	struct buf b;
	int fd;
	struct arcin *a;
	struct digest *d;
	struct qstream *q;
	int rc;
};

static void
image_open(struct image *i, const uint8_t *p)
{
	struct err e;

	memset(i, 0, sizeof(*i));
	archive_one(ARCOUT_TAR, "q", p, IMAGE - CLUSTER, &i->b);
	i->fd = file_of(&i->b);
	i->a = open_in(i->fd);
	i->d = digest_new();
	assert_int_equal(arcin_next(i->a, &e), 0);
	i->rc = qstream_open(i->a, i->d, DISK, &i->q, &e);
}

static void
image_close(struct image *i)
{
	qstream_free(i->q);
	digest_free(i->d);
	arcin_close(i->a);
	close(i->fd);
	buf_fini(&i->b);
}

static void
an_image_is_read_forward(void **state)
{
	char sum[DIGEST_TEXT], want[DIGEST_TEXT];
	uint8_t *p = make_image(), got[2 * CLUSTER];
	enum qstream_kind kind;
	struct digest *d;
	struct image i;
	struct err e;
	uint64_t len;
	bool none;

	(void)state;
	image_open(&i, p);
	assert_int_equal(i.rc, 0);
	assert_int_equal(qstream_map(i.q, 0, &len, &kind, &e), 0);
	assert_int_equal(kind, QSTREAM_NONE);
	assert_int_equal(len, 3 * CLUSTER);
	assert_int_equal(qstream_map(i.q, len, &len, &kind, &e), 0);
	assert_int_equal(kind, QSTREAM_DATA);
	assert_int_equal(len, CLUSTER);
	assert_int_equal(
	    qstream_read(i.q, got, CLUSTER, 3 * CLUSTER, &none, &e), 0);
	assert_false(none);
	assert_int_equal(got[0], 3);
	assert_int_equal(qstream_map(i.q, 5 * CLUSTER, &len, &kind, &e), 0);
	assert_int_equal(kind, QSTREAM_ZERO);
	assert_int_equal(
	    qstream_read(i.q, got, 2 * CLUSTER, 6 * CLUSTER, &none, &e), 0);
	assert_true(none);
	assert_int_equal(got[0], 0);
	assert_int_equal(got[CLUSTER], 7);
	assert_int_equal(qstream_end(i.q, &e), 0);
	d = digest_new();
	digest_add(d, p, IMAGE - CLUSTER);
	assert_string_equal(digest_text(i.d, sum), digest_text(d, want));
	digest_free(d);
	image_close(&i);
	free(p);
}

static void
other_images_are_refused(void **state)
{
	(void)state;
	for (int n = 0; n < 7; n++) {
		uint8_t *p = make_image();
		struct image i;

		switch (n) {
		case 0: p[0] = 'x'; break;
		case 1: put_be32(p + 32, 1); break;      /* encrypted */
		case 2: put_be64(p + 72, 1 << 2); break; /* a data file */
		case 3: put_be64(p + 24, DISK * 2); break;
		case 4: put_be32(p + 36, 2); break;
		case 5: put_be64(p + CLUSTER, 4 * CLUSTER); break;
		default: put_be64(p + CLUSTER, COPIED | 100); break;
		}
		image_open(&i, p);
		assert_int_equal(i.rc, ERR_INVAL);
		image_close(&i);
		free(p);
	}
}

static void
clusters_out_of_order_are_refused(void **state)
{
	uint8_t *p = make_image(), *l2 = p + 4 * CLUSTER, got[CLUSTER];
	struct image i;
	struct err e;
	bool none;

	(void)state;
	put_be64(l2 + 3 * 8, UINT64_C(6) * CLUSTER | COPIED);
	put_be64(l2 + 7 * 8, UINT64_C(5) * CLUSTER | COPIED);
	image_open(&i, p);
	assert_int_equal(i.rc, 0);
	assert_int_equal(
	    qstream_read(i.q, got, CLUSTER, 3 * CLUSTER, &none, &e), 0);
	assert_int_equal(
	    qstream_read(i.q, got, CLUSTER, 7 * CLUSTER, &none, &e), ERR_INVAL);
	image_close(&i);
	/* Far beyond the end. */
	put_be64(l2 + 3 * 8, UINT64_C(1) << 50 | COPIED);
	image_open(&i, p);
	assert_int_equal(
	    qstream_read(i.q, got, CLUSTER, 3 * CLUSTER, &none, &e), ERR_INVAL);
	image_close(&i);
	free(p);
}

static void
blocks_of_zeroes_count_for_nothing(void **state)
{
	uint8_t *p = calloc(3, DIGEST_BLOCK);
	char a[DIGEST_TEXT], b[DIGEST_TEXT];
	struct digest *x = digest_new(), *y = digest_new();

	(void)state;
	p[2 * DIGEST_BLOCK + 1] = 1;
	digest_blocks(x, 0, p, 3 * DIGEST_BLOCK);
	digest_block(y, 2, p + 2 * DIGEST_BLOCK, DIGEST_BLOCK);
	assert_string_equal(digest_text(x, a), digest_text(y, b));
	digest_free(x);
	digest_free(y);
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_comes_back_in_each_kind),
		cmocka_unit_test(holes_take_no_room_and_are_told),
		cmocka_unit_test(tars_for_hypervisors_have_plain_headers),
		cmocka_unit_test(what_is_cut_off_is_no_end),
		cmocka_unit_test(an_archive_that_failed_has_no_end),
		cmocka_unit_test(what_the_sink_says_is_what_failed),
		cmocka_unit_test(a_head_that_was_printed_is_parsed_as_it_was),
		cmocka_unit_test(heads_that_make_no_sense_are_refused),
		cmocka_unit_test(a_wrong_checksum_is_found),
		cmocka_unit_test(an_image_is_read_forward),
		cmocka_unit_test(other_images_are_refused),
		cmocka_unit_test(clusters_out_of_order_are_refused),
		cmocka_unit_test(blocks_of_zeroes_count_for_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
