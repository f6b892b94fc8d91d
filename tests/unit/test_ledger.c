/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger over a volume whose syncs and writes fail on purpose. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "repo/store/ledger.h"
#include "tests/unit/faulty_volume.h"
#include "tests/unit/store_fixture.h"

static struct fixture f;
static struct faults faults;
static struct volume *volume;
static struct pack_set *packs;
static struct index *idx;
static struct ledger *ledger;
static int dirfd;

static int
setup(void **state)
{
	struct index_options xo = { .block_cache = 1 << 20,
		.memtables = 1 << 20 };
	struct pack_options po = { .chunk_size = FIXTURE_CHUNK,
		.hash = HASH_SHA256,
		.data_limit = PACK_DATA_LIMIT };
	struct store_format format;
	struct volume *inner;
	struct err e = { 0 };
	char path[128];

	(void)state;
	memset(&faults, 0, sizeof(faults));
	fixture_make(&f);
	fixture_close(&f);
	dirfd = open(f.dir, O_RDONLY | O_DIRECTORY);
	assert_true(dirfd != -1);
	assert_int_equal(store_format_read(f.dir, &format, &e), 0);
	memcpy(po.uuid, format.uuid, sizeof(po.uuid));
	assert_int_equal(volume_dir_open(dirfd, &inner, &e), 0);
	volume = faulty_volume_new(inner, &faults);
	packs = packs_new(volume, &po);
	snprintf(path, sizeof(path), "%s/index", f.dir);
	assert_int_equal(index_open(path, &xo, &idx, &e), 0);
	ledger = ledger_new(idx, packs, 20);
	assert_int_equal(ledger_start(ledger), 0);
	return 0;
}

static void
stop(void)
{
	if (ledger == NULL)
		return;
	ledger_stop(ledger);
	ledger_free(ledger);
	index_close(idx);
	packs_free(packs);
	volume_close(volume);
	close(dirfd);
	ledger = NULL;
}

static int
teardown(void **state)
{
	(void)state;
	stop();
	fixture_remove(&f);
	return 0;
}

static int
put(struct ledger_session *s, uint32_t n, struct err *e)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct record r = { .kind = RECORD_CHUNK,
		.raw_len = FIXTURE_CHUNK,
		.stored_len = FIXTURE_CHUNK };
	struct ledger_put p = { .record = &r, .payload = data };
	uint64_t stored;

	fixture_chunk(n, FIXTURE_CHUNK, &r.id, data);
	return ledger_put(s, &p, &stored, e);
}

/* A leaf over chunk ${n}, and a manifest with it as root. */
static int
put_and_commit(struct ledger_session *s, uint32_t n, struct err *e)
{
	static uint8_t data[FIXTURE_CHUNK];
	uint8_t body[NODE_LEN_MAX];
	struct record r = { .kind = RECORD_NODE };
	struct node node = { .level = 0, .n = 1 };
	struct ledger_put p = { .record = &r, .payload = body, .node = &node };
	struct hasher *h = hasher_new(NULL);
	struct manifest m = { .nvolumes = 1, .chunk_size = FIXTURE_CHUNK };
	uint64_t stored;
	int rc;

	rc = put(s, n, e);
	if (rc != 0)
		goto out;
	fixture_chunk(n, FIXTURE_CHUNK, &node.child[0], data);
	r.raw_len = r.stored_len = (uint32_t)node_print(&node, body);
	hasher_node(h, body, r.stored_len, &r.id);
	rc = ledger_put(s, &p, &stored, e);
	if (rc != 0)
		goto out;
	strcpy(m.vm, "a");
	strcpy(m.host, "test");
	strcpy(m.consistency, "offline");
	strcpy(m.volume[0].name, "vda");
	strcpy(m.volume[0].kind, "disk");
	strcpy(m.volume[0].format, "raw");
	m.volume[0].size = FIXTURE_CHUNK;
	m.volume[0].root = r.id;
	rc = ledger_commit(s, &m, NULL, 0, e);
out:
	hasher_free(h);
	return rc;
}

/* Until a session that was hit by a failed sync says so. */
static int
wait_over(struct ledger_session *s, struct err *e)
{
	uint64_t deadline = now_ms() + 10000;
	static uint8_t data[FIXTURE_CHUNK];
	struct ledger_found found;
	struct id id;
	int rc;

	fixture_chunk(1, FIXTURE_CHUNK, &id, data);
	do {
		rc = ledger_find(s, RECORD_CHUNK, 0, &id, 1, &found, e);
	} while (rc == 0 && now_ms() < deadline);
	return rc;
}

