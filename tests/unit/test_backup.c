/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup: what is known to be clean is not read, and the backup is the same as
 * if all had been read; where that knowledge is wrong, a sample finds it.
 * SEED=N repeats a run.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "agent/pipeline/backup.h"
#include "agent/pipeline/restore.h"
#include "agent/source/source_mem.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "tests/unit/fake_daemon.h"

#define MIB ((uint64_t)1 << 20)
#define TIB ((uint64_t)1 << 40)

static unsigned seed;

static unsigned
rnd(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

/*
 * A disk of which each granule was written ${gen} times; never: zeroes.  It
 * notes which were written since the last backup, and which were read.
 */
struct disk {
	struct source s;
	uint32_t gran;
	uint64_t n;
	uint64_t answer_max; /* of one source_clean */
	uint8_t *gen;
	uint8_t *dirty;
	uint8_t *seen; /* not by more than one lane at a time */
	atomic_uint_fast64_t nread;
	unsigned nclosed;
};

static int
disk_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	struct disk *p = (struct disk *)s;
	uint8_t *out = data;

	(void)e;
	atomic_fetch_add(&p->nread, len);
	for (size_t done = 0, n; done < len; done += n) {
		uint64_t at = off + done, g = at / p->gran;
		uint64_t k = at % p->gran;
		uint8_t v = p->gen[g];

		n = p->gran - k < len - done ? (size_t)(p->gran - k)
					     : len - done;
		memset(out + done, v, n);
		p->seen[g] = 1;
		if (k == 0 && n >= 8 && v != 0)
			put_le64(out + done, g << 8 | v);
	}
	return 0;
}

static int
disk_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	struct disk *p = (struct disk *)s;
	uint64_t g = off / p->gran, end;

	(void)e;
	*hole = p->gen[g] == 0;
	end = g + 1;
	while (end < p->n && (p->gen[end] == 0) == *hole)
		end++;
	end = end == p->n ? s->size : end * p->gran;
	*len = end - off;
	return 0;
}

static int
disk_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	struct disk *p = (struct disk *)s;
	uint64_t g = off / p->gran, end;
	const uint8_t *other;

	(void)e;
	*clean = p->dirty[g] == 0;
	other = memchr(p->dirty + g, *clean ? 1 : 0, p->n - g);
	end = other == NULL ? s->size : (uint64_t)(other - p->dirty) * p->gran;
	*len = end - off;
	if (*len > p->answer_max)
		*len = p->answer_max;
	return 0;
}

static void
disk_close(struct source *s)
{
	((struct disk *)s)->nclosed++;
}

static const struct source_ops disk_ops = {
	.read = disk_read,
	.map = disk_map,
	.clean = disk_clean,
	.close = disk_close,
};

static struct disk *
disk_new(uint64_t size, uint32_t gran)
{
	struct disk *p = xcalloc(1, sizeof(*p));

	p->s.ops = &disk_ops;
	p->s.size = size;
	p->s.format = "raw";
	p->gran = gran;
	p->n = size / gran + (size % gran != 0);
	p->answer_max = UINT64_MAX;
	p->gen = xcalloc(p->n + 1, 1);
	p->dirty = xcalloc(p->n + 1, 1);
	p->seen = xcalloc(p->n + 1, 1);
	return p;
}

static void
disk_free(struct disk *p)
{
	free(p->gen);
	free(p->dirty);
	free(p->seen);
	free(p);
}

/* A new point in time: nothing was read or written since. */
static void
forget(struct disk *p)
{
	memset(p->dirty, 0, p->n);
	memset(p->seen, 0, p->n);
	atomic_store(&p->nread, 0);
}

static void
touch(struct disk *p, uint64_t g, bool noted)
{
	p->gen[g] = (uint8_t)(p->gen[g] % 250 + 1);
	p->dirty[g] = noted ? 1 : p->dirty[g];
}

