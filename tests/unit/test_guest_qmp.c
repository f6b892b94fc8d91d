/* SPDX-License-Identifier: Apache-2.0 */
/* Views of a real, plain QEMU; and what is left of those that were killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/guest/guest_impl.h"
#include "agent/guest/scratch.h"
#include "proto/base/io.h"
#include "tests/unit/qemu_fixture.h"

enum { PATIENCE_MS = 30000, K64 = 64 << 10 };

#define REPO "0123abcd"
#define TAG1 "1111111111111111"
#define TAG2 "2222222222222222"
#define BITMAP1 "backstay-" REPO "-" TAG1
#define BITMAP2 "backstay-" REPO "-" TAG2
#define BITMAP_OF_OTHERS "backstay-ffffffff-" TAG1

#define VDA "/machine/peripheral/vda/virtio-backend"
#define DC "/machine/peripheral-anon/device[0]/virtio-backend"

static struct qemu qemu;
static char *scratch;

static int
setup_of(bool running)
{
	qemu_folder(&qemu);
	scratch = xasprintf("%s/scratch", qemu.dir);
	assert_int_equal(mkdir(scratch, 0700), 0);
	qemu_start(&qemu, running);
	return 0;
}

static int
setup_still(void **state)
{
	(void)state;
	return setup_of(false);
}

static int
setup_running(void **state)
{
	(void)state;
	return setup_of(true);
}

static int
teardown(void **state)
{
	(void)state;
	qemu_folder_remove(&qemu);
	free(scratch);
	return 0;
}

static struct guest *
open_with(const char *ga)
{
	struct err e = { 0 };
	struct guest *g;

	if (guest_open_qmp(qemu.qmp, ga, &g, &e) != 0)
		fail_msg("%s", e.text);
	return g;
}

static unsigned
disk_number(const struct guest *g, const char *name)
{
	const struct guest_disk *d;
	unsigned n;

	d = guest_disks(g, &n);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(d[i].name, name) == 0)
			return i;
	fail_msg("there is no disk %s", name);
	return 0;
}

static struct guest_view_options
options(const struct guest *g, const char *tag, const char *since)
{
	struct guest_view_options o = { .repo = REPO,
		.tag = tag,
		.since = since,
		.quiesce = QUIESCE_NO,
		.scratch_dir = scratch,
		.scratch_max = 64 << 20,
		.ndisks = 2 };

	o.disk[0] = disk_number(g, "vda");
	o.disk[1] = disk_number(g, "dc");
	return o;
}

static void
begin(struct guest *g, const struct guest_view_options *o, struct guest_view *v)
{
	struct err e = { 0 };

	if (guest_view_begin(g, o, v, &e) != 0)
		fail_msg("%s", e.text);
}

static void
end(struct guest *g, bool keep)
{
	struct err e = { 0 };

	if (guest_view_end(g, keep, &e) != 0)
		fail_msg("%s", e.text);
}

static struct nbd_handle *
connect_to(const struct guest_view_disk *d)
{
	struct nbd_handle *h = nbd_create();

	assert_non_null(h);
	if (d->dirty != NULL)
		assert_int_equal(nbd_add_meta_context(h, d->dirty), 0);
	assert_int_equal(nbd_set_export_name(h, d->export), 0);
	if (nbd_connect_unix(h, d->socket) == -1)
		fail_msg("%s", nbd_get_error());
	if (d->dirty != NULL)
		assert_int_equal(nbd_can_meta_context(h, d->dirty), 1);
	return h;
}

/* The byte of which ${len} bytes at ${off} consist. */
static int
byte_at(struct nbd_handle *h, unsigned off, unsigned len)
{
	uint8_t *data = malloc(len);
	int byte;

	if (nbd_pread(h, data, len, off, 0) == -1)
		fail_msg("%s", nbd_get_error());
	byte = data[0];
	for (unsigned i = 0; i < len; i++)
		assert_int_equal(data[i], byte);
	free(data);
	return byte;
}

static int
view_byte(const struct guest_view_disk *d, unsigned off, unsigned len)
{
	struct nbd_handle *h = connect_to(d);
	int byte = byte_at(h, off, len);

	nbd_close(h);
	return byte;
}

struct map {
	uint64_t dirty;
	uint64_t first;
};