static unsigned
count_poisoned(void)
{
	char command[160];
	FILE *p;
	unsigned n = 0;

	snprintf(command, sizeof(command),
	    "find %s/packs -name '*.poisoned' | wc -l", f.dir);
	p = popen(command, "r");
	assert_non_null(p);
	assert_int_equal(fscanf(p, "%u", &n), 1);
	pclose(p);
	return n;
}

static void
fsck_and_open(unsigned nbackups)
{
	stop();
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, nbackups);
	fixture_close(&f);
	fixture_fsck(&f, true);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, nbackups);
}

static void
a_failed_sync_ends_every_session_and_poisons_the_pack(void **state)
{
	struct ledger_session *x, *y, *z;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(ledger_begin(ledger, 0, &x, &e), 0);
	assert_int_equal(put_and_commit(x, 1, &e), 0);
	ledger_end(x);
	assert_int_equal(ledger_begin(ledger, 0, &x, &e), 0);
	assert_int_equal(ledger_begin(ledger, 0, &y, &e), 0);
	atomic_store(&faults.sync, 1);
	assert_int_equal(put(x, 2, &e), 0);
	assert_int_equal(wait_over(x, &e), ERR_SYS);
	assert_int_equal(wait_over(y, &e), ERR_SYS);
	assert_int_equal(put(x, 3, &e), ERR_SYS);
	assert_int_equal(put_and_commit(y, 3, &e), ERR_SYS);
	ledger_end(x);
	ledger_end(y);
	assert_int_equal(count_poisoned(), 1);
	/* The store goes on: what was thrown away is simply not there. */
	assert_int_equal(ledger_begin(ledger, 0, &z, &e), 0);
	assert_int_equal(put_and_commit(z, 2, &e), 0);
	ledger_end(z);
	fsck_and_open(2);
}

/* The n-th sync of a commit fails, for each n there is: data pack, the two
 * meta packs, the two meta packs again for the manifest. */
static void
whichever_sync_of_a_commit_fails_there_is_no_backup(void **state)
{
	(void)state;
	for (int n = 1; n <= 5; n++) {
		struct ledger_session *s;
		struct err e = { 0 };

		assert_int_equal(ledger_begin(ledger, 0, &s, &e), 0);
		/* One batch for all: nothing closes it before the commit. */
		atomic_store(&faults.sync, n);
		assert_int_equal(put_and_commit(s, (uint32_t)n, &e), ERR_SYS);
		assert_int_equal(atomic_load(&faults.sync), 0);
		ledger_end(s);
		assert_true(count_poisoned() > 0);
		assert_int_equal(ledger_begin(ledger, 0, &s, &e), 0);
		assert_int_equal(put_and_commit(s, 100 + (uint32_t)n, &e), 0);
		ledger_end(s);
	}
	fsck_and_open(5);
}

static void
a_failed_write_ends_its_session_and_nothing_is_lost(void **state)
{
	struct ledger_session *x, *y;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(ledger_begin(ledger, 0, &x, &e), 0);
	assert_int_equal(put(x, 1, &e), 0);
	atomic_store(&faults.write, 1);
	assert_int_equal(put(x, 2, &e), ERR_SYS);
	ledger_end(x);
	assert_int_equal(ledger_begin(ledger, 0, &y, &e), 0);
	while (put_and_commit(y, 5, &e) != 0) {
		/* Begun before the bad pack was thrown away. */
		ledger_end(y);
		assert_int_equal(ledger_begin(ledger, 0, &y, &e), 0);
	}
	ledger_end(y);
	fsck_and_open(1);
}

static void
a_full_disk_fails_the_put_and_leaves_the_session_usable(void **state)
{
	struct ledger_session *x;
	struct err e = { 0 };
	uint32_t n = 0;

	(void)state;
	assert_int_equal(ledger_begin(ledger, 0, &x, &e), 0);
	assert_int_equal(put(x, n++, &e), 0);
	atomic_store(&faults.reserve, 1);
	while (n < 4096 && put(x, n, &e) == 0)
		n++;
	assert_int_equal(e.code, ERR_NOSPC);
	assert_non_null(strstr(e.text, "full"));
	atomic_store(&faults.reserve, 0);
	assert_int_equal(put_and_commit(x, n, &e), 0);
	ledger_end(x);
	fsck_and_open(1);
}

