/* SPDX-License-Identifier: Apache-2.0 */
/* File systems that the guest's agent freezes for the point in time. */
#include <signal.h>
#include <string.h>

#include "tests/unit/fake_ga.h"
#include "tests/unit/plain_guest.h"

static struct guest_ops real, watching;
static struct fake_ga *watched;
static bool was_frozen;

static int
watched_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *v, struct err *e)
{
	was_frozen = fake_ga_frozen(watched);
	return real.view_point(g, o, v, e);
}

static int
still_frozen(struct guest *g, void *arg, struct err *e)
{
	(void)g;
	(void)e;
	*(bool *)arg = fake_ga_frozen(watched);
	return 0;
}

static int
not_for_us(struct guest *g, void *arg, struct err *e)
{
	(void)g;
	(void)arg;
	return err_set(e, ERR_DENIED, "not for us");
}

static void
file_systems_are_frozen_at_the_point_in_time_only(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct fake_ga a;
	struct guest *g;
	struct err e = { 0 };
	bool frozen = false;

	(void)state;
	fake_ga_start(&a, qemu.dir);
	g = plain_open(a.path);
	watched = &a;
	real = *g->ops;
	watching = real;
	watching.view_point = watched_point;
	g->ops = &watching;
	o = plain_options(g, TAG1, NULL);
	o.quiesce = QUIESCE_REQUIRE;
	o.point = still_frozen;
	o.point_arg = &frozen;
	plain_begin(g, &o, &v);
	assert_string_equal(v.consistency, "guest");
	assert_true(was_frozen);
	assert_true(frozen);
	assert_false(fake_ga_frozen(&a));
	assert_int_equal(a.freezes, 1);
	plain_end(g, false);
	o.point = not_for_us;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_DENIED);
	assert_string_equal(e.text, "not for us");
	assert_false(fake_ga_frozen(&a));
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
	fake_ga_end(&a);
}

static int
failing_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *v, struct err *e)
{
	(void)g;
	(void)o;
	(void)v;
	return err_set(e, ERR_NOSPC, "no point in time");
}

/* It does thaw, so that nothing stays frozen behind the test. */
static int
failing_thaw(struct guest *g, struct err *e)
{
	assert_int_equal(real.thaw(g, e), 0);
	return err_set(e, ERR_CLOSED, "no answer");
}

static void
of_a_view_and_a_thaw_that_both_fail_the_view_is_told(void **state)
{
	struct guest_view_options o;
	struct err e = { 0 };
	struct guest_view v;
	struct fake_ga a;
	struct guest *g;

	(void)state;
	fake_ga_start(&a, qemu.dir);
	g = plain_open(a.path);
	real = *g->ops;
	watching = real;
	watching.view_point = failing_point;
	watching.thaw = failing_thaw;
	g->ops = &watching;
	o = plain_options(g, TAG1, NULL);
	o.quiesce = QUIESCE_REQUIRE;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_NOSPC);
	assert_string_equal(e.text, "no point in time");
	assert_int_equal(a.freezes, 1);
	assert_false(fake_ga_frozen(&a));
	g->ops = &real;
	guest_close(g);
	fake_ga_end(&a);
}

static void
without_an_agent_a_view_is_made_only_if_that_will_do(void **state)
{
	struct guest *g = plain_open("/nonexistent/ga.sock");
	struct guest_view_options o = plain_options(g, TAG1, NULL);
	struct err e = { 0 };
	struct guest_view v;

	(void)state;
	o.quiesce = QUIESCE_AUTO;
	plain_begin(g, &o, &v);
	assert_string_equal(v.consistency, "crash");
	assert_non_null(strstr(v.note, "no agent"));
	plain_end(g, false);
	o.quiesce = QUIESCE_REQUIRE;
	assert_int_equal(guest_view_begin(g, &o, &v, &e), ERR_UNSUP);
	assert_true(qemu_is_clean(&qemu));
	guest_close(g);
}

static void
what_others_have_frozen_stays_frozen(void **state)
{
	struct guest_view_options o;
	struct guest_view v;
	struct fake_ga a;
	struct guest *g;

	(void)state;
	fake_ga_start(&a, qemu.dir);
	a.frozen = true;
	g = plain_open(a.path);
	o = plain_options(g, TAG1, NULL);
	o.quiesce = QUIESCE_AUTO;
	plain_begin(g, &o, &v);
	assert_string_equal(v.consistency, "crash");
	assert_non_null(strstr(v.note, "somebody else"));
	plain_end(g, false);
	guest_close(g);
	assert_true(fake_ga_frozen(&a));
	fake_ga_end(&a);
}

int
main(int argc, char **argv)
{
#define RUNNING(test)                                                          \
	cmocka_unit_test_setup_teardown(                                       \
	    test, plain_setup_running, plain_teardown)
	const struct CMUnitTest tests[] = {
		RUNNING(file_systems_are_frozen_at_the_point_in_time_only),
		RUNNING(of_a_view_and_a_thaw_that_both_fail_the_view_is_told),
		RUNNING(without_an_agent_a_view_is_made_only_if_that_will_do),
		RUNNING(what_others_have_frozen_stays_frozen),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