static int
map_extent(void *arg, const char *context, uint64_t off, uint32_t *entry,
    size_t n, int *error)
{
	struct map *m = arg;

	(void)context;
	(void)error;
	for (size_t i = 0; i + 1 < n; i += 2) {
		if (entry[i + 1] & 1) {
			if (m->dirty == 0)
				m->first = off;
			m->dirty += entry[i];
		}
		off += entry[i];
	}
	return 0;
}

static struct map
dirty_map(const struct guest_view_disk *d, unsigned size)
{
	struct nbd_handle *h = connect_to(d);
	struct map m = { 0 };

	assert_int_equal(nbd_block_status(h, size, 0,
			     (nbd_extent_callback){
				 .callback = map_extent, .user_data = &m },
			     0),
	    0);
	nbd_close(h);
	return m;
}

static unsigned
files_in(const char *dir)
{
	char command[256];
	FILE *f;
	unsigned n = 99;

	snprintf(command, sizeof(command), "ls -A %s | wc -l", dir);
	f = popen(command, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

static void
the_guests_disks_are_told_apart(void **state)
{
	struct guest *g = open_with(NULL);
	const struct guest_disk *d;
	const struct guest_file *f;
	const char *format;
	char path[96];
	unsigned n, i;
	json_t *args;

	(void)state;
	d = guest_disks(g, &n);
	assert_int_equal(n, 4);
	i = disk_number(g, "vda");
	assert_int_equal(d[i].size, QEMU_VDA);
	assert_string_equal(d[i].format, "qcow2");
	snprintf(path, sizeof(path), "%s/vda.qcow2", qemu.dir);
	assert_string_equal(d[i].path, path);
	assert_false(d[i].cdrom);
	assert_false(d[i].readonly);
	i = disk_number(g, "dc");
	assert_int_equal(d[i].size, QEMU_DC);
	assert_string_equal(d[i].format, "raw");
	i = disk_number(g, "ro");
	assert_true(d[i].readonly);
	assert_false(d[i].cdrom);
	i = disk_number(g, "ide1-cd0");
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
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	char names[512];
	struct guest_view v;

	(void)state;
	qemu_write(&qemu, VDA, 1, 0, 4 * K64);
	qemu_write(&qemu, DC, 2, K64, K64);
	begin(g, &o, &v);
	assert_string_equal(v.consistency, "crash");
	assert_null(v.disk[0].dirty);
	assert_string_equal(v.disk[0].why, "");
	assert_int_equal(guest_watch(g, NULL), 0);
	qemu_write(&qemu, VDA, 9, 100, 3 * K64);
	qemu_write(&qemu, VDA, 9, 10 * K64, K64);
	qemu_write(&qemu, DC, 9, K64, K64);
	assert_int_equal(view_byte(&v.disk[0], 0, 4 * K64), 1);
	assert_int_equal(view_byte(&v.disk[0], 10 * K64, K64), 0);
	assert_int_equal(view_byte(&v.disk[1], K64, K64), 2);
	assert_int_equal(guest_watch(g, NULL), 0);
	/* Scratch files have no names that could be left over. */
	assert_int_equal(files_in(scratch), 0);
	end(g, true);
	assert_true(qemu_is_clean(&qemu));
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP1);
	guest_close(g);
}

static void
a_disk_that_is_only_read_has_a_view_too(void **state)
{
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	struct guest_view v;

	(void)state;
	o.disk[0] = disk_number(g, "ro");
	o.disk[1] = disk_number(g, "vda");
	begin(g, &o, &v);
	assert_int_equal(view_byte(&v.disk[0], 0, K64), 0);
	end(g, true);
	o.tag = TAG2;
	o.since = TAG1;
	begin(g, &o, &v);
	assert_non_null(v.disk[0].dirty);
	assert_int_equal(dirty_map(&v.disk[0], 1 << 20).dirty, 0);
	end(g, true);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

/* As after a committed backup of tag 1. */
static struct guest *
backed_up(void)
{
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	struct guest_view v;

	begin(g, &o, &v);
	end(g, true);
	return g;
}

static void
a_second_view_shows_what_changed_since_the_first(void **state)
{
	struct guest *g = backed_up();
	struct guest_view_options o = options(g, TAG2, TAG1);
	char names[512];
	struct guest_view v;
	struct map m;

	(void)state;
	qemu_write(&qemu, VDA, 3, 5 * K64 + 4096, 4096);
	begin(g, &o, &v);
	assert_non_null(v.disk[0].dirty);
	assert_non_null(v.disk[1].dirty);
	/* After the point in time: of no concern to this view. */
	qemu_write(&qemu, VDA, 4, 20 * K64, K64);
	m = dirty_map(&v.disk[0], QEMU_VDA);
	assert_int_equal(m.dirty, K64);
	assert_int_equal(m.first, 5 * K64);
	assert_int_equal(view_byte(&v.disk[0], 5 * K64 + 4096, 4096), 3);
	m = dirty_map(&v.disk[1], QEMU_DC);
	assert_int_equal(m.dirty, 0);
	/* Both records go on until it is known which is needed. */
	assert_string_equal(qemu_bitmaps(&qemu, "disk", names, sizeof(names)),
	    BITMAP1 " " BITMAP2 " backstay-view");
	end(g, true);
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP2);
	/* And of the next it is. */
	o = options(g, "3333333333333333", TAG2);
	begin(g, &o, &v);
	m = dirty_map(&v.disk[0], QEMU_VDA);
	assert_int_equal(m.dirty, K64);
	assert_int_equal(m.first, 20 * K64);
	end(g, false);
	guest_close(g);
}

static void
a_view_that_failed_leaves_the_record_of_the_last(void **state)
{
	struct guest *g = backed_up();
	struct guest_view_options o = options(g, TAG2, TAG1);
	char names[512];
	struct guest_view v;
	struct map m;

	(void)state;
	qemu_write(&qemu, VDA, 3, 0, K64);
	begin(g, &o, &v);
	qemu_write(&qemu, VDA, 3, K64, K64);
	guest_close(g); /* ends it as one that failed */
	assert_true(qemu_is_clean(&qemu));
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP1);
	g = open_with(NULL);
	begin(g, &o, &v);
	m = dirty_map(&v.disk[0], QEMU_VDA);
	assert_int_equal(m.dirty, 2 * K64);
	end(g, false);
	guest_close(g);
}

