/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/nfs/nfs3.h"
#include "repo/store/volume.h"
#include "tests/unit/nfs_room.h"

static char path[96];
static int dirfd_;
static struct volume *v;

static int
setup(void **state)
{
	struct err e;

	(void)state;
	strcpy(path, "/tmp/test_volume.XXXXXX");
	if (mkdtemp(path) == NULL)
		return -1;
	dirfd_ = open(path, O_RDONLY | O_DIRECTORY);
	if (volume_dir_open(dirfd_, &v, &e) != ERR_NOENT)
		return -1;
	return volume_dir_init(dirfd_, &e) == 0 &&
		volume_dir_init(dirfd_, &e) == 0 &&
		volume_dir_open(dirfd_, &v, &e) == 0
	    ? 0
	    : -1;
}

static struct nfs_room room;

static int
setup_server(void **state)
{
	(void)state;
	nfs_room_open(&room);
	return 0;
}

static int
teardown_server(void **state)
{
	(void)state;
	nfs_room_close(&room);
	return 0;
}

/* The same on an export, whose folders are seen from here, too. */
static int
setup_nfs(void **state)
{
	struct volume_nfs_options o = { .patience_ms = 20000, .make = true };
	struct err e = { 0 };
	char *query, url[256];

	(void)state;
	snprintf(path, sizeof(path), "%s/export/XXXXXX", room.dir);
	if (mkdtemp(path) == NULL)
		return -1;
	dirfd_ = open(path, O_RDONLY | O_DIRECTORY);
	query = strchr(room.url, '?');
	snprintf(url, sizeof(url), "%.*s%s/packs%s", (int)(query - room.url),
	    room.url, strrchr(path, '/'), query);
	if (volume_nfs_open(url, dirfd_, &o, &v, &e) != 0)
		fail_msg("%s", e.text);
	return 0;
}

static int
remove_one(void *arg, const struct volume_name *name)
{
	(void)arg;
	return volume_remove(v, name->number);
}

static int
remove_path(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(name);
}

static int
teardown(void **state)
{
	(void)state;
	assert_int_equal(volume_each(v, remove_one, NULL), 0);
	volume_close(v);
	close(dirfd_);
	return nftw(path, remove_path, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static void
write_at(struct volume_file *f, const char *s, uint64_t off)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)(uintptr_t)s, .iov_len = 1 },
		{ .iov_base = (void *)(uintptr_t)(s + 1),
		    .iov_len = strlen(s) - 1 },
	};

	assert_int_equal(volume_write(f, iov, 2, off), 0);
}

static bool
is_there(const char *name)
{
	char full[128];

	snprintf(full, sizeof(full), "%s/packs/%s", path, name);
	return access(full, F_OK) == 0;
}

static void
a_pack_is_created_written_read_and_cut(void **state)
{
	struct volume_file *f, *g;
	uint64_t size;
	char b[32];
	size_t got;

	(void)state;
	assert_int_equal(volume_create(v, 0x12345, &f), 0);
	assert_true(is_there("0048/00012345.pack"));
	assert_int_equal(volume_create(v, 0x12345, &g), ERR_EXIST);
	assert_int_equal(volume_reserve(f, 1 << 20), 0);
	assert_int_equal(volume_size(f, &size), 0);
	assert_int_equal(size, 0);
	write_at(f, "hello world", 0);
	assert_int_equal(volume_flush(f, 0, 11), 0);
	assert_int_equal(volume_sync(f), 0);
	assert_int_equal(volume_open(v, 0x12345, false, &g), 0);
	assert_int_equal(volume_read(g, b, sizeof(b), 6, &got), 0);
	assert_int_equal(got, 5);
	assert_memory_equal(b, "world", 5);
	assert_int_equal(volume_read(g, b, sizeof(b), 11, &got), 0);
	assert_int_equal(got, 0);
	assert_int_equal(volume_cut(f, 5), 0);
	assert_int_equal(volume_size(g, &size), 0);
	assert_int_equal(size, 5);
	volume_file_close(g);
	volume_file_close(f);
	assert_int_equal(volume_open(v, 0x12346, false, &g), ERR_NOENT);
}

