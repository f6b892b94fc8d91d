/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/archive/disk_name.h"
#include "agent/archive/gunzip.h"
#include "agent/archive/nastree.h"
#include "proto/base/buf.h"

#define ONE "2026.03.01.02.00.05"
#define TWO "2026.03.02.02.00.05"

static char room[64];
static struct nastree *tree;
static struct err e;

static void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void
sh(const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	f = popen(line, "re");
	assert_non_null(f);
	assert_int_equal(pclose(f), 0);
}

static int
open_room(void **state)
{
	(void)state;
	strcpy(room, "/tmp/test_nastree.XXXXXX");
	assert_non_null(mkdtemp(room));
	setenv("TZ", "UTC", 1);
	tzset();
	sh("mkdir -p %s/i-1/" ONE " %s/i-1/" TWO " %s/i-2/" ONE, room, room,
	    room);
	sh("qemu-img create -q -f qcow2 %s/i-1/" ONE "/root.a.qcow2 1M", room);
	sh("qemu-img create -q -f qcow2 %s/i-2/" ONE "/root.a.qcow2 1M", room);
	return 0;
}

static int
close_room(void **state)
{
	(void)state;
	nastree_free(tree);
	tree = NULL;
	sh("rm -rf %s", room);
	return 0;
}

static void
scan(void)
{
	nastree_free(tree);
	tree = NULL;
	assert_int_equal(nastree_scan(room, &tree, &e), 0);
}

/* Opens the disk "root" of i-1 at TWO, which stands on ${backing}. */
static int
open_on(const char *backing)
{
	const struct nastree_instance *i;
	struct nastree_files f;
	struct source *s;
	int rc;

	sh("rm -f %s/i-1/" TWO "/*; qemu-img create -u -q -f qcow2 -F qcow2 "
	   "-b '%s' %s/i-1/" TWO "/root.a.qcow2 1M",
	    room, backing, room);
	scan();
	i = &tree->instance[0];
	assert_int_equal(nastree_look(tree, i, &i->point[1], &f, &e), 0);
	assert_int_equal(f.ndisks, 1);
	rc = nastree_disk(tree, i, &i->point[1], &f.disk[0], &s, &e);
	if (rc == 0)
		source_close(s);
	return rc;
}

static void
only_real_times_are_times(void **state)
{
	static const char *const bad[] = { "", "2026.03.01.02.00",
		"2026.03.01.02.00.05 ", "2026-03-01.02.00.05",
		"2026.13.01.00.00.00", "2026.00.01.00.00.00",
		"2026.04.31.00.00.00", "2026.02.29.00.00.00",
		"2026.01.01.24.00.00", "2026.01.01.00.60.00",
		"2026.01.01.00.00.60", "1969.01.01.00.00.00",
		"2026.03.01.02.00.0a" };
	uint64_t t;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(nastree_time(bad[i], &t), ERR_INVAL);
	assert_int_equal(nastree_time("2024.02.29.13.44.05", &t), 0);
	assert_int_equal(t, 1709214245);
	setenv("TZ", "Europe/Berlin", 1);
	tzset();
	assert_int_equal(nastree_time("2024.07.01.12.00.00", &t), 0);
	assert_int_equal(t, 1719828000);
	setenv("TZ", "UTC", 1);
	tzset();
	assert_true(nastree_is_point("/a/" ONE "/"));
	assert_true(nastree_is_point(ONE));
	assert_false(nastree_is_point("/a/x" ONE));
	assert_false(nastree_is_point("/a/" ONE "/b"));
}

static void
instances_and_points_come_in_order(void **state)
{
	(void)state;
	sh("mkdir -p %s/i-1/2026.01.01.00.00.00 %s/lost+found %s/i-3/notes "
	   "'%s/a b/" ONE "'; ln -s %s/i-1 %s/i-0; ln -s " ONE
	   " %s/i-1/2025.01.01.00.00.00",
	    room, room, room, room, room, room, room);
	scan();
	/* Its name is for who imports it to change. */
	assert_int_equal(tree->ninstances, 3);
	assert_string_equal(tree->instance[0].name, "a b");
	assert_string_equal(tree->instance[1].name, "i-1");
	assert_int_equal(tree->instance[1].npoints, 3);
	assert_string_equal(
	    tree->instance[1].point[0].when, "2026.01.01.00.00.00");
	assert_string_equal(tree->instance[1].point[2].when, TWO);
	assert_string_equal(tree->instance[2].name, "i-2");
	/* Links are not followed, but told. */
	assert_int_equal(tree->nskipped, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct nastree_skipped *s = &tree->skipped[i];

		assert_true(strcmp(s->instance, "i-0") == 0 ||
		    strcmp(s->when, "2025.01.01.00.00.00") == 0);
		assert_non_null(strstr(s->why, "is a link"));
	}
}

static void
a_backing_file_is_found_beside_and_by_another_mount_point(void **state)
{
	static const char *const good[] = { "../" ONE "/root.a.qcow2",
		"./../" ONE "//root.a.qcow2", "file:../" ONE "/root.a.qcow2",
		"../../i-1/" ONE "/root.a.qcow2",
		"/tmp/csbackup.x1Y2z/i-1/" ONE "/root.a.qcow2",
		"/i-1/" ONE "/root.a.qcow2" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		e.text[0] = 0;
		if (open_on(good[i]) != 0)
			fail_msg("%s: %s", good[i], e.text);
	}
}