static void
records_outlive_qemu_where_the_image_can_keep_them(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;

	(void)state;
	guest_close(backed_up());
	qemu_end(&qemu);
	qemu_start(&qemu, false);
	g = open_with(NULL);
	o = options(g, TAG2, TAG1);
	qemu_write(&qemu, VDA, 3, 0, K64);
	begin(g, &o, &v);
	assert_non_null(v.disk[0].dirty);
	assert_int_equal(dirty_map(&v.disk[0], QEMU_VDA).dirty, K64);
	assert_null(v.disk[1].dirty); /* raw */
	assert_non_null(strstr(v.disk[1].why, "no record"));
	end(g, false);
	guest_close(g);
}

static void
a_record_that_cannot_be_trusted_is_not_used(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;

	(void)state;
	guest_close(backed_up());
	/* The image takes the record along when it is closed; opened for
	 * writing and not closed, it is in use for ever. */
	qemu_end(&qemu);
	qemu_start(&qemu, false);
	qemu_write(&qemu, VDA, 3, 0, K64);
	qemu_kill(&qemu);
	qemu_start(&qemu, false);
	g = open_with(NULL);
	o = options(g, TAG2, TAG1);
	begin(g, &o, &v);
	assert_null(v.disk[0].dirty);
	assert_non_null(strstr(v.disk[0].why, "inconsistent"));
	end(g, true); /* it goes all the same */
	guest_close(g);
	g = open_with(NULL);
	o = options(g, TAG2, "4444444444444444");
	json_decref(qemu_ask(&qemu, "block-dirty-bitmap-add",
	    json_pack("{s:s,s:s,s:i}", "node", "disk", "name",
		"backstay-" REPO "-4444444444444444", "granularity", 4096)));
	o.tag = "5555555555555555";
	begin(g, &o, &v);
	assert_non_null(strstr(v.disk[0].why, "granularity"));
	end(g, false);
	guest_close(g);
}