/* Of which all granules up to ${n} hold data. */
static struct disk *
full_disk(uint64_t n, uint64_t more)
{
	struct disk *p = disk_new(n * CS + more, CS);

	for (uint64_t i = 0; i < p->n; i++)
		touch(p, i, false);
	return p;
}

/* The tree as one who reads all of it makes it. */
static struct id
naive_root(struct disk *p)
{
	uint64_t nslices = chunk_nslices(p->s.size, d.cs), n = nslices;
	struct id *ids = xcalloc(n + 1, sizeof(*ids)), root = { { 0 } };
	struct hasher *h = hasher_new(NULL);
	uint8_t *data = xmalloc(d.cs), body[NODE_LEN_MAX];
	uint64_t had = atomic_load(&p->nread);
	uint8_t *seen = p->seen;
	bool tail;

	p->seen = xcalloc(p->n + 1, 1);

	for (uint64_t i = 0; i < n; i++) {
		uint32_t len = chunk_len(p->s.size, d.cs, i);
		uint64_t from = i * d.cs / p->gran;
		uint64_t to = (i * d.cs + len - 1) / p->gran;

		while (from <= to && p->gen[from] == 0)
			from++;
		if (from > to)
			continue;
		disk_read(&p->s, data, len, i * d.cs, NULL);
		hasher_chunk(h, data, len, &ids[i]);
	}
	tail = n > 0 && p->s.size % d.cs != 0 && !id_is_hole(&ids[n - 1]);
	for (unsigned level = 0; n > 0; level++) {
		uint64_t up = n / NODE_FANOUT + (n % NODE_FANOUT != 0);

		for (uint64_t i = 0; i < up; i++) {
			struct node node = { .level = (uint8_t)level };
			uint64_t left = n - i * NODE_FANOUT;

			memcpy(node.child, ids + i * NODE_FANOUT,
			    (left < NODE_FANOUT ? left : NODE_FANOUT) *
				sizeof(*ids));
			node_trim(&node);
			node.tail = tail && i == up - 1;
			memset(&ids[i], 0, sizeof(*ids));
			if (node.n > 0)
				hasher_node(
				    h, body, node_print(&node, body), &ids[i]);
		}
		if (level == node_root_level(nslices))
			break;
		n = up;
	}
	root = ids[0];
	free(ids);
	free(data);
	hasher_free(h);
	atomic_store(&p->nread, had);
	free(p->seen);
	p->seen = seen;
	return root;
}

static void
must(int rc, const struct err *e)
{
	if (rc != 0)
		fail_msg("%s", e->text);
}

static struct backup_options options;
static struct repo_url url;

static void
set_options(double verify_clean)
{
	memset(&options, 0, sizeof(options));
	strcpy(url.path, d.socket);
	options.job.url = &url;
	options.job.lanes = 1 + rnd(4);
	options.vm = "vm";
	options.compression = 1;
	options.quiet = true;
	options.verify_clean = verify_clean;
}

/* As one who goes on from the checkpoint before. */
static int
send(struct disk *p, const char *tag, const char *since,
    struct backup_result *r, struct err *e)
{
	struct backup_input in = { "vda", "disk", &p->s };
	unsigned nclosed = p->nclosed;
	struct backup *b;
	int rc;

	must(backup_open(&options, &b, e), e);
	rc = backup_send(b, &in, 1, "crash", tag, since, r, e);
	assert_int_equal(p->nclosed, nclosed + 1);
	backup_close(b);
	return rc;
}

static void
check_root(struct disk *p)
{
	struct id root = naive_root(p);

	assert_memory_equal(&d.backup.volume[0].root, &root, ID_LEN);
}

static struct backup_result
first(struct disk *p)
{
	struct backup_result r;
	struct err e;

	set_options(0);
	must(send(p, "a", NULL, &r, &e), &e);
	assert_false(r.trusted);
	check_root(p);
	forget(p);
	d.ntrees = 0;
	d.nputs = 0;
	d.nnode_frames = 0;
	return r;
}

