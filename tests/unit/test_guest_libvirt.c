/* SPDX-License-Identifier: Apache-2.0 */
#include <libnbd.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/guest/guard.h"
#include "agent/guest/guest.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "tests/unit/libvirt_room.h"

#define REPO "0123abcd"
#define TAG1 "1111111111111111"
#define TAG2 "2222222222222222"
#define TAG3 "3333333333333333"
#define NAME(tag) "backstay-" REPO "-" tag

enum { VDA, VDB, SEED, KIB = 1024, CLUSTER = 64 * KIB, WAIT_MS = 60000 };

static struct room *room;
static struct err e;
static char text[400];

#define OK(call)                                                               \
	do {                                                                   \
		int ok_rc = (call);                                            \
		if (ok_rc != 0)                                                \
			fail_msg(                                              \
			    "%s: %s: %s", #call, err_name(ok_rc), e.text);     \
	} while (0)

static struct guest *
open_guest(void)
{
	struct guest *g;

	OK(guest_open_libvirt(room->uri, "d", &g, &e));
	OK(guest_lock(g, &e));
	return g;
}

/* The lock may be a guard's, for as long as it releases. */
static struct guest *
open_after_guard(void)
{
	uint64_t end = now_ms() + WAIT_MS;
	struct guest *g;
	int rc;

	OK(guest_open_libvirt(room->uri, "d", &g, &e));
	while ((rc = guest_lock(g, &e)) == ERR_BUSY) {
		assert_true(now_ms() < end);
		poll(NULL, 0, 20);
	}
	OK(rc);
	return g;
}

static struct guest_view_options
options(const char *tag, const char *since)
{
	struct guest_view_options o = { 0 };

	o.repo = REPO;
	o.tag = tag;
	o.since = since;
	o.quiesce = QUIESCE_AUTO;
	o.scratch_dir = room->scratch;
	o.scratch_max = 8 << 20;
	o.ndisks = 2;
	o.disk[0] = VDA;
	o.disk[1] = VDB;
	return o;
}

static struct nbd_handle *
reader(const struct guest_view_disk *d)
{
	struct nbd_handle *nbd = nbd_create();

	assert_non_null(nbd);
	nbd_set_export_name(nbd, d->export);
	if (d->dirty != NULL)
		nbd_add_meta_context(nbd, d->dirty);
	if (nbd_connect_unix(nbd, d->socket) == -1)
		fail_msg("%s: %s", d->socket, nbd_get_error());
	return nbd;
}

static bool
reads_as(struct nbd_handle *nbd, int byte, unsigned off, unsigned len)
{
	uint8_t *data = xmalloc(len);
	bool same = true;

	if (nbd_pread(nbd, data, len, off, 0) == -1)
		fail_msg("pread: %s", nbd_get_error());
	for (unsigned i = 0; i < len; i++)
		same = same && data[i] == byte;
	free(data);
	return same;
}

static int
add_dirty(void *arg, const char *context, uint64_t off, uint32_t *entries,
    size_t n, int *error)
{
	uint64_t *sum = arg;

	(void)off;
	(void)error;
	if (strncmp(context, "qemu:", 5) == 0)
		for (size_t i = 0; i + 1 < n; i += 2)
			if (entries[i + 1] & 1)
				*sum += entries[i];
	return 0;
}

/* Bytes that are dirty in so much from ${off} on. */
static uint64_t
dirty(struct nbd_handle *nbd, unsigned off, unsigned len)
{
	uint64_t sum = 0;

	if (nbd_block_status(nbd, len, off,
		(nbd_extent_callback){
		    .callback = add_dirty, .user_data = &sum },
		0) == -1)
		fail_msg("block status: %s", nbd_get_error());
	return sum;
}

static bool
view_reads(const struct guest_view *v, int byte)
{
	struct nbd_handle *nbd = reader(&v->disk[0]);
	bool same = reads_as(nbd, byte, 0, CLUSTER);

	nbd_close(nbd);
	return same;
}

static const char *
checkpoints(void)
{
	return room_checkpoints(room, text, sizeof(text));
}

static void
nothing_is_left(const char *names)
{
	assert_false(room_job(room));
	assert_string_equal(checkpoints(), names);
	assert_int_equal(room_files(room->scratch), 0);
}

/* One backup that commits. */
static void
backup(const char *tag, const char *since)
{
	struct guest_view_options o = options(tag, since);
	struct guest *g = open_guest();
	struct guest_view v;

	OK(guest_view_begin(g, &o, &v, &e));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
}

static int
fresh(void **state)
{
	(void)state;
	if (virDomainIsActive(room->dom) == 1)
		room_power_off(room);
	room_undefine(room);
	room_define(room);
	room_images(room);
	room_start(room);
	return 0;
}

static int
make_room(void **state)
{
	(void)state;
	room = room_open();
	return 0;
}

static int
remove_room(void **state)
{
	(void)state;
	room_close(room);
	return 0;
}

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
		g = open_guest();
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
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	room_write(room, "vda", 17, 0, 1 << 20);
	room_write(room, "vdb", 18, 0, 1 << 20);
	g = open_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	assert_string_equal(v.consistency, "crash");
	assert_non_null(strstr(v.note, "agent"));
	assert_null(v.disk[0].dirty);
	assert_string_equal(v.disk[0].why, "");
	room_write(room, "vda", 99, 0, 1 << 20);
	room_write(room, "vdb", 99, 0, 1 << 20);
	for (unsigned i = 0; i < 2; i++) {
		nbd = reader(&v.disk[i]);
		assert_int_equal(
		    nbd_get_size(nbd), i == 0 ? ROOM_VDA : ROOM_VDB);
		assert_true(reads_as(nbd, i == 0 ? 17 : 18, 0, 1 << 20));
		assert_true(reads_as(nbd, 0, 1 << 20, 1 << 20));
		nbd_close(nbd);
	}
	OK(guest_watch(g, &e));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	nothing_is_left(NAME(TAG1));
}

