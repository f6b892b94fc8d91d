/* SPDX-License-Identifier: Apache-2.0 */
#include <libnbd.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guest/domains.h"
#include "agent/guest/guard.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "tests/unit/libvirt_guest.h"

static void
it_knows_disks_files_and_definition(void **state)
{
	const struct guest_disk *d;
	const char *format;
	struct guest *g;
	unsigned n;

	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		if (on == 0)
			room_power_off(room);
		else
			room_start(room);
		g = libvirt_guest();
		assert_int_equal(
		    guest_state(g), on == 0 ? GUEST_OFF : GUEST_RUNNING);
		assert_int_equal(guest_pid(g), on == 0 ? 0 : room_qemu(room));
		d = guest_disks(g, &n);
		assert_int_equal(n, 3);
		assert_string_equal(d[VDA].name, "vda");
		assert_string_equal(d[VDA].format, "qcow2");
		assert_int_equal(d[VDA].size, ROOM_VDA);
		assert_non_null(strstr(d[VDA].path, "/vda.qcow2"));
		assert_false(d[VDA].cdrom || d[VDA].readonly);
		assert_string_equal(d[VDB].name, "vdb");
		assert_string_equal(d[VDB].format, "raw");
		assert_int_equal(d[VDB].size, ROOM_VDB);
		assert_true(d[SEED].cdrom && d[SEED].readonly);
		assert_non_null(
		    strstr(guest_definition(g, &format), "<name>d</name>"));
		assert_string_equal(format, "libvirt-xml");
		guest_close(g);
	}
}

static void
take_domain(void *arg, const struct domain *d)
{
	unsigned *n = arg;

	++*n;
	assert_string_equal(d->name, "d");
	assert_string_equal(d->uuid, room->uuid);
	assert_int_equal(d->state,
	    virDomainIsActive(room->dom) == 1 ? GUEST_RUNNING : GUEST_OFF);
	assert_int_equal(d->ndisks, 3);
	assert_string_equal(d->disk[VDA].name, "vda");
	assert_string_equal(d->disk[VDA].format, "qcow2");
	assert_non_null(strstr(d->disk[VDA].path, "/vda.qcow2"));
	assert_true(d->disk[SEED].cdrom);
}

static void
all_machines_are_listed_running_or_not(void **state)
{
	(void)state;
	for (unsigned on = 0; on < 2; on++) {
		unsigned n = 0;

		if (on == 0)
			room_power_off(room);
		else
			room_start(room);
		assert_int_equal(
		    domains_list(room->uri, take_domain, &n, &e), 0);
		assert_int_equal(n, 1);
	}
	assert_int_not_equal(
	    domains_list("qemu+unix:///session?socket=/nowhere/sock",
		take_domain, NULL, &e),
	    0);
	assert_non_null(strstr(e.text, "/nowhere/sock"));
}

static void
what_is_not_there_is_told(void **state)
{
	struct guest *g;

	(void)state;
	assert_int_equal(
	    guest_open_libvirt(room->uri, "none", &g, &e), ERR_NOENT);
	assert_non_null(strstr(e.text, "none"));
	assert_int_not_equal(
	    guest_open_libvirt(
		"qemu+unix:///session?socket=/nowhere/sock", "d", &g, &e),
	    0);
	assert_non_null(strstr(e.text, "/nowhere/sock"));
}

static void
a_view_stays_at_its_point_in_time(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	room_write(room, "vda", 17, 0, 1 << 20);
	room_write(room, "vdb", 18, 0, 1 << 20);
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	assert_string_equal(v.consistency, "crash");
	assert_non_null(strstr(v.note, "agent"));
	assert_null(v.disk[0].dirty);
	assert_string_equal(v.disk[0].why, "");
	room_write(room, "vda", 99, 0, 1 << 20);
	room_write(room, "vdb", 99, 0, 1 << 20);
	for (unsigned i = 0; i < 2; i++) {
		nbd = libvirt_reader(&v.disk[i]);
		assert_int_equal(
		    nbd_get_size(nbd), i == 0 ? ROOM_VDA : ROOM_VDB);
		assert_true(libvirt_reads(nbd, i == 0 ? 17 : 18, 0, 1 << 20));
		assert_true(libvirt_reads(nbd, 0, 1 << 20, 1 << 20));
		nbd_close(nbd);
	}
	OK(guest_watch(g, &e));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	libvirt_nothing_left(NAME(TAG1));
}

