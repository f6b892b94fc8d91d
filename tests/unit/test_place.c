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
#include <unistd.h>

#include "agent/image/origin.h"
#include "agent/pipeline/restore_place.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { LEN = 1 << 20 };

static char dir[] = "/tmp/test_place.XXXXXX";
static struct err e;
static struct restore_result result;
static struct manifest *m = &result.manifest;

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
	return chdir("/") == -1 || rmdir(dir) == -1;
}

static void
make_file(const char *path, const void *data, size_t len, off_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd != -1);
	assert_int_equal(pwrite_full(fd, data, len, 0), 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void
make_raw(const char *path, off_t size)
{
	make_file(path, "boot", 4, size);
}

/* As far as anybody looks. */
static void
make_qcow2(const char *path, uint8_t mib)
{
	uint8_t head[512] = "QFI\xfb";

	head[7] = 3;
	head[24 + 5] = (uint8_t)(mib << 4); /* MiB are 2^20 */
	make_file(path, head, sizeof(head), 1 << 16);
}

/* A backup of disk "vda", ${path} of that format. */
static void
backed_up(const char *path, const char *format, uint64_t size)
{
	struct manifest_volume *v = &m->volume[0];
	struct origin o;

	memset(&result, 0, sizeof(result));
	m->nvolumes = 1;
	memcpy(m->vm, "web1", 5);
	memcpy(v->name, "vda", 4);
	memcpy(v->kind, "disk", 5);
	memcpy(v->format, format, strlen(format) + 1);
	v->size = size;
	if (path != NULL) {
		assert_true(origin_find(path, &o));
		assert_int_equal(
		    manifest_set_origin(m, v, o.path, o.identity, &e), 0);
	}
}

/* What a restore with these options says of what is there. */
static int
check(struct restore_options *o)
{
	struct restore_place *p = &result.place[0];
	struct sink_options so = {
		.size = m->volume[0].size, .force = true, .held = true
	};
	struct sink *s;
	int rc;

	o->swap = true;
	o->backup = "web1@latest";
	result.nplaces = 0;
	e = (struct err){ 0 };
	rc = places_choose(o, &result, &e);
	if (rc != 0)
		return rc;
	so.path = p->path;
	so.format = p->format;
	rc = sink_open(&so, &s, &e);
	if (rc != 0)
		return rc;
	rc = places_check(o, m, p, s, &e);
	sink_close(s);
	return rc;
}

static int
check_plain(void)
{
	struct restore_options o = { 0 };

	return check(&o);
}

static int
check_named(const char *path, bool is_new)
{
	const struct restore_disk d = { "vda", path, NULL };
	struct restore_options o = {
		.disk = &d, .ndisks = 1, .is_new = is_new, .all_named = is_new
	};

	return check(&o);
}

static void
the_disk_that_was_backed_up_is_taken(void **state)
{
	(void)state;
	make_raw("a.raw", LEN);
	backed_up("a.raw", "raw", LEN);
	assert_int_equal(check_plain(), 0);
	assert_true(result.place[0].was_there);
	make_qcow2("b.qcow2", 1);
	backed_up("b.qcow2", "qcow2", LEN);
	assert_int_equal(check_plain(), 0);
	unlink("a.raw");
	unlink("b.qcow2");
}

static void
another_file_of_that_name_is_refused_and_taken_when_named(void **state)
{
	char path[100];

	(void)state;
	make_raw("a.raw", LEN);
	backed_up("a.raw", "raw", LEN);
	make_raw("new", LEN);
	assert_int_equal(rename("new", "a.raw"), 0);
	assert_int_equal(check_plain(), ERR_EXIST);
	assert_non_null(strstr(e.text, "--disk vda="));
	snprintf(path, sizeof(path), "%s/a.raw", dir);
	assert_int_equal(check_named(path, false), 0);
	unlink("a.raw");
}

static void
where_it_was_may_be_no_place_of_the_machine(void **state)
{
	char path[100];
	const char *own[] = { "/nonexistent", path };
	struct restore_options o = { .own = own, .nown = 1 };

	(void)state;
	snprintf(path, sizeof(path), "%s/a.raw", dir);
	make_raw("a.raw", LEN);
	backed_up(path, "raw", LEN);
	assert_int_equal(check(&o), ERR_DENIED);
	o.nown = 2;
	assert_int_equal(check(&o), 0);
	unlink("a.raw");
	o.nown = 1;
	assert_int_equal(check(&o), ERR_DENIED);
	assert_int_equal(access(path, F_OK), -1);
}

static void
another_size_or_format_is_refused(void **state)
{
	(void)state;
	make_raw("a.raw", LEN);
	backed_up("a.raw", "raw", LEN);
	assert_int_equal(truncate("a.raw", LEN + 512), 0);
	assert_int_equal(check_plain(), ERR_EXIST);
	assert_non_null(strstr(e.text, "bytes"));
	backed_up("a.raw", "qcow2", LEN + 512);
	assert_int_equal(check_plain(), ERR_EXIST);
	assert_non_null(strstr(e.text, "it is raw, and was qcow2"));
	make_qcow2("a.raw", 2);
	backed_up("a.raw", "qcow2", LEN);
	assert_int_equal(check_plain(), ERR_EXIST);
	unlink("a.raw");
}

/* A guest writes what it likes to a raw disk of its own. */
static void
a_raw_disk_that_looks_like_an_image_is_raw(void **state)
{
	(void)state;
	make_qcow2("a.raw", 1);
	backed_up("a.raw", "raw", 1 << 16);
	assert_int_equal(check_plain(), 0);
	unlink("a.raw");
}

static void
a_backup_that_does_not_say_where_needs_a_name(void **state)
{
	(void)state;
	make_raw("a.raw", LEN);
	backed_up(NULL, "raw", LEN);
	assert_int_equal(check_plain(), ERR_NOENT);
	assert_non_null(strstr(e.text, "--disk vda=PATH"));
	assert_int_equal(check_named("a.raw", false), 0);
	unlink("a.raw");
}

static void
where_nothing_is_there_is_nothing_to_lose(void **state)
{
	(void)state;
	make_raw("a.raw", LEN);
	backed_up("a.raw", "raw", LEN);
	unlink("a.raw");
	assert_int_equal(check_plain(), 0);
	assert_false(result.place[0].was_there);
}

static void
a_vm_by_a_new_name_replaces_nothing(void **state)
{
	struct restore_options o = { .is_new = true, .all_named = true };

	(void)state;
	make_raw("a.raw", LEN);
	backed_up("a.raw", "raw", LEN);
	assert_int_equal(check(&o), ERR_INVAL);
	assert_int_equal(check_named("a.raw", true), ERR_EXIST);
	assert_int_equal(check_named("b.raw", true), 0);
	unlink("a.raw");
}

static void
a_format_that_is_not_written_needs_a_name(void **state)
{
	(void)state;
	make_raw("a.raw", LEN);
	backed_up("a.raw", "vmdk", LEN);
	assert_int_equal(check_plain(), ERR_UNSUP);
	unlink("a.raw");
}

static void
identity(const char *path, char *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd != -1);
	origin_identity(fd, out);
	close(fd);
}