static void
release_keeps_the_record_that_is_asked_for_and_those_of_others(void **state)
{
	static const char *const all[] = { BITMAP1, BITMAP2, BITMAP_OF_OTHERS,
		"mine" };
	struct guest *g = open_with(NULL);
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
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;
	unsigned off = 0;
	char s[32];

	(void)state;
	o.scratch_max = 4 << 20;
	for (unsigned i = 0; i < QEMU_VDA; i += 1 << 20)
		qemu_write(&qemu, VDA, 1, i, 1 << 20);
	begin(g, &o, &v);
	while (guest_watch(g, &e) == 0) {
		assert_in_range(off, 0, 6 << 20);
		qemu_write(&qemu, VDA, 2, off, 1 << 20);
		off += 1 << 20;
	}
	assert_int_equal(e.code, ERR_NOSPC);
	assert_in_range(off, 2 << 20, 5 << 20);
	end(g, false);
	/* Nothing of the guest's was refused, nothing lost. */
	qemu_write(&qemu, VDA, 2, off, 1 << 20);
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "prelaunch");
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
a_view_needs_room_before_it_begins(void **state)
{
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;
	char nowhere[96];

	(void)state;
	/* What the disks cannot take at all is not asked for. */
	o.scratch_max = UINT64_C(1) << 60;
	begin(g, &o, &v);
	end(g, false);
	assert_int_equal(
	    scratch_check(scratch, UINT64_C(1) << 60, &e), ERR_NOSPC);
	snprintf(nowhere, sizeof(nowhere), "%s/nowhere", qemu.dir);
	o.scratch_dir = nowhere;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOENT);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
a_job_that_somebody_ended_is_noticed(void **state)
{
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	uint64_t until = now_ms() + PATIENCE_MS;
	struct guest_view v;
	int rc;

	(void)state;
	begin(g, &o, &v);
	json_decref(qemu_ask(&qemu, "block-job-cancel",
	    json_pack("{s:s}", "device", "backstay-job-1")));
	while ((rc = guest_watch(g, NULL)) == 0 && now_ms() < until)
		poll(NULL, 0, 10);
	assert_int_equal(rc, ERR_CLOSED);
	end(g, false);
	begin(g, &o, &v);
	qemu_kill(&qemu);
	assert_int_equal(guest_watch(g, NULL), ERR_CLOSED);
	assert_int_equal(guest_view_end(g, false, NULL), ERR_CLOSED);
	guest_close(g);
}

