/* SPDX-License-Identifier: Apache-2.0 */
/* What a server may do, and a good one seldom does: a real one, whose calls
 * and answers are lost, changed or late. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/nfs/nfs3_file.h"
#include "tests/unit/nfs_proxy.h"

enum {
	MIB = 1 << 20,
	PATIENCE_MS = 3000,
	/* RFC 1813: procedures, */
	SETATTR = 2,
	READ = 6,
	WRITE = 7,
	RENAME = 14,
	READDIR = 16,
	FSINFO = 19,
	COMMIT = 21,
	/* results, */
	DQUOT = 69,
	BAD_COOKIE = 10003,
	UNSTABLE = 0,
	FILE_SYNC = 2,
	/* and how far from its end an answer has them. */
	WRITE_COUNT = 16,
	FSINFO_WTMAX = 36,
	FSINFO_RTMAX = 48
};

static struct nfs_room room;
static struct nfs_proxy *proxy;
static struct nfs3 *n;
static char url[256];
static char *data, *back;

/* What is done to which procedure, so many times. */
static struct {
	_Atomic uint32_t proc;
	atomic_int times;
	atomic_uint calls;
	_Atomic(proxy_look *) look;
} odd;

static enum proxy_fate
look(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	proxy_look *l = atomic_load(&odd.look);

	if (proc != atomic_load(&odd.proc))
		return PROXY_PASS;
	if (!answer)
		atomic_fetch_add(&odd.calls, 1);
	return l == NULL || atomic_load(&odd.times) <= 0
	    ? PROXY_PASS
	    : l(arg, proc, answer, body, len);
}

static bool
once_more(void)
{
	return atomic_fetch_sub(&odd.times, 1) > 0;
}

static void
make_odd(uint32_t proc, int times, proxy_look *l)
{
	atomic_store(&odd.proc, proc);
	atomic_store(&odd.look, l);
	atomic_store(&odd.calls, 0);
	atomic_store(&odd.times, times);
}

static void
open_client(const char *at)
{
	struct nfs3_options o = { .patience_ms = PATIENCE_MS, .bounded = true };
	struct nfs3_url u;
	struct err e = { 0 };

	assert_int_equal(nfs3_url_parse(at, &u, &e), 0);
	if (nfs3_open(&u, &o, &n, &e) != 0)
		fail_msg("%s", e.text);
}

static int
setup(void **state)
{
	(void)state;
	nfs_room_open(&room);
	proxy = nfs_proxy_new(&room, look, NULL, url, sizeof(url));
	open_client(url);
	data = xmalloc(4 * MIB);
	back = xmalloc(4 * MIB);
	random_bytes(data, 4 * MIB);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	nfs3_close(n);
	nfs_proxy_free(proxy);
	nfs_room_close(&room);
	free(data);
	free(back);
	return 0;
}

static struct nfs3_file *
make_new(const char *name, bool patient)
{
	struct nfs3_fh fh;

	assert_int_equal(nfs3_create(n, nfs3_root(n), name, 0600, &fh), 0);
	return nfs3_file_new(n, &fh, 0, patient);
}

static struct nfs3_file *
make(const char *name)
{
	return make_new(name, false);
}

