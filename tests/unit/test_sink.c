/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/sink/gaps.h"
#include "agent/sink/sink.h"
#include "agent/source/source.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { UNIT = 64 << 10, UNITS = 80, TAIL = 1000, THREADS = 4 };
enum { SIZE = UNITS * UNIT + TAIL };

static char dir[] = "/tmp/test_sink.XXXXXX";

static int
set_up(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL || chdir(dir) == -1;
}

static int
tear_down(void **state)
{
	(void)state;
	/* Fails, and so tells, if a test has left a file behind. */
	return chdir("/") == -1 || rmdir(dir) == -1;
}

/* Unit ${i} of what is written: holes in every third, else a pattern. */
static void
pattern(uint8_t *out, size_t i)
{
	memset(out, 0, UNIT);
	if (i % 3 == 2)
		return;
	for (size_t j = 0; j < UNIT; j++)
		out[j] = (uint8_t)(i * 7 + j % 251);
	if (i % 5 == 0) /* small clusters that stay holes */
		memset(out + 4096, 0, 8192);
}

struct worker {
	struct sink *sink;
	size_t first;
	int rc;
};

/* Every THREADSth unit, the last ones first. */
static void *
work(void *arg)
{
	struct worker *w = arg;
	uint8_t *unit = xmalloc(UNIT);
	size_t i = UNITS - UNITS % THREADS + w->first;
	struct err e;

	for (;; i -= THREADS) {
		if (i <= UNITS && i % 3 != 2) {
			pattern(unit, i);
			w->rc |= sink_write(w->sink, unit,
			    i == UNITS ? TAIL : UNIT, (uint64_t)i * UNIT, &e);
		}
		if (i < THREADS)
			break;
	}
	free(unit);
	return NULL;
}

static struct sink *
must_open(const char *format, uint32_t cluster_size, bool force)
{
	struct sink_options o = { .path = "disk",
		.format = format,
		.size = SIZE,
		.cluster_size = cluster_size,
		.force = force };
	struct sink *s = NULL;
	struct err e = { 0 };

	if (sink_open(&o, &s, &e) != 0)
		fail_msg("sink_open: %s", e.text);
	return s;
}

static void
fill(struct sink *s)
{
	struct worker w[THREADS] = { 0 };
	pthread_t t[THREADS];

	for (size_t i = 0; i < THREADS; i++) {
		w[i].sink = s;
		w[i].first = i;
		assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(w[i].rc, 0);
	}
}

/* The finished image, read through a source, holds the pattern. */
static void
verify(const char *spec, uint64_t size)
{
	uint8_t *want = xmalloc(UNIT), *got = xmalloc(UNIT);
	struct source *s;
	struct err e;

	assert_int_equal(source_open(spec, &s, &e), 0);
	assert_int_equal(s->size, size);
	for (size_t i = 0; i <= UNITS; i++) {
		size_t n = i == UNITS ? TAIL : UNIT;

		pattern(want, i);
		assert_int_equal(
		    source_read(s, got, n, (uint64_t)i * UNIT, &e), 0);
		assert_memory_equal(want, got, n);
	}
	source_close(s);
	free(want);
	free(got);
}

static void
threads_in_any_order_make_one_image(void **state)
{
	static const uint32_t clusters[] = { 0, 512, 4096, 65536, 131072,
		2 << 20 };
	struct sink *s;
	struct err e;

	(void)state;
	s = must_open("raw", 0, false);
	fill(s);
	assert_int_equal(sink_finish(s, &e), 0);
	sink_close(s);
	verify("raw:disk", SIZE);
	for (size_t i = 0; i < sizeof(clusters) / sizeof(clusters[0]); i++) {
		s = must_open("qcow2", clusters[i], true);
		fill(s);
		assert_int_equal(sink_finish(s, &e), 0);
		sink_close(s);
		verify("disk", (SIZE + 511) / 512 * 512);
		assert_int_equal(
		    system("qemu-img check -q -f qcow2 disk >check.out 2>&1"),
		    0);
		unlink("check.out");
	}
	assert_int_equal(unlink("disk"), 0);
}

static void
unfinished_leaves_nothing(void **state)
{
	struct sink *s = must_open("qcow2", 0, false);

	(void)state;
	assert_int_equal(access(".disk.restoring", F_OK), 0);
	fill(s);
	sink_close(s);
	assert_int_equal(access(".disk.restoring", F_OK), -1);
	assert_int_equal(access("disk", F_OK), -1);
	sink_close(NULL);
}