static void
the_nbd_server_of_somebody_else_is_left_alone(void **state)
{
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
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
	begin(g, &o, &v);
	end(g, false);
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
	g = open_with(NULL);
	o = options(g, TAG1, NULL);
	rc = guest_view_begin(g, &o, &v, &e);
	if (qmp_version(qemu.test) < 900) {
		assert_int_equal(rc, ERR_UNSUP);
		assert_non_null(strstr(e.text, "iothread"));
	} else {
		assert_int_equal(rc, 0);
		assert_int_equal(view_byte(&v.disk[0], 0, K64), 0);
		assert_int_equal(view_byte(&v.disk[0], 0, K64), 0);
		end(g, false);
	}
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
two_at_once_get_in_nobodys_way(void **state)
{
	struct guest *g = open_with(NULL);
	struct err e = { 0 };
	struct mark *m;

	(void)state;
	assert_int_equal(guest_lock(g, &e), 0);
	assert_int_equal(mark_open(g->ident, &m, &e), ERR_BUSY);
	assert_true(e.text[0] != 0);
	guest_close(g);
}

/* --- those that are killed */

enum step {
	S_FILES,
	S_PREPARE,
	S_STOP,
	S_FREEZE,
	S_POINT,
	S_CONT,
	S_THAW,
	S_EXPOSE,
	S_END,
	NSTEPS
};

static struct guest_ops real, deadly;
static enum step last_step;
static bool after_it;

static void
die_if(enum step s, bool after)
{
	if (s == last_step && after == after_it)
		kill(0, SIGKILL); /* the group, as a terminal would */
}

#define STEP(name, number, params, args)                                       \
	static int deadly_##name params                                        \
	{                                                                      \
		int rc;                                                        \
                                                                               \
		die_if(number, false);                                         \
		rc = real.name args;                                           \
		die_if(number, true);                                          \
		return rc;                                                     \
	}
#define VIEW_PARAMS                                                            \
	(struct guest * g, const struct guest_view_options *o,                 \
	    struct guest_view *v, struct err *e)
STEP(view_files, S_FILES, VIEW_PARAMS, (g, o, v, e))
STEP(view_prepare, S_PREPARE, VIEW_PARAMS, (g, o, v, e))
STEP(view_point, S_POINT, VIEW_PARAMS, (g, o, v, e))
STEP(view_expose, S_EXPOSE, VIEW_PARAMS, (g, o, v, e))
STEP(
    view_end, S_END, (struct guest * g, bool keep, struct err *e), (g, keep, e))
STEP(stop, S_STOP, (struct guest * g, struct err *e), (g, e))
STEP(cont, S_CONT, (struct guest * g, struct err *e), (g, e))
STEP(freeze, S_FREEZE, (struct guest * g, struct err *e), (g, e))
STEP(thaw, S_THAW, (struct guest * g, struct err *e), (g, e))

static int
save_nothing(struct guest *g, void *arg, struct err *e)
{
	(void)g;
	(void)arg;
	(void)e;
	return 0;
}

/* A backup that kills itself, and all of its group, at a step. */
static void
killed_at(enum step s, bool after, bool with_ram, const char *ga)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		setpgid(0, 0);
		last_step = s;
		after_it = after;
		g = open_with(ga);
		real = *g->ops;
		deadly = real;
		deadly.view_files = deadly_view_files;
		deadly.view_prepare = deadly_view_prepare;
		deadly.view_point = deadly_view_point;
		deadly.view_expose = deadly_view_expose;
		deadly.view_end = deadly_view_end;
		deadly.stop = deadly_stop;
		deadly.cont = deadly_cont;
		deadly.freeze = deadly_freeze;
		deadly.thaw = deadly_thaw;
		g->ops = &deadly;
		o = options(g, TAG2, TAG1);
		if (with_ram)
			o.frozen = save_nothing;
		if (ga != NULL)
			o.quiesce = QUIESCE_REQUIRE;
		if (guest_view_begin(g, &o, &v, NULL) == 0)
			guest_view_end(g, true, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Nobody helps it: the guard does it. */
static void
wait_state(const char *at, const char *status)
{
	uint64_t until = now_ms() + PATIENCE_MS;
	char s[32];

	while (!qemu_is_clean(&qemu) ||
	    strcmp(qemu_status(&qemu, s, sizeof(s)), status) != 0) {
		if (now_ms() > until)
			fail_msg("after %s: %s", at,
			    qemu_is_clean(&qemu) ? "stopped" : "not clean");
		poll(NULL, 0, 20);
	}
}

static void
wait_clean(const char *at)
{
	wait_state(at, "running");
}

/* Opened and locked, as soon as the guard is through. */
static struct guest *
open_locked(void)
{
	uint64_t until = now_ms() + PATIENCE_MS;
	struct err e = { 0 };
	struct guest *g;
	int rc;

	for (;;) {
		rc = guest_open_qmp(qemu.qmp, NULL, &g, &e);
		if (rc == 0) {
			rc = guest_lock(g, &e);
			if (rc == 0)
				return g;
			guest_close(g);
		}
		if (rc != ERR_BUSY || now_ms() > until)
			fail_msg("%s", e.text);
	}
}

static void
what_a_killed_backup_left_is_let_go_of(void **state)
{
	static const enum step steps[] = { S_FILES, S_STOP, S_PREPARE, S_POINT,
		S_CONT, S_EXPOSE, S_END };
	char what[400], names[512], at[64];
	struct err e = { 0 };
	struct guest *g;

	(void)state;
	guest_close(backed_up());
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		for (int after = 0; after < 2; after++) {
			snprintf(
			    at, sizeof(at), "step %d, %d", steps[i], after);
			killed_at(steps[i], after, true, NULL);
			wait_clean(at);
			/* Bitmaps are for the next backup to judge. */
			g = open_locked();
			assert_int_equal(guest_release(g, REPO, TAG1, what,
					     sizeof(what), &e),
			    0);
			/* But for that which committed. */
			assert_string_equal(
			    qemu_bitmaps(&qemu, "disk", names, sizeof(names)),
			    steps[i] == S_END && after ? "" : BITMAP1);
			assert_int_equal(files_in(scratch), 0);
			guest_close(g);
		}
}

static void
a_paused_guest_is_not_continued(void **state)
{
	char s[32];

	(void)state;
	json_decref(qemu_ask(&qemu, "stop", NULL));
	killed_at(S_POINT, true, true, NULL);
	wait_state("one that was paused", "paused");
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "paused");
}

/* --- a guest's agent, as the host sees it */

struct agent {
	pthread_t thread;
	char path[96];
	int listener;
	int stop[2];
	/* Guarded by mu. */
	pthread_mutex_t mu;
	bool frozen;
	unsigned freezes, thaws;
	bool mute; /* to guest-fsfreeze-freeze */
};

static void
agent_answers(struct agent *a, int fd, char *line)
{
	char answer[128] = "{\"return\": 1}\n";
	char *id = strstr(line, "\"id\":");
	bool mute = false;

	pthread_mutex_lock(&a->mu);
	if (strstr(line, "guest-sync-delimited") != NULL) {
		snprintf(answer, sizeof(answer), "\xff{\"return\": %lu}\n",
		    strtoul(id + 5, NULL, 10));
	} else if (strstr(line, "fsfreeze-status") != NULL) {
		snprintf(answer, sizeof(answer), "{\"return\": \"%s\"}\n",
		    a->frozen ? "frozen" : "thawed");
	} else if (strstr(line, "fsfreeze-freeze") != NULL) {
		a->frozen = true;
		a->freezes++;
		mute = a->mute;
	} else if (strstr(line, "fsfreeze-thaw") != NULL) {
		a->frozen = false;
		a->thaws++;
	}
	pthread_mutex_unlock(&a->mu);
	if (!mute)
		send(fd, answer, strlen(answer), MSG_NOSIGNAL);
}

static void
agent_serves(struct agent *a, int fd)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
		{ .fd = a->stop[0], .events = POLLIN } };
	char line[1024];
	size_t len = 0;

	while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
		if (recv(fd, line + len, 1, 0) != 1)
			return;
		if (line[len] != '\n' && len < sizeof(line) - 2) {
			len++;
			continue;
		}
		line[len + 1] = 0;
		len = 0;
		agent_answers(a, fd, line);
	}
}

