/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "repo/store/index_private.h"
#include "tests/unit/index_fixture.h"

static char path[64];
static const struct index_options options = {
	.block_cache = 8 << 20, .memtables = 8 << 20, .create = true
};

static struct index *
open_index(void)
{
	struct index *x;
	struct err e;

	if (index_open(path, &options, &x, &e) != 0)
		fail_msg("%s", e.text);
	return x;
}

static int
setup(void **state)
{
	(void)state;
	strcpy(path, "/tmp/test_index.XXXXXX");
	return mkdtemp(path) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(index_destroy(path, &e), 0);
	/* It removes an empty folder itself. */
	assert_int_equal(access(path, F_OK), -1);
	return 0;
}

static struct id
id_of(uint64_t i)
{
	struct id id;

	for (unsigned k = 0; k < 4; k++) {
		uint64_t v = (i + 1) * 0x9e3779b97f4a7c15 * (k + 1);

		v ^= v >> 29;
		memcpy(id.b + 8 * k, &v, 8);
	}
	memcpy(id.b + 24, &i, 8);
	return id;
}

/* What RocksDB makes of merges and removals is what index_merge makes. */
static void
random_batches_agree_with_a_model_over_reopens(void **state)
{
	enum { IDS = 200, ROUNDS = 60, OPS = 300 };
	struct index_entry model[IDS], got, many[IDS];
	bool there[IDS] = { 0 };
	struct index *x = open_index();
	struct id ids[IDS];

	(void)state;
	rnd_seed();
	memset(model, 0, sizeof(model));
	for (unsigned i = 0; i < IDS; i++)
		ids[i] = id_of(i);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct index_batch *b = index_batch_new(x);

		for (unsigned k = 0; k < OPS; k++) {
			unsigned i = (unsigned)(rnd() % IDS);

			if (rnd() % 8 == 0) {
				index_batch_remove(b, &ids[i]);
				memset(&model[i], 0, sizeof(model[i]));
				there[i] = false;
			} else {
				struct index_entry op = rnd_op();

				index_batch_merge(b, &ids[i], &op);
				index_merge(&model[i], &op);
				model[i].clear = 0;
				there[i] = true;
			}
		}
		assert_int_equal(index_batch_write(b, round % 2 != 0), 0);
		index_batch_free(b);
		if (round % 10 == 9) {
			index_close(x);
			x = open_index();
		}
		assert_int_equal(index_get_many(x, ids, IDS, many), 0);
		for (unsigned i = 0; i < IDS; i++) {
			int rc = index_get(x, &ids[i], &got);

			assert_same(&got, &model[i]);
			assert_int_equal(
			    rc, index_present(&model[i]) ? 0 : ERR_NOENT);
			if (rc != 0)
				assert_int_equal(many[i].place.pack, 0);
			else
				assert_same(&many[i], &model[i]);
			assert_true(there[i] || rc == ERR_NOENT);
		}
	}
	index_close(x);
}

/* The number of the version, read and written under the index. */
static uint64_t
version(struct index *x, uint64_t set)
{
	uint8_t key[INDEX_NUMBER_KEY_LEN], value[8];
	char *err = NULL, *got;
	uint64_t v;
	size_t len;

	index_number_key('v', key);
	got = rocksdb_get_cf(x->db, x->read, x->cf[CF_DEFAULT],
	    (const char *)key, sizeof(key), &len, &err);
	assert_null(err);
	assert_non_null(got);
	assert_int_equal(len, sizeof(value));
	v = get_le64((const uint8_t *)got);
	rocksdb_free(got);
	if (set != 0) {
		put_le64(value, set);
		rocksdb_put_cf(x->db, x->write_sync, x->cf[CF_DEFAULT],
		    (const char *)key, sizeof(key), (const char *)value,
		    sizeof(value), &err);
		assert_null(err);
	}
	return v;
}

/* As version 1 wrote it: values and operands of the whole form, in tables and
 * in the WAL. */
