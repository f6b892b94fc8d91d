/* SPDX-License-Identifier: Apache-2.0 */
/* Views of domains that end otherwise than was meant. */
#include <libnbd.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guest/guard.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "tests/unit/libvirt_guest.h"
#include "tests/unit/standstill.h"

static void
scratch_files_have_a_limit_that_the_guest_does_not_feel(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;

	(void)state;
	o.scratch_max = 2 << 20;
	o.ndisks = 1;
	/* What was never written costs nothing to keep. */
	room_write(room, "vda", 17, 0, 4 << 20);
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	OK(guest_watch(g, &e));
	room_write(room, "vda", 18, 0, 4 << 20);
	assert_int_equal(guest_watch(g, &e), ERR_NOSPC);
	assert_non_null(strstr(e.text, "2 MiB"));
	OK(guest_view_end(g, false, &e));
	libvirt_nothing_left("");
	OK(guest_view_begin(g, &o, &v, &e));
	assert_true(libvirt_view_reads(&v, 18));
	guest_close(g);

	g = libvirt_guest();
	o.scratch_dir = "/nowhere";
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOENT);
	guest_close(g);
}

static void
a_guest_that_ends_ends_its_view(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;

	(void)state;
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	room_power_off(room);
	assert_int_equal(guest_watch(g, &e), ERR_CLOSED);
	OK(guest_view_end(g, true, &e));
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_INVAL);
	guest_close(g);
	assert_int_equal(room_files(room->scratch), 0);
}

static void
a_job_of_others_is_left_alone(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g = libvirt_guest();
	char *job, what[200];
	struct guest_view v;

	(void)state;
	job = xasprintf("<domainbackup mode='pull'><server transport='unix' "
			"socket='%s/run/other'/><disks><disk name='vda'>"
			"<scratch file='%s/run/other.qcow2'/></disk></disks>"
			"</domainbackup>",
	    room->dir, room->dir);
	assert_int_equal(virDomainBackupBegin(room->dom, job, NULL, 0), 0);
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_BUSY);
	OK(guest_release(g, REPO, NULL, what, sizeof(what), &e));
	assert_string_equal(what, "");
	assert_true(room_job(room));
	assert_int_equal(virDomainAbortJob(room->dom), 0);
	while (room_job(room))
		poll(NULL, 0, 10);
	guest_close(g);
	free(job);
}

/* --- killed */

enum { AT_LOCK, AT_FROZEN, AT_VIEW, AT_READ, AT_END, STEPS };

static int
die(struct guest *g, void *arg, struct err *err)
{
	(void)g;
	(void)arg;
	(void)err;
	kill(getpid(), SIGKILL);
	return 0;
}

/* A process of its own, which is killed at that step. */
static void
run_until(int step)
{
	struct guest_view_options o = libvirt_options(TAG2, TAG1);
	pid_t pid = fork();
	struct guest_view v;
	struct guest *g;
	int status;

	if (pid == 0) {
		if (guest_open_libvirt(room->uri, "d", &g, &e) != 0 ||
		    guest_lock(g, &e) != 0)
			_exit(1);
		if (step == AT_LOCK)
			die(NULL, NULL, NULL);
		if (step == AT_FROZEN)
			o.frozen = die;
		if (guest_view_begin(g, &o, &v, &e) != 0)
			_exit(2);
		if (step == AT_READ)
			(void)libvirt_view_reads(&v, 0);
		if (step == AT_END) {
			/* After libvirt's part. */
			if (guest_view_end(g, true, &e) != 0)
				_exit(3);
		}
		die(NULL, NULL, NULL);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status))
		fail_msg("step %d ended with %d", step, WEXITSTATUS(status));
}

static void
a_run_that_is_killed_leaves_nothing(void **state)
{
	struct guest *g;
	char what[200];
	int st, reason;

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		libvirt_fresh(NULL);
		libvirt_backup(TAG1, NULL);
		room_write(room, "vda", 17, 0, CLUSTER);
		run_until(step);
		g = libvirt_guest_after_guard();
		OK(guest_release(g, REPO, step == AT_END ? TAG2 : TAG1, what,
		    sizeof(what), &e));
		libvirt_nothing_left(step == AT_END ? NAME(TAG2) : NAME(TAG1));
		virDomainGetState(room->dom, &st, &reason, 0);
		assert_int_equal(st, VIR_DOMAIN_RUNNING);
		guest_close(g);
	}
}