static void
a_poisoned_pack_is_read_and_its_number_not_used_again(void **state)
{
	struct volume_file *f, *g;
	size_t got;
	char b[4];

	(void)state;
	assert_int_equal(volume_poison(v, 7), ERR_NOENT);
	assert_int_equal(volume_create(v, 7, &f), 0);
	write_at(f, "abcd", 0);
	assert_int_equal(volume_poison(v, 7), 0);
	assert_int_equal(volume_poison(v, 7), 0);
	assert_true(is_there("0000/00000007.poisoned"));
	assert_false(is_there("0000/00000007.pack"));
	assert_int_equal(volume_create(v, 7, &g), ERR_EXIST);
	assert_int_equal(volume_read(f, b, 4, 0, &got), 0);
	volume_file_close(f);
	assert_int_equal(volume_open(v, 7, false, &g), 0);
	assert_int_equal(volume_read(g, b, 4, 0, &got), 0);
	assert_int_equal(got, 4);
	volume_file_close(g);
	assert_int_equal(volume_remove(v, 7), 0);
	assert_int_equal(volume_remove(v, 7), ERR_NOENT);
}

struct list {
	struct volume_name name[16];
	unsigned n;
};

static int
list_one(void *arg, const struct volume_name *name)
{
	struct list *l = arg;

	assert_true(l->n < 16);
	l->name[l->n++] = *name;
	return 0;
}

static int
stop_at_once(void *arg, const struct volume_name *name)
{
	(void)name;
	++*(unsigned *)arg;
	return 55;
}

static void
each_tells_packs_and_ignores_what_is_foreign(void **state)
{
	static const uint32_t numbers[] = { 1, 1023, 1024, 0xffffffff };
	static const char *const foreign[] = { "0000/00000002.pack.tmp",
		"0000/2.pack", "0000/0000000A.pack", "0001/00000003.pack",
		"0000/00000000.pack", "0000/000000001.pack", "0000/.pack",
		"readme" };
	struct volume_file *f;
	struct list l = { 0 };
	unsigned n = 0;
	char full[128];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(volume_create(v, numbers[i], &f), 0);
		volume_file_close(f);
	}
	assert_int_equal(volume_poison(v, 1024), 0);
	for (unsigned i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		snprintf(full, sizeof(full), "%s/packs/%s", path, foreign[i]);
		int fd = open(full, O_WRONLY | O_CREAT | O_EXCL, 0600);
		assert_int_not_equal(fd, -1);
		close(fd);
	}
	snprintf(full, sizeof(full), "%s/packs/00000", path);
	assert_int_equal(mkdir(full, 0700), 0);
	assert_int_equal(volume_each(v, list_one, &l), 0);
	assert_int_equal(l.n, 4);
	for (unsigned i = 0; i < 4; i++) {
		unsigned k = 0;

		while (k < 4 && l.name[k].number != numbers[i])
			k++;
		assert_true(k < 4);
		assert_int_equal(l.name[k].poisoned, numbers[i] == 1024);
	}
	assert_int_equal(volume_each(v, stop_at_once, &n), 55);
	assert_int_equal(n, 1);
}

static void
a_full_volume_refuses_to_reserve_and_changes_nothing(void **state)
{
	uint64_t before, after, total, size;
	struct volume_file *f;
	char packs[128];
	struct err e;

	(void)state;
	volume_close(v);
	snprintf(packs, sizeof(packs), "%s/packs", path);
	if (mount("tmpfs", packs, "tmpfs", 0, "size=4m") == -1)
		fail_msg("needs to mount a tmpfs (run as root): %s",
		    strerror(errno));
	assert_int_equal(volume_dir_open(dirfd_, &v, &e), 0);
	assert_int_equal(volume_create(v, 1, &f), 0);
	write_at(f, "kept", 0);
	assert_int_equal(volume_space(v, &before, &total), 0);
	assert_true(total == 4 << 20);
	assert_int_equal(volume_reserve(f, 16 << 20), ERR_NOSPC);
	assert_int_equal(volume_space(v, &after, &total), 0);
	assert_true(after == before);
	assert_int_equal(volume_size(f, &size), 0);
	assert_int_equal(size, 4);
	assert_int_equal(volume_reserve(f, 2 << 20), 0);
	assert_int_equal(volume_space(v, &after, &total), 0);
	assert_true(after <= before - (2 << 20) + 4096);
	assert_int_equal(volume_cut(f, 4), 0);
	assert_int_equal(volume_space(v, &after, &total), 0);
	assert_true(after == before);
	assert_int_equal(volume_remove(v, 1), 0);
	volume_file_close(f);
	volume_close(v);
	assert_int_equal(umount(packs), 0);
	assert_int_equal(volume_dir_open(dirfd_, &v, &e), 0);
}