static void
make_old(const struct id *ids, struct index_entry *entries, unsigned n)
{
	struct index *x = open_index();
	uint8_t b[INDEX_ENTRY_LEN];
	char *err = NULL;

	for (unsigned i = 0; i < n; i++) {
		struct index_entry op = rnd_op();

		memset(&entries[i], 0, sizeof(entries[i]));
		index_merge(&entries[i], &op);
		entries[i].clear = 0;
		op = rnd_op();
		print_whole(&entries[i], b);
		rocksdb_put_cf(x->db, x->write, x->cf[CF_ENTRIES],
		    (const char *)ids[i].b, ID_LEN, (const char *)b, sizeof(b),
		    &err);
		assert_null(err);
		if (i == n / 2)
			rocksdb_compact_range_cf(
			    x->db, x->cf[CF_ENTRIES], NULL, 0, NULL, 0);
		if (i % 2 != 0)
			continue;
		print_whole(&op, b);
		rocksdb_merge_cf(x->db, x->write, x->cf[CF_ENTRIES],
		    (const char *)ids[i].b, ID_LEN, (const char *)b, sizeof(b),
		    &err);
		assert_null(err);
		index_merge(&entries[i], &op);
		entries[i].clear = 0;
	}
	assert_int_equal(version(x, 1), 2);
	index_close(x);
}

static void
an_index_of_version_1_is_read_and_changed(void **state)
{
	enum { IDS = 200 };
	struct index_options o = options;
	struct index_entry entries[IDS], got;
	struct id ids[IDS];
	struct index_batch *b;
	struct index *x;
	struct err e;

	(void)state;
	rnd_seed();
	for (unsigned i = 0; i < IDS; i++)
		ids[i] = id_of(i);
	make_old(ids, entries, IDS);
	o.read_only = true;
	assert_int_equal(index_open(path, &o, &x, &e), 0);
	for (unsigned i = 0; i < IDS; i++) {
		index_get(x, &ids[i], &got);
		assert_same(&got, &entries[i]);
	}
	assert_int_equal(version(x, 0), 1);
	index_close(x);

	x = open_index();
	assert_int_equal(version(x, 0), 2);
	b = index_batch_new(x);
	for (unsigned i = 0; i < IDS; i += 3) {
		struct index_entry op = rnd_op();

		index_batch_merge(b, &ids[i], &op);
		index_merge(&entries[i], &op);
		entries[i].clear = 0;
	}
	assert_int_equal(index_batch_write(b, true), 0);
	index_batch_free(b);
	index_close(x);
	x = open_index();
	for (unsigned i = 0; i < IDS; i++) {
		index_get(x, &ids[i], &got);
		assert_same(&got, &entries[i]);
	}
	/* What is to come is refused. */
	version(x, 3);
	index_close(x);
	assert_int_equal(index_open(path, &options, &x, &e), ERR_UNSUP);
}

static void
a_decrement_after_removal_reads_as_missing(void **state)
{
	struct index_entry put = { .place = { .pack = 1, .off = 128 },
		.refs = 1,
		.stamp = 1,
		.kind = RECORD_CHUNK },
			   down = { .refs = -1, .stamp = 2 }, got;
	struct index *x = open_index();
	struct index_batch *b;
	struct id id = id_of(1);

	(void)state;
	b = index_batch_new(x);
	index_batch_merge(b, &id, &put);
	assert_int_equal(index_batch_write(b, true), 0);
	index_batch_free(b);
	assert_int_equal(index_get(x, &id, &got), 0);
	b = index_batch_new(x);
	index_batch_remove(b, &id);
	index_batch_merge(b, &id, &down);
	assert_int_equal(index_batch_write(b, true), 0);
	index_batch_free(b);
	assert_int_equal(index_get(x, &id, &got), ERR_NOENT);
	assert_int_equal(got.refs, -1);
	assert_int_equal(got.place.pack, 0);
	index_close(x);
}

struct got_backup {
	struct id id;
	struct place place;
	char text[16];
	unsigned n;
	bool hidden;
};

static int
see_backup(void *arg, const struct index_backup *b)
{
	struct got_backup *g = arg;

	g->id = b->id;
	g->place = b->place;
	g->hidden = b->hidden;
	memcpy(g->text, b->manifest, b->len);
	g->n++;
	return 0;
}

static int
see_pack(void *arg, const struct pack_info *info)
{
	*(struct pack_info *)arg = *info;
	return 0;
}

struct got_dying {
	uint64_t stamp[8];
	unsigned n;
};

static int
see_dying(void *arg, uint64_t stamp, const struct id *id)
{
	struct got_dying *g = arg;

	(void)id;
	g->stamp[g->n++] = stamp;
	return g->n == 4 ? 77 : 0;
}

