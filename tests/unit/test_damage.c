/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/io.h"
#include "repo/reclaim/compact.h"
#include "repo/reclaim/reclaimer.h"
#include "repo/reclaim/scrub.h"
#include "repo/reclaim/verify.h"
#include "repo/store/fsck.h"
#include "repo/store/store_impl.h"
#include "tests/unit/store_fixture.h"

static struct fixture f;
static struct scrubber *scrubber;

static int
no_key(void *arg, uint32_t domain, uint8_t key[HASH_KEY_LEN], bool *keyed)
{
	(void)arg;
	(void)domain;
	(void)key;
	*keyed = false;
	return 0;
}

static void
start_scrub(void)
{
	struct scrub_options o = { .key = no_key, .rate = 1 << 30 };

	assert_int_equal(scrubber_start(f.store, &o, &scrubber), 0);
}

static int
setup(void **state)
{
	(void)state;
	fixture_make(&f);
	start_scrub();
	return 0;
}

static void
stop(void)
{
	scrubber_stop(scrubber);
	scrubber = NULL;
	if (f.store != NULL)
		fixture_close(&f);
}

static int
teardown(void **state)
{
	(void)state;
	stop();
	fixture_remove(&f);
	return 0;
}

static void
restart(void)
{
	stop();
	fixture_open(&f);
	start_scrub();
}

/* Flips a bit of the record's payload in that pack. */
static void
flip(uint32_t pack, const struct place *p)
{
	char path[160];
	uint8_t byte;
	off_t off = (off_t)p->off + RECORD_HEADER_LEN + p->stored_len / 2;
	int fd;

	snprintf(path, sizeof(path), "%s/packs/0000/%08x.pack", f.dir, pack);
	fd = open(path, O_RDWR);
	assert_int_not_equal(fd, -1);
	assert_int_equal(pread(fd, &byte, 1, off), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, off), 1);
	close(fd);
}

static void
entry_of(const struct id *id, struct index_entry *x)
{
	assert_int_equal(index_get(f.store->index, id, x), 0);
}

static void
spoil(const struct id *id)
{
	struct index_entry x;

	entry_of(id, &x);
	flip(x.place.pack, &x.place);
}

/* twins: 1, the first; 2, both. */
static void
spoil_node(const struct id *id, int twins)
{
	struct index_entry x;
	struct pack_info info;

	entry_of(id, &x);
	assert_int_equal(packs_get(f.store->packs, x.place.pack, &info), 0);
	assert_int_not_equal(info.mirror, 0);
	flip(x.place.pack, &x.place);
	if (twins == 2)
		flip(info.mirror, &x.place);
}

static void
chunk_id(uint32_t n, struct id *id)
{
	static uint8_t data[FIXTURE_CHUNK];

	fixture_chunk(n, FIXTURE_CHUNK, id, data);
}

/* The node of volume 0 at that place. */
static void
node_id(const struct manifest *m, unsigned level, uint64_t index, struct id *id)
{
	struct node n;
	struct err e = { 0 };
	unsigned root =
	    node_root_level(chunk_nslices(m->volume[0].size, FIXTURE_CHUNK));

	if (level == root) {
		*id = m->volume[0].root;
		return;
	}
	assert_int_equal(
	    store_tree_node(f.store, f.lane, &m->volume[0].root,
		m->volume[0].size, level + 1, index / NODE_FANOUT, &n, &e),
	    0);
	*id = n.child[index % NODE_FANOUT];
}

struct runs {
	unsigned n;
	uint64_t first[8], len[8];
};

static int
add_run(void *arg, uint64_t slice, uint64_t n)
{
	struct runs *r = arg;

	assert_true(r->n < 8);
	r->first[r->n] = slice;
	r->len[r->n++] = n;
	return 0;
}

static void
add_verified(void *arg, const struct manifest *m, unsigned volume,
    uint64_t slice, uint64_t n)
{
	(void)m;
	assert_int_equal(volume, 0);
	add_run(arg, slice, n);
}

static bool
always(void *arg, uint64_t done, uint64_t read)
{
	(void)arg;
	(void)done;
	(void)read;
	return true;
}

static void
run_verify(const struct manifest *m, struct runs *r)
{
	struct verify_options o = {
		.damaged = add_verified, .go_on = always, .arg = r
	};
	struct verify *v = verify_new(f.store, &o);
	struct err e = { 0 };

	r->n = 0;
	assert_int_equal(verify_backup(v, NULL, m, &e), 0);
	verify_free(v);
	store_damage_settle(f.store);
}