/* A copy of the repository's folder, with a daemon of its own. */
static void
packs_that_another_daemon_has_are_refused(void **state)
{
	struct volume_nfs_options o = { .patience_ms = 20000 };
	char other[128], name[160], url[256], *query = strchr(room.url, '?');
	struct volume_file *f;
	struct volume *w;
	struct err e = { 0 };
	int fd;

	(void)state;
	snprintf(url, sizeof(url), "%.*s%s/packs%s", (int)(query - room.url),
	    room.url, strrchr(path, '/'), query);
	snprintf(other, sizeof(other), "%s/copy", path);
	assert_int_equal(mkdir(other, 0700), 0);
	fd = open(other, O_RDONLY | O_DIRECTORY);
	assert_int_equal(volume_nfs_open(url, fd, &o, &w, &e), ERR_BUSY);
	assert_non_null(strstr(e.text, "in use by a daemon on"));
	/* The first one is none the worse for it. */
	assert_int_equal(volume_create(v, 1, &f), 0);
	write_at(f, "abc", 0);
	assert_int_equal(volume_sync(f), 0);
	volume_file_close(f);
	/* Given back, it is free at once. */
	volume_close(v);
	assert_int_equal(volume_nfs_open(url, fd, &o, &w, &e), 0);
	volume_close(w);
	close(fd);
	snprintf(name, sizeof(name), "%s/lease", other);
	assert_int_equal(remove(name), 0);
	assert_int_equal(remove(other), 0);
	assert_int_equal(volume_nfs_open(url, dirfd_, &o, &v, &e), 0);
}

/* A record may move under a reader: he then looks for its new place. */
static void
a_pack_removed_under_a_reader_is_no_failure_of_the_disk(void **state)
{
	struct volume_file *f, *g;
	char b[4] = "";
	size_t got;
	int rc;

	(void)state;
	assert_int_equal(volume_create(v, 9, &f), 0);
	write_at(f, "abcd", 0);
	assert_int_equal(volume_sync(f), 0);
	volume_file_close(f);
	assert_int_equal(volume_open(v, 9, false, &g), 0);
	assert_int_equal(volume_read(g, b, 4, 0, &got), 0);
	assert_int_equal(volume_remove(v, 9), 0);
	rc = volume_read(g, b, 4, 0, &got);
	assert_true(rc == ERR_NOENT || (rc == 0 && got == 4));
	volume_file_close(g);
}

/* Such as the place where the server has not mounted the disk yet. */
static void
an_empty_folder_in_its_place_is_no_loss_of_packs(void **state)
{
	struct nfs3_options o = { .patience_ms = 20000 };
	struct volume_file *f;
	struct nfs3_fh fh, dir;
	struct nfs3_url u;
	struct err e = { 0 };
	struct nfs3 *n;

	(void)state;
	assert_int_equal(volume_create(v, 9, &f), 0);
	write_at(f, "abcd", 0);
	assert_int_equal(volume_sync(f), 0);
	volume_file_close(f);
	assert_int_equal(nfs3_url_parse(room.url, &u, &e), 0);
	snprintf(u.path, sizeof(u.path), "/export%s/packs", strrchr(path, '/'));
	assert_int_equal(nfs3_open(&u, &o, &n, &e), 0);
	assert_int_equal(nfs3_lookup(n, nfs3_root(n), "0000", &dir, NULL), 0);
	assert_int_equal(nfs3_lookup(n, &dir, "00000009.pack", &fh, NULL), 0);
	assert_int_equal(nfs3_rename(n, &dir, "00000009.pack", nfs3_root(n),
			     "elsewhere", &fh),
	    0);
	assert_int_equal(volume_open(v, 9, false, &f), ERR_NOENT);
	assert_int_equal(
	    nfs3_rename(n, nfs3_root(n), "lease", &dir, "l", NULL), 0);
	assert_int_equal(volume_open(v, 9, false, &f), ERR_SYS);
	assert_int_equal(
	    nfs3_rename(n, &dir, "l", nfs3_root(n), "lease", NULL), 0);
	assert_int_equal(nfs3_remove(n, nfs3_root(n), "elsewhere"), 0);
	nfs3_close(n);
}