static void
put(struct nfs3_file *f, size_t from, size_t upto)
{
	struct iovec iov = { data + from, upto - from };

	assert_int_equal(nfs3_file_write(f, &iov, 1, from), 0);
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

static enum proxy_fate
lose_answer(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	(void)body;
	(void)len;
	return answer && once_more() ? PROXY_LOSE : PROXY_PASS;
}

static atomic_bool enough;

static void *
keep_asking(void *arg)
{
	struct nfs3_attr attr;

	(void)arg;
	while (!atomic_load(&enough))
		if (nfs3_getattr(n, nfs3_root(n), &attr) != 0)
			return &enough;
	return NULL;
}

/* All connections are busy meanwhile: none of them is silent. */
static void
an_answer_that_never_comes_is_asked_for_again(void **state)
{
	struct nfs3_file *f = make("hung");
	pthread_t asking[8];
	void *failed;
	uint64_t began = now_ms();
	size_t got;
	int rc;

	(void)state;
	put(f, 0, MIB);
	atomic_store(&enough, false);
	for (int i = 0; i < 8; i++)
		pthread_create(&asking[i], NULL, keep_asking, NULL);
	make_odd(COMMIT, 1, lose_answer);
	rc = nfs3_file_sync(f);
	assert_true(rc == 0 || rc == ERR_TIMEOUT);
	make_odd(READ, 1, lose_answer);
	rc = nfs3_file_read(f, back, 1000, 0, &got);
	assert_true(rc == 0 || rc == ERR_TIMEOUT);
	assert_in_range(now_ms() - began, 0, 6 * PATIENCE_MS);
	make_odd(0, 0, NULL);
	expect(f, 0, MIB);
	atomic_store(&enough, true);
	for (int i = 0; i < 8; i++) {
		pthread_join(asking[i], &failed);
		assert_null(failed);
	}
	nfs3_file_free(f);
}

static void
changes_wait_when_their_time_is_over(void **state)
{
	struct nfs3_file *f = make_new("late", true);
	struct nfs3_fh fh;
	struct nfs3_attr attr;
	char why[160];

	(void)state;
	nfs3_changes_until(n, now_ms());
	make_odd(WRITE, 0, NULL);
	put(f, 0, 100);
	/* Looks are free. */
	assert_int_equal(nfs3_lookup(n, nfs3_root(n), "late", &fh, &attr), 0);
	nfs3_file_flush(f);
	assert_int_equal(nfs3_remove(n, nfs3_root(n), "late"), ERR_TIMEOUT);
	assert_int_equal(atomic_load(&odd.calls), 0);
	/* Nor is a connection broken for that. */
	assert_string_equal(nfs3_trouble(n, why, sizeof(why)), "");
	/* As is the record of who may change things. */
	assert_int_equal(nfs3_put(n, &fh, "mine", 4), 0);
	nfs3_changes_until(n, UINT64_MAX);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, 100);
	nfs3_changes_until(n, 0);
	put(f, 100, 200);
	assert_int_equal(nfs3_file_sync(f), ERR_BUSY);
	assert_int_equal(nfs3_remove(n, nfs3_root(n), "late"), ERR_BUSY);
	nfs3_changes_until(n, UINT64_MAX);
	nfs3_file_free(f);
	assert_int_equal(nfs3_lookup(n, nfs3_root(n), "late", &fh, &attr), 0);
	assert_int_equal(attr.size, 100);
}

static enum proxy_fate
keep_call(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	(void)body;
	(void)len;
	return !answer && once_more() ? PROXY_KEEP : PROXY_PASS;
}

/* One that was sent in time is on its way when the time is over: it is sent
 * again, by another connection, when there is time anew. */
static void
what_is_under_way_when_the_time_is_over_is_cut_off(void **state)
{
	struct nfs3_file *f = make("cut-off");
	char why[160];

	(void)state;
	make_odd(WRITE, 1, keep_call);
	nfs3_changes_until(n, now_ms() + 300);
	put(f, 0, 100);
	nfs3_file_flush(f);
	while (*nfs3_trouble(n, why, sizeof(why)) == 0)
		usleep(1000);
	assert_int_equal(atomic_load(&odd.calls), 1);
	nfs3_changes_until(n, UINT64_MAX);
	assert_int_equal(nfs3_file_sync(f), 0);
	assert_int_equal(atomic_load(&odd.calls), 2);
	assert_int_equal(nfs_proxy_let_go(proxy), 1);
	expect(f, 0, 100);
	nfs3_file_free(f);
}

/* Each has a little that it does not send yet; together that is all there is
 * room for. */
static void
files_at_rest_give_their_room_to_others(void **state)
{
	enum { FILES = NFS3_KEPT_MAX / NFS3_IO_SIZE + 50 };
	static struct nfs3_file *f[FILES];
	char name[32];

	(void)state;
	make_odd(0, 0, NULL);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "little-%u", i);
		f[i] = make(name);
		put(f[i], 0, 10 + i);
	}
	for (unsigned i = 0; i < FILES; i++) {
		assert_int_equal(nfs3_file_sync(f[i]), 0);
		expect(f[i], 0, 10 + i);
		nfs3_file_free(f[i]);
	}
}

static enum proxy_fate
over_quota(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	(void)len;
	if (answer && once_more())
		proxy_set_u32(body, DQUOT);
	return PROXY_PASS;
}