static void
all_column_families_come_back(void **state)
{
	struct pack_info info = { .number = 9,
		.mirror = 10,
		.type = PACK_META,
		.state = PACK_SEALED,
		.domain = 4,
		.tag = UINT64_MAX - 1,
		.known = 1 << 30,
		.live = -5 },
			 pack;
	struct place place = {
		.pack = 3, .off = 999, .stored_len = 5, .raw_len = 6, .codec = 1
	};
	struct got_backup g = { 0 };
	struct got_dying d = { 0 };
	struct index *x = open_index();
	uint8_t uuid[16], back[16];
	struct index_size size;
	struct index_batch *b;
	struct id id = id_of(1);
	uint64_t n;
	struct index_backup got;
	struct buf data = { 0 };

	(void)state;
	memset(uuid, 0xab, sizeof(uuid));
	assert_int_equal(index_uuid_get(x, back), ERR_NOENT);
	assert_int_equal(index_number(x, INDEX_PUBLISHED, &n), 0);
	assert_true(n == 0);
	b = index_batch_new(x);
	index_batch_uuid(b, uuid);
	index_batch_number(b, INDEX_PUBLISHED, 12345678901);
	index_batch_pack(b, &info);
	index_batch_backup(b,
	    &(struct index_backup){ .id = id,
		.place = place,
		.hidden = true,
		.manifest = "manifest",
		.len = 8 });
	for (uint64_t i = 0; i < 5; i++)
		index_batch_dying(b, 300 - 50 * i, &id);
	index_batch_undying(b, 200, &id);
	assert_int_equal(index_batch_write(b, true), 0);
	index_batch_free(b);
	index_close(x);
	x = open_index();
	assert_int_equal(index_uuid_get(x, back), 0);
	assert_memory_equal(back, uuid, 16);
	assert_int_equal(index_number(x, INDEX_PUBLISHED, &n), 0);
	assert_true(n == 12345678901);
	memset(&pack, 0, sizeof(pack));
	assert_int_equal(index_packs_each(x, see_pack, &pack), 0);
	assert_int_equal(pack.number, info.number);
	assert_int_equal(pack.mirror, info.mirror);
	assert_int_equal(pack.type, info.type);
	assert_int_equal(pack.state, info.state);
	assert_int_equal(pack.domain, info.domain);
	assert_true(pack.tag == info.tag);
	assert_true(pack.known == info.known);
	assert_true(pack.live == info.live);
	assert_int_equal(index_backups_each(x, see_backup, &g), 0);
	assert_int_equal(g.n, 1);
	assert_true(id_equal(&g.id, &id));
	assert_int_equal(g.place.off, 999);
	assert_string_equal(g.text, "manifest");
	assert_true(g.hidden);
	assert_int_equal(index_backup_get(x, &id, &got, &data), 0);
	assert_true(got.hidden);
	assert_int_equal(got.place.off, 999);
	assert_int_equal(got.len, 8);
	assert_memory_equal(got.manifest, "manifest", 8);
	buf_fini(&data);
	assert_int_equal(index_dying_each(x, 0, 300, see_dying, &d), 0);
	assert_int_equal(d.n, 3);
	assert_int_equal(d.stamp[0], 100);
	assert_int_equal(d.stamp[1], 150);
	assert_int_equal(d.stamp[2], 250);
	assert_int_equal(index_dying_each(x, 151, 301, see_dying, &d), 77);
	assert_int_equal(index_size(x, &size), 0);
	assert_true(size.bytes > 0);
	b = index_batch_new(x);
	index_batch_pack_remove(b, 9);
	index_batch_backup_remove(b, &id);
	assert_int_equal(index_batch_write(b, false), 0);
	index_batch_free(b);
	memset(&g, 0, sizeof(g));
	assert_int_equal(index_backups_each(x, see_backup, &g), 0);
	assert_int_equal(g.n, 0);
	index_close(x);
}

struct order {
	struct id last;
	unsigned n;
};

static int
in_order(void *arg, const struct id *id, const struct index_entry *e)
{
	struct order *o = arg;

	(void)e;
	assert_true(o->n == 0 || memcmp(o->last.b, id->b, ID_LEN) < 0);
	o->last = *id;
	o->n++;
	return 0;
}