static void
what_is_left_without_a_guard_is_released_too(void **state)
{
	struct guest *g;
	char *job, *file, *dir, what[200];

	(void)state;
	libvirt_backup(TAG1, NULL);
	dir = xasprintf("%s/backstay-%s", room->scratch, room->uuid);
	assert_int_equal(mkdir(dir, 0777), 0);
	assert_int_equal(chmod(dir, 0777), 0);
	file = xasprintf("%s/backstay-vda.qcow2", dir);
	job = xasprintf("<domainbackup mode='pull'><server transport='unix' "
			"socket='%s/run/backstay-nbd'/><disks>"
			"<disk name='vda'><scratch file='%s'/></disk></disks>"
			"</domainbackup>",
	    room->dir, file);
	assert_int_equal(
	    virDomainBackupBegin(room->dom, job,
		"<domaincheckpoint><name>" NAME(
		    TAG2) "</name><disks>"
			  "<disk name='vda'/></disks></domaincheckpoint>",
		0),
	    0);
	g = libvirt_guest();
	OK(guest_release(g, REPO, TAG1, what, sizeof(what), &e));
	assert_non_null(strstr(what, "a backup job"));
	assert_non_null(strstr(what, "a checkpoint"));
	libvirt_nothing_left(NAME(TAG1));
	/* Of another repository: not ours to delete. */
	OK(guest_release(g, "ffffffff", NULL, what, sizeof(what), &e));
	assert_string_equal(what, "");
	libvirt_nothing_left(NAME(TAG1));
	guest_close(g);
	free(job);
	free(file);
	free(dir);
}

/* --- the daemon */

static void
a_daemon_that_starts_anew_ends_no_view(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	uint64_t end;

	(void)state;
	room_write(room, "vda", 17, 0, CLUSTER);
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	room_daemon_stop(room);
	assert_true(libvirt_view_reads(&v, 17));
	for (end = now_ms() + 2000; now_ms() < end; poll(NULL, 0, 100))
		OK(guest_watch(g, &e));
	room_daemon_start(room);
	room->dom = virDomainLookupByName(room->conn, "d");
	assert_non_null(room->dom);
	room_write(room, "vda", 99, 0, CLUSTER);
	assert_true(libvirt_view_reads(&v, 17));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	libvirt_nothing_left(NAME(TAG1));
}

static void
a_daemon_that_hangs_holds_nobody(void **state)
{
	struct guest_view_options o = libvirt_options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	uint64_t start, end;

	(void)state;
	room_write(room, "vda", 17, 0, CLUSTER);
	g = libvirt_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	standstill(room->daemon);
	start = now_ms();
	/* It has asked, and waited in vain, when some time has gone. */
	for (end = start + 8000; now_ms() < end; poll(NULL, 0, 100))
		OK(guest_watch(g, &e));
	assert_true(now_ms() - start < 16000);
	kill(room->daemon, SIGCONT);
	assert_true(libvirt_view_reads(&v, 17));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	libvirt_nothing_left(NAME(TAG1));
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    scratch_files_have_a_limit_that_the_guest_does_not_feel,
		    libvirt_fresh),
		cmocka_unit_test_setup(
		    a_guest_that_ends_ends_its_view, libvirt_fresh),
		cmocka_unit_test_setup(
		    a_job_of_others_is_left_alone, libvirt_fresh),
		cmocka_unit_test(a_run_that_is_killed_leaves_nothing),
		cmocka_unit_test_setup(
		    what_is_left_without_a_guard_is_released_too,
		    libvirt_fresh),
		cmocka_unit_test_setup(
		    a_daemon_that_starts_anew_ends_no_view, libvirt_fresh),
		cmocka_unit_test_setup(
		    a_daemon_that_hangs_holds_nobody, libvirt_fresh),
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