/* A copy waits in a pack for its move, and the pack's sync fails meanwhile. */
static void
a_copy_that_a_failed_sync_took_is_not_moved_to(void **state)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct record r = { .kind = RECORD_CHUNK,
		.raw_len = FIXTURE_CHUNK,
		.stored_len = FIXTURE_CHUNK };
	struct ledger_move m = { .kind = RECORD_CHUNK };
	struct ledger_session *x;
	struct index_entry entry;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(ledger_begin(ledger, 0, &x, &e), 0);
	assert_int_equal(put_and_commit(x, 1, &e), 0);
	ledger_end(x);
	fixture_chunk(1, FIXTURE_CHUNK, &r.id, data);
	assert_int_equal(index_get(idx, &r.id, &entry), 0);
	m.id = r.id;
	m.from = entry.place;
	assert_int_equal(ledger_copy(ledger, 0, &r, data, &m.to), 0);
	atomic_store(&faults.sync, 1);
	ledger_settle(ledger);
	assert_int_equal(atomic_load(&faults.sync), 0);
	assert_int_equal(count_poisoned(), 1);
	assert_int_equal(ledger_move(ledger, &m, 1), ERR_MISSING);
	assert_int_equal(index_get(idx, &r.id, &entry), 0);
	assert_int_equal(entry.place.pack, m.from.pack);
	/* Another copy, and all is well. */
	assert_int_equal(ledger_copy(ledger, 0, &r, data, &m.to), 0);
	assert_int_equal(ledger_move(ledger, &m, 1), 0);
	assert_int_equal(index_get(idx, &r.id, &entry), 0);
	assert_int_equal(entry.place.pack, m.to.pack);
	fsck_and_open(1);
}

static void
sessions_have_a_limit_and_slots_come_back(void **state)
{
	struct ledger_session *s[LEDGER_SESSIONS_MAX], *more;
	struct err e = { 0 };

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < LEDGER_SESSIONS_MAX; i++)
			while (ledger_begin(ledger, 0, &s[i], &e) != 0)
				assert_int_equal(e.code, ERR_LIMIT);
		assert_int_equal(ledger_begin(ledger, 0, &more, &e), ERR_LIMIT);
		assert_int_equal(put(s[round], (uint32_t)round, &e), 0);
		for (unsigned i = 0; i < LEDGER_SESSIONS_MAX; i++)
			ledger_end(s[i]);
	}
}

static void
a_stop_ends_sessions_and_says_why(void **state)
{
	struct ledger_session *x;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(ledger_begin(ledger, 0, &x, &e), 0);
	assert_int_equal(put(x, 1, &e), 0);
	ledger_stop(ledger);
	assert_int_equal(put(x, 2, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "stopping"));
	ledger_end(x);
}

/* True once ${ledger} says that something waits so long. */
static bool
wait_until(uint64_t least, uint64_t most)
{
	uint64_t deadline = now_ms() + 10000, ms;

	do {
		if (ledger_waiting_ms(ledger, &ms) == 0 && ms >= least &&
		    ms <= most)
			return true;
	} while (now_ms() < deadline);
	return false;
}

static void
how_long_a_change_waits_for_its_sync_is_told(void **state)
{
	struct ledger_session *s;
	struct err e = { 0 };

	(void)state;
	assert_true(wait_until(0, 0));
	assert_int_equal(ledger_begin(ledger, 0, &s, &e), 0);
	atomic_store(&faults.hold, true);
	assert_int_equal(put(s, 1, &e), 0);
	/* Many times what a batch may stay open. */
	assert_true(wait_until(300, UINT64_MAX));
	/* What comes later waits shorter. */
	assert_int_equal(put(s, 2, &e), 0);
	assert_true(wait_until(400, UINT64_MAX));
	atomic_store(&faults.hold, false);
	assert_true(wait_until(0, 0));
	ledger_end(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(a_failed_sync_ends_every_session_and_poisons_the_pack),
		T(whichever_sync_of_a_commit_fails_there_is_no_backup),
		T(a_failed_write_ends_its_session_and_nothing_is_lost),
		T(a_full_disk_fails_the_put_and_leaves_the_session_usable),
		T(a_copy_that_a_failed_sync_took_is_not_moved_to),
		T(sessions_have_a_limit_and_slots_come_back),
		T(a_stop_ends_sessions_and_says_why),
		T(how_long_a_change_waits_for_its_sync_is_told),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