static void *
agent_body(void *arg)
{
	struct agent *a = arg;
	struct pollfd p[2] = { { .fd = a->listener, .events = POLLIN },
		{ .fd = a->stop[0], .events = POLLIN } };
	int fd;

	while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
		fd = accept(a->listener, NULL, NULL);
		agent_serves(a, fd);
		close(fd);
	}
	return NULL;
}

static void
agent_start(struct agent *a)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	memset(a, 0, sizeof(*a));
	pthread_mutex_init(&a->mu, NULL);
	snprintf(a->path, sizeof(a->path), "%s/ga.sock", qemu.dir);
	unlink(a->path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", a->path);
	a->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
	    bind(a->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(a->listener, 4), 0);
	assert_int_equal(pipe2(a->stop, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&a->thread, NULL, agent_body, a), 0);
}

static void
agent_end(struct agent *a)
{
	close(a->stop[1]);
	pthread_join(a->thread, NULL);
	close(a->stop[0]);
	close(a->listener);
}

static bool
agent_frozen(struct agent *a)
{
	bool frozen;

	pthread_mutex_lock(&a->mu);
	frozen = a->frozen;
	pthread_mutex_unlock(&a->mu);
	return frozen;
}

static struct agent *watched;
static bool was_frozen;

static int
watched_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *v, struct err *e)
{
	was_frozen = agent_frozen(watched);
	return real.view_point(g, o, v, e);
}

static int
still_frozen(struct guest *g, void *arg, struct err *e)
{
	(void)g;
	(void)e;
	*(bool *)arg = agent_frozen(watched);
	return 0;
}

static int
fail_at_the_point(struct guest *g, void *arg, struct err *e)
{
	(void)g;
	(void)arg;
	return err_set(e, ERR_DENIED, "not for us");
}