static void
what_changed_since_the_parent_is_told(void **state)
{
	struct guest_view_options o = options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	room_write(room, "vda", 17, 0, 1 << 20);
	backup(TAG1, NULL);
	room_write(room, "vda", 18, 4 << 20, CLUSTER);
	g = open_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	assert_non_null(v.disk[0].dirty);
	assert_string_equal(v.disk[0].why, "");
	assert_null(v.disk[1].dirty);
	assert_non_null(strstr(v.disk[1].why, "qcow2"));
	room_write(room, "vda", 99, 0, ROOM_VDA / 4);
	nbd = reader(&v.disk[0]);
	assert_int_equal(dirty(nbd, 0, ROOM_VDA), CLUSTER);
	assert_int_equal(dirty(nbd, 4 << 20, CLUSTER), CLUSTER);
	assert_true(reads_as(nbd, 18, 4 << 20, CLUSTER));
	nbd_close(nbd);
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	nothing_is_left(NAME(TAG2));
}

static void
after_a_backup_that_failed_the_parent_still_counts(void **state)
{
	struct guest_view_options o = options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	backup(TAG1, NULL);
	room_write(room, "vda", 17, 0, CLUSTER);
	g = open_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	room_write(room, "vda", 18, 2 << 20, CLUSTER);
	OK(guest_view_end(g, false, &e));
	nothing_is_left(NAME(TAG1));
	o.tag = TAG3;
	OK(guest_view_begin(g, &o, &v, &e));
	nbd = reader(&v.disk[0]);
	assert_int_equal(dirty(nbd, 0, ROOM_VDA), 2 * CLUSTER);
	nbd_close(nbd);
	guest_close(g); /* as one that failed */
	nothing_is_left(NAME(TAG1));
}

