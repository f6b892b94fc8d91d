/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: the builder against a naive one that has all leaves in memory.
 * SEED=N repeats a run.
 */
#include "agent/pipeline/tree.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proto/base/buf.h"

enum { CS = CHUNK_SIZE_MIN, SPAN = CS * NODE_FANOUT };

static unsigned seed;
static const struct id hole;

static unsigned
rnd(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

struct model {
	uint64_t size;
	uint64_t nleaves;
	struct id *leaf;
	bool tail;
	struct id root;
	unsigned nnodes; /* of levels above the leaves, without holes */
};

static struct id
node_id(const struct node *n)
{
	struct hasher *h = hasher_new(NULL);
	uint8_t body[NODE_LEN_MAX];
	struct id id;

	hasher_node(h, body, node_print(n, body), &id);
	hasher_free(h);
	return id;
}

/* Leaves at random, a share of ${holes} per cent being holes; then the tree
 * level by level. */
static struct model
make_model(uint64_t size, unsigned holes)
{
	struct model m = { .size = size };
	uint64_t n, slices = chunk_nslices(size, CS);
	struct id *ids;
	unsigned level = 0;

	m.nleaves = slices / NODE_FANOUT + (slices % NODE_FANOUT != 0);
	m.leaf = xcalloc(m.nleaves + 1, sizeof(*m.leaf));
	ids = xcalloc(m.nleaves + 1, sizeof(*ids));
	for (uint64_t i = 0; i < m.nleaves; i++) {
		/* In runs, as disks have them. */
		bool is_hole = i > 0 && rnd(4) != 0 ? id_is_hole(&m.leaf[i - 1])
						    : rnd(100) < holes;

		for (unsigned k = 0; k < ID_LEN; k++)
			m.leaf[i].b[k] = is_hole ? 0 : (uint8_t)(rnd(255) + 1);
		ids[i] = m.leaf[i];
	}
	m.tail = m.nleaves > 0 && size % CS != 0 &&
	    !id_is_hole(&m.leaf[m.nleaves - 1]) && rnd(2) == 0;
	for (n = m.nleaves; n > 1; level++) {
		uint64_t up = n / NODE_FANOUT + (n % NODE_FANOUT != 0);

		for (uint64_t i = 0; i < up; i++) {
			struct node node = { .level = (uint8_t)(level + 1) };

			for (unsigned k = 0; k < NODE_FANOUT; k++)
				node.child[k] = i * NODE_FANOUT + k < n
				    ? ids[i * NODE_FANOUT + k]
				    : hole;
			node_trim(&node);
			node.tail = m.tail && i == up - 1;
			ids[i] = node.n == 0 ? hole : node_id(&node);
			m.nnodes += node.n != 0;
		}
		n = up;
	}
	m.root = m.nleaves > 0 ? ids[0] : hole;
	free(ids);
	return m;
}

static unsigned
take_all(struct tree *t)
{
	struct tree_ready r;
	struct id id;
	unsigned n = 0;

	while (tree_take(t, &r)) {
		id = node_id(&r.node);
		tree_add_node(t, r.node.level, r.index, &id);
		n++;
	}
	return n;
}

static void
add_leaf(struct tree *t, const struct model *m, uint64_t i)
{
	tree_add_leaf(t, i, &m->leaf[i], m->tail && i == m->nleaves - 1);
}

/* In any order, holes one by one or in runs. */
static void
build(struct tree *t, const struct model *m, bool runs, unsigned *nnodes)
{
	uint64_t *order = xcalloc(m->nleaves + 1, sizeof(*order));
	bool *given = xcalloc(m->nleaves + 1, sizeof(*given));

	*nnodes = 0;
	for (uint64_t i = 0; i < m->nleaves; i++) {
		uint64_t k = rnd((unsigned)i + 1);

		order[i] = order[k];
		order[k] = i;
	}
	for (uint64_t i = 0; i < m->nleaves; i++) {
		uint64_t at = order[i], end = at;

		if (given[at])
			continue;
		while (runs && end < m->nleaves && !given[end] &&
		    id_is_hole(&m->leaf[end]))
			given[end++] = true;
		given[at] = true;
		if (end > at)
			tree_add_holes(t, at, end - at);
		else
			add_leaf(t, m, at);
		if (rnd(3) == 0)
			*nnodes += take_all(t);
	}
	*nnodes += take_all(t);
	free(given);
	free(order);
}

static void
check_size(uint64_t size, unsigned holes, bool runs)
{
	struct model m = make_model(size, holes);
	struct tree *t = tree_new(size, CS);
	unsigned nnodes;
	struct id root;

	assert_int_equal(tree_nleaves(t), m.nleaves);
	assert_int_equal(tree_root(t, &root), m.nleaves == 0);
	build(t, &m, runs, &nnodes);
	assert_true(tree_root(t, &root));
	assert_memory_equal(&root, &m.root, ID_LEN);
	assert_int_equal(nnodes, m.nnodes);
	assert_int_equal(tree_nopen(t), 0);
	tree_free(t);
	free(m.leaf);
}

static void
any_order_gives_the_tree_of_the_naive_builder(void **state)
{
	static const uint64_t sizes[] = { 0, 1, CS - 1, CS, CS + 1, SPAN - CS,
		SPAN - 1, SPAN, SPAN + 1, 2 * SPAN + CS / 2, 127ull * SPAN,
		128ull * SPAN, 128ull * SPAN + 1, 129ull * SPAN,
		256ull * SPAN + 7, 1000ull * SPAN + 5 * CS + 100,
		16384ull * SPAN, 16385ull * SPAN, 20000ull * SPAN + 3 };

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (unsigned holes = 0; holes <= 100; holes += 25)
			for (unsigned runs = 0; runs < 2; runs++)
				check_size(sizes[i], holes, runs == 1);
}

static void
random_sizes_give_the_tree_of_the_naive_builder(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++)
		check_size((uint64_t)rnd(600) * SPAN + rnd(SPAN), rnd(101),
		    rnd(2) == 0);
}

