/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <signal.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/nfs/nfs3_file.h"
#include "tests/unit/nfs_room.h"

enum { MIB = 1 << 20, BIG = 24 * MIB + 12345 };

static struct nfs_room room;
static struct nfs3 *n;
static char *data, *back;

static int
setup(void **state)
{
	struct nfs3_options o = { .patience_ms = 20000 };
	struct nfs3_url u;
	struct err e = { 0 };

	(void)state;
	nfs_room_open(&room);
	assert_int_equal(nfs3_url_parse(room.url, &u, &e), 0);
	if (nfs3_open(&u, &o, &n, &e) != 0)
		fail_msg("%s", e.text);
	data = xmalloc(BIG);
	back = xmalloc(BIG);
	random_bytes(data, BIG);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	nfs3_close(n);
	nfs_room_close(&room);
	free(data);
	free(back);
	return 0;
}

static struct nfs3_file *
make(const char *name, bool patient)
{
	struct nfs3_fh fh;

	assert_int_equal(nfs3_create(n, nfs3_root(n), name, 0600, &fh), 0);
	return nfs3_file_new(n, &fh, 0, patient);
}

static void
put(struct nfs3_file *f, size_t from, size_t upto)
{
	struct iovec iov[2] = { { data + from, (upto - from) / 3 },
		{ data + from + (upto - from) / 3,
		    upto - from - (upto - from) / 3 } };

	assert_int_equal(nfs3_file_write(f, iov, 2, from), 0);
}

static void
expect(struct nfs3_file *f, size_t from, size_t len)
{
	size_t got;

	memset(back, 0xee, len);
	assert_int_equal(nfs3_file_read(f, back, len, from, &got), 0);
	assert_int_equal(got, len);
	assert_memory_equal(back, data + from, len);
}

static char *
local(const char *name)
{
	return xasprintf("%s/export/%s", room.dir, name);
}

static void
what_is_written_is_read_before_and_after_a_sync(void **state)
{
	struct nfs3_file *f = make("one", true);
	struct nfs3_attr attr;
	struct nfs3_fh fh;
	size_t at = 0, got;

	(void)state;
	for (size_t step = 1; at < BIG; step = step * 3 + 1) {
		size_t upto = at + step % (5 * MIB) + 1;

		if (upto > BIG)
			upto = BIG;
		put(f, at, upto);
		if (upto > 70000)
			expect(f, upto - 70000, 70000);
		at = upto;
	}
	expect(f, 0, BIG);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, BIG);
	assert_int_equal(nfs3_file_read(f, back, 100, BIG - 7, &got), 0);
	assert_int_equal(got, 7);
	assert_int_equal(nfs3_file_read(f, back, 100, BIG, &got), 0);
	assert_int_equal(got, 0);
	nfs3_file_free(f);
	assert_int_equal(nfs3_lookup(n, nfs3_root(n), "one", &fh, &attr), 0);
	assert_true(attr.regular && attr.size == BIG && attr.mode == 0600);
	f = nfs3_file_new(n, &fh, attr.size, true);
	expect(f, 0, BIG);
	nfs3_file_free(f);
}

static void
one_place_written_twice_has_what_came_last(void **state)
{
	struct nfs3_file *f = make("twice", true);
	struct iovec iov;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		size_t off = i % 3 * 5000, len = 20000 + i * 100;

		random_bytes(data + off, len);
		iov = (struct iovec){ data + off, len };
		assert_int_equal(nfs3_file_write(f, &iov, 1, off), 0);
	}
	expect(f, 0, 20000);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, 20000);
	nfs3_file_free(f);
}

static void
a_cut_takes_the_end_away(void **state)
{
	struct nfs3_file *f = make("cut", true);
	size_t got;

	(void)state;
	put(f, 0, 3 * MIB);
	assert_int_equal(nfs3_file_cut(f, MIB + 17), 0);
	assert_int_equal(nfs3_file_size(f), MIB + 17);
	assert_int_equal(nfs3_file_read(f, back, 2 * MIB, 0, &got), 0);
	assert_int_equal(got, MIB + 17);
	put(f, MIB + 17, 2 * MIB);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, 2 * MIB);
	nfs3_file_free(f);
}