static void
a_checkpoint_outlives_power_off_and_definition(void **state)
{
	struct guest_view_options o = options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	struct nbd_handle *nbd;

	(void)state;
	for (unsigned again = 0; again < 2; again++) {
		fresh(NULL);
		backup(TAG1, NULL);
		room_write(room, "vda", 17, 0, CLUSTER);
		room_power_off(room);
		/* libvirt forgets the checkpoint; its bitmap is there. */
		if (again == 1) {
			room_undefine(room);
			room_define(room);
		}
		room_start(room);
		room_write(room, "vda", 18, 2 << 20, CLUSTER);
		g = open_guest();
		OK(guest_view_begin(g, &o, &v, &e));
		assert_string_equal(v.disk[0].why, "");
		nbd = reader(&v.disk[0]);
		assert_int_equal(dirty(nbd, 0, ROOM_VDA), 2 * CLUSTER);
		nbd_close(nbd);
		OK(guest_view_end(g, true, &e));
		guest_close(g);
		nothing_is_left(NAME(TAG2));
	}
}

static void
a_bitmap_that_is_gone_or_broken_means_to_read_all(void **state)
{
	struct guest_view_options o = options(TAG2, TAG1);
	struct guest *g;
	struct guest_view v;
	char *bitmaps;

	(void)state;
	for (unsigned turn = 0; turn < 4; turn++) {
		fresh(NULL);
		backup(TAG1, NULL);
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
		g = open_guest();
		OK(guest_view_begin(g, &o, &v, &e));
		assert_null(v.disk[0].dirty);
		assert_non_null(strstr(v.disk[0].why, "bitmap"));
		OK(guest_view_end(g, true, &e));
		guest_close(g);
		nothing_is_left(NAME(TAG2));
		bitmaps = room_monitor(
		    room, "{\"execute\":\"query-named-block-nodes\"}");
		assert_null(strstr(bitmaps, NAME(TAG1)));
		assert_non_null(strstr(bitmaps, NAME(TAG2)));
		free(bitmaps);
	}
}

static void
scratch_files_have_a_limit_that_the_guest_does_not_feel(void **state)
{
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;

	(void)state;
	o.scratch_max = 2 << 20;
	o.ndisks = 1;
	/* What was never written costs nothing to keep. */
	room_write(room, "vda", 17, 0, 4 << 20);
	g = open_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	OK(guest_watch(g, &e));
	room_write(room, "vda", 18, 0, 4 << 20);
	assert_int_equal(guest_watch(g, &e), ERR_NOSPC);
	assert_non_null(strstr(e.text, "2 MiB"));
	OK(guest_view_end(g, false, &e));
	nothing_is_left("");
	OK(guest_view_begin(g, &o, &v, &e));
	assert_true(view_reads(&v, 18));
	guest_close(g);

	g = open_guest();
	o.scratch_dir = "/nowhere";
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOENT);
	guest_close(g);
}