/* The id of each node of a level, the leaves' being level 0. */
static struct id *
level_ids(const struct model *m, unsigned want, uint64_t *count)
{
	struct id *ids = xcalloc(m->nleaves + 1, sizeof(*ids));
	uint64_t n = m->nleaves;

	memcpy(ids, m->leaf, n * sizeof(*ids));
	for (unsigned level = 0; level < want; level++) {
		uint64_t up = n / NODE_FANOUT + (n % NODE_FANOUT != 0);

		for (uint64_t i = 0; i < up; i++) {
			struct node node = { .level = (uint8_t)(level + 1) };
			uint64_t left = n - i * NODE_FANOUT;

			memcpy(node.child, ids + i * NODE_FANOUT,
			    (left < NODE_FANOUT ? left : NODE_FANOUT) *
				sizeof(*ids));
			node_trim(&node);
			node.tail = m->tail && i == up - 1;
			ids[i] = node.n == 0 ? hole : node_id(&node);
		}
		n = up;
	}
	*count = n;
	return ids;
}

/* Leaves one by one, and whole subtrees of any level, at random. */
static void
check_subtrees(uint64_t size)
{
	struct model m = make_model(size, rnd(101));
	struct tree *t = tree_new(size, CS);
	unsigned root_level = tree_root_level(t);
	struct id *ids[NODE_LEVEL_MAX + 1], root;
	uint64_t n[NODE_LEVEL_MAX + 1];

	for (unsigned l = 0; l <= root_level; l++) {
		ids[l] = level_ids(&m, l, &n[l]);
		assert_int_equal(tree_nnodes(t, l), n[l]);
	}
	for (uint64_t at = 0; at < m.nleaves;) {
		unsigned l = rnd(root_level + 1);
		uint64_t each;

		while (l > 0 && at % (node_span(l) / NODE_FANOUT) != 0)
			l--;
		each = node_span(l) / NODE_FANOUT;
		/* The last one holds the short slice, at whatever level. */
		tree_add_subtree(t, l, at / each, &ids[l][at / each],
		    m.tail && at / each == n[l] - 1);
		at += each;
		if (rnd(3) == 0)
			take_all(t);
	}
	take_all(t);
	assert_true(tree_root(t, &root));
	assert_memory_equal(&root, &m.root, ID_LEN);
	assert_int_equal(tree_nopen(t), 0);
	for (unsigned l = 0; l <= root_level; l++)
		free(ids[l]);
	tree_free(t);
	free(m.leaf);
}