static int
open_code(const char *path, const char *format, uint64_t size,
    uint32_t cluster_size, bool force)
{
	struct sink_options o = { .path = path,
		.format = format,
		.size = size,
		.cluster_size = cluster_size,
		.force = force };
	struct sink *s;
	struct err e = { 0 };
	int rc = sink_open(&o, &s, &e);

	if (rc == 0)
		sink_close(s);
	else
		assert_true(e.code == rc && e.text[0] != 0);
	return rc;
}

static void
open_refuses_with_its_reason(void **state)
{
	(void)state;
	assert_int_equal(open_code("disk", "vmdk", 1, 0, false), ERR_INVAL);
	assert_int_equal(open_code("disk", "qcow2", 1, 100, false), ERR_INVAL);
	assert_int_equal(
	    open_code("disk", "qcow2", 1, 96 << 10, false), ERR_INVAL);
	assert_int_equal(
	    open_code("disk", "qcow2", 1, 4 << 20, false), ERR_INVAL);
	assert_int_equal(
	    open_code("disk", "qcow2", UINT64_C(1) << 40, 512, false),
	    ERR_LIMIT);
	assert_int_equal(
	    open_code("disk", "qcow2", UINT64_MAX, 0, false), ERR_LIMIT);
	assert_int_equal(
	    open_code("disk", "raw", UINT64_MAX, 0, false), ERR_NOSPC);
	assert_int_equal(open_code("none/disk", "raw", 1, 0, false), ERR_NOENT);
	assert_int_equal(open_code("none/", "raw", 1, 0, false), ERR_INVAL);
	assert_int_equal(open_code(".", "raw", 1, 0, true), ERR_INVAL);
	assert_int_equal(
	    open_code("disk", "qcow2", UINT64_C(1) << 46, 0, false), 0);
}