/* Slices that are not clean whole. */
static uint64_t
dirty_bytes(const struct disk *p)
{
	uint64_t n = 0, nslices = chunk_nslices(p->s.size, d.cs);

	for (uint64_t i = 0; i < nslices; i++) {
		uint32_t len = chunk_len(p->s.size, d.cs, i);
		uint64_t from = i * d.cs / p->gran;
		uint64_t to = (i * d.cs + len - 1) / p->gran;

		while (from <= to && p->dirty[from] == 0)
			from++;
		n += from <= to ? len : 0;
	}
	return n;
}

static void
mutate(struct disk *p)
{
	unsigned runs = rnd(6);

	while (runs-- > 0) {
		uint64_t g = rnd((unsigned)p->n),
			 n = 1 + rnd(rnd(8) == 0 ? 99 : 4);
		bool discard = rnd(4) == 0;

		for (; n > 0 && g < p->n; n--, g++) {
			touch(p, g, true);
			if (discard)
				p->gen[g] = 0;
		}
	}
	if (rnd(4) == 0) /* noted, but the same */
		p->dirty[rnd((unsigned)p->n)] = 1;
	if (rnd(4) == 0)
		touch(p, p->n - 1, true);
}

/* Data in some places of a disk. */
static struct disk *
random_disk(void)
{
	static const uint32_t cs[] = { CS, CS, CS, 4 * CS, CHUNK_SIZE_MAX };
	static const uint32_t gran[] = { CS, CS, CS / 2, 2 * CS, 8 * CS };
	struct disk *p;
	uint64_t size;

	d.cs = cs[rnd(5)];
	/* A leaf or two, some leaves, more than a node of level 1 has. */
	size = d.cs * (uint64_t)(1 + rnd(rnd(2) ? 300 : rnd(2) ? 3000 : 40000));
	if (d.cs == CHUNK_SIZE_MAX)
		size = d.cs * (uint64_t)(1 + rnd(300));
	size += rnd(2) * rnd(d.cs);
	p = disk_new(size, gran[rnd(5)]);
	p->answer_max = rnd(2) ? UINT64_MAX : p->gran * (1 + rnd(200));
	for (unsigned runs = 1 + rnd(8); runs > 0; runs--) {
		uint64_t g = rnd((unsigned)p->n);

		for (unsigned n = 1 + rnd(60); n > 0 && g < p->n; n--)
			touch(p, g++, false);
	}
	if (rnd(2) == 0)
		touch(p, p->n - 1, false);
	return p;
}

static void
random_changes_give_the_tree_of_who_reads_all(void **state)
{
	static const double percent[] = { 0, 0, 0.5, 20, 100 };

	(void)state;
	for (unsigned i = 0; i < 25; i++) {
		struct disk *p = random_disk();
		struct backup_result r;
		struct err e;

		d.has_backup = false;
		first(p);
		for (unsigned k = 0; k < 4; k++) {
			bool all;

			mutate(p);
			set_options(percent[rnd(5)]);
			all = options.verify_clean > 99;
			must(send(p, "a", "a", &r, &e), &e);
			assert_true(r.trusted);
			assert_false(r.condemned);
			check_root(p);
			if (options.verify_clean < 0.1)
				assert_true(r.stats.read <= dirty_bytes(p));
			assert_int_equal(r.stats.read, atomic_load(&p->nread));
			if (!all)
				assert_true(r.stats.unchanged + r.stats.holes +
					r.stats.deduplicated <=
				    p->s.size);
			forget(p);
		}
		disk_free(p);
	}
}

static void
what_is_clean_is_neither_read_nor_asked_for(void **state)
{
	struct disk *p = full_disk(5000, 77); /* levels 0 to 1, 40 leaves */
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	set_options(0);
	must(send(p, "b", "a", &r, &e), &e);
	assert_int_equal(atomic_load(&p->nread), 0);
	assert_int_equal(r.stats.unchanged, p->s.size);
	assert_int_equal(d.nputs, 0);
	assert_true(d.ntrees <= 4); /* lanes begin at the same time */
	check_root(p);
	assert_string_equal(d.backup.checkpoint, "b");
	assert_string_equal(d.backup.consistency, "crash");
	/* One changed, in the middle of a leaf. */
	touch(p, 1000, true);
	must(send(p, "c", "b", &r, &e), &e);
	assert_int_equal(atomic_load(&p->nread), CS);
	assert_int_equal(r.stats.unchanged, p->s.size - CS);
	assert_int_equal(d.nputs, 1);
	check_root(p);
	disk_free(p);
}