static void
known_damage(const struct manifest *m, struct runs *r)
{
	struct store_lane *l = store_lane_new(f.store, NULL);
	struct err e = { 0 };

	r->n = 0;
	assert_int_equal(store_damage(f.store, l, &m->volume[0].root,
			     m->volume[0].size, 0, add_run, r, &e),
	    0);
	store_lane_free(l);
}

/* A fresh lane: what the old one has read it does not read again. */
static void
fresh_lane(void)
{
	store_lane_free(f.lane);
	f.lane = store_lane_new(f.store, NULL);
}

static void
is_hit(const struct manifest *m, uint64_t first, uint64_t n)
{
	struct runs r;

	fresh_lane();
	run_verify(m, &r);
	assert_int_equal(r.n, 1);
	assert_int_equal(r.first[0], first);
	assert_int_equal(r.len[0], n);
	known_damage(m, &r);
	assert_int_equal(r.n, 1);
	assert_int_equal(r.first[0], first);
	assert_int_equal(r.len[0], n);
	assert_true(store_ndamaged(f.store) > 0);
}

static void
is_whole(const struct manifest *m, uint32_t first)
{
	struct runs r;

	fresh_lane();
	run_verify(m, &r);
	assert_int_equal(r.n, 0);
	known_damage(m, &r);
	assert_int_equal(r.n, 0);
	assert_int_equal(store_ndamaged(f.store), 0);
	fixture_verify(&f, m, first);
}

static void
drop(const struct manifest *m)
{
	struct store_drop d = { .held = false };
	struct err e = { 0 };

	memcpy(d.id, m->id, sizeof(d.id));
	assert_int_equal(store_drop(f.store, &d, 1, &e), 0);
}

static void
reclaim(unsigned live_percent)
{
	struct reclaim_options o = { .live_percent = live_percent };
	struct reclaimer *r;
	struct err e = { 0 };

	assert_int_equal(reclaimer_start(f.store, &o, &r), 0);
	assert_int_equal(reclaimer_wait(r, 20000, &e), 0);
	reclaimer_stop(r);
}

static void
say(void *arg, const char *line)
{
	(void)arg;
	print_error("fsck: %s\n", line);
}

/* References and live bytes are right, and a rebuild comes to the same; what
 * is bad and dead is no damage. */
static void
is_sound(unsigned nbackups)
{
	struct fsck_options o = { .rebuild = true, .data = true };
	struct fsck_report r;
	struct err e = { 0 };

	stop();
	fixture_fsck(&f, false);
	assert_int_equal(fsck(f.dir, &o, say, NULL, &r, &e), 0);
	assert_int_equal(r.missing + r.hit_backups, 0);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, nbackups);
	start_scrub();
}

static void
scrub(struct scrub_status *st)
{
	uint64_t until = now_ms() + 20000;

	scrubber_begin(scrubber);
	do {
		struct timespec t = { .tv_nsec = 5000000 };

		nanosleep(&t, NULL);
		scrubber_status(scrubber, st);
	} while (st->running && now_ms() < until);
	assert_false(st->running);
	assert_int_equal(st->code, 0);
}

static void
a_backup_that_has_the_data_heals_a_chunk(void **state)
{
	struct manifest a, b;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	is_whole(&a, 0);
	chunk_id(200, &id);
	spoil(&id);
	is_hit(&a, 200, 1);
	restart(); /* it is remembered */
	assert_int_equal(store_ndamaged(f.store), 1);
	is_hit(&a, 200, 1);
	/* Shares the chunk, and no node. */
	fixture_backup(&f, "b", 150, 100, &b);
	is_whole(&a, 0);
	is_whole(&b, 150);
	reclaim(50); /* the bad record is dead bytes */
	is_whole(&a, 0);
	is_sound(2);
	is_whole(&a, 0);
}

static void
a_backup_that_has_the_data_heals_a_leaf(void **state)
{
	struct manifest a, b;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	node_id(&a, 0, 1, &id);
	spoil_node(&id, 2);
	is_hit(&a, 128, 128);
	fixture_backup(&f, "b", 0, 300, &b);
	is_whole(&a, 0);
	drop(&b);
	reclaim(50);
	is_whole(&a, 0);
	is_sound(1);
	is_whole(&a, 0);
}

static void
a_backup_that_has_the_data_heals_a_root(void **state)
{
	struct manifest a, b;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	node_id(&a, 1, 0, &id);
	spoil_node(&id, 2);
	is_hit(&a, 0, 300);
	fixture_backup(&f, "b", 0, 300, &b);
	is_whole(&a, 0);
	drop(&a);
	reclaim(50);
	is_whole(&b, 0);
	is_sound(1);
	is_whole(&b, 0);
}

