/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "repo/store/record.h"
#include "tests/unit/store_fixture.h"

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

static bool
has(struct store_session *x, uint32_t n)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct id id;
	struct err e;
	uint8_t bit;

	fixture_chunk(n, FIXTURE_CHUNK, &id, data);
	assert_int_equal(store_have(x, RECORD_CHUNK, 0, &id, 1, &bit, &e), 0);
	return bit != 0;
}

static struct store_session *
begin(void)
{
	struct store_session *x;
	struct err e = { 0 };

	assert_int_equal(store_begin(f.store, 0, &x, &e), 0);
	return x;
}

/* Until everything queued so far is published. */
static void
wait_published(void)
{
	struct store_status st;
	uint64_t from;

	assert_int_equal(store_status(f.store, &st), 0);
	from = st.batches;
	for (int i = 0; i < 2000 && st.batches < from + 1; i++) {
		usleep(5000);
		assert_int_equal(store_status(f.store, &st), 0);
	}
	assert_true(st.batches > from);
}

static void
what_was_put_reads_back(void **state)
{
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 1, 300, &m);
	fixture_verify(&f, &m, 1);
	fixture_close(&f);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 1);
	assert_string_equal(f.backups[0].vm, "a");
	fixture_verify(&f, &f.backups[0], 1);
}

enum { PLANNED = 900 }; /* slices, of several leaves */

struct planned {
	uint8_t seen[PLANNED];
	unsigned n;
};

static int
see_planned(void *arg, uint64_t slice, uint8_t codec, uint32_t raw_len,
    const uint8_t *data, size_t len, struct err *e)
{
	static uint8_t want[FIXTURE_CHUNK];
	struct planned *p = arg;
	struct id id;

	(void)e;
	assert_true(slice < PLANNED);
	fixture_chunk((uint32_t)slice, raw_len, &id, want);
	assert_int_equal(codec, 0);
	assert_int_equal(len, raw_len);
	assert_memory_equal(data, want, len);
	p->seen[slice]++;
	p->n++;
	return 0;
}

static void
the_parts_of_a_plan_are_each_slice_once(void **state)
{
	static const unsigned nparts[] = { 1, 2, 7, 255 };
	struct store_plan *plan;
	struct manifest m;
	struct err e = { 0 };

	(void)state;
	fixture_backup(&f, "a", 0, PLANNED, &m);
	assert_int_equal(store_plan_new(f.store, f.lane, &m.volume[0].root,
			     m.volume[0].size, 0, PLANNED, &plan, &e),
	    0);
	for (unsigned i = 0; i < 4; i++) {
		struct planned seen = { .n = 0 };
		unsigned most = 0;

		for (unsigned k = 0; k < nparts[i]; k++) {
			unsigned before = seen.n;

			assert_int_equal(
			    store_plan_read(f.store, f.lane, plan, k, nparts[i],
				see_planned, &seen, &e),
			    0);
			if (seen.n - before > most)
				most = seen.n - before;
		}
		assert_int_equal(seen.n, PLANNED);
		for (unsigned k = 0; k < PLANNED; k++)
			assert_int_equal(seen.seen[k], 1);
		assert_true(most <= PLANNED / nparts[i] + 2);
	}
	store_plan_free(plan);
	assert_int_equal(store_plan_new(f.store, f.lane, &m.volume[0].root,
			     m.volume[0].size, 1, PLANNED, &plan, &e),
	    ERR_INVAL);
}

static void
a_plan_has_the_nodes_above_its_slices(void **state)
{
	struct store_plan *plan;
	const struct node *n;
	struct node want;
	struct manifest m;
	struct err e = { 0 };
	uint64_t slice;

	(void)state;
	fixture_backup(&f, "a", 0, PLANNED, &m);
	assert_int_equal(store_plan_new(f.store, f.lane, &m.volume[0].root,
			     m.volume[0].size, 200, 500, &plan, &e),
	    0);
	for (unsigned level = 0; level < 3; level++)
		for (uint64_t i = 0; i < 10; i++) {
			bool has = level == 0 ? i >= 1 && i <= 5
					      : level == 1 && i == 0;

			n = store_plan_node(plan, level, i);
			assert_int_equal(n != NULL, has);
			if (n == NULL)
				continue;
			assert_int_equal(
			    store_tree_node(f.store, f.lane, &m.volume[0].root,
				m.volume[0].size, level, i, &want, &e),
			    0);
			assert_memory_equal(n, &want, sizeof(want));
		}
	store_plan_free(plan);
	assert_int_equal(
	    store_tree_place(f.store, m.volume[0].size, 0, 7, &slice, &e), 0);
	assert_int_equal(slice, 7 * NODE_FANOUT);
	assert_int_equal(
	    store_tree_place(f.store, m.volume[0].size, 0, 8, &slice, &e),
	    ERR_INVAL);
	assert_int_equal(
	    store_tree_place(f.store, m.volume[0].size, 2, 0, &slice, &e),
	    ERR_INVAL);
}