/* The server takes writes into memory, dies, and with it what it had not on
 * disk; only its verifier tells. */
static void
what_a_server_lost_before_the_sync_is_sent_again(void **state)
{
	struct nfs3_file *f = make("lost", true);
	char *name = local("lost");
	size_t synced = 5 * MIB + 99;

	(void)state;
	put(f, 0, synced);
	assert_int_equal(nfs3_file_sync(f), 0);
	put(f, synced, 14 * MIB);
	nfs3_file_flush(f);
	/* All of it has arrived. */
	for (int i = 0; i < 500; i++) {
		struct nfs3_attr attr;
		struct nfs3_fh fh;

		assert_int_equal(
		    nfs3_lookup(n, nfs3_root(n), "lost", &fh, &attr), 0);
		if (attr.size == 14 * MIB)
			break;
		usleep(10000);
	}
	nfs_room_kill(&room);
	assert_int_equal(truncate(name, (off_t)synced), 0);
	nfs_room_start(&room);
	/* Also before anybody has noticed. */
	expect(f, synced - 100, 4 * MIB);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, 14 * MIB);
	nfs3_file_free(f);
	free(name);
}

static void
work_waits_for_a_server_that_is_away(void **state)
{
	struct nfs3_file *f = make("away", true);
	uint64_t began;

	(void)state;
	put(f, 0, MIB);
	nfs_room_kill(&room);
	put(f, MIB, 3 * MIB);
	began = now_ms();
	if (fork() == 0) {
		usleep(700000);
		nfs_room_start(&room);
		_exit(0);
	}
	assert_int_equal(nfs3_file_sync(f), 0);
	assert_true(now_ms() - began >= 600);
	expect(f, 0, 3 * MIB);
	nfs3_file_free(f);
}

static void
patience_with_a_stalled_server_ends(void **state)
{
	struct nfs3_file *f = make("stalled", false);
	struct nfs3_file *g = make("patient", true);
	struct nfs3_attr attr;
	uint64_t began;
	char why[160];

	(void)state;
	nfs3_patience(n, 1500);
	nfs_room_signal(&room, SIGSTOP);
	put(f, 0, MIB / 2);
	put(g, 0, MIB / 2);
	nfs3_file_flush(g);
	began = now_ms();
	assert_int_equal(nfs3_getattr(n, nfs3_root(n), &attr), ERR_TIMEOUT);
	assert_int_equal(nfs3_file_sync(f), ERR_TIMEOUT);
	assert_in_range(now_ms() - began, 1000, 15000);
	assert_true(*nfs3_trouble(n, why, sizeof(why)) != 0);
	nfs_room_signal(&room, SIGCONT);
	nfs3_patience(n, 20000);
	assert_int_equal(nfs3_getattr(n, nfs3_root(n), &attr), 0);
	assert_int_equal(nfs3_file_sync(g), 0);
	expect(g, 0, MIB / 2);
	assert_string_equal(nfs3_trouble(n, why, sizeof(why)), "");
	nfs3_file_free(f);
	nfs3_file_free(g);
}

static int
count(void *arg, const char *name)
{
	(void)name;
	(*(unsigned *)arg)++;
	return 0;
}

static void
names_are_made_found_renamed_and_removed(void **state)
{
	struct nfs3_fh dir, fh, again;
	struct nfs3_attr attr;
	unsigned many = 0;
	char name[32];

	(void)state;
	assert_int_equal(nfs3_mkdir(n, nfs3_root(n), "dir", 0700, &dir), 0);
	assert_int_equal(nfs3_mkdir(n, nfs3_root(n), "dir", 0700, &again), 0);
	assert_int_equal(dir.len, again.len);
	assert_memory_equal(dir.data, again.data, dir.len);
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "a-name-of-a-file-%u", i);
		assert_int_equal(nfs3_create(n, &dir, name, 0600, &fh), 0);
	}
	assert_int_equal(nfs3_create(n, &dir, name, 0600, &fh), ERR_EXIST);
	assert_int_equal(nfs3_list(n, &dir, count, &many), 0);
	assert_int_equal(many, 1500);
	assert_int_equal(
	    nfs3_rename(n, &dir, name, nfs3_root(n), "moved", NULL), 0);
	assert_int_equal(nfs3_lookup(n, &dir, name, &fh, &attr), ERR_NOENT);
	assert_int_equal(nfs3_lookup(n, nfs3_root(n), "moved", &fh, &attr), 0);
	assert_int_equal(nfs3_remove(n, nfs3_root(n), "moved"), 0);
	assert_int_equal(nfs3_remove(n, nfs3_root(n), "moved"), ERR_NOENT);
	assert_int_equal(
	    nfs3_lookup(n, nfs3_root(n), "moved", &fh, &attr), ERR_NOENT);
}