static void
existing_target_needs_force(void **state)
{
	struct sink *s;
	struct stat st;
	struct err e;

	(void)state;
	assert_int_equal(file_replace(AT_FDCWD, "disk", "old", 3, 0640), 0);
	assert_int_equal(chmod("disk", 0640), 0);
	assert_int_equal(open_code("disk", "raw", 1, 0, false), ERR_EXIST);
	assert_int_equal(symlink("disk", "link"), 0);
	assert_int_equal(open_code("link", "raw", 1, 0, false), ERR_EXIST);
	s = must_open("raw", 0, true);
	assert_int_equal(stat("disk", &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(sink_finish(s, &e), 0);
	sink_close(s);
	assert_int_equal(stat("link", &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mode & 0777, 0640);
	unlink("link");
	unlink("disk");
}

static void
target_made_meanwhile_is_kept(void **state)
{
	struct sink *s = must_open("raw", 0, false);
	struct stat st;
	struct err e;

	(void)state;
	assert_int_equal(file_replace(AT_FDCWD, "disk", "new", 3, 0600), 0);
	assert_int_equal(sink_finish(s, &e), ERR_EXIST);
	sink_close(s);
	assert_int_equal(stat("disk", &st), 0);
	assert_int_equal(st.st_size, 3);
	unlink("disk");
}

static void
second_restore_to_a_target_is_busy(void **state)
{
	struct sink *s = must_open("raw", 0, false);

	(void)state;
	assert_int_equal(open_code("disk", "qcow2", 1, 0, false), ERR_BUSY);
	assert_int_equal(access(".disk.restoring", F_OK), 0);
	sink_close(s);
	assert_int_equal(open_code("disk", "qcow2", 1, 0, false), 0);
}

static void
leftover_of_a_killed_restore_is_taken_over(void **state)
{
	struct sink *s;
	struct err e;

	(void)state;
	assert_int_equal(
	    file_replace(AT_FDCWD, ".disk.restoring", "junk", 4, 0600), 0);
	s = must_open("raw", 0, false);
	fill(s);
	assert_int_equal(sink_finish(s, &e), 0);
	sink_close(s);
	verify("raw:disk", SIZE);
	unlink("disk");
}

static void
source_in_use_by_a_sink_is_busy(void **state)
{
	struct sink *s;
	struct source *src;
	struct err e;

	(void)state;
	assert_int_equal(file_replace(AT_FDCWD, "disk", "old", 3, 0600), 0);
	assert_int_equal(source_open("disk", &src, &e), 0);
	assert_int_equal(open_code("disk", "raw", 1, 0, true), ERR_BUSY);
	source_close(src);
	s = must_open("raw", 0, true);
	assert_int_equal(source_open("disk", &src, &e), ERR_BUSY);
	sink_close(s);
	unlink("disk");
}

static void
write_beyond_the_end_is_refused(void **state)
{
	struct sink *s = must_open("raw", 0, false);
	struct err e;

	(void)state;
	assert_int_equal(sink_write(s, "x", 1, SIZE, &e), ERR_INVAL);
	assert_int_equal(sink_write(s, "x", 1, UINT64_MAX, &e), ERR_INVAL);
	assert_int_equal(sink_write(s, "x", SIZE_MAX, UNIT, &e), ERR_INVAL);
	sink_close(s);
}

/* A device that counts how often each unit was zeroed. */
struct model {
	uint8_t *zeroed;
	uint64_t size;
};

static int
model_zero(void *arg, uint64_t off, uint64_t len, struct err *e)
{
	struct model *m = arg;

	(void)e;
	assert_true(off % GAPS_UNIT == 0 && len > 0 && off + len <= m->size);
	assert_true(len % GAPS_UNIT == 0 || off + len == m->size);
	for (uint64_t i = off / GAPS_UNIT; i * GAPS_UNIT < off + len; i++)
		m->zeroed[i]++;
	return 0;
}

/*
 * Random writes into five and a bit regions: what is never written is zeroed
 * once, what is written is not zeroed after that.
 */
static void
gaps_with(size_t max_maps, unsigned seed)
{
	uint64_t size = UINT64_C(5) * GAPS_REGION + 3 * GAPS_UNIT + 10;
	size_t n = (size_t)(size / GAPS_UNIT + 1);
	uint8_t *written = xcalloc(n, 1), *before = xcalloc(n, 1);
	struct model m = { .zeroed = xcalloc(n, 1), .size = size };
	struct gaps *g = gaps_new(size, max_maps, model_zero, &m);
	struct err e;

	for (int i = 0; i < 20000; i++) {
		size_t at = (size_t)rand_r(&seed) % n;
		uint64_t off = (uint64_t)at * GAPS_UNIT;

		/* Region 2 is left alone, region 3 is written wholly. */
		if (off / GAPS_REGION == 2 || off / GAPS_REGION == 3)
			continue;
		written[at] = 1;
		assert_int_equal(
		    gaps_written(g, off,
			size - off < GAPS_UNIT ? size - off : GAPS_UNIT, &e),
		    0);
		before[at] = m.zeroed[at];
	}
	for (uint64_t off = UINT64_C(3) * GAPS_REGION;
	     off < UINT64_C(4) * GAPS_REGION; off += 4 << 20) {
		assert_int_equal(gaps_written(g, off, 4 << 20, &e), 0);
		memset(written + off / GAPS_UNIT, 1, (4 << 20) / GAPS_UNIT);
	}
	assert_int_equal(gaps_finish(g, &e), 0);
	for (size_t i = 0; i < n; i++) {
		if (written[i] != 0)
			assert_int_equal(m.zeroed[i], before[i]);
		else
			assert_int_equal(m.zeroed[i], 1);
	}
	gaps_free(g);
	free(m.zeroed);
	free(written);
	free(before);
}

static void
gaps_are_zeroed_and_nothing_else(void **state)
{
	(void)state;
	gaps_with(16, 1);
	gaps_with(2, 2); /* regions are settled while they are written */
	gaps_with(1, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_in_any_order_make_one_image),
		cmocka_unit_test(unfinished_leaves_nothing),
		cmocka_unit_test(open_refuses_with_its_reason),
		cmocka_unit_test(existing_target_needs_force),
		cmocka_unit_test(target_made_meanwhile_is_kept),
		cmocka_unit_test(second_restore_to_a_target_is_busy),
		cmocka_unit_test(leftover_of_a_killed_restore_is_taken_over),
		cmocka_unit_test(source_in_use_by_a_sink_is_busy),
		cmocka_unit_test(write_beyond_the_end_is_refused),
		cmocka_unit_test(gaps_are_zeroed_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