/* Some file systems find out about a quota when they write to disk only. */
static void
a_file_that_failed_says_so_and_keeps_no_room(void **state)
{
	struct nfs3_file *f = make("quota"), *g = make_new("free", true);
	struct iovec iov = { data, 4 * MIB };

	(void)state;
	make_odd(COMMIT, 1 << 20, over_quota);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(nfs3_file_write(f, &iov, 1, i * 4 * MIB), 0);
	assert_int_equal(nfs3_file_sync(f), ERR_NOSPC);
	assert_int_equal(nfs3_file_write(f, &iov, 1, 0), ERR_NOSPC);
	assert_in_range(atomic_load(&odd.calls), 1, 3);
	/* All of it is there for others, who need no commit yet. */
	make_odd(COMMIT, 0, NULL);
	nfs3_changes_until(n, now_ms());
	for (unsigned i = 0; i < NFS3_KEPT_MAX / (4 * MIB) - 1; i++)
		assert_int_equal(nfs3_file_write(g, &iov, 1, i * 4 * MIB), 0);
	assert_int_equal(atomic_load(&odd.calls), 0);
	nfs3_changes_until(n, UINT64_MAX);
	assert_int_equal(nfs3_file_sync(g), 0);
	nfs3_file_free(f);
	nfs3_file_free(g);
}

/* The first answer: half of it, in memory; the next: the rest is on disk. */
static enum proxy_fate
write_in_two(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	uint8_t *count = body + len - WRITE_COUNT, *stable = count + 4;

	(void)arg;
	(void)proc;
	if (!answer)
		return PROXY_PASS;
	if (atomic_fetch_sub(&odd.times, 1) == 2) {
		proxy_set_u32(count, proxy_u32(count) / 2);
		proxy_set_u32(stable, UNSTABLE);
	} else {
		proxy_set_u32(stable, FILE_SYNC);
		/* From here on it is commits that count. */
		make_odd(COMMIT, 0, NULL);
	}
	return PROXY_PASS;
}

static void
what_is_written_in_parts_is_durable_if_all_of_them_are(void **state)
{
	struct nfs3_file *f = make("parts");

	(void)state;
	/* The first sync has a commit in any case. */
	put(f, 0, 100);
	assert_int_equal(nfs3_file_sync(f), 0);
	put(f, 100, 10000);
	make_odd(WRITE, 2, write_in_two);
	assert_int_equal(nfs3_file_sync(f), 0);
	assert_int_equal(atomic_load(&odd.calls), 1);
	expect(f, 0, 10000);
	nfs3_file_free(f);
}

static enum proxy_fate
other_verifier(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	if (answer && once_more())
		body[len - 1] ^= 0x55;
	return PROXY_PASS;
}

/* It restarted between the writes and the commit; or while they were made. */
static void
another_verifier_has_all_of_it_sent_again(void **state)
{
	enum { PIECES = 2 * MIB / NFS3_IO_SIZE };
	struct nfs3_file *f = make("verifier");

	(void)state;
	make_odd(COMMIT, 1, other_verifier);
	put(f, 0, 2 * MIB);
	nfs3_file_flush(f);
	assert_int_equal(nfs3_file_sync(f), 0);
	assert_int_equal(atomic_load(&odd.calls), 2);
	make_odd(WRITE, 3, other_verifier);
	put(f, 2 * MIB, 4 * MIB);
	assert_int_equal(nfs3_file_sync(f), 0);
	assert_int_equal(atomic_load(&odd.calls), PIECES + 3);
	expect(f, 0, 4 * MIB);
	nfs3_file_free(f);
}

/* Not even once: a call that changes a size, and comes late, does harm. */
static void
a_file_that_is_as_long_as_it_is_to_be_is_not_cut(void **state)
{
	struct nfs3_file *f = make("long");

	(void)state;
	put(f, 0, MIB + 17);
	make_odd(SETATTR, 0, NULL);
	assert_int_equal(nfs3_file_cut(f, MIB + 17), 0);
	assert_int_equal(atomic_load(&odd.calls), 0);
	assert_int_equal(nfs3_file_cut(f, MIB + 16), 0);
	assert_int_equal(atomic_load(&odd.calls), 1);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, MIB + 16);
	nfs3_file_free(f);
}

static enum proxy_fate
tiny_requests(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	if (answer && once_more()) {
		proxy_set_u32(body + len - FSINFO_RTMAX, 1);
		proxy_set_u32(body + len - FSINFO_WTMAX, 1);
	}
	return PROXY_PASS;
}

static void
a_server_cannot_ask_for_a_call_a_byte(void **state)
{
	struct nfs3_file *f;

	(void)state;
	nfs3_close(n);
	make_odd(FSINFO, 1, tiny_requests);
	open_client(url);
	f = make("tiny");
	make_odd(WRITE, 0, NULL);
	put(f, 0, MIB);
	assert_int_equal(nfs3_file_sync(f), 0);
	assert_in_range(atomic_load(&odd.calls), 2, MIB / 4096 + 1);
	make_odd(READ, 0, NULL);
	expect(f, 0, MIB);
	assert_in_range(atomic_load(&odd.calls), 2, MIB / 4096 + 1);
	nfs3_file_free(f);
	nfs3_close(n);
	open_client(url);
}

