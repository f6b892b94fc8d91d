/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "repo/serve/plans.h"
#include "tests/unit/store_fixture.h"

enum { SLICES = 300, LANES = 4 };

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

struct asker {
	pthread_t thread;
	struct plans *plans;
	const struct manifest_volume *v;
	unsigned ngood;
};

/* All nodes of the volume, as a lane of its own. */
static void *
ask_all(void *arg)
{
	struct asker *a = arg;
	struct store_lane *l = store_lane_new(f.store, NULL);
	struct err e = { 0 };

	for (int level = 1; level >= 0; level--)
		for (uint64_t i = 0; i < (level == 1 ? 1 : 3); i++) {
			struct msg_tree t = { .level = (uint8_t)level,
				.index = i };
			struct node got, want;

			if (plans_node(a->plans, f.store, l, a->v, &t, &got,
				&e) == 0 &&
			    store_tree_node(f.store, l, &a->v->root, a->v->size,
				t.level, i, &want, &e) == 0 &&
			    got.n > 0 && memcmp(&got, &want, sizeof(got)) == 0)
				a->ngood++;
		}
	store_lane_free(l);
	return NULL;
}

static void
lanes_that_ask_at_once_get_all_nodes(void **state)
{
	struct asker asker[LANES];
	struct plans *p = plans_new();
	struct manifest m;

	(void)state;
	fixture_backup(&f, "a", 0, SLICES, &m);
	for (unsigned i = 0; i < LANES; i++) {
		asker[i] = (struct asker){ .plans = p, .v = &m.volume[0] };
		assert_int_equal(
		    pthread_create(&asker[i].thread, NULL, ask_all, &asker[i]),
		    0);
	}
	for (unsigned i = 0; i < LANES; i++) {
		pthread_join(asker[i].thread, NULL);
		assert_int_equal(asker[i].ngood, 4);
	}
	plans_free(p);
}

static void
the_plan_that_answers_is_the_one_that_is_read(void **state)
{
	struct msg_tree t = { .level = 1 };
	struct msg_read r = { .n = SLICES, .nparts = 1 };
	struct plans *p = plans_new();
	struct plan_use *u;
	struct manifest m;
	struct err e = { 0 };
	struct node n;

	(void)state;
	fixture_backup(&f, "a", 0, SLICES, &m);
	assert_int_equal(
	    plans_node(p, f.store, f.lane, &m.volume[0], &t, &n, &e), 0);
	/* A root that is nowhere: whoever looked would not find it. */
	m.volume[0].root.b[0] ^= 1;
	assert_int_equal(
	    plans_get(p, f.store, f.lane, &m.volume[0], &r, &u, &e), 0);
	assert_non_null(store_plan_node(plans_plan(u), 0, 2));
	plans_put(p, u);
	t.level = 0;
	assert_int_equal(
	    plans_node(p, f.store, f.lane, &m.volume[0], &t, &n, &e), 0);
	plans_free(p);
}

static void
what_is_not_there_is_named(void **state)
{
	struct manifest_volume v = { .size = 0 };
	struct plans *p = plans_new();
	struct msg_tree t = { .level = 1 };
	struct manifest m;
	struct err e = { 0 };
	struct node n;

	(void)state;
	fixture_backup(&f, "a", 0, SLICES, &m);
	v = m.volume[0];
	t.index = 1;
	assert_int_equal(
	    plans_node(p, f.store, f.lane, &v, &t, &n, &e), ERR_INVAL);
	v.root.b[0] ^= 1;
	t.index = 0;
	for (int i = 0; i < 2; i++) {
		e = (struct err){ 0 };
		assert_int_equal(
		    plans_node(p, f.store, f.lane, &v, &t, &n, &e), ERR_NOENT);
		assert_string_equal(e.text, "a node is not in the index");
	}
	plans_free(p);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(lanes_that_ask_at_once_get_all_nodes),
		T(the_plan_that_answers_is_the_one_that_is_read),
		T(what_is_not_there_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
