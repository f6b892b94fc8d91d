/* SPDX-License-Identifier: Apache-2.0 */
/* What a rebuild gets back when packs were hurt, or guests wrote records. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/base/io.h"
#include "repo/store/fsck.h"
#include "repo/store/record.h"
#include "tests/unit/store_fixture.h"

/* The packs of a fresh store: the first numbers that are granted. */
enum { DATA_PACK = 1, META_PACK = 2, META_TWIN = 3 };

static struct fixture f;

static int
setup(void **state)
{
	(void)state;
	fixture_make(&f);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_remove(&f);
	return 0;
}

static int
pack_open(unsigned number, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/packs/0000/%08x.pack", f.dir, number);
	fd = open(path, flags | O_CLOEXEC);
	assert_true(fd != -1);
	return fd;
}

static void
remove_pack(unsigned number)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/packs/0000/%08x.pack", f.dir, number);
	assert_int_equal(unlink(path), 0);
}

static void
cut_tail(unsigned number, off_t len)
{
	struct stat st;
	int fd = pack_open(number, O_RDWR);

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size - len), 0);
	close(fd);
}

static void
lose_index(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s/index", f.dir);
	assert_int_equal(system(command), 0);
}

/* After a rebuild both backups are there, whole, and the store goes on. */
static void
rebuild_and_look(void)
{
	struct manifest m;

	fixture_fsck(&f, true);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 2);
	for (unsigned i = 0; i < 2; i++)
		fixture_verify(
		    &f, &f.backups[i], f.backups[i].seq == 1 ? 0 : 100);
	fixture_backup(&f, "b", 5000, 20, &m);
	fixture_verify(&f, &m, 5000);
	fixture_close(&f);
	fixture_fsck(&f, false);
}

static void
two_backups(void)
{
	struct manifest m;

	fixture_backup(&f, "a", 0, 200, &m);
	fixture_backup(&f, "a", 100, 200, &m);
	fixture_close(&f);
	lose_index();
}

static void
a_lost_footer_loses_nothing(void **state)
{
	(void)state;
	two_backups();
	cut_tail(DATA_PACK, 10);
	cut_tail(META_PACK, 10);
	cut_tail(META_TWIN, 1000);
	rebuild_and_look();
}

static void
a_lost_first_meta_pack_loses_nothing(void **state)
{
	(void)state;
	two_backups();
	remove_pack(META_PACK);
	rebuild_and_look();
}

static void
a_lost_twin_loses_nothing(void **state)
{
	(void)state;
	two_backups();
	remove_pack(META_TWIN);
	rebuild_and_look();
}

static uint64_t
tag_of(unsigned number)
{
	uint8_t head[PACK_HEADER_LEN];
	struct pack_header h;
	struct err e;
	int fd = pack_open(number, O_RDONLY);

	assert_int_equal(pread_full(fd, head, sizeof(head), 0), sizeof(head));
	close(fd);
	assert_int_equal(pack_header_parse(head, &h, &e), 0);
	return h.tag;
}

static void
imitate(uint8_t *at, uint8_t kind, const struct id *id, uint64_t tag,
    const void *payload, uint32_t len)
{
	struct record r = { .kind = kind,
		.raw_len = len,
		.stored_len = len,
		.id = *id,
		.payload_crc = crc32c(0, payload, len) };

	record_print(&r, tag, at);
	memcpy(at + RECORD_HEADER_LEN, payload, len);
}

/*
 * A guest writes whole records into its own disk: a tombstone for a backup that
 * stands, a manifest, a chunk under another's id.  The first two even with the
 * pack's own tag, which it cannot know.
 */
static void
what_a_guest_wrote_is_never_a_record(void **state)
{
	static uint8_t data[FIXTURE_CHUNK], junk[5000];
	struct store_put p = { .raw_len = FIXTURE_CHUNK,
		.stored_len = FIXTURE_CHUNK,
		.data = data };
	struct hasher *h = hasher_new(NULL);
	struct store_session *x;
	struct id victim = { { 0 } };
	struct manifest a, b;
	struct buf text = { 0 };
	struct err e = { 0 };
	uint64_t stored;

	(void)state;
	fixture_backup(&f, "a", 0, 200, &a);
	random_bytes(junk, sizeof(junk));
	fixture_chunk(3, FIXTURE_CHUNK, &victim, data);
	/* Chunk 3's id over other bytes, with a tag that was guessed. */
	imitate(data + 32768, RECORD_CHUNK, &victim, 0x1234567890abcdef, junk,
	    sizeof(junk));
	memset(victim.b, 0, sizeof(victim.b));
	memcpy(victim.b, a.id, sizeof(a.id));
	imitate(data, RECORD_TOMBSTONE, &victim, tag_of(DATA_PACK), junk,
	    RECORD_TOMBSTONE_LEN);
	b = a;
	memset(b.id, 0x5a, sizeof(b.id));
	strcpy(b.vm, "intruder");
	manifest_print(&b, &text);
	memcpy(victim.b, b.id, sizeof(b.id));
	imitate(data + 8192, RECORD_MANIFEST, &victim, tag_of(DATA_PACK),
	    text.data, (uint32_t)text.len);
	buf_fini(&text);
	hasher_chunk(h, data, sizeof(data), &p.id);
	hasher_free(h);
	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	assert_int_equal(store_put_chunk(x, f.lane, &p, &stored, &e), 0);
	assert_true(stored > 0);
	store_end(x);
	fixture_backup(&f, "a", 100, 200, &b);
	fixture_close(&f);
	lose_index();
	/* Without footers every byte is looked at. */
	cut_tail(DATA_PACK, 10);
	rebuild_and_look();
}

static void
an_index_of_other_packs_is_noticed(void **state)
{
	struct store_options o = { .batch_ms = 20 };
	struct err e = { 0 };
	struct manifest m;
	char command[256];

	(void)state;
	fixture_backup(&f, "a", 0, 200, &m);
	fixture_close(&f);
	/* The packs of a later day under the index of an earlier one whose
	 * open pack was cut: shorter than the index knows. */
	cut_tail(DATA_PACK, 100000);
	assert_int_equal(
	    store_open(f.dir, &o, NULL, NULL, &f.store, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.text, "--rebuild-index"));
	snprintf(command, sizeof(command), "rm %s/packs/0000/%08x.pack", f.dir,
	    DATA_PACK);
	assert_int_equal(system(command), 0);
	assert_int_equal(
	    store_open(f.dir, &o, NULL, NULL, &f.store, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.text, "missing"));
	f.store = NULL;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(a_lost_footer_loses_nothing),
		T(a_lost_first_meta_pack_loses_nothing),
		T(a_lost_twin_loses_nothing),
		T(what_a_guest_wrote_is_never_a_record),
		T(an_index_of_other_packs_is_noticed),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
