/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a real, plain QEMU, and views of them. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/guest/scratch.h"
#include "proto/base/io.h"
#include "tests/unit/plain_guest.h"

#define BITMAP2 "backstay-" REPO "-" TAG2
#define BITMAP_OF_OTHERS "backstay-ffffffff-" TAG1

static void
the_guests_disks_are_told_apart(void **state)
{
	struct guest *g = plain_open(NULL);
	const struct guest_disk *d;
	const struct guest_file *f;
	const char *format;
	char path[96];
	unsigned n, i;
	json_t *args;

	(void)state;
	d = guest_disks(g, &n);
	assert_int_equal(n, 4);
	i = plain_disk(g, "vda");
	assert_int_equal(d[i].size, QEMU_VDA);
	assert_string_equal(d[i].format, "qcow2");
	snprintf(path, sizeof(path), "%s/vda.qcow2", qemu.dir);
	assert_string_equal(d[i].path, path);
	assert_false(d[i].cdrom);
	assert_false(d[i].readonly);
	i = plain_disk(g, "dc");
	assert_int_equal(d[i].size, QEMU_DC);
	assert_string_equal(d[i].format, "raw");
	i = plain_disk(g, "ro");
	assert_true(d[i].readonly);
	assert_false(d[i].cdrom);
	i = plain_disk(g, "ide1-cd0");
	assert_true(d[i].cdrom);
	assert_true(d[i].readonly);
	f = guest_files(g, &n);
	assert_int_equal(n, 1);
	assert_string_equal(f[0].kind, "nvram");
	snprintf(path, sizeof(path), "%s/nvram.raw", qemu.dir);
	assert_string_equal(f[0].path, path);
	assert_int_equal(guest_pid(g), qemu.pid);
	args = json_loads(guest_definition(g, &format), 0, NULL);
	assert_string_equal(format, "qemu-args");
	for (i = 0; i < json_array_size(args); i++)
		if (strcmp(json_string_value(json_array_get(args, i)),
			"virtio-blk-pci,drive=disk,id=vda") == 0)
			break;
	assert_true(i < json_array_size(args));
	json_decref(args);
	guest_close(g);
}

static void
a_view_is_a_point_in_time_of_all_disks(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	char names[512];
	struct guest_view v;

	(void)state;
	qemu_write(&qemu, VDA, 1, 0, 4 * K64);
	qemu_write(&qemu, DC, 2, K64, K64);
	plain_begin(g, &o, &v);
	assert_string_equal(v.consistency, "crash");
	assert_null(v.disk[0].dirty);
	assert_string_equal(v.disk[0].why, "");
	assert_int_equal(guest_watch(g, NULL), 0);
	qemu_write(&qemu, VDA, 9, 100, 3 * K64);
	qemu_write(&qemu, VDA, 9, 10 * K64, K64);
	qemu_write(&qemu, DC, 9, K64, K64);
	assert_int_equal(plain_byte(&v.disk[0], 0, 4 * K64), 1);
	assert_int_equal(plain_byte(&v.disk[0], 10 * K64, K64), 0);
	assert_int_equal(plain_byte(&v.disk[1], K64, K64), 2);
	assert_int_equal(guest_watch(g, NULL), 0);
	/* Scratch files have no names that could be left over. */
	assert_int_equal(plain_files(plain_scratch), 0);
	plain_end(g, true);
	assert_true(qemu_is_clean(&qemu));
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP1);
	guest_close(g);
}

static void
a_disk_that_is_only_read_has_a_view_too(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct guest_view v;

	(void)state;
	o.disk[0] = plain_disk(g, "ro");
	o.disk[1] = plain_disk(g, "vda");
	plain_begin(g, &o, &v);
	assert_int_equal(plain_byte(&v.disk[0], 0, K64), 0);
	plain_end(g, true);
	o.tag = TAG2;
	o.since = TAG1;
	plain_begin(g, &o, &v);
	assert_non_null(v.disk[0].dirty);
	assert_int_equal(plain_dirty(&v.disk[0], 1 << 20).dirty, 0);
	plain_end(g, true);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
a_second_view_shows_what_changed_since_the_first(void **state)
{
	struct guest *g = plain_backed_up();
	struct guest_view_options o = plain_options(g, TAG2, TAG1);
	char names[512];
	struct guest_view v;
	struct plain_map m;

	(void)state;
	qemu_write(&qemu, VDA, 3, 5 * K64 + 4096, 4096);
	plain_begin(g, &o, &v);
	assert_non_null(v.disk[0].dirty);
	assert_non_null(v.disk[1].dirty);
	/* After the point in time: of no concern to this view. */
	qemu_write(&qemu, VDA, 4, 20 * K64, K64);
	m = plain_dirty(&v.disk[0], QEMU_VDA);
	assert_int_equal(m.dirty, K64);
	assert_int_equal(m.first, 5 * K64);
	assert_int_equal(plain_byte(&v.disk[0], 5 * K64 + 4096, 4096), 3);
	m = plain_dirty(&v.disk[1], QEMU_DC);
	assert_int_equal(m.dirty, 0);
	/* Both records go on until it is known which is needed. */
	assert_string_equal(qemu_bitmaps(&qemu, "disk", names, sizeof(names)),
	    BITMAP1 " " BITMAP2 " backstay-view");
	plain_end(g, true);
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP2);
	/* And of the next it is. */
	o = plain_options(g, "3333333333333333", TAG2);
	plain_begin(g, &o, &v);
	m = plain_dirty(&v.disk[0], QEMU_VDA);
	assert_int_equal(m.dirty, K64);
	assert_int_equal(m.first, 20 * K64);
	plain_end(g, false);
	guest_close(g);
}

