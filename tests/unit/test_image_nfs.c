/* SPDX-License-Identifier: Apache-2.0 */
/* Sources and sinks on a real NFS server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/image/nfsfile.h"
#include "agent/qcow2/names.h"
#include "agent/sink/sink.h"
#include "agent/source/source.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "tests/unit/nfs_room.h"

enum {
	UNIT = 64 << 10,
	UNITS = 600,
	SIZE = UNITS * UNIT + 512,
	THREADS = 4,
	WINDOW = 8 << 20,
	PATIENCE_S = 20,
	SHORT_S = 2
};

static struct nfs_room room;
static uint8_t *disk; /* what is written and read: holes in every third unit */

__attribute__((format(printf, 1, 2))) static void
run(const char *fmt, ...)
{
	char cmd[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0);
}

static int
set_up(void **state)
{
	(void)state;
	/* Files are changed behind the server's back here. */
	setenv("ATTRS", "0", 1);
	nfs_room_open(&room);
	disk = xcalloc(1, SIZE);
	random_bytes(disk, SIZE);
	for (size_t i = 2; i < UNITS; i += 3)
		memset(disk + i * UNIT, 0, UNIT);
	nfsfile_patience(PATIENCE_S);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	free(disk);
	run("! mountpoint -q %s/export || umount -l %s/export", room.dir,
	    room.dir);
	nfs_room_close(&room);
	return 0;
}

/* The URL of a file of the export; the same buffer each time. */
static const char *
url(const char *prefix, const char *name)
{
	static char out[400];
	int at = (int)strcspn(room.url, "?");

	snprintf(out, sizeof(out), "%s%.*s/%s%s", prefix, at, room.url, name,
	    room.url + at);
	return out;
}

/* The same file without NFS. */
static const char *
local(const char *name)
{
	static char out[200];

	snprintf(out, sizeof(out), "%s/export/%s", room.dir, name);
	return out;
}

static void
put_local(const char *name, const void *data, size_t len)
{
	assert_int_equal(
	    file_replace(AT_FDCWD, local(name), data, len, 0600), 0);
}

static struct sink *
must_open(const char *name, const char *format, bool force)
{
	struct sink_options o = { .path = url("", name),
		.format = format,
		.size = SIZE,
		.force = force };
	struct sink *s = NULL;
	struct err e = { 0 };

	if (sink_open(&o, &s, &e) != 0)
		fail_msg("sink_open: %s", e.text);
	return s;
}

static int
open_code(const char *name, const char *format, bool force, bool held,
    const char *says)
{
	struct sink_options o = { .path = url("", name),
		.format = format,
		.size = SIZE,
		.force = force,
		.held = held };
	struct sink *s;
	struct err e = { 0 };
	int rc = sink_open(&o, &s, &e);

	if (rc == 0)
		sink_close(s);
	else if (e.code != rc || strstr(e.text, says) == NULL)
		fail_msg("%d: not \"%s\": %s", e.code, says, e.text);
	return rc;
}

struct worker {
	struct sink *sink;
	atomic_uint *next;
	unsigned pause_at; /* a server is killed when so much is written */
	int rc;
	struct err e;
};

/* Units as they come, from the end; small and large writes. */
static void *
work(void *arg)
{
	struct worker *w = arg;
	unsigned i;

	while (w->rc == 0 && (i = atomic_fetch_add(w->next, 1)) <= UNITS / 4) {
		size_t from = UNITS / 4 - i, n = 4;
		uint64_t off = (uint64_t)from * 4 * UNIT;
		size_t len = n * UNIT;

		if (off >= SIZE)
			continue;
		if (len > SIZE - off)
			len = (size_t)(SIZE - off);
		w->rc = sink_write(w->sink, disk + off, len, off, &w->e);
	}
	return NULL;
}