static void
two_tebibytes_without_a_change_take_no_time(void **state)
{
	struct disk *p = disk_new(2 * TIB + 5000, CS);
	struct id root;
	struct backup_result r;
	struct err e;
	uint64_t ms;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		touch(p, ((uint64_t)rnd(1u << 15) << 10) + rnd(1 << 10), false);
	touch(p, p->n - 1, false); /* the short slice */
	set_options(0);
	must(send(p, "a", NULL, &r, &e), &e);
	root = d.backup.volume[0].root;
	for (unsigned i = 0; i < 3; i++) {
		forget(p);
		d.ntrees = 0;
		d.nnode_frames = 0;
		set_options(i == 2 ? BACKUP_VERIFY_CLEAN : 0);
		if (i == 1)
			p->dirty[p->n / 3] = 1;
		ms = now_ms();
		must(send(p, "a", "a", &r, &e), &e);
		ms = now_ms() - ms;
		printf("2 TiB, %s: %u ms, %u TREE, %u NODE, %u bytes read\n",
		    i == 0       ? "clean"
			: i == 1 ? "one slice dirty"
				 : "clean, with a sample",
		    (unsigned)ms, d.ntrees, d.nnode_frames,
		    (unsigned)atomic_load(&p->nread));
		assert_memory_equal(&d.backup.volume[0].root, &root, ID_LEN);
		assert_true(i == 2 || d.ntrees <= 100);
		assert_true(i > 0 || atomic_load(&p->nread) == 0);
		assert_true(ms < 5000);
	}
	disk_free(p);
}