static void
a_view_that_failed_leaves_the_record_of_the_last(void **state)
{
	struct guest *g = plain_backed_up();
	struct guest_view_options o = plain_options(g, TAG2, TAG1);
	char names[512];
	struct guest_view v;
	struct plain_map m;

	(void)state;
	qemu_write(&qemu, VDA, 3, 0, K64);
	plain_begin(g, &o, &v);
	qemu_write(&qemu, VDA, 3, K64, K64);
	guest_close(g); /* ends it as one that failed */
	assert_true(qemu_is_clean(&qemu));
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP1);
	g = plain_open(NULL);
	plain_begin(g, &o, &v);
	m = plain_dirty(&v.disk[0], QEMU_VDA);
	assert_int_equal(m.dirty, 2 * K64);
	plain_end(g, false);
	guest_close(g);
}

static void
records_outlive_qemu_where_the_image_can_keep_them(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;

	(void)state;
	guest_close(plain_backed_up());
	qemu_end(&qemu);
	qemu_start(&qemu, false);
	g = plain_open(NULL);
	o = plain_options(g, TAG2, TAG1);
	qemu_write(&qemu, VDA, 3, 0, K64);
	plain_begin(g, &o, &v);
	assert_non_null(v.disk[0].dirty);
	assert_int_equal(plain_dirty(&v.disk[0], QEMU_VDA).dirty, K64);
	assert_null(v.disk[1].dirty); /* raw */
	assert_non_null(strstr(v.disk[1].why, "no record"));
	plain_end(g, false);
	guest_close(g);
}

static void
a_record_that_cannot_be_trusted_is_not_used(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;

	(void)state;
	guest_close(plain_backed_up());
	/* The image takes the record along when it is closed; opened for
	 * writing and not closed, it is in use for ever. */
	qemu_end(&qemu);
	qemu_start(&qemu, false);
	qemu_write(&qemu, VDA, 3, 0, K64);
	qemu_kill(&qemu);
	qemu_start(&qemu, false);
	g = plain_open(NULL);
	o = plain_options(g, TAG2, TAG1);
	plain_begin(g, &o, &v);
	assert_null(v.disk[0].dirty);
	assert_non_null(strstr(v.disk[0].why, "inconsistent"));
	plain_end(g, true); /* it goes all the same */
	guest_close(g);
	g = plain_open(NULL);
	o = plain_options(g, TAG2, "4444444444444444");
	json_decref(qemu_ask(&qemu, "block-dirty-bitmap-add",
	    json_pack("{s:s,s:s,s:i}", "node", "disk", "name",
		"backstay-" REPO "-4444444444444444", "granularity", 4096)));
	o.tag = "5555555555555555";
	plain_begin(g, &o, &v);
	assert_non_null(strstr(v.disk[0].why, "granularity"));
	plain_end(g, false);
	guest_close(g);
}

static void
release_keeps_the_record_that_is_asked_for_and_those_of_others(void **state)
{
	static const char *const all[] = { BITMAP1, BITMAP2, BITMAP_OF_OTHERS,
		"mine" };
	struct guest *g = plain_open(NULL);
	struct err e = { 0 };
	char names[512], what[400];

	(void)state;
	for (int i = 0; i < 4; i++)
		json_decref(qemu_ask(&qemu, "block-dirty-bitmap-add",
		    json_pack("{s:s,s:s}", "node", "disk", "name", all[i])));
	assert_int_equal(guest_lock(g, &e), 0);
	assert_int_equal(
	    guest_release(g, REPO, TAG1, what, sizeof(what), &e), 0);
	assert_string_equal(what, "a dirty bitmap");
	assert_string_equal(qemu_bitmaps(&qemu, "disk", names, sizeof(names)),
	    BITMAP1 " " BITMAP_OF_OTHERS " mine");
	assert_int_equal(
	    guest_release(g, REPO, TAG1, what, sizeof(what), &e), 0);
	assert_string_equal(what, "");
	guest_close(g);
}