static void
a_volume_is_closed_without_its_server(void **state)
{
	struct timespec from, upto;
	struct volume_nfs_options o = { .patience_ms = 20000 };
	char url[256], *query = strchr(room.url, '?');
	struct err e = { 0 };

	(void)state;
	snprintf(url, sizeof(url), "%.*s%s/packs%s", (int)(query - room.url),
	    room.url, strrchr(path, '/'), query);
	nfs_room_signal(&room, SIGSTOP);
	clock_gettime(CLOCK_MONOTONIC, &from);
	volume_close(v);
	clock_gettime(CLOCK_MONOTONIC, &upto);
	nfs_room_signal(&room, SIGCONT);
	assert_in_range(upto.tv_sec - from.tv_sec, 0, 8);
	/* It was not given back; and it is ours. */
	assert_int_equal(volume_nfs_open(url, dirfd_, &o, &v, &e), 0);
}

/* Which pages of pack 7 are cached, a byte each. */
static size_t
cached_pages(uint8_t *there, size_t max)
{
	char name[160];
	struct stat st = { .st_size = 0 };
	size_t n, count = 0;
	void *map;
	int fd;

	snprintf(name, sizeof(name), "%s/packs/0000/00000007.pack", path);
	fd = open(name, O_RDONLY);
	assert_true(fd != -1 && fstat(fd, &st) == 0);
	n = ((size_t)st.st_size + 4095) / 4096;
	assert_true(n <= max);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(mincore(map, (size_t)st.st_size, there), 0);
	munmap(map, (size_t)st.st_size);
	close(fd);
	for (size_t i = 0; i < n; i++)
		count += there[i] & 1;
	return count;
}

static void
who_reads_all_leaves_the_cache_as_it_was(void **state)
{
	enum { LEN = 8 << 20, PAGES = LEN / 4096 };
	static uint8_t before[PAGES], after[PAGES];
	char *data = calloc(1, LEN);
	struct iovec iov = { data, LEN };
	struct volume_file *f;
	size_t got, n;
	char name[160];
	int fd;

	(void)state;
	assert_int_equal(volume_create(v, 7, &f), 0);
	assert_int_equal(volume_write(f, &iov, 1, 0), 0);
	assert_int_equal(volume_sync(f), 0);
	volume_file_close(f);
	snprintf(name, sizeof(name), "%s/packs/0000/00000007.pack", path);
	fd = open(name, O_RDONLY);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(cached_pages(before, PAGES), 0);
	/* What others read of it, here and there. */
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
	assert_int_equal(pread(fd, data, 1 << 20, 3 << 20), 1 << 20);
	assert_int_equal(pread(fd, data, 4096, 6 << 20), 4096);
	close(fd);
	n = cached_pages(before, PAGES);
	assert_in_range(n, 257, PAGES - 1);

	assert_int_equal(volume_open(v, 7, false, &f), 0);
	volume_note_cache(f);
	assert_int_equal(volume_read(f, data, LEN, 0, &got), 0);
	assert_int_equal(got, LEN);
	assert_int_equal(cached_pages(after, PAGES), PAGES);
	volume_forget(f);
	assert_int_equal(cached_pages(after, PAGES), n);
	assert_memory_equal(before, after, PAGES);
	volume_file_close(f);
	free(data);
}

int
main(void)
{
#define LOCAL(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define NFS(test) cmocka_unit_test_setup_teardown(test, setup_nfs, teardown)
	const struct CMUnitTest tests[] = {
		LOCAL(a_pack_is_created_written_read_and_cut),
		LOCAL(a_poisoned_pack_is_read_and_its_number_not_used_again),
		LOCAL(each_tells_packs_and_ignores_what_is_foreign),
		LOCAL(a_full_volume_refuses_to_reserve_and_changes_nothing),
		LOCAL(a_pack_removed_under_a_reader_is_no_failure_of_the_disk),
		LOCAL(who_reads_all_leaves_the_cache_as_it_was),
	};
	const struct CMUnitTest nfs[] = {
		NFS(a_pack_is_created_written_read_and_cut),
		NFS(a_poisoned_pack_is_read_and_its_number_not_used_again),
		NFS(each_tells_packs_and_ignores_what_is_foreign),
		NFS(packs_that_another_daemon_has_are_refused),
		NFS(a_pack_removed_under_a_reader_is_no_failure_of_the_disk),
		NFS(an_empty_folder_in_its_place_is_no_loss_of_packs),
		NFS(a_volume_is_closed_without_its_server),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	return failed +
	    cmocka_run_group_tests(nfs, setup_server, teardown_server);
}