static void
what_changed_since_the_parent_is_told(void **state)
{
	struct guest_view_options o = libvirt_options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	room_write(room, "vda", 17, 0, 1 << 20);
	libvirt_backup(TAG1, NULL);
	room_write(room, "vda", 18, 4 << 20, CLUSTER);
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	assert_non_null(v.disk[0].dirty);
	assert_string_equal(v.disk[0].why, "");
	assert_null(v.disk[1].dirty);
	assert_non_null(strstr(v.disk[1].why, "qcow2"));
	room_write(room, "vda", 99, 0, ROOM_VDA / 4);
	nbd = libvirt_reader(&v.disk[0]);
	assert_int_equal(libvirt_dirty(nbd, 0, ROOM_VDA), CLUSTER);
	assert_int_equal(libvirt_dirty(nbd, 4 << 20, CLUSTER), CLUSTER);
	assert_true(libvirt_reads(nbd, 18, 4 << 20, CLUSTER));
	nbd_close(nbd);
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	libvirt_nothing_left(NAME(TAG2));
}

static void
after_a_backup_that_failed_the_parent_still_counts(void **state)
{
	struct guest_view_options o = libvirt_options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	libvirt_backup(TAG1, NULL);
	room_write(room, "vda", 17, 0, CLUSTER);
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	room_write(room, "vda", 18, 2 << 20, CLUSTER);
	OK(guest_view_end(g, false, &e));
	libvirt_nothing_left(NAME(TAG1));
	o.tag = TAG3;
	OK(guest_view_begin(g, &o, &v, &e));
	nbd = libvirt_reader(&v.disk[0]);
	assert_int_equal(libvirt_dirty(nbd, 0, ROOM_VDA), 2 * CLUSTER);
	nbd_close(nbd);
	guest_close(g); /* as one that failed */
	libvirt_nothing_left(NAME(TAG1));
}

static void
a_checkpoint_outlives_power_off_and_definition(void **state)
{
	struct guest_view_options o = libvirt_options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	for (unsigned again = 0; again < 2; again++) {
		libvirt_fresh(NULL);
		libvirt_backup(TAG1, NULL);
		room_write(room, "vda", 17, 0, CLUSTER);
		room_power_off(room);
		/* libvirt forgets the checkpoint; its bitmap is there. */
		if (again == 1) {
			room_undefine(room);
			room_define(room);
		}
		room_start(room);
		room_write(room, "vda", 18, 2 << 20, CLUSTER);
		g = libvirt_guest();
		OK(guest_view_begin(g, &o, &v, &e));
		assert_string_equal(v.disk[0].why, "");
		nbd = libvirt_reader(&v.disk[0]);
		assert_int_equal(libvirt_dirty(nbd, 0, ROOM_VDA), 2 * CLUSTER);
		nbd_close(nbd);
		OK(guest_view_end(g, true, &e));
		guest_close(g);
		libvirt_nothing_left(NAME(TAG2));
	}
}

static void
a_bitmap_that_is_gone_or_broken_means_to_read_all(void **state)
{
	struct guest_view_options o = libvirt_options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	char *bitmaps;

	(void)state;
	for (unsigned turn = 0; turn < 4; turn++) {
		libvirt_fresh(NULL);
		libvirt_backup(TAG1, NULL);
		/* So that it is in the image, and then in use. */
		if (turn % 2 == 1) {
			room_power_off(room);
			room_start(room);
		}
		room_kill(room);
		if (turn >= 2) {
			room_undefine(room);
			room_define(room);
		}
		room_start(room);
		g = libvirt_guest();
		OK(guest_view_begin(g, &o, &v, &e));
		assert_null(v.disk[0].dirty);
		assert_non_null(strstr(v.disk[0].why, "bitmap"));
		OK(guest_view_end(g, true, &e));
		guest_close(g);
		libvirt_nothing_left(NAME(TAG2));
		bitmaps = room_monitor(
		    room, "{\"execute\":\"query-named-block-nodes\"}");
		assert_null(strstr(bitmaps, NAME(TAG1)));
		assert_non_null(strstr(bitmaps, NAME(TAG2)));
		free(bitmaps);
	}
}