static void
a_full_scratch_file_ends_the_view_and_not_the_guest(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;
	unsigned off = 0;
	char s[32];

	(void)state;
	o.scratch_max = 4 << 20;
	for (unsigned i = 0; i < QEMU_VDA; i += 1 << 20)
		qemu_write(&qemu, VDA, 1, i, 1 << 20);
	plain_begin(g, &o, &v);
	while (guest_watch(g, &e) == 0) {
		assert_in_range(off, 0, 6 << 20);
		qemu_write(&qemu, VDA, 2, off, 1 << 20);
		off += 1 << 20;
	}
	assert_int_equal(e.code, ERR_NOSPC);
	assert_in_range(off, 2 << 20, 5 << 20);
	plain_end(g, false);
	/* Nothing of the guest's was refused, nothing lost. */
	qemu_write(&qemu, VDA, 2, off, 1 << 20);
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "prelaunch");
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
a_view_needs_room_before_it_begins(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;
	char nowhere[96];

	(void)state;
	/* What the disks cannot take at all is not asked for. */
	o.scratch_max = UINT64_C(1) << 60;
	plain_begin(g, &o, &v);
	plain_end(g, false);
	assert_int_equal(
	    scratch_check(plain_scratch, UINT64_C(1) << 60, &e), ERR_NOSPC);
	snprintf(nowhere, sizeof(nowhere), "%s/nowhere", qemu.dir);
	o.scratch_dir = nowhere;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOENT);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
a_job_that_somebody_ended_is_noticed(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	uint64_t until = now_ms() + PATIENCE_MS;
	struct guest_view v;
	int rc;

	(void)state;
	plain_begin(g, &o, &v);
	json_decref(qemu_ask(&qemu, "block-job-cancel",
	    json_pack("{s:s}", "device", "backstay-job-1")));
	while ((rc = guest_watch(g, NULL)) == 0 && now_ms() < until)
		poll(NULL, 0, 10);
	assert_int_equal(rc, ERR_CLOSED);
	plain_end(g, false);
	plain_begin(g, &o, &v);
	qemu_kill(&qemu);
	assert_int_equal(guest_watch(g, NULL), ERR_CLOSED);
	assert_int_equal(guest_view_end(g, false, NULL), ERR_CLOSED);
	guest_close(g);
}

static void
the_nbd_server_of_somebody_else_is_left_alone(void **state)
{
	struct guest *g = plain_open(NULL);
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;

	(void)state;
	json_decref(qemu_ask(&qemu, "nbd-server-start",
	    json_pack("{s:{s:s,s:{s:s}}}", "addr", "type", "unix", "data",
		"path", "theirs.sock")));
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_BUSY);
	assert_non_null(strstr(e.text, "NBD server"));
	/* It runs on: it can be stopped. */
	json_decref(qemu_ask(&qemu, "nbd-server-stop", NULL));
	assert_true(qemu_is_clean(&qemu));
	plain_begin(g, &o, &v);
	plain_end(g, false);
	guest_close(g);
}

/* QEMU 7.2 of Debian 12 aborts when a client of such an export hangs up. */
static void
a_disk_whose_reader_could_end_the_guest_is_refused(void **state)
{
	struct guest_view_options o;
	struct err e = { 0 };
	struct guest_view v;
	struct guest *g;
	int rc;

	(void)state;
	qemu_end(&qemu);
	qemu.iothread = true;
	qemu_start(&qemu, true);
	g = plain_open(NULL);
	o = plain_options(g, TAG1, NULL);
	rc = guest_view_begin(g, &o, &v, &e);
	if (qmp_version(qemu.test) < 900) {
		assert_int_equal(rc, ERR_UNSUP);
		assert_non_null(strstr(e.text, "iothread"));
	} else {
		assert_int_equal(rc, 0);
		assert_int_equal(plain_byte(&v.disk[0], 0, K64), 0);
		assert_int_equal(plain_byte(&v.disk[0], 0, K64), 0);
		plain_end(g, false);
	}
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
two_at_once_get_in_nobodys_way(void **state)
{
	struct guest *g = plain_open(NULL);
	struct err e = { 0 };
	struct mark *m;

	(void)state;
	assert_int_equal(guest_lock(g, &e), 0);
	assert_int_equal(mark_open(g->ident, &m, &e), ERR_BUSY);
	assert_true(e.text[0] != 0);
	guest_close(g);
}

int
main(int argc, char **argv)
{
#define STILL(test)                                                            \
	cmocka_unit_test_setup_teardown(test, plain_setup_still, plain_teardown)
	const struct CMUnitTest tests[] = {
		STILL(the_guests_disks_are_told_apart),
		STILL(a_view_is_a_point_in_time_of_all_disks),
		STILL(a_disk_that_is_only_read_has_a_view_too),
		STILL(a_second_view_shows_what_changed_since_the_first),
		STILL(a_view_that_failed_leaves_the_record_of_the_last),
		STILL(records_outlive_qemu_where_the_image_can_keep_them),
		STILL(a_record_that_cannot_be_trusted_is_not_used),
		STILL(
		    release_keeps_the_record_that_is_asked_for_and_those_of_others),
		STILL(a_full_scratch_file_ends_the_view_and_not_the_guest),
		STILL(a_view_needs_room_before_it_begins),
		STILL(a_job_that_somebody_ended_is_noticed),
		STILL(the_nbd_server_of_somebody_else_is_left_alone),
		STILL(a_disk_whose_reader_could_end_the_guest_is_refused),
		STILL(two_at_once_get_in_nobodys_way),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