static void
subtrees_of_any_level_give_the_same_tree(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 300; i++)
		check_subtrees((uint64_t)rnd(600) * SPAN + rnd(SPAN) + 1);
	for (unsigned i = 0; i < 10; i++)
		check_subtrees((uint64_t)rnd(40000) * SPAN + rnd(SPAN) + 1);
}

static void
an_exabyte_of_holes_is_done_at_once_in_no_memory(void **state)
{
	struct tree *t = tree_new(VOLUME_SIZE_MAX, CS);
	struct tree_ready r;
	struct id root;

	(void)state;
	tree_add_holes(t, 1, tree_nleaves(t) - 1);
	assert_false(tree_root(t, &root));
	assert_true(tree_nopen(t) <= NODE_LEVEL_MAX);
	tree_add_leaf(t, 0, &hole, false);
	assert_false(tree_take(t, &r));
	assert_true(tree_root(t, &root));
	assert_true(id_is_hole(&root));
	tree_free(t);
}

static void
a_leaf_amid_holes_makes_one_node_a_level(void **state)
{
	struct tree *t = tree_new(1ull << 41, CS); /* levels 0 to 3 */
	uint64_t n = tree_nleaves(t), at = n / 3;
	struct id id = { { 7 } }, root;

	(void)state;
	tree_add_holes(t, 0, at);
	tree_add_holes(t, at + 1, n - at - 1);
	assert_int_equal(take_all(t), 0);
	tree_add_leaf(t, at, &id, false);
	assert_int_equal(take_all(t), 3);
	assert_true(tree_root(t, &root));
	assert_false(id_is_hole(&root));
	tree_free(t);
}

static void
in_order_the_frontier_is_one_node_a_level(void **state)
{
	struct model m = make_model(20000ull * SPAN, 10);
	struct tree *t = tree_new(m.size, CS);
	unsigned most = 0;

	(void)state;
	for (uint64_t i = 0; i < m.nleaves; i++) {
		add_leaf(t, &m, i);
		if (tree_nopen(t) > most)
			most = tree_nopen(t);
		take_all(t);
	}
	assert_true(most <= 4);
	tree_free(t);
	free(m.leaf);
}

/* Threads share out the leaves as lanes do. */
struct shared {
	struct tree *t;
	const struct model *m;
	pthread_mutex_t mu;
	uint64_t next;
	unsigned nnodes;
};

static void *
lane(void *arg)
{
	struct shared *s = arg;
	unsigned n = 0;
	uint64_t i;

	for (;;) {
		pthread_mutex_lock(&s->mu);
		i = s->next++;
		pthread_mutex_unlock(&s->mu);
		if (i >= s->m->nleaves)
			break;
		add_leaf(s->t, s->m, i);
		n += take_all(s->t);
	}
	pthread_mutex_lock(&s->mu);
	s->nnodes += n;
	pthread_mutex_unlock(&s->mu);
	return NULL;
}

static void
four_threads_build_the_same_tree(void **state)
{
	struct model m = make_model(3000ull * SPAN + 99, 30);
	struct shared s = { .t = tree_new(m.size, CS), .m = &m };
	pthread_t thread[4];
	struct id root;

	(void)state;
	pthread_mutex_init(&s.mu, NULL);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, lane, &s), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_true(tree_root(s.t, &root));
	assert_memory_equal(&root, &m.root, ID_LEN);
	assert_int_equal(s.nnodes, m.nnodes);
	assert_int_equal(tree_nopen(s.t), 0);
	pthread_mutex_destroy(&s.mu);
	tree_free(s.t);
	free(m.leaf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order_gives_the_tree_of_the_naive_builder),
		cmocka_unit_test(
		    random_sizes_give_the_tree_of_the_naive_builder),
		cmocka_unit_test(subtrees_of_any_level_give_the_same_tree),
		cmocka_unit_test(
		    an_exabyte_of_holes_is_done_at_once_in_no_memory),
		cmocka_unit_test(a_leaf_amid_holes_makes_one_node_a_level),
		cmocka_unit_test(in_order_the_frontier_is_one_node_a_level),
		cmocka_unit_test(four_threads_build_the_same_tree),
	};
	const char *s = getenv("SEED");

	seed =
	    s != NULL ? (unsigned)strtoul(s, NULL, 10) : (unsigned)time(NULL);
	printf("SEED=%u\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
