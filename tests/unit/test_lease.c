/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that was cut off from its packs, and what it sends later. */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "repo/store/lease.h"
#include "repo/store/volume.h"
#include "tests/unit/nfs_proxy.h"

static struct nfs_room room;
static struct nfs_proxy *proxy;
static atomic_bool cut;
static char by_proxy[320], direct[320];
static struct volume *one; /* by the proxy */
static int repo[2];

/* Nothing arrives, and nobody is told. */
static enum proxy_fate
look(void *arg, uint32_t proc, bool answer, uint8_t *body, size_t len)
{
	(void)arg;
	(void)proc;
	(void)answer;
	(void)body;
	(void)len;
	return atomic_load(&cut) ? PROXY_LOSE : PROXY_PASS;
}

static void
packs_of(const char *export, char *out, size_t len)
{
	const char *query = strchr(export, '?');

	snprintf(
	    out, len, "%.*s/packs%s", (int)(query - export), export, query);
}

static int
setup(void **state)
{
	char url[256], name[128];

	(void)state;
	nfs_room_open(&room);
	proxy = nfs_proxy_new(&room, look, NULL, url, sizeof(url));
	packs_of(url, by_proxy, sizeof(by_proxy));
	packs_of(room.url, direct, sizeof(direct));
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s/repo%d", room.dir, i);
		assert_int_equal(mkdir(name, 0700), 0);
		repo[i] = open(name, O_RDONLY | O_DIRECTORY);
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	nfs_proxy_free(proxy);
	nfs_room_close(&room);
	close(repo[0]);
	close(repo[1]);
	return 0;
}

static struct volume *
take(const char *url, int dirfd)
{
	struct volume_nfs_options o = { .patience_ms = 3000, .make = true };
	struct volume *v;
	struct err e = { 0 };

	if (volume_nfs_open(url, dirfd, &o, &v, &e) != 0)
		fail_msg("%s", e.text);
	return v;
}

static void
append(struct volume_file *f, const char *text, uint64_t off)
{
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };

	assert_int_equal(volume_write(f, &iov, 1, off), 0);
}

static uint64_t
size_of(const char *name)
{
	char path[160];
	struct stat st;

	snprintf(path, sizeof(path), "%s/export/packs/0000/%s", room.dir, name);
	return stat(path, &st) == 0 ? (uint64_t)st.st_size : UINT64_MAX;
}

static void *
remove_it(void *arg)
{
	(void)arg;
	return volume_remove(one, 1) == ERR_SYS ? NULL : one;
}

static void *
condemn_it(void *arg)
{
	(void)arg;
	return volume_poison(one, 2) == ERR_SYS ? NULL : one;
}

static void *
sync_it(void *arg)
{
	return volume_sync(arg) == ERR_SYS ? NULL : arg;
}

/*
 * It has begun to remove a pack, to condemn one and to append to one when the
 * line goes; another takes the packs; and the line comes back.
 */
static void
what_a_daemon_cut_off_still_wanted_does_not_happen(void **state)
{
	pthread_t late[3];
	struct volume_file *f, *g;
	struct volume *two;
	char b[4];
	size_t got;
	void *bad;

	(void)state;
	one = take(by_proxy, repo[0]);
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(volume_create(one, i, &f), 0);
		append(f, "abcd", 0);
		assert_int_equal(volume_sync(f), 0);
		if (i == 1)
			volume_file_close(f);
	}
	atomic_store(&cut, true);
	append(f, "efgh", 4);
	pthread_create(&late[0], NULL, remove_it, NULL);
	pthread_create(&late[1], NULL, condemn_it, NULL);
	pthread_create(&late[2], NULL, sync_it, f);
	two = take(direct, repo[1]);
	atomic_store(&cut, false);
	for (int i = 0; i < 3; i++) {
		pthread_join(late[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(size_of("00000001.pack"), 4);
	assert_int_equal(size_of("00000002.pack"), 4);
	/* Nor does anything new. */
	assert_int_equal(volume_remove(one, 1), ERR_SYS);
	assert_int_equal(volume_create(one, 3, &g), ERR_SYS);
	volume_file_close(f);
	volume_close(one);
	assert_int_equal(volume_open(two, 1, false, &g), 0);
	assert_int_equal(volume_read(g, b, 4, 0, &got), 0);
	assert_int_equal(got, 4);
	volume_file_close(g);
	/* It has the packs, and gives them back. */
	assert_int_equal(volume_remove(two, 1), 0);
	volume_close(two);
	one = take(direct, repo[0]);
	volume_close(one);
}

/* The same folder of the same name, with the number that it had: only the
 * kernel is another. */
static void
a_copy_of_the_whole_machine_does_not_pass_for_it(void **state)
{
	struct volume_nfs_options o = { .patience_ms = 20000 };
	struct volume *v = take(direct, repo[0]), *w;
	struct buf text = { 0 }, boot = { 0 };
	struct err e = { 0 };
	char *at;

	(void)state;
	assert_int_equal(file_read(repo[0], "lease", 1000, &text), 0);
	assert_int_equal(
	    file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 100, &boot),
	    0);
	at = strstr(buf_cstr(&text), buf_cstr(&boot));
	assert_non_null(at);
	*at = *at == 'a' ? 'b' : 'a';
	assert_int_equal(
	    file_replace(repo[0], "lease", text.data, text.len, 0600), 0);
	assert_int_equal(
	    volume_nfs_open(direct, repo[0], &o, &w, &e), ERR_BUSY);
	volume_close(v);
	buf_fini(&text);
	buf_fini(&boot);
}

struct taker {
	pthread_t thread;
	int dirfd, rc;
	struct volume *v;
};

static void *
take_thread(void *arg)
{
	struct volume_nfs_options o = { .patience_ms = 20000 };
	struct taker *t = arg;
	struct err e = { 0 };

	t->rc = volume_nfs_open(direct, t->dirfd, &o, &t->v, &e);
	return NULL;
}

/* Of two that begin at once one has them, whether a third one left its record
 * or not. */
static void
of_two_that_begin_at_once_one_has_the_packs(void **state)
{
	struct taker t[2];

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (int i = 0; i < 2; i++) {
			t[i] = (struct taker){ .dirfd = repo[i] };
			pthread_create(&t[i].thread, NULL, take_thread, &t[i]);
		}
		for (int i = 0; i < 2; i++)
			pthread_join(t[i].thread, NULL);
		assert_int_equal((t[0].rc == 0) + (t[1].rc == 0), 1);
		for (int i = 0; i < 2; i++) {
			if (t[i].rc == 0)
				volume_close(t[i].v);
			else
				assert_int_equal(t[i].rc, ERR_BUSY);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    what_a_daemon_cut_off_still_wanted_does_not_happen),
		cmocka_unit_test(
		    a_copy_of_the_whole_machine_does_not_pass_for_it),
		cmocka_unit_test(of_two_that_begin_at_once_one_has_the_packs),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