static int
is_paused(struct guest *g, void *arg, struct err *err)
{
	json_t *j;
	int rc;

	(void)arg;
	rc = guest_monitor(g, "query-status", NULL, -1, &j, err);
	if (rc != 0)
		return rc;
	assert_string_equal(
	    json_string_value(json_object_get(j, "status")), "paused");
	json_decref(j);
	return 0;
}

/* As saving RAM and device state leaves QEMU. */
static int
migrate_to_nowhere(struct guest *g, void *arg, struct err *err)
{
	FILE *null = fopen("/dev/null", "we");
	uint64_t end = now_ms() + WAIT_MS;
	const char *status = "";
	json_t *j = NULL;

	assert_int_equal(is_paused(g, arg, err), 0);
	OK(guest_monitor(g, "getfd", json_pack("{s:s}", "fdname", "m"),
	    fileno(null), NULL, &e));
	OK(guest_monitor(
	    g, "migrate", json_pack("{s:s}", "uri", "fd:m"), -1, NULL, &e));
	fclose(null);
	do {
		assert_true(now_ms() < end);
		json_decref(j);
		OK(guest_monitor(g, "query-migrate", NULL, -1, &j, &e));
		status = json_string_value(json_object_get(j, "status"));
		assert_string_not_equal(status, "failed");
	} while (strcmp(status, "completed") != 0);
	json_decref(j);
	return 0;
}

static void
the_point_in_time_is_taken_while_the_processors_stand_still(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	int st, reason;

	(void)state;
	room_write(room, "vda", 17, 0, CLUSTER);
	g = libvirt_guest();
	for (unsigned i = 0; i < 2; i++) {
		o.frozen = i == 0 ? is_paused : migrate_to_nowhere;
		OK(guest_view_begin(g, &o, &v, &e));
		assert_string_equal(v.consistency, "ram");
		assert_true(v.pause_us > 0);
		virDomainGetState(room->dom, &st, &reason, 0);
		assert_int_equal(st, VIR_DOMAIN_RUNNING);
		room_write(room, "vda", 18, 0, CLUSTER);
		assert_true(libvirt_view_reads(&v, 17));
		OK(guest_view_end(g, false, &e));
		room_write(room, "vda", 17, 0, CLUSTER);
	}
	assert_int_equal(
	    guest_monitor(g, "no-such", NULL, -1, NULL, &e), ERR_UNSUP);
	guest_close(g);
}

static void
it_was_paused_and_stays_so(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	int st, reason;

	(void)state;
	assert_int_equal(virDomainSuspend(room->dom), 0);
	g = libvirt_guest();
	assert_int_equal(guest_state(g), GUEST_PAUSED);
	OK(guest_view_begin(g, &o, &v, &e));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	virDomainGetState(room->dom, &st, &reason, 0);
	assert_int_equal(st, VIR_DOMAIN_PAUSED);
	libvirt_nothing_left(NAME(TAG1));
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    it_knows_disks_files_and_definition, libvirt_fresh),
		cmocka_unit_test_setup(
		    all_machines_are_listed_running_or_not, libvirt_fresh),
		cmocka_unit_test(what_is_not_there_is_told),
		cmocka_unit_test_setup(
		    a_view_stays_at_its_point_in_time, libvirt_fresh),
		cmocka_unit_test_setup(
		    what_changed_since_the_parent_is_told, libvirt_fresh),
		cmocka_unit_test_setup(
		    after_a_backup_that_failed_the_parent_still_counts,
		    libvirt_fresh),
		cmocka_unit_test(
		    a_checkpoint_outlives_power_off_and_definition),
		cmocka_unit_test(
		    a_bitmap_that_is_gone_or_broken_means_to_read_all),
		cmocka_unit_test_setup(
		    the_point_in_time_is_taken_while_the_processors_stand_still,
		    libvirt_fresh),
		cmocka_unit_test_setup(
		    it_was_paused_and_stays_so, libvirt_fresh),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(
	    tests, libvirt_room_setup, libvirt_room_teardown);
}