static int
fill(struct sink *s, bool crash, struct err *e)
{
	struct worker w[THREADS] = { 0 };
	pthread_t t[THREADS];
	atomic_uint next = 0;
	int rc = 0;

	for (size_t i = 0; i < THREADS; i++) {
		w[i].sink = s;
		w[i].next = &next;
		assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	if (crash) {
		while (atomic_load(&next) < UNITS / 8)
			sched_yield();
		nfs_room_kill(&room);
		nfs_room_start(&room);
	}
	for (size_t i = 0; i < THREADS; i++) {
		pthread_join(t[i], NULL);
		if (rc == 0 && w[i].rc != 0) {
			rc = w[i].rc;
			*e = w[i].e;
		}
	}
	return rc;
}

static void
verify(const char *spec, uint64_t size)
{
	uint8_t *got = xmalloc(WINDOW);
	struct source *s;
	struct err e = { 0 };

	if (source_open(spec, &s, &e) != 0)
		fail_msg("source_open: %s", e.text);
	assert_int_equal(s->size, size);
	for (uint64_t off = 0; off < SIZE; off += WINDOW) {
		size_t n = SIZE - off < WINDOW ? (size_t)(SIZE - off) : WINDOW;

		if (source_read(s, got, n, off, &e) != 0)
			fail_msg("source_read: %s", e.text);
		assert_memory_equal(got, disk + off, n);
	}
	assert_int_equal(source_still(s, &e), 0);
	source_close(s);
	free(got);
}

static uint64_t
used(const char *name)
{
	struct stat st;

	assert_int_equal(stat(local(name), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void
both_formats_are_written_and_read_and_are_sparse(void **state)
{
	static const char *const formats[] = { "raw", "qcow2" };
	struct sink *s;
	struct err e = { 0 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		const char *f = formats[i];

		s = must_open("disk", f, i > 0);
		assert_int_equal(access(local(".disk.restoring"), F_OK), 0);
		if (fill(s, false, &e) != 0 || sink_finish(s, &e) != 0)
			fail_msg("%s", e.text);
		sink_close(s);
		assert_int_equal(access(local(".disk.restoring"), F_OK), -1);
		assert_true(used("disk") < (uint64_t)SIZE * 7 / 10);
		verify(url("", "disk"), SIZE);
		verify(local("disk"), SIZE);
		if (i == 1)
			run("qemu-img check -q -f qcow2 %s", local("disk"));
	}
	unlink(local("disk"));
}

static void
server_killed_in_the_midst_is_waited_for(void **state)
{
	struct sink *s;
	struct err e = { 0 };

	(void)state;
	s = must_open("disk", "qcow2", false);
	if (fill(s, true, &e) != 0 || sink_finish(s, &e) != 0)
		fail_msg("%s", e.text);
	sink_close(s);
	verify(local("disk"), SIZE);
	run("qemu-img check -q -f qcow2 %s", local("disk"));
	unlink(local("disk"));
}

static void
chain_is_found_beside_its_top(void **state)
{
	char dir[120];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/export", room.dir);
	mkdir(local("base"), 0700);
	mkdir(local("top"), 0700);
	put_local("base/b.raw", disk, SIZE);
	run("cd %s/top && qemu-img create -q -f qcow2 -F raw -b ../base/b.raw "
	    "m.qcow2 && qemu-img create -q -f qcow2 -F qcow2 -b m.qcow2 "
	    "t.qcow2 && qemu-io -f qcow2 -c 'write -q -P 9 1M 3M' t.qcow2 "
	    ">/dev/null",
	    dir);
	memset(disk + (1 << 20), 9, 3 << 20);
	verify(url("qcow2:", "top/t.qcow2"), SIZE);
}

static int
source_code(const char *spec, const char *says)
{
	struct source *s;
	struct err e = { 0 };
	int rc = source_open(spec, &s, &e);

	if (rc == 0)
		source_close(s);
	else if (strstr(e.text, says) == NULL)
		fail_msg("not \"%s\": %s", says, e.text);
	return rc;
}

static void
what_cannot_be_read_is_refused_with_its_reason(void **state)
{
	(void)state;
	put_local("b.raw", disk, UNIT);
	run("cd %s/export && qemu-img create -q -f qcow2 -F raw -b $PWD/b.raw "
	    "abs.qcow2 && qemu-img create -q -f qcow2 -o lazy_refcounts=on "
	    "lazy.qcow2 1M && qemu-img create -q -f qcow2 -F raw -b b.raw "
	    "t.qcow2",
	    room.dir);
	/* Marked as in use. */
	run("printf '\\001' | dd of=%s bs=1 seek=79 conv=notrunc status=none",
	    local("lazy.qcow2"));
	assert_int_equal(
	    source_code(url("qcow2:", "abs.qcow2"), "qemu-img rebase"),
	    ERR_UNSUP);
	assert_int_equal(
	    source_code(url("", "t.qcow2"), "say qcow2:PATH"), ERR_INVAL);
	assert_int_equal(
	    source_code(url("", "lazy.qcow2"), "open for writing"), ERR_BUSY);
	assert_int_equal(
	    source_code(url("", "none"), "no such file"), ERR_NOENT);
	assert_int_equal(
	    source_code(url("", "none/disk"), "no such folder"), ERR_NOENT);
	assert_int_equal(
	    source_code(url("", "base"), "no regular file"), ERR_INVAL);
	assert_int_equal(
	    source_code("nfs://127.0.0.1", "nfs://HOST/EXPORT"), ERR_INVAL);
	assert_int_equal(
	    source_code("nfs://127.0.0.1/x/y?version=4", "version 3"),
	    ERR_UNSUP);
	assert_int_equal(
	    source_code("http://127.0.0.1/x", "no such kind"), ERR_UNSUP);
}

static void
names_beside_an_image_on_nfs(void **state)
{
	static const struct {
		const char *name, *want;
	} names[] = {
		{ "b.raw", "nfs://h/x/y/b.raw?uid=1" },
		{ "./b.raw", "nfs://h/x/y/b.raw?uid=1" },
		{ "../z/b.raw", "nfs://h/x/z/b.raw?uid=1" },
		{ "file:../../b.raw", "nfs://h/b.raw?uid=1" },
		{ "../../../../b.raw", "nfs://h/b.raw?uid=1" },
		{ "/b.raw", NULL },
		{ "b.raw?uid=0", NULL },
		{ "nfs://other/b.raw", NULL },
	};
	struct err e;
	char *out;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int rc = names_resolve("nfs://h/x/y/i.qcow2?uid=1",
		    names[i].name, "backing file", &out, &e);

		assert_int_equal(rc, names[i].want == NULL ? ERR_UNSUP : 0);
		if (rc == 0) {
			assert_string_equal(out, names[i].want);
			free(out);
		}
	}
}

static void
what_was_written_to_meanwhile_is_told(void **state)
{
	struct source *s;
	struct err e = { 0 };
	int fd;

	(void)state;
	put_local("raw", disk, SIZE);
	assert_int_equal(source_open(url("raw:", "raw"), &s, &e), 0);
	assert_int_equal(source_still(s, &e), 0);
	fd = open(local("raw"), O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, 12345), 1);
	close(fd);
	assert_int_equal(source_still(s, &e), ERR_BUSY);
	source_close(s);
	unlink(local("raw"));
}

static void
targets_are_refused_with_their_reason(void **state)
{
	struct stat st;
	struct sink *s;
	struct err e = { 0 };

	(void)state;
	put_local("old", "old", 3);
	assert_int_equal(chmod(local("old"), 0640), 0);
	assert_int_equal(chown(local("old"), 1234, 5678), 0);
	assert_int_equal(
	    open_code("old", "raw", false, false, "--force"), ERR_EXIST);
	assert_int_equal(
	    open_code("old", "raw", true, true, "not swapped"), ERR_UNSUP);
	assert_int_equal(
	    open_code("base", "raw", true, false, "regular"), ERR_INVAL);
	assert_int_equal(
	    open_code("none/x", "raw", true, false, "no such folder"),
	    ERR_NOENT);
	put_local(".old.swap", "", 0);
	assert_int_equal(
	    open_code("old", "raw", true, false, "interrupted"), ERR_EXIST);
	unlink(local(".old.swap"));
	s = must_open("old", "raw", true);
	sink_close(s);
	assert_int_equal(stat(local("old"), &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(access(local(".old.restoring"), F_OK), -1);
	/* Whoever could use it can use the new one. */
	s = must_open("old", "raw", true);
	assert_int_equal(fill(s, false, &e), 0);
	assert_int_equal(sink_finish(s, &e), 0);
	sink_close(s);
	assert_int_equal(stat(local("old"), &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 5678);
	unlink(local("old"));
}

static void
second_restore_to_a_target_is_told(void **state)
{
	struct sink *s = must_open("disk", "raw", false), *other;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(
	    open_code("disk", "raw", false, false, "another restore"),
	    ERR_BUSY);
	/* By force: who was first must not get the other's file its name. */
	other = must_open("disk", "raw", true);
	(void)fill(s, false, &e);
	assert_int_not_equal(sink_finish(s, &e), 0);
	sink_close(s);
	assert_int_equal(access(local(".disk.restoring"), F_OK), 0);
	assert_int_equal(fill(other, false, &e), 0);
	put_local("disk", "new", 3);
	assert_int_equal(sink_finish(other, &e), 0);
	sink_close(other);
	verify(local("disk"), SIZE);
	unlink(local("disk"));
}

static void
target_made_meanwhile_is_kept(void **state)
{
	struct sink *s = must_open("disk", "raw", false);
	struct stat st;
	struct err e = { 0 };

	(void)state;
	put_local("disk", "new", 3);
	assert_int_equal(sink_finish(s, &e), ERR_EXIST);
	sink_close(s);
	assert_int_equal(stat(local("disk"), &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(access(local(".disk.restoring"), F_OK), -1);
	unlink(local("disk"));
}

/* Last but one: the export is a small file system from here on. */
static void
full_export_is_told_and_leaves_nothing(void **state)
{
	struct sink *s;
	struct err e = { 0 };
	int rc;

	(void)state;
	nfs_room_kill(&room);
	run("mount -t tmpfs -o size=16m none %s/export", room.dir);
	nfs_room_start(&room);
	put_local("disk", "old", 3);
	s = must_open("disk", "raw", true);
	rc = fill(s, false, &e);
	if (rc == 0)
		rc = sink_finish(s, &e);
	sink_close(s);
	nfs_room_kill(&room);
	if (rc != ERR_NOSPC || strstr(e.text, "full") == NULL)
		fail_msg("%d: %s", rc, e.text);
	assert_int_equal(access(local(".disk.restoring"), F_OK), -1);
	assert_int_equal(access(local("disk"), F_OK), 0);
	run("umount %s/export", room.dir);
	nfs_room_start(&room);
}

static void
server_that_stays_away_or_stalls_is_named(void **state)
{
	uint8_t *unit = xmalloc(UNIT);
	struct source *in;
	struct sink *s;
	struct err e = { 0 };
	uint64_t from;
	int rc;

	(void)state;
	put_local("raw", disk, SIZE);
	nfsfile_patience(SHORT_S);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(source_open(url("raw:", "raw"), &in, &e), 0);
		s = must_open("disk", "qcow2", true);
		if (i == 0)
			nfs_room_kill(&room);
		else
			nfs_room_signal(&room, SIGSTOP);
		from = now_ms();
		/* One that is told to stop may answer a little longer. */
		do
			rc = source_read(in, unit, UNIT, 0, &e);
		while (rc == 0 && now_ms() < from + SHORT_S * 1000);
		assert_int_equal(rc, ERR_CLOSED);
		assert_non_null(strstr(e.text, "nfs://127.0.0.1/export/raw"));
		assert_null(strchr(e.text, '\n'));
		rc = fill(s, false, &e);
		if (rc == 0)
			rc = sink_finish(s, &e);
		assert_int_equal(rc, ERR_CLOSED);
		assert_non_null(strstr(e.text, "nfs://127.0.0.1/export/disk"));
		sink_close(s);
		source_close(in);
		assert_true(now_ms() - from < PATIENCE_S * 1000);
		assert_int_equal(
		    source_code(url("", "raw"), "not answer"), ERR_CLOSED);
		if (i == 0)
			nfs_room_start(&room);
		else
			nfs_room_signal(&room, SIGCONT);
	}
	assert_int_equal(access(local("disk"), F_OK), -1);
	free(unit);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    both_formats_are_written_and_read_and_are_sparse),
		cmocka_unit_test(server_killed_in_the_midst_is_waited_for),
		cmocka_unit_test(chain_is_found_beside_its_top),
		cmocka_unit_test(
		    what_cannot_be_read_is_refused_with_its_reason),
		cmocka_unit_test(names_beside_an_image_on_nfs),
		cmocka_unit_test(what_was_written_to_meanwhile_is_told),
		cmocka_unit_test(targets_are_refused_with_their_reason),
		cmocka_unit_test(second_restore_to_a_target_is_told),
		cmocka_unit_test(target_made_meanwhile_is_kept),
		cmocka_unit_test(full_export_is_told_and_leaves_nothing),
		cmocka_unit_test(server_that_stays_away_or_stalls_is_named),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