static void
a_guest_that_ends_ends_its_view(void **state)
{
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;

	(void)state;
	g = open_guest();
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
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g = open_guest();
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
	guest_frozen_fn *frozen[] = { is_paused, migrate_to_nowhere };
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	int st, reason;

	(void)state;
	room_write(room, "vda", 17, 0, CLUSTER);
	g = open_guest();
	for (unsigned i = 0; i < 2; i++) {
		o.frozen = frozen[i];
		OK(guest_view_begin(g, &o, &v, &e));
		assert_string_equal(v.consistency, "ram");
		assert_true(v.pause_us > 0);
		virDomainGetState(room->dom, &st, &reason, 0);
		assert_int_equal(st, VIR_DOMAIN_RUNNING);
		room_write(room, "vda", 18, 0, CLUSTER);
		assert_true(view_reads(&v, 17));
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
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	int st, reason;

	(void)state;
	assert_int_equal(virDomainSuspend(room->dom), 0);
	g = open_guest();
	assert_int_equal(guest_state(g), GUEST_PAUSED);
	OK(guest_view_begin(g, &o, &v, &e));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	virDomainGetState(room->dom, &st, &reason, 0);
	assert_int_equal(st, VIR_DOMAIN_PAUSED);
	nothing_is_left(NAME(TAG1));
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
	struct guest_view_options o = options(TAG2, TAG1);
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
			(void)view_reads(&v, 0);
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
		fresh(NULL);
		backup(TAG1, NULL);
		room_write(room, "vda", 17, 0, CLUSTER);
		run_until(step);
		g = open_after_guard();
		OK(guest_release(g, REPO, step == AT_END ? TAG2 : TAG1, what,
		    sizeof(what), &e));
		nothing_is_left(step == AT_END ? NAME(TAG2) : NAME(TAG1));
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
	backup(TAG1, NULL);
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
	g = open_guest();
	OK(guest_release(g, REPO, TAG1, what, sizeof(what), &e));
	assert_non_null(strstr(what, "a backup job"));
	assert_non_null(strstr(what, "a checkpoint"));
	nothing_is_left(NAME(TAG1));
	/* Of another repository: not ours to delete. */
	OK(guest_release(g, "ffffffff", NULL, what, sizeof(what), &e));
	assert_string_equal(what, "");
	nothing_is_left(NAME(TAG1));
	guest_close(g);
	free(job);
	free(file);
	free(dir);
}

/* --- the daemon */

static void
a_daemon_that_starts_anew_ends_no_view(void **state)
{
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	uint64_t end;

	(void)state;
	room_write(room, "vda", 17, 0, CLUSTER);
	g = open_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	room_daemon_stop(room);
	assert_true(view_reads(&v, 17));
	for (end = now_ms() + 2000; now_ms() < end; poll(NULL, 0, 100))
		OK(guest_watch(g, &e));
	room_daemon_start(room);
	room->dom = virDomainLookupByName(room->conn, "d");
	assert_non_null(room->dom);
	room_write(room, "vda", 99, 0, CLUSTER);
	assert_true(view_reads(&v, 17));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	nothing_is_left(NAME(TAG1));
}

static void
a_daemon_that_hangs_holds_nobody(void **state)
{
	struct guest_view_options o = options(TAG1, NULL);
	struct guest *g;
	struct guest_view v;
	uint64_t start, end;

	(void)state;
	room_write(room, "vda", 17, 0, CLUSTER);
	g = open_guest();
	OK(guest_view_begin(g, &o, &v, &e));
	kill(room->daemon, SIGSTOP);
	start = now_ms();
	/* It has asked, and waited in vain, when some time has gone. */
	for (end = start + 8000; now_ms() < end; poll(NULL, 0, 100))
		OK(guest_watch(g, &e));
	assert_true(now_ms() - start < 16000);
	kill(room->daemon, SIGCONT);
	assert_true(view_reads(&v, 17));
	OK(guest_view_end(g, true, &e));
	guest_close(g);
	nothing_is_left(NAME(TAG1));
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    it_knows_disks_files_and_definition, fresh),
		cmocka_unit_test(what_is_not_there_is_told),
		cmocka_unit_test_setup(
		    a_view_stays_at_its_point_in_time, fresh),
		cmocka_unit_test_setup(
		    what_changed_since_the_parent_is_told, fresh),
		cmocka_unit_test_setup(
		    after_a_backup_that_failed_the_parent_still_counts, fresh),
		cmocka_unit_test(
		    a_checkpoint_outlives_power_off_and_definition),
		cmocka_unit_test(
		    a_bitmap_that_is_gone_or_broken_means_to_read_all),
		cmocka_unit_test_setup(
		    scratch_files_have_a_limit_that_the_guest_does_not_feel,
		    fresh),
		cmocka_unit_test_setup(a_guest_that_ends_ends_its_view, fresh),
		cmocka_unit_test_setup(a_job_of_others_is_left_alone, fresh),
		cmocka_unit_test_setup(
		    the_point_in_time_is_taken_while_the_processors_stand_still,
		    fresh),
		cmocka_unit_test_setup(it_was_paused_and_stays_so, fresh),
		cmocka_unit_test(a_run_that_is_killed_leaves_nothing),
		cmocka_unit_test_setup(
		    what_is_left_without_a_guard_is_released_too, fresh),
		cmocka_unit_test_setup(
		    a_daemon_that_starts_anew_ends_no_view, fresh),
		cmocka_unit_test_setup(a_daemon_that_hangs_holds_nobody, fresh),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, make_room, remove_room);
}