static void
a_wrong_note_is_found_where_whole_subtrees_are_taken(void **state)
{
	struct disk *p = full_disk(3000, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	touch(p, 2222, false);
	set_options(100);
	must(send(p, "b", "a", &r, &e), &e);
	assert_true(r.trusted);
	assert_true(r.condemned);
	assert_string_equal(r.condemned_disk, "vda");
	assert_int_equal(r.condemned_offset, 2222ull * CS);
	assert_int_equal(d.nputs, 1);
	assert_true(r.stats.unchanged == p->s.size - CS);
	check_root(p);
	disk_free(p);
}

static void
a_wrong_note_is_found_beside_what_changed(void **state)
{
	struct disk *p = full_disk(100, 9);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	touch(p, 20, true);
	touch(p, 22, false);
	set_options(100);
	must(send(p, "b", "a", &r, &e), &e);
	assert_true(r.condemned);
	assert_int_equal(r.condemned_offset, 22ull * CS);
	assert_int_equal(d.nputs, 2);
	check_root(p);
	/* Zeroes that nobody noted are wrong, too. */
	forget(p);
	p->gen[50] = 0;
	p->dirty[51] = 1;
	must(send(p, "c", "b", &r, &e), &e);
	assert_true(r.condemned);
	assert_int_equal(r.condemned_offset, 50ull * CS);
	check_root(p);
	disk_free(p);
}

/* Or else the cases above would prove nothing. */
static void
without_a_sample_a_wrong_note_is_believed(void **state)
{
	struct disk *p = full_disk(300, 0);
	struct backup_result r;
	struct err e;
	struct id root;

	(void)state;
	first(p);
	touch(p, 222, false);
	set_options(0);
	must(send(p, "b", "a", &r, &e), &e);
	assert_false(r.condemned);
	root = naive_root(p);
	assert_memory_not_equal(&d.backup.volume[0].root, &root, ID_LEN);
	disk_free(p);
}

static void
the_sample_is_of_the_size_that_was_asked_for(void **state)
{
	struct disk *p = full_disk(6000, 0);
	struct backup_result r;
	uint64_t nread[3];
	struct err e;
	uint8_t *was;

	(void)state;
	first(p);
	was = xcalloc(p->n, 1);
	setenv("BACKSTAY_SAMPLE_SEED", "4711", 1);
	for (unsigned i = 0; i < 3; i++) {
		set_options(5);
		must(send(p, "a", "a", &r, &e), &e);
		assert_false(r.condemned);
		nread[i] = atomic_load(&p->nread) / CS;
		assert_int_equal(r.stats.read, nread[i] * CS);
		/* 300, more or less, within five deviations. */
		assert_in_range(nread[i], 215, 385);
		if (i == 0)
			memcpy(was, p->seen, p->n);
		if (i == 1)
			assert_memory_equal(was, p->seen, p->n);
		if (i == 2)
			assert_memory_not_equal(was, p->seen, p->n);
		forget(p);
		if (i == 1)
			unsetenv("BACKSTAY_SAMPLE_SEED");
	}
	free(was);
	disk_free(p);
}

static void
what_is_damaged_in_the_store_is_read(void **state)
{
	struct disk *p = full_disk(4000, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	d.damaged = "[[5, 2], [500, 300], [3999, 1]]";
	set_options(0);
	must(send(p, "b", "a", &r, &e), &e);
	check_root(p);
	assert_int_equal(atomic_load(&p->nread), 303ull * CS);
	for (unsigned i = 0; i < p->n; i++)
		assert_int_equal(p->seen[i],
		    i == 5 || i == 6 || (i >= 500 && i < 800) || i == 3999);
	d.damaged = NULL;
	disk_free(p);
}

static void
what_the_store_cannot_tell_is_read(void **state)
{
	struct disk *p = disk_new(20000ull * CS + 5, CS); /* level 2 */
	struct backup_result r;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < 400; i++)
		touch(p, i, false);
	for (unsigned i = 16384; i < p->n; i += 3)
		touch(p, i, false);
	first(p);
	/* The level 1 node over the leaves up to 128; one is dirty there. */
	d.fault = FAULT_TREE_PLACE;
	d.bad_first = 0;
	d.bad_end = 16384;
	d.bad_level = 1;
	touch(p, 300, true);
	set_options(0);
	must(send(p, "b", "a", &r, &e), &e);
	d.fault = FAULT_NONE;
	check_root(p);
	assert_int_equal(atomic_load(&p->nread), 400ull * CS);
	for (unsigned i = 0; i < p->n; i++)
		assert_int_equal(p->seen[i], i < 400);
	disk_free(p);
}

/* It would be good for nothing, though its root is known. */
static void
what_a_sample_cannot_be_compared_with_is_read(void **state)
{
	struct disk *p = full_disk(4000, 5);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	d.fault = FAULT_TREE_PLACE;
	d.bad_first = 1000;
	d.bad_end = 1001;
	d.bad_level = 0;
	set_options(100);
	must(send(p, "b", "a", &r, &e), &e);
	d.fault = FAULT_NONE;
	check_root(p);
	assert_false(r.condemned);
	assert_true(atomic_load(&p->nread) >= p->s.size);
	disk_free(p);
}

static void
a_store_that_lost_what_was_not_read_gets_it_again(void **state)
{
	struct disk *p = full_disk(4000, 5);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	touch(p, 1, true);
	d.fault = FAULT_LOSE_INNER_ONCE;
	set_options(0);
	must(send(p, "b", "a", &r, &e), &e);
	assert_int_equal(d.nlost, 1);
	assert_false(r.condemned);
	check_root(p);
	assert_true(atomic_load(&p->nread) >= p->s.size);
	/* And one that goes on losing is told of. */
	forget(p);
	touch(p, 1, true);
	d.fault = FAULT_LOSE_INNER;
	assert_int_equal(send(p, "c", "b", &r, &e), ERR_MISSING);
	/* A chunk: its leaf is read again, and nothing else. */
	forget(p);
	d.nlost = 0;
	d.fault = FAULT_LOSE_ONCE;
	touch(p, 1, true);
	must(send(p, "c", "b", &r, &e), &e);
	assert_int_equal(atomic_load(&p->nread), (1 + 128) * CS);
	check_root(p);
	d.fault = FAULT_NONE;
	disk_free(p);
}

static void
nothing_is_trusted_that_is_not_of_the_parent(void **state)
{
	struct disk *p = full_disk(300, 0), *more = full_disk(400, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	set_options(0);
	/* Notes since another backup. */
	must(send(p, "b", "x", &r, &e), &e);
	assert_false(r.trusted);
	assert_int_equal(atomic_load(&p->nread), p->s.size);
	/* None. */
	must(send(p, NULL, NULL, &r, &e), &e);
	assert_false(r.trusted);
	/* A parent that has none. */
	must(send(p, "c", "b", &r, &e), &e);
	assert_false(r.trusted);
	/* It has grown. */
	must(send(more, "d", "c", &r, &e), &e);
	assert_false(r.trusted);
	assert_true(r.has_parent);
	assert_int_equal(atomic_load(&more->nread), more->s.size);
	check_root(more);
	/* And is as before. */
	must(send(p, "e", "d", &r, &e), &e);
	assert_false(r.trusted);
	check_root(p);
	/* None is wanted. */
	options.full = true;
	must(send(p, "f", "e", &r, &e), &e);
	assert_false(r.trusted);
	assert_false(r.has_parent);
	disk_free(more);
	disk_free(p);
}

static void
a_parent_of_zeroes_is_as_good_as_any(void **state)
{
	struct disk *p = disk_new(40000ull * CS + 17, CS);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	touch(p, 33333, true);
	set_options(100);
	must(send(p, "b", "a", &r, &e), &e);
	assert_true(r.trusted);
	assert_int_equal(atomic_load(&p->nread), CS);
	assert_int_equal(r.stats.holes, p->s.size - CS);
	check_root(p);
	disk_free(p);
}

static void
a_parent_that_is_wrong_about_its_end_does_no_harm(void **state)
{
	struct disk *p = full_disk(4000, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	first(p);
	touch(p, 1, true);
	d.fault = FAULT_TREE_TAIL;
	set_options(0);
	must(send(p, "b", "a", &r, &e), &e);
	d.fault = FAULT_NONE;
	check_root(p);
	disk_free(p);
}

static void
the_parent_is_known_before_there_is_anything_to_send(void **state)
{
	struct backup_input in[2] = { { .name = "vda", .kind = "disk" },
		{ .name = "xml", .kind = "definition" } };
	struct disk *p = full_disk(10, 0);
	struct backup_result r;
	struct backup *b;
	struct err e;

	(void)state;
	set_options(0);
	for (unsigned i = 0; i < 2; i++) {
		must(backup_open(&options, &b, &e), &e);
		if (i == 0)
			assert_null(backup_parent_checkpoint(b));
		else
			assert_string_equal(
			    backup_parent_checkpoint(b), "0123456789abcdef");
		assert_string_equal(
		    backup_repo(b), "0123456789abcdef0123456789abcdef");
		must(backup_alive(b, &e), &e);
		in[0].source = &p->s;
		in[1].source = source_mem_new("<domain/>", 9, "libvirt-xml");
		must(backup_send(b, in, 2, "guest", "0123456789abcdef",
			 backup_parent_checkpoint(b), &r, &e),
		    &e);
		assert_int_equal(r.trusted, i == 1);
		backup_close(b);
		assert_string_equal(d.backup.volume[1].kind, "definition");
		assert_string_equal(d.backup.volume[1].format, "libvirt-xml");
		assert_int_equal(d.backup.volume[1].size, 9);
	}
	assert_int_equal(d.nprepared, 2);
	/* Nothing happens if nothing is sent. */
	must(backup_open(&options, &b, &e), &e);
	backup_close(b);
	backup_close(NULL);
	/* A daemon that knows begin alone. */
	d.mute = true;
	must(backup_open(&options, &b, &e), &e);
	assert_null(backup_parent_checkpoint(b));
	must(backup_alive(b, &e), &e);
	in[0].source = &p->s;
	must(backup_send(b, in, 1, "offline", NULL, NULL, &r, &e), &e);
	assert_true(r.has_parent);
	backup_close(b);
	disk_free(p);
}

static int
watch(void *arg, struct err *e)
{
	unsigned *n = arg;

	return ++*n < 5 ? 0 : err_set(e, ERR_NOSPC, "the scratch is full");
}

static void
who_watches_can_end_it(void **state)
{
	struct disk *p = full_disk(300, 0);
	struct backup_result r;
	unsigned n = 0;
	uint64_t ms = now_ms();
	struct err e;

	(void)state;
	set_options(0);
	options.job.watch = watch;
	options.job.watch_arg = &n;
	d.fault = FAULT_SILENT;
	assert_int_equal(send(p, "a", NULL, &r, &e), ERR_NOSPC);
	assert_string_equal(e.text, "the scratch is full");
	assert_int_equal(n, 5);
	ms = now_ms() - ms;
	assert_in_range(ms, 300, 5000);
	assert_false(d.has_backup);
	disk_free(p);
}

static void
a_daemon_that_does_not_answer_is_given_up(void **state)
{
	struct disk *p = full_disk(300, 0);
	struct backup_result r;
	uint64_t ms = now_ms();
	struct err e;

	(void)state;
	set_options(0);
	options.job.stall_timeout_s = 1;
	d.fault = FAULT_SILENT;
	assert_int_equal(send(p, "a", NULL, &r, &e), ERR_TIMEOUT);
	assert_non_null(strstr(e.text, "no byte has moved"));
	ms = now_ms() - ms;
	assert_in_range(ms, 900, 8000);
	disk_free(p);
}

/* Who only reads slowly is not stuck. */
static int
slow_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	struct timespec ts = { .tv_nsec = 400000000 };

	nanosleep(&ts, NULL); /* is what is tested, and no wait */
	return disk_read(s, data, len, off, e);
}

static void
a_slow_disk_is_no_reason_to_give_up(void **state)
{
	struct source_ops slow = disk_ops;
	struct disk *p = full_disk(32, 0);
	struct backup_result r;
	struct err e;

	(void)state;
	slow.read = slow_read;
	p->s.ops = &slow;
	set_options(0);
	options.job.stall_timeout_s = 1;
	must(send(p, "a", NULL, &r, &e), &e);
	disk_free(p);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fake_start, fake_stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(random_changes_give_the_tree_of_who_reads_all),
		CASE(what_is_clean_is_neither_read_nor_asked_for),
		CASE(two_tebibytes_without_a_change_take_no_time),
		CASE(a_wrong_note_is_found_where_whole_subtrees_are_taken),
		CASE(a_wrong_note_is_found_beside_what_changed),
		CASE(without_a_sample_a_wrong_note_is_believed),
		CASE(the_sample_is_of_the_size_that_was_asked_for),
		CASE(what_is_damaged_in_the_store_is_read),
		CASE(what_the_store_cannot_tell_is_read),
		CASE(what_a_sample_cannot_be_compared_with_is_read),
		CASE(a_store_that_lost_what_was_not_read_gets_it_again),
		CASE(nothing_is_trusted_that_is_not_of_the_parent),
		CASE(a_parent_of_zeroes_is_as_good_as_any),
		CASE(a_parent_that_is_wrong_about_its_end_does_no_harm),
		CASE(the_parent_is_known_before_there_is_anything_to_send),
		CASE(who_watches_can_end_it),
		CASE(a_daemon_that_does_not_answer_is_given_up),
		CASE(a_slow_disk_is_no_reason_to_give_up),
	};
	const char *s = getenv("SEED");

	seed =
	    s != NULL ? (unsigned)strtoul(s, NULL, 10) : (unsigned)time(NULL);
	printf("SEED=%u\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