static void
a_second_backup_of_the_same_stores_no_chunk(void **state)
{
	struct store_session *x;
	struct manifest m;
	uint64_t stored;

	(void)state;
	fixture_backup(&f, "a", 1, 10, &m);
	x = begin();
	assert_true(has(x, 1));
	assert_int_equal(fixture_put(&f, x, 1, FIXTURE_CHUNK, &stored), 0);
	assert_int_equal(stored, 0);
	store_end(x);
}

static void
own_pending_is_had_and_anothers_is_not(void **state)
{
	struct store_session *x = begin(), *y = begin();
	uint64_t stored;

	(void)state;
	assert_int_equal(fixture_put(&f, x, 7, FIXTURE_CHUNK, &stored), 0);
	assert_true(stored > FIXTURE_CHUNK);
	assert_true(has(x, 7));
	/* It may be published in between: then a later stamp vouches. */
	store_end(y);
	wait_published();
	y = begin();
	assert_false(has(y, 7)); /* no reference, and stamped before y */
	assert_true(has(x, 7));
	assert_int_equal(fixture_put(&f, y, 7, FIXTURE_CHUNK, &stored), 0);
	assert_true(stored > FIXTURE_CHUNK);
	assert_true(has(y, 7));
	store_end(x);
	store_end(y);
}

static void
a_node_is_refused_until_its_children_are_there(void **state)
{
	static uint8_t data[FIXTURE_CHUNK];
	uint8_t body[NODE_LEN_MAX], missing[NODE_FANOUT / 8];
	struct store_session *x = begin();
	struct node n = { .level = 0 };
	uint64_t stored;
	struct err e;
	size_t len;

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		fixture_chunk(i + 1, FIXTURE_CHUNK, &n.child[i], data);
	node_trim(&n);
	len = node_print(&n, body);
	assert_int_equal(fixture_put(&f, x, 1, FIXTURE_CHUNK, &stored), 0);
	assert_int_equal(
	    store_put_node(x, f.lane, body, len, missing, &e), ERR_MISSING);
	assert_int_equal(missing[0], 0xfe);
	assert_int_equal(missing[1], 0x03);
	for (uint32_t i = 1; i < 10; i++)
		assert_int_equal(
		    fixture_put(&f, x, i + 1, FIXTURE_CHUNK, &stored), 0);
	assert_int_equal(store_put_node(x, f.lane, body, len, missing, &e), 0);
	store_end(x);
}

static void
what_was_said_to_be_lacking_is_stored_once(void **state)
{
	struct store_session *x = begin(), *y = begin();
	uint64_t stored;

	(void)state;
	assert_false(has(x, 1));
	assert_int_equal(fixture_put(&f, x, 1, FIXTURE_CHUNK, &stored), 0);
	assert_true(stored > 0);
	assert_int_equal(fixture_put(&f, x, 1, FIXTURE_CHUNK, &stored), 0);
	assert_int_equal(stored, 0);
	assert_true(has(x, 1));
	/* The answer is of another day once somebody else put it. */
	assert_false(has(x, 2));
	assert_int_equal(fixture_put(&f, y, 2, FIXTURE_CHUNK, &stored), 0);
	assert_true(stored > 0);
	for (int i = 0; i < 2000 && !has(x, 2); i++)
		usleep(5000);
	assert_true(has(x, 2));
	assert_int_equal(fixture_put(&f, x, 2, FIXTURE_CHUNK, &stored), 0);
	assert_int_equal(stored, 0);
	store_end(y);
	store_end(x);
}

static void
bytes_that_are_not_the_chunk_are_refused(void **state)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct store_put p = { .raw_len = FIXTURE_CHUNK,
		.stored_len = FIXTURE_CHUNK,
		.data = data };
	struct store_session *x = begin();
	uint64_t stored;
	struct err e;

	(void)state;
	fixture_chunk(1, FIXTURE_CHUNK, &p.id, data);
	data[77] ^= 1;
	assert_int_equal(
	    store_put_chunk(x, f.lane, &p, &stored, &e), ERR_PROTO);
	data[77] ^= 1;
	p.codec = 9;
	assert_int_equal(
	    store_put_chunk(x, f.lane, &p, &stored, &e), ERR_PROTO);
	p.codec = 0;
	p.raw_len = FIXTURE_CHUNK + 1;
	assert_int_equal(
	    store_put_chunk(x, f.lane, &p, &stored, &e), ERR_PROTO);
	p.raw_len = 0;
	assert_int_equal(
	    store_put_chunk(x, f.lane, &p, &stored, &e), ERR_PROTO);
	store_end(x);
}