static void
of_two_twins_one_is_enough(void **state)
{
	struct scrub_status st;
	struct manifest a;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	node_id(&a, 0, 1, &id);
	spoil_node(&id, 1);
	is_whole(&a, 0); /* a reader takes the other */
	scrub(&st);
	assert_int_equal(st.damaged, 1);
	assert_int_equal(st.healed, 1);
	is_whole(&a, 0);
	scrub(&st);
	assert_int_equal(st.damaged, 0);
	reclaim(50);
	is_sound(1);
}

static void
a_manifest_is_in_the_index_too(void **state)
{
	struct scrub_status st;
	struct pack_info info;
	struct index_backup b;
	struct buf data = { 0 };
	struct manifest a;
	struct id id = { { 0 } };

	(void)state;
	fixture_backup(&f, "a", 0, 10, &a);
	restart(); /* the end of a pack in work is for the next pass */
	memcpy(id.b, a.id, sizeof(a.id));
	assert_int_equal(index_backup_get(f.store->index, &id, &b, &data), 0);
	buf_fini(&data);
	assert_int_equal(packs_get(f.store->packs, b.place.pack, &info), 0);
	flip(b.place.pack, &b.place);
	flip(info.mirror, &b.place);
	scrub(&st);
	assert_int_equal(st.damaged, 1);
	assert_int_equal(st.healed, 1);
	scrub(&st);
	assert_int_equal(st.damaged, 0);
	reclaim(50);
	is_sound(1);
	is_whole(&a, 0);
}

static void
scrub_finds_what_nobody_reads_and_what_was_no_damage(void **state)
{
	struct scrub_status st;
	struct manifest a;
	struct index_entry x;
	struct id id;
	struct runs r;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	restart(); /* so that the packs are sealed */
	chunk_id(17, &id);
	entry_of(&id, &x);
	spoil(&id);
	scrub(&st);
	assert_int_equal(st.damaged, 1);
	assert_int_equal(st.healed, 0);
	assert_true(st.read > 299ull * FIXTURE_CHUNK);
	assert_int_equal(store_ndamaged(f.store), 1);
	known_damage(&a, &r);
	assert_int_equal(r.n, 1);
	assert_int_equal(r.first[0], 17);
	/* A cable that was loose: it reads well again. */
	flip(x.place.pack, &x.place);
	scrub(&st);
	assert_int_equal(st.damaged, 0);
	is_whole(&a, 0);
	is_sound(1);
}

static void
scrub_finds_records_whose_headers_and_lists_are_gone(void **state)
{
	struct scrub_status st;
	struct manifest a;
	struct index_entry x, y;
	struct id id;
	char path[160];
	int fd;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	restart();
	chunk_id(100, &id);
	entry_of(&id, &x);
	chunk_id(102, &id);
	entry_of(&id, &y);
	assert_int_equal(x.place.pack, y.place.pack);
	snprintf(
	    path, sizeof(path), "%s/packs/0000/%08x.pack", f.dir, x.place.pack);
	fd = open(path, O_RDWR);
	assert_int_not_equal(fd, -1);
	/* Two headers with all between them, and the trailer. */
	for (uint32_t off = x.place.off; off <= y.place.off; off += 8)
		assert_int_equal(pwrite(fd, "rotrotro", 8, off), 8);
	assert_int_equal(pwrite(fd, "rot", 3, lseek(fd, 0, SEEK_END) - 30), 3);
	close(fd);
	scrub(&st);
	assert_int_equal(st.damaged, 3);
	assert_int_equal(store_ndamaged(f.store), 3);
	is_hit(&a, 100, 3);
	fixture_backup(&f, "b", 100, 4, &a);
	assert_int_equal(store_ndamaged(f.store), 0);
}

static void
a_pass_of_scrub_survives_pauses_and_restarts(void **state)
{
	struct scrub_status st;
	struct manifest a;
	uint64_t began;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	chunk_id(299 - 1, &id);
	spoil(&id);
	scrubber_pause(scrubber, true);
	scrubber_status(scrubber, &st);
	assert_true(st.paused);
	restart();
	scrubber_status(scrubber, &st);
	assert_true(st.paused);
	assert_int_equal(st.began, 0);
	scrubber_rate(scrubber, 1 << 20); /* so that it is met on its way */
	scrubber_begin(scrubber);
	do
		scrubber_status(scrubber, &st);
	while (st.began == 0);
	began = st.began;
	assert_true(st.running);
	restart();
	scrubber_status(scrubber, &st);
	assert_true(st.running);
	scrub(&st);
	assert_int_equal(st.began, began);
	assert_int_equal(st.damaged, 1);
}