static void
no_backing_file_is_looked_for_elsewhere(void **state)
{
	static const char *const bad[] = { "/etc/passwd", "../../../etc/passwd",
		"../../i-2/" ONE "/root.a.qcow2",
		"/tmp/csbackup.x/i-2/" ONE "/root.a.qcow2", "root.b.qcow2",
		"../../../../../../i-1/../i-2/" ONE "/root.a.qcow2",
		"nbd://localhost/x", "../" ONE, "../" ONE "/..",
		"../notes/root.a.qcow2", "../../../x/i-1/passwd/root.a.qcow2" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int rc = open_on(bad[i]);

		if (rc == 0)
			fail_msg("%s was taken", bad[i]);
		assert_true(rc == ERR_INVAL || rc == ERR_NOENT);
	}
	/* Of the right name, but a link. */
	sh("ln -s /etc/passwd %s/i-1/" ONE "/root.c.qcow2", room);
	assert_int_equal(open_on("../" ONE "/root.c.qcow2"), ERR_INVAL);
	assert_non_null(strstr(e.text, "not followed"));
	/* Itself. */
	assert_int_equal(open_on("root.a.qcow2"), ERR_CORRUPT);
}

static void
what_a_point_has_is_known_by_names(void **state)
{
	const struct nastree_instance *i;
	struct nastree_files f;

	(void)state;
	sh("cd %s/i-1/" TWO " && touch datadisk.b.qcow2 datadisk.a.qcow2 "
	   "0.root.x.qcow2 domain-config.xml dominfo.xml root.x.qcow2.tmp",
	    room);
	scan();
	i = &tree->instance[0];
	assert_int_equal(nastree_look(tree, i, &i->point[1], &f, &e), 0);
	assert_int_equal(f.ndisks, 3);
	assert_true(f.definition);
	assert_string_equal(f.disk[0].name, "root");
	assert_string_equal(f.disk[0].file, "0.root.x.qcow2");
	assert_string_equal(f.disk[1].name, "datadisk.a");
	sh("touch %s/i-1/" TWO "/root.y.qcow2", room);
	assert_int_equal(
	    nastree_look(tree, i, &i->point[1], &f, &e), ERR_INVAL);
	sh("rm %s/i-1/" TWO "/root.y.qcow2; touch %s/i-1/" TWO "/backup.xml",
	    room, room);
	assert_int_equal(
	    nastree_look(tree, i, &i->point[1], &f, &e), ERR_INVAL);
	assert_non_null(strstr(e.text, "not finished"));
}

static void
a_file_is_the_disk_that_it_is_called(void **state)
{
	static const struct {
		const char *file, *name;
		enum disk_name_kind kind;
	} c[] = {
		{ "vda.qcow2", "vda", DISK_NAME_QCOW2 },
		{ "/a/b/ns-web1-vdb.RAW", "vdb", DISK_NAME_RAW },
		{ "ns-web1-.raw", "ns-web1-", DISK_NAME_RAW },
		{ "x.img", "x", DISK_NAME_DISK },
		{ "web.xml", "web", DISK_NAME_DEFINITION },
		{ "a/.raw", "", DISK_NAME_OTHER },
		{ "a b.raw", "", DISK_NAME_RAW },
		{ "d41d8cd9", "d41d8cd9", DISK_NAME_OTHER },
		{ "a/", "", DISK_NAME_OTHER },
	};
	char name[NAME_PART_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		assert_int_equal(
		    disk_name("ns/web1", c[i].file, name, sizeof(name)),
		    c[i].kind);
		assert_string_equal(name, c[i].name);
	}
}

/* All that comes out; -1: it ended with an error. */
static ssize_t
unpacked(const char *file)
{
	struct gunzip *g;
	const void *data;
	ssize_t n, sum = 0;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	assert_true(fd != -1);
	g = gunzip_new(fd);
	while ((n = gunzip_read(g, &data)) > 0)
		sum += n;
	if (n < 0)
		assert_true(gunzip_error(g)[0] != 0);
	gunzip_free(g);
	close(fd);
	return n < 0 ? -1 : sum;
}

static void
gzip_is_unpacked_and_its_checksum_believed(void **state)
{
	char file[128];

	(void)state;
	sh("cd %s && head -c 700000 /dev/urandom >a && gzip -k a && cat a.gz "
	   "a.gz >two.gz && head -c 1024 /dev/zero >>two.gz && head -c 300000 "
	   "a.gz >cut.gz && gzip -c /dev/null >none.gz && : >empty && "
	   "head -c 699999 a.gz >/dev/null && cp a.gz sum.gz && printf 'zz' | "
	   "dd of=sum.gz bs=1 seek=$(($(stat -c %%s a.gz) - 8)) conv=notrunc "
	   "status=none && (cat a.gz; echo rubbish) >tail.gz",
	    room);
#define SUM(x) (snprintf(file, sizeof(file), "%s/%s", room, x), unpacked(file))
	assert_int_equal(SUM("a"), 700000);
	assert_int_equal(SUM("a.gz"), 700000);
	assert_int_equal(SUM("two.gz"), 1400000);
	assert_int_equal(SUM("none.gz"), 0);
	assert_int_equal(SUM("empty"), 0);
	assert_int_equal(SUM("cut.gz"), -1);
	assert_int_equal(SUM("sum.gz"), -1);
	assert_int_equal(SUM("tail.gz"), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_real_times_are_times),
		cmocka_unit_test_setup_teardown(
		    instances_and_points_come_in_order, open_room, close_room),
		cmocka_unit_test_setup_teardown(
		    a_backing_file_is_found_beside_and_by_another_mount_point,
		    open_room, close_room),
		cmocka_unit_test_setup_teardown(
		    no_backing_file_is_looked_for_elsewhere, open_room,
		    close_room),
		cmocka_unit_test_setup_teardown(
		    what_a_point_has_is_known_by_names, open_room, close_room),
		cmocka_unit_test(a_file_is_the_disk_that_it_is_called),
		cmocka_unit_test_setup_teardown(
		    gzip_is_unpacked_and_its_checksum_believed, open_room,
		    close_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