static void
a_chunk_of_zeroes_is_refused(void **state)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct store_put p = { .raw_len = FIXTURE_CHUNK,
		.stored_len = FIXTURE_CHUNK,
		.data = data };
	struct store_session *x = begin();
	struct hasher *h = hasher_new(NULL);
	uint64_t stored;
	struct err e;

	(void)state;
	memset(data, 0, sizeof(data));
	hasher_chunk(h, data, sizeof(data), &p.id);
	hasher_free(h);
	assert_int_equal(
	    store_put_chunk(x, f.lane, &p, &stored, &e), ERR_PROTO);
	store_end(x);
}

static int
put_leaf(struct store_session *x, struct node *n)
{
	uint8_t body[NODE_LEN_MAX], missing[NODE_FANOUT / 8];
	struct err e;

	node_trim(n);
	return store_put_node(
	    x, f.lane, body, node_print(n, body), missing, &e);
}

static void
a_short_slice_inside_a_volume_is_refused(void **state)
{
	static uint8_t data[FIXTURE_CHUNK];
	struct store_session *x = begin();
	struct node n = { .level = 0 };
	uint64_t stored;

	(void)state;
	assert_int_equal(fixture_put(&f, x, 1, 512, &stored), 0);
	assert_int_equal(fixture_put(&f, x, 2, FIXTURE_CHUNK, &stored), 0);
	fixture_chunk(1, 512, &n.child[0], data);
	fixture_chunk(2, FIXTURE_CHUNK, &n.child[1], data);
	n.tail = true;
	assert_int_equal(put_leaf(x, &n), ERR_PROTO);
	n.tail = false;
	assert_int_equal(put_leaf(x, &n), ERR_PROTO);
	n.child[1] = n.child[0];
	n.child[0] = (struct id){ { 0 } };
	assert_int_equal(put_leaf(x, &n), ERR_PROTO); /* tail not said */
	n.tail = true;
	assert_int_equal(put_leaf(x, &n), 0);
	store_end(x);
}

static void
a_tree_that_does_not_fit_the_size_is_refused(void **state)
{
	static const struct {
		int64_t size; /* added to the right one */
		int rc;
	} wrong[] = { { 1, ERR_PROTO }, { -1, ERR_PROTO },
		{ FIXTURE_CHUNK, ERR_PROTO }, { -FIXTURE_CHUNK, ERR_PROTO },
		{ (int64_t)FIXTURE_CHUNK * 20000, ERR_MISSING } };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct store_session *x = begin();
		struct manifest m = { .nvolumes = 1 };
		struct err e = { 0 };

		strcpy(m.vm, "a");
		strcpy(m.volume[0].name, "vda");
		m.volume[0].size =
		    (uint64_t)((int64_t)fixture_tree(
				   &f, x, 1, 200, 1000, &m.volume[0].root) +
			wrong[i].size);
		assert_int_equal(
		    store_commit(x, f.lane, &m, NULL, 0, &e), wrong[i].rc);
		store_end(x);
	}
}

static void
a_commit_without_its_tree_is_refused(void **state)
{
	struct store_session *x = begin();
	struct manifest m = { .nvolumes = 1 };
	struct err e = { 0 };

	(void)state;
	strcpy(m.vm, "a");
	strcpy(m.volume[0].name, "vda");
	m.volume[0].size = FIXTURE_CHUNK;
	memset(m.volume[0].root.b, 7, ID_LEN);
	assert_int_equal(store_commit(x, f.lane, &m, NULL, 0, &e), ERR_MISSING);
	store_end(x);
}

static void
an_uncommitted_session_leaves_no_backup_and_a_clean_store(void **state)
{
	struct store_session *x = begin();
	struct id root;

	(void)state;
	fixture_tree(&f, x, 1, 300, 1000, &root);
	store_end(x);
	fixture_close(&f);
	fixture_fsck(&f, false);
	fixture_open(&f);
	assert_int_equal(f.nbackups, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(what_was_put_reads_back),
		T(the_parts_of_a_plan_are_each_slice_once),
		T(a_plan_has_the_nodes_above_its_slices),
		T(a_second_backup_of_the_same_stores_no_chunk),
		T(own_pending_is_had_and_anothers_is_not),
		T(a_node_is_refused_until_its_children_are_there),
		T(what_was_said_to_be_lacking_is_stored_once),
		T(bytes_that_are_not_the_chunk_are_refused),
		T(a_chunk_of_zeroes_is_refused),
		T(a_short_slice_inside_a_volume_is_refused),
		T(a_tree_that_does_not_fit_the_size_is_refused),
		T(a_commit_without_its_tree_is_refused),
		T(an_uncommitted_session_leaves_no_backup_and_a_clean_store),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