static void
file_systems_are_frozen_at_the_point_in_time_only(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct agent a;
	struct guest *g;
	struct err e = { 0 };
	bool frozen = false;

	(void)state;
	agent_start(&a);
	g = open_with(a.path);
	watched = &a;
	real = *g->ops;
	deadly = real;
	deadly.view_point = watched_point;
	g->ops = &deadly;
	o = options(g, TAG1, NULL);
	o.quiesce = QUIESCE_REQUIRE;
	o.point = still_frozen;
	o.point_arg = &frozen;
	begin(g, &o, &v);
	assert_string_equal(v.consistency, "guest");
	assert_true(was_frozen);
	assert_true(frozen);
	assert_false(agent_frozen(&a));
	assert_int_equal(a.freezes, 1);
	end(g, false);
	o.point = fail_at_the_point;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_DENIED);
	assert_string_equal(e.text, "not for us");
	assert_false(agent_frozen(&a));
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
	agent_end(&a);
}

static void
without_an_agent_a_view_is_made_only_if_that_will_do(void **state)
{
	struct guest *g = open_with("/nonexistent/ga.sock");
	struct guest_view_options o = options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;

	(void)state;
	o.quiesce = QUIESCE_AUTO;
	begin(g, &o, &v);
	assert_string_equal(v.consistency, "crash");
	assert_non_null(strstr(v.note, "no agent"));
	end(g, false);
	o.quiesce = QUIESCE_REQUIRE;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_UNSUP);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
what_others_have_frozen_stays_frozen(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct agent a;
	struct guest *g;

	(void)state;
	agent_start(&a);
	a.frozen = true;
	g = open_with(a.path);
	o = options(g, TAG1, NULL);
	o.quiesce = QUIESCE_AUTO;
	begin(g, &o, &v);
	assert_string_equal(v.consistency, "crash");
	assert_non_null(strstr(v.note, "somebody else"));
	end(g, false);
	guest_close(g);
	assert_true(agent_frozen(&a));
	agent_end(&a);
}

static void
a_killed_backup_leaves_nothing_frozen(void **state)
{
	static const enum step steps[] = { S_FREEZE, S_POINT, S_THAW };
	uint64_t until;
	struct agent a;

	(void)state;
	agent_start(&a);
	for (size_t i = 0; i < 3; i++) {
		killed_at(steps[i], i == 0, false, a.path);
		until = now_ms() + PATIENCE_MS;
		while (agent_frozen(&a) && now_ms() < until)
			poll(NULL, 0, 10);
		assert_false(agent_frozen(&a));
		assert_int_equal(a.freezes, i + 1);
		wait_clean("a frozen one");
		guest_close(open_locked());
	}
	agent_end(&a);
}

/* --- RAM */

static int
save_ram(struct guest *g, void *arg, struct err *e)
{
	uint64_t until = now_ms() + PATIENCE_MS;
	const char *s = "";
	json_t *j = NULL;
	char state[32];
	int fd, rc;

	assert_string_equal(qemu_status(&qemu, state, sizeof(state)), "paused");
	fd = open(arg, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_not_equal(fd, -1);
	rc = guest_monitor(
	    g, "getfd", json_pack("{s:s}", "fdname", "ram"), fd, NULL, e);
	if (rc == 0)
		rc = guest_monitor(g, "migrate",
		    json_pack("{s:s}", "uri", "fd:ram"), -1, NULL, e);
	while (rc == 0 && strcmp(s, "completed") != 0 && now_ms() < until) {
		json_decref(j);
		rc = guest_monitor(g, "query-migrate", NULL, -1, &j, e);
		if (rc == 0)
			rc = json_get_str(j, "status", &s, e);
		poll(NULL, 0, 5);
	}
	json_decref(j);
	close(fd);
	assert_string_equal(
	    qemu_status(&qemu, state, sizeof(state)), "postmigrate");
	return rc;
}

static int
still_stopped(struct guest *g, void *arg, struct err *e)
{
	char s[32];

	(void)g;
	(void)e;
	assert_string_not_equal(qemu_status(&qemu, s, sizeof(s)), "running");
	*(bool *)arg = true;
	return 0;
}

static void
a_guest_whose_ram_was_saved_goes_on(void **state)
{
	struct guest *g = backed_up();
	struct guest_view_options o = options(g, TAG2, TAG1);
	bool point = false;
	char ram[96], s[32];
	struct guest_view v;
	struct stat st;

	(void)state;
	snprintf(ram, sizeof(ram), "%s/ram", qemu.dir);
	o.frozen = save_ram;
	o.frozen_arg = ram;
	o.point = still_stopped;
	o.point_arg = &point;
	qemu_write(&qemu, VDA, 7, 0, K64);
	begin(g, &o, &v);
	assert_string_equal(v.consistency, "ram");
	assert_true(v.pause_us > 0);
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "running");
	assert_int_equal(guest_state(g), GUEST_RUNNING);
	assert_int_equal(stat(ram, &st), 0);
	assert_true(st.st_size > 1 << 16);
	assert_true(point);
	qemu_write(&qemu, VDA, 8, 0, 2 * K64);
	assert_int_equal(view_byte(&v.disk[0], 0, K64), 7);
	assert_int_equal(view_byte(&v.disk[0], K64, K64), 0);
	/* The record came through being put into the image and out again. */
	assert_non_null(v.disk[0].dirty);
	assert_int_equal(dirty_map(&v.disk[0], QEMU_VDA).dirty, K64);
	end(g, true);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static int
save_and_fail(struct guest *g, void *arg, struct err *e)
{
	int rc = save_ram(g, arg, e);

	return rc != 0 ? rc : err_set(e, ERR_NOSPC, "no room for the RAM");
}

static void
a_guest_whose_ram_could_not_be_saved_goes_on(void **state)
{
	struct guest *g = open_with(NULL);
	struct guest_view_options o = options(g, TAG1, NULL);
	struct err e = { 0 };
	char ram[96], s[32];
	struct guest_view v;

	(void)state;
	snprintf(ram, sizeof(ram), "%s/ram", qemu.dir);
	o.frozen = save_and_fail;
	o.frozen_arg = ram;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOSPC);
	assert_string_equal(e.text, "no room for the RAM");
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "running");
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static int
save_and_die(struct guest *g, void *arg, struct err *e)
{
	save_ram(g, arg, e);
	kill(0, SIGKILL);
	return 0;
}