static void
what_is_damaged_is_not_had(void **state)
{
	struct store_session *x;
	struct err e = { 0 };
	struct manifest a;
	uint64_t bytes;
	struct id id;
	uint8_t bits;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	chunk_id(7, &id);
	/* In the frontier first, damaged then. */
	assert_int_equal(store_have(x, RECORD_CHUNK, 0, &id, 1, &bits, &e), 0);
	assert_int_equal(bits, 1);
	spoil(&id);
	is_hit(&a, 7, 1);
	assert_true(store_any_damaged(f.store, &id, 1));
	assert_int_equal(store_have(x, RECORD_CHUNK, 0, &id, 1, &bits, &e), 0);
	assert_int_equal(bits, 0);
	assert_int_equal(fixture_put(&f, x, 7, FIXTURE_CHUNK, &bytes), 0);
	assert_true(bytes > 0);
	assert_int_equal(store_have(x, RECORD_CHUNK, 0, &id, 1, &bits, &e), 0);
	assert_int_equal(bits, 1);
	store_end(x);
	store_damage_settle(f.store);
	is_whole(&a, 0);
	reclaim(50);
	is_sound(1);
}

static void
damage_goes_with_what_it_hit(void **state)
{
	struct manifest a, b;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	fixture_backup(&f, "b", 500, 100, &b);
	chunk_id(7, &id);
	spoil(&id);
	is_hit(&a, 7, 1);
	reclaim(50); /* its pack stays, with all that is damaged */
	is_hit(&a, 7, 1);
	drop(&a);
	reclaim(50);
	assert_int_equal(store_ndamaged(f.store), 0);
	is_whole(&b, 500);
	is_sound(1);
}

static void
a_damaged_node_that_nobody_needs_stays_until_it_is_healed(void **state)
{
	struct store_status st;
	struct manifest a, b;
	struct id id;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	node_id(&a, 0, 1, &id);
	spoil_node(&id, 2);
	is_hit(&a, 128, 128);
	drop(&a);
	reclaim(50);
	/* Which chunks it held nobody can tell: they are all there. */
	assert_int_equal(store_ndamaged(f.store), 1);
	assert_int_equal(store_status(f.store, &st), 0);
	assert_true(st.live > 128ull * FIXTURE_CHUNK);
	assert_true(st.live < 140ull * FIXTURE_CHUNK);
	fixture_backup(&f, "b", 0, 300, &b);
	is_whole(&b, 0);
	reclaim(50);
	is_sound(1);
	drop(&b);
	reclaim(50);
	assert_int_equal(store_status(f.store, &st), 0);
	assert_int_equal(st.live, 0);
}

static void
what_a_rebuild_finds_lost_is_damaged_until_it_is_put(void **state)
{
	struct fsck_options o = { .rebuild = true, .data = true };
	struct fsck_report r;
	struct manifest a, b;
	struct err e = { 0 };
	struct id chunk, leaf;

	(void)state;
	fixture_backup(&f, "a", 0, 300, &a);
	chunk_id(20, &chunk);
	node_id(&a, 0, 1, &leaf);
	spoil(&chunk);
	spoil_node(&leaf, 2);
	stop();
	assert_int_equal(fsck(f.dir, &o, say, NULL, &r, &e), 0);
	assert_int_equal(r.missing, 2);
	assert_int_equal(r.hit_backups, 1);
	fixture_open(&f);
	start_scrub();
	assert_int_equal(store_ndamaged(f.store), 2);
	fixture_backup(&f, "b", 0, 300, &b);
	is_whole(&a, 0);
	drop(&b);
	reclaim(50);
	is_whole(&a, 0);
	is_sound(1);
	is_whole(&a, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(a_backup_that_has_the_data_heals_a_chunk),
		T(a_backup_that_has_the_data_heals_a_leaf),
		T(a_backup_that_has_the_data_heals_a_root),
		T(of_two_twins_one_is_enough),
		T(a_manifest_is_in_the_index_too),
		T(scrub_finds_what_nobody_reads_and_what_was_no_damage),
		T(scrub_finds_records_whose_headers_and_lists_are_gone),
		T(a_pass_of_scrub_survives_pauses_and_restarts),
		T(what_is_damaged_is_not_had),
		T(damage_goes_with_what_it_hit),
		T(what_a_rebuild_finds_lost_is_damaged_until_it_is_put),
		T(a_damaged_node_that_nobody_needs_stays_until_it_is_healed),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