static int
count(void *arg, const char *name)
{
	(void)name;
	(*(unsigned *)arg)++;
	return 0;
}

static enum proxy_fate
bad_cookie(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	(void)len;
	/* Only where it goes on. */
	if (answer && atomic_fetch_sub(&odd.times, 1) == 2)
		proxy_set_u32(body, BAD_COOKIE);
	return PROXY_PASS;
}

static void
a_folder_that_changed_while_it_was_listed_is_listed_again(void **state)
{
	struct nfs3_fh dir, fh;
	unsigned many = 0;
	char name[32];

	(void)state;
	make_odd(0, 0, NULL);
	assert_int_equal(nfs3_mkdir(n, nfs3_root(n), "dir", 0700, &dir), 0);
	for (unsigned i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "a-name-of-a-file-%u", i);
		assert_int_equal(nfs3_create(n, &dir, name, 0600, &fh), 0);
	}
	make_odd(READDIR, 3, bad_cookie);
	assert_int_equal(nfs3_list(n, &dir, count, &many), 0);
	assert_int_equal(many, 1500);
	assert_true(atomic_load(&odd.calls) >= 4);
}

static enum proxy_fate
break_answer(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	(void)body;
	(void)len;
	return answer && once_more() ? PROXY_BREAK : PROXY_PASS;
}

static enum proxy_fate
take_it_away(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	char name[128];

	(void)arg;
	(void)proc;
	(void)body;
	(void)len;
	if (answer || !once_more())
		return PROXY_PASS;
	snprintf(name, sizeof(name), "%s/export/from", room.dir);
	assert_int_equal(unlink(name), 0);
	return PROXY_BREAK;
}

static void
a_rename_without_an_answer_is_told_from_another_file(void **state)
{
	struct nfs3_fh from, to;
	const struct nfs3_fh *dir = nfs3_root(n);

	(void)state;
	make_odd(RENAME, 1, break_answer);
	assert_int_equal(nfs3_create(n, dir, "from", 0600, &from), 0);
	assert_int_equal(nfs3_rename(n, dir, "from", dir, "to", &from), 0);
	assert_int_equal(atomic_load(&odd.calls), 2);
	assert_int_equal(nfs3_lookup(n, dir, "to", &to, NULL), 0);
	assert_true(nfs3_same(&from, &to));
	assert_int_equal(nfs3_create(n, dir, "from", 0600, &from), 0);
	make_odd(RENAME, 1, take_it_away);
	assert_int_equal(
	    nfs3_rename(n, dir, "from", dir, "to", &from), ERR_NOENT);
	assert_int_equal(nfs3_lookup(n, dir, "to", &from, NULL), 0);
	assert_true(nfs3_same(&from, &to));
}

/* The server takes one connection; the others are closed, or found closed. */
static void
one_connection_of_several_is_enough(void **state)
{
	struct nfs3_attr attr;
	struct nfs3_file *f;

	(void)state;
	make_odd(0, 0, NULL);
	nfs3_close(n);
	nfs_proxy_limit(proxy, 1);
	open_client(url);
	f = make("narrow");
	put(f, 0, 4 * MIB);
	assert_int_equal(nfs3_file_sync(f), 0);
	expect(f, 0, 4 * MIB);
	for (int i = 0; i < 100; i++)
		assert_int_equal(nfs3_getattr(n, nfs3_root(n), &attr), 0);
	nfs3_file_free(f);
	nfs_proxy_limit(proxy, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_that_never_comes_is_asked_for_again),
		cmocka_unit_test(one_connection_of_several_is_enough),
		cmocka_unit_test(changes_wait_when_their_time_is_over),
		cmocka_unit_test(
		    what_is_under_way_when_the_time_is_over_is_cut_off),
		cmocka_unit_test(files_at_rest_give_their_room_to_others),
		cmocka_unit_test(a_file_that_failed_says_so_and_keeps_no_room),
		cmocka_unit_test(
		    what_is_written_in_parts_is_durable_if_all_of_them_are),
		cmocka_unit_test(another_verifier_has_all_of_it_sent_again),
		cmocka_unit_test(
		    a_file_that_is_as_long_as_it_is_to_be_is_not_cut),
		cmocka_unit_test(a_server_cannot_ask_for_a_call_a_byte),
		cmocka_unit_test(
		    a_folder_that_changed_while_it_was_listed_is_listed_again),
		cmocka_unit_test(
		    a_rename_without_an_answer_is_told_from_another_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