static void
a_folder_below_the_export_is_found_or_made(void **state)
{
	struct nfs3_options o = { .patience_ms = 5000 };
	struct err e = { 0 };
	struct nfs3_url u;
	struct nfs3 *m;

	(void)state;
	assert_int_equal(nfs3_url_parse(room.url, &u, &e), 0);
	strcat(u.path, "/some/where");
	assert_int_equal(nfs3_open(&u, &o, &m, &e), ERR_NOENT);
	o.make = true;
	if (nfs3_open(&u, &o, &m, &e) != 0)
		fail_msg("%s", e.text);
	nfs3_close(m);
	o.make = false;
	assert_int_equal(nfs3_open(&u, &o, &m, &e), 0);
	nfs3_close(m);
	/* Servers do not tell strangers what they have not. */
	strcpy(u.path, "/elsewhere");
	assert_int_equal(nfs3_open(&u, &o, &m, &e), ERR_DENIED);
	u.nfsport = u.mountport = 1;
	o.patience_ms = 1000;
	assert_int_equal(nfs3_open(&u, &o, &m, &e), ERR_TIMEOUT);
	assert_non_null(strstr(e.text, "does not answer"));
}

static void
urls_are_taken_apart(void **state)
{
	static const char *const bad[] = { "nfs://", "nfs://host",
		"nfs:///path", "http://host/path", "nfs://host:2049/path",
		"nfs://host/path?nfsport=0", "nfs://host/path?what=1",
		"nfs://host/a/../b", "nfs://host/path?nfsport" };
	char name[NFS3_NAME_MAX + 1];
	struct err e = { 0 };
	struct nfs3_url u;

	(void)state;
	assert_int_equal(
	    nfs3_url_parse("nfs://nas.lan/export/vm/?nfsport=12049&uid=7"
			   "&version=3",
		&u, &e),
	    0);
	assert_string_equal(u.host, "nas.lan");
	assert_string_equal(u.path, "/export/vm");
	assert_true(u.nfsport == 12049 && u.mountport == 0 && u.uid == 7 &&
	    u.gid == -1);
	assert_int_equal(nfs3_url_split(&u, name, &e), 0);
	assert_string_equal(name, "vm");
	assert_string_equal(u.path, "/export");
	assert_int_equal(nfs3_url_split(&u, name, &e), 0);
	assert_string_equal(u.path, "/");
	assert_int_equal(nfs3_url_split(&u, name, &e), ERR_INVAL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(nfs3_url_parse(bad[i], &u, &e), ERR_INVAL);
	assert_int_equal(
	    nfs3_url_parse("nfs://host/path?version=4", &u, &e), ERR_UNSUP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_are_taken_apart),
		cmocka_unit_test(
		    what_is_written_is_read_before_and_after_a_sync),
		cmocka_unit_test(one_place_written_twice_has_what_came_last),
		cmocka_unit_test(a_cut_takes_the_end_away),
		cmocka_unit_test(names_are_made_found_renamed_and_removed),
		cmocka_unit_test(a_folder_below_the_export_is_found_or_made),
		cmocka_unit_test(
		    what_a_server_lost_before_the_sync_is_sent_again),
		cmocka_unit_test(work_waits_for_a_server_that_is_away),
		cmocka_unit_test(patience_with_a_stalled_server_ends),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
