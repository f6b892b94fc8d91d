/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "proto/base/io.h"
#include "proto/node.h"

/* A body of ${n} children, none of them a hole. */
static size_t
make(uint8_t *body, uint8_t level, uint8_t n)
{
	struct node node = { .level = level, .n = n };

	for (unsigned i = 0; i < n; i++)
		memset(node.child[i].b, (int)i + 1, ID_LEN);
	return node_print(&node, body);
}

static void
node_comes_back_as_it_was(void **state)
{
	uint8_t body[NODE_LEN_MAX], again[NODE_LEN_MAX];
	struct node n;
	struct err e;
	size_t len;

	(void)state;
	for (unsigned i = 1; i <= NODE_FANOUT; i++) {
		len =
		    make(body, (uint8_t)(i % (NODE_LEVEL_MAX + 1)), (uint8_t)i);
		body[2] = i & 1;
		assert_int_equal(node_parse(body, len, &n, &e), 0);
		assert_int_equal(n.n, i);
		assert_int_equal(n.tail, i & 1);
		assert_int_equal(node_print(&n, again), len);
		assert_memory_equal(body, again, len);
		for (unsigned k = i; k < NODE_FANOUT; k++)
			assert_true(id_is_hole(&n.child[k]));
	}
}

static void
parse_takes_holes_before_the_last_child(void **state)
{
	uint8_t body[NODE_LEN_MAX];
	size_t len = make(body, 0, 3);
	struct node n;
	struct err e;

	(void)state;
	memset(body + NODE_HEADER_LEN, 0, 2 * ID_LEN);
	assert_int_equal(node_parse(body, len, &n, &e), 0);
	assert_true(id_is_hole(&n.child[0]));
	assert_false(id_is_hole(&n.child[2]));
}

static void
parse_refuses_a_trailing_hole(void **state)
{
	uint8_t body[NODE_LEN_MAX];
	size_t len = make(body, 0, 3);
	struct node n;
	struct err e;

	(void)state;
	memset(body + NODE_HEADER_LEN + 2 * ID_LEN, 0, ID_LEN);
	assert_int_equal(node_parse(body, len, &n, &e), ERR_PROTO);
}

static void
parse_refuses_a_node_of_nothing(void **state)
{
	static const uint8_t body[NODE_HEADER_LEN] = { 0, 0, 0, 0 };
	struct node n;
	struct err e;

	(void)state;
	for (size_t len = 0; len <= sizeof(body); len++)
		assert_int_equal(node_parse(body, len, &n, &e), ERR_PROTO);
}

static void
parse_refuses_other_lengths_than_its_children_make(void **state)
{
	uint8_t body[NODE_LEN_MAX + ID_LEN] = { 0 };
	size_t len = make(body, 0, 5);
	struct node n;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(body); i++)
		assert_int_equal(
		    node_parse(body, i, &n, &e), i == len ? 0 : ERR_PROTO);
	make(body, 0, NODE_FANOUT);
	body[1] = NODE_FANOUT + 1;
	memset(body + NODE_LEN_MAX, 1, ID_LEN);
	assert_int_equal(node_parse(body, sizeof(body), &n, &e), ERR_PROTO);
}

static void
parse_refuses_unknown_levels_and_flags(void **state)
{
	uint8_t body[NODE_LEN_MAX];
	size_t len = make(body, NODE_LEVEL_MAX, 1);
	struct node n;
	struct err e;

	(void)state;
	assert_int_equal(node_parse(body, len, &n, &e), 0);
	body[0] = NODE_LEVEL_MAX + 1;
	assert_int_equal(node_parse(body, len, &n, &e), ERR_PROTO);
	body[0] = 0;
	body[2] = 2;
	assert_int_equal(node_parse(body, len, &n, &e), ERR_PROTO);
	body[2] = 1;
	assert_int_equal(node_parse(body, len, &n, &e), 0);
	body[3] = 1;
	assert_int_equal(node_parse(body, len, &n, &e), ERR_PROTO);
}

static void
trim_cuts_trailing_holes_only(void **state)
{
	struct node n = { .level = 0 };

	(void)state;
	node_trim(&n);
	assert_int_equal(n.n, 0);
	n.child[5].b[0] = 1;
	node_trim(&n);
	assert_int_equal(n.n, 6);
	n.child[NODE_FANOUT - 1].b[31] = 1;
	node_trim(&n);
	assert_int_equal(n.n, NODE_FANOUT);
}

static void
root_level_is_the_least_that_spans_the_volume(void **state)
{
	uint64_t most = VOLUME_SIZE_MAX / CHUNK_SIZE_MIN;

	(void)state;
	assert_int_equal(node_span(0), 128);
	assert_int_equal(node_span(1), 128 * 128);
	assert_int_equal(node_root_level(1), 0);
	assert_int_equal(node_root_level(128), 0);
	assert_int_equal(node_root_level(129), 1);
	assert_int_equal(node_root_level(128 * 128), 1);
	assert_int_equal(node_root_level(128 * 128 + 1), 2);
	assert_int_equal(node_root_level(most), NODE_LEVEL_MAX);
	assert_true(node_span(NODE_LEVEL_MAX) >= most);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(node_comes_back_as_it_was),
		cmocka_unit_test(parse_takes_holes_before_the_last_child),
		cmocka_unit_test(parse_refuses_a_trailing_hole),
		cmocka_unit_test(parse_refuses_a_node_of_nothing),
		cmocka_unit_test(
		    parse_refuses_other_lengths_than_its_children_make),
		cmocka_unit_test(parse_refuses_unknown_levels_and_flags),
		cmocka_unit_test(trim_cuts_trailing_holes_only),
		cmocka_unit_test(root_level_is_the_least_that_spans_the_volume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