static void
a_disk_keeps_its_identity_when_it_is_renamed_and_a_copy_has_its_own(
    void **state)
{
	char a[MANIFEST_IDENTITY_MAX + 1], b[MANIFEST_IDENTITY_MAX + 1];
	struct buf text = { 0 };

	(void)state;
	make_raw("a.raw", LEN);
	identity("a.raw", a);
	assert_non_null(strstr(a, "file:"));
	assert_int_equal(rename("a.raw", "b.raw"), 0);
	identity("b.raw", b);
	assert_string_equal(a, b);
	assert_int_equal(file_read(AT_FDCWD, "b.raw", 2 * LEN, &text), 0);
	make_file("a.raw", text.data, text.len, LEN);
	identity("a.raw", b);
	assert_string_not_equal(a, b);
	buf_fini(&text);
	unlink("a.raw");
	unlink("b.raw");
}

static void
what_takes_a_disk_s_place_has_its_identity(void **state)
{
	char is[MANIFEST_IDENTITY_MAX + 1], own[MANIFEST_IDENTITY_MAX + 1];
	int fd;

	(void)state;
	make_raw("a.raw", LEN);
	identity("a.raw", own);
	fd = open("a.raw", O_RDWR | O_CLOEXEC);
	origin_inherit(fd, "file:1:2.000000003");
	origin_identity(fd, is);
	/* Where there are no attributes it is a disk of its own. */
	if (strcmp(is, own) != 0)
		assert_string_equal(is, "file:1:2.000000003");
	origin_inherit(fd, "no identity has blanks");
	origin_identity(fd, own);
	assert_string_equal(is, own);
	close(fd);
	unlink("a.raw");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_disk_that_was_backed_up_is_taken),
		cmocka_unit_test(
		    another_file_of_that_name_is_refused_and_taken_when_named),
		cmocka_unit_test(where_it_was_may_be_no_place_of_the_machine),
		cmocka_unit_test(another_size_or_format_is_refused),
		cmocka_unit_test(a_raw_disk_that_looks_like_an_image_is_raw),
		cmocka_unit_test(a_backup_that_does_not_say_where_needs_a_name),
		cmocka_unit_test(where_nothing_is_there_is_nothing_to_lose),
		cmocka_unit_test(a_vm_by_a_new_name_replaces_nothing),
		cmocka_unit_test(a_format_that_is_not_written_needs_a_name),
		cmocka_unit_test(
		    a_disk_keeps_its_identity_when_it_is_renamed_and_a_copy_has_its_own),
		cmocka_unit_test(what_takes_a_disk_s_place_has_its_identity),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