/* Nobody reads what is saved: it does not end by itself. */
static int
begin_saving_and_die(struct guest *g, void *arg, struct err *e)
{
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	*(int *)arg = fd[0];
	guest_monitor(
	    g, "getfd", json_pack("{s:s}", "fdname", "ram"), fd[1], NULL, e);
	guest_monitor(
	    g, "migrate", json_pack("{s:s}", "uri", "fd:ram"), -1, NULL, e);
	kill(0, SIGKILL);
	return 0;
}

static void
killed_while_saving(guest_frozen_fn *frozen, void *arg)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		setpgid(0, 0);
		g = open_with(NULL);
		o = options(g, TAG2, TAG1);
		o.frozen = frozen;
		o.frozen_arg = arg;
		guest_view_begin(g, &o, &v, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
a_guest_goes_on_if_who_saves_its_ram_is_killed(void **state)
{
	char ram[96], names[512];
	int fd;

	(void)state;
	guest_close(backed_up());
	snprintf(ram, sizeof(ram), "%s/ram", qemu.dir);
	killed_while_saving(save_and_die, ram);
	wait_clean("saved RAM");
	guest_close(open_locked());
	killed_while_saving(begin_saving_and_die, &fd);
	wait_clean("RAM half saved");
	guest_close(open_locked());
	qemu_write(&qemu, VDA, 1, 0, K64);
	assert_string_equal(
	    qemu_bitmaps(&qemu, "disk", names, sizeof(names)), BITMAP1);
}

int
main(int argc, char **argv)
{
#define STILL(test) cmocka_unit_test_setup_teardown(test, setup_still, teardown)
#define RUNNING(test)                                                          \
	cmocka_unit_test_setup_teardown(test, setup_running, teardown)
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
		RUNNING(what_a_killed_backup_left_is_let_go_of),
		RUNNING(a_paused_guest_is_not_continued),
		RUNNING(file_systems_are_frozen_at_the_point_in_time_only),
		RUNNING(without_an_agent_a_view_is_made_only_if_that_will_do),
		RUNNING(what_others_have_frozen_stays_frozen),
		RUNNING(a_killed_backup_leaves_nothing_frozen),
		RUNNING(a_guest_whose_ram_was_saved_goes_on),
		RUNNING(a_guest_whose_ram_could_not_be_saved_goes_on),
		RUNNING(a_guest_goes_on_if_who_saves_its_ram_is_killed),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