static void
batches_are_whole_after_a_kill(void **state)
{
	enum { BATCH = 100 };
	struct index_entry e, op = { .place = { .pack = 1 }, .refs = 1 };
	struct order o = { 0 };
	struct index *x;
	uint64_t n;
	int status, fds[2];
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		x = open_index();
		for (uint64_t k = 1;; k++) {
			struct index_batch *b = index_batch_new(x);

			for (uint64_t i = 0; i < BATCH; i++) {
				struct id id = id_of(k * BATCH + i);

				index_batch_merge(b, &id, &op);
			}
			index_batch_number(b, INDEX_PUBLISHED, k);
			if (index_batch_write(b, k % 10 == 0) != 0)
				_exit(1);
			index_batch_free(b);
			if (k == 50 && write(fds[1], "x", 1) != 1)
				_exit(1);
		}
	}
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	close(fds[0]);
	close(fds[1]);
	x = open_index();
	assert_int_equal(index_number(x, INDEX_PUBLISHED, &n), 0);
	assert_true(n >= 50);
	assert_int_equal(index_each(x, in_order, &o), 0);
	assert_int_equal(o.n, n * BATCH);
	for (uint64_t i = BATCH; i < (n + 1) * BATCH; i++) {
		struct id id = id_of(i);

		assert_int_equal(index_get(x, &id, &e), 0);
		assert_int_equal(e.refs, 1);
	}
	index_close(x);
}

static void
open_says_what_is_wrong(void **state)
{
	struct index_options o = options;
	struct index *x, *y;
	char name[128];
	struct err e;
	int fd;

	(void)state;
	o.create = false;
	assert_int_equal(index_open(path, &o, &x, &e), ERR_NOENT);
	x = open_index();
	assert_int_equal(index_open(path, &options, &y, &e), ERR_BUSY);
	assert_int_equal(index_destroy(path, &e), ERR_BUSY);
	index_close(x);
	assert_int_equal(index_open(path, &o, &x, &e), 0);
	index_close(x);
	o.read_only = true;
	assert_int_equal(index_open(path, &o, &x, &e), 0);
	index_close(x);
	snprintf(name, sizeof(name), "%s/CURRENT", path);
	fd = open(name, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "MANIFEST-999999\n", 16), 16);
	close(fd);
	assert_int_equal(index_open(path, &options, &x, &e), ERR_CORRUPT);
	/* Without CURRENT it is not begun anew over what is there. */
	assert_int_equal(unlink(name), 0);
	snprintf(name, sizeof(name), "%s/000123.sst", path);
	fd = open(name, O_WRONLY | O_CREAT, 0600);
	close(fd);
	assert_int_equal(index_open(path, &options, &x, &e), ERR_CORRUPT);
}

static atomic_bool stop;

static void *
read_all_the_time(void *arg)
{
	struct index_entry e[64];
	struct index *x = arg;
	struct id ids[64];

	while (!atomic_load(&stop)) {
		for (unsigned i = 0; i < 64; i++)
			ids[i] = id_of(i * 100);
		if (index_get_many(x, ids, 64, e) != 0)
			abort();
		for (unsigned i = 0; i < 64; i++)
			if (e[i].place.pack != 0 && e[i].refs < 1)
				abort();
	}
	return NULL;
}

static void
reads_run_beside_batches(void **state)
{
	struct index_entry op = { .place = { .pack = 1 }, .refs = 1 }, e;
	struct index *x = open_index();
	pthread_t t[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
		    pthread_create(&t[i], NULL, read_all_the_time, x), 0);
	for (uint64_t k = 0; k < 100; k++) {
		struct index_batch *b = index_batch_new(x);

		for (uint64_t i = 0; i < 1000; i++) {
			struct id id = id_of((i + k * 131) % 9973);

			index_batch_merge(b, &id, &op);
		}
		assert_int_equal(index_batch_write(b, false), 0);
		index_batch_free(b);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	struct id id = id_of(0);
	assert_int_equal(index_get(x, &id, &e), 0);
	index_close(x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: it forks, and RocksDB's threads would not follow. */
		cmocka_unit_test_setup_teardown(
		    batches_are_whole_after_a_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    an_index_of_version_1_is_read_and_changed, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    random_batches_agree_with_a_model_over_reopens, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    a_decrement_after_removal_reads_as_missing, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    all_column_families_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    open_says_what_is_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    reads_run_beside_batches, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
