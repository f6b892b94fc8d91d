/* SPDX-License-Identifier: Apache-2.0 */
/* What a backup that was killed leaves of a view, and who lets go of it. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "tests/unit/fake_ga.h"
#include "tests/unit/plain_guest.h"

enum step {
	S_FILES,
	S_PREPARE,
	S_STOP,
	S_FREEZE,
	S_POINT,
	S_CONT,
	S_THAW,
	S_EXPOSE,
	S_END,
	NSTEPS
};

static struct guest_ops real, deadly;
static enum step last_step;
static bool after_it;

static void
die_if(enum step s, bool after)
{
	if (s == last_step && after == after_it)
		kill(0, SIGKILL); /* the group, as a terminal would */
}

#define STEP(name, number, params, args)                                       \
	static int deadly_##name params                                        \
	{                                                                      \
		int rc;                                                        \
                                                                               \
		die_if(number, false);                                         \
		rc = real.name args;                                           \
		die_if(number, true);                                          \
		return rc;                                                     \
	}
#define VIEW_PARAMS                                                            \
	(struct guest * g, const struct guest_view_options *o,                 \
	    struct guest_view *v, struct err *e)
STEP(view_files, S_FILES, VIEW_PARAMS, (g, o, v, e))
STEP(view_prepare, S_PREPARE, VIEW_PARAMS, (g, o, v, e))
STEP(view_point, S_POINT, VIEW_PARAMS, (g, o, v, e))
STEP(view_expose, S_EXPOSE, VIEW_PARAMS, (g, o, v, e))
STEP(
    view_end, S_END, (struct guest * g, bool keep, struct err *e), (g, keep, e))
STEP(stop, S_STOP, (struct guest * g, struct err *e), (g, e))
STEP(cont, S_CONT, (struct guest * g, struct err *e), (g, e))
STEP(freeze, S_FREEZE, (struct guest * g, struct err *e), (g, e))
STEP(thaw, S_THAW, (struct guest * g, struct err *e), (g, e))

static int
save_nothing(struct guest *g, void *arg, struct err *e)
{
	(void)g;
	(void)arg;
	(void)e;
	return 0;
}

/* A backup that kills itself, and all of its group, at a step. */
static void
killed_at(enum step s, bool after, bool with_ram, const char *ga)
{
	struct guest_view_options o;
	struct guest_view v;
	struct guest *g;
	int status;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		setpgid(0, 0);
		last_step = s;
		after_it = after;
		g = plain_open(ga);
		real = *g->ops;
		deadly = real;
		deadly.view_files = deadly_view_files;
		deadly.view_prepare = deadly_view_prepare;
		deadly.view_point = deadly_view_point;
		deadly.view_expose = deadly_view_expose;
		deadly.view_end = deadly_view_end;
		deadly.stop = deadly_stop;
		deadly.cont = deadly_cont;
		deadly.freeze = deadly_freeze;
		deadly.thaw = deadly_thaw;
		g->ops = &deadly;
		o = plain_options(g, TAG2, TAG1);
		if (with_ram)
			o.frozen = save_nothing;
		if (ga != NULL)
			o.quiesce = QUIESCE_REQUIRE;
		if (guest_view_begin(g, &o, &v, NULL) == 0)
			guest_view_end(g, true, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
what_a_killed_backup_left_is_let_go_of(void **state)
{
	static const enum step steps[] = { S_FILES, S_STOP, S_PREPARE, S_POINT,
		S_CONT, S_EXPOSE, S_END };
	char what[400], names[512], at[64];
	struct err e = { 0 };
	struct guest *g;

	(void)state;
	guest_close(plain_backed_up());
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		for (int after = 0; after < 2; after++) {
			snprintf(
			    at, sizeof(at), "step %d, %d", steps[i], after);
			killed_at(steps[i], after, true, NULL);
			plain_wait_clean(at);
			/* Bitmaps are for the next backup to judge. */
			g = plain_open_locked();
			assert_int_equal(guest_release(g, REPO, TAG1, what,
					     sizeof(what), &e),
			    0);
			/* But for that which committed. */
			assert_string_equal(
			    qemu_bitmaps(&qemu, "disk", names, sizeof(names)),
			    steps[i] == S_END && after ? "" : BITMAP1);
			assert_int_equal(plain_files(plain_scratch), 0);
			guest_close(g);
		}
}

static void
a_paused_guest_is_not_continued(void **state)
{
	char s[32];

	(void)state;
	json_decref(qemu_ask(&qemu, "stop", NULL));
	killed_at(S_POINT, true, true, NULL);
	plain_wait("one that was paused", "paused");
	assert_string_equal(qemu_status(&qemu, s, sizeof(s)), "paused");
}

static void
a_killed_backup_leaves_nothing_frozen(void **state)
{
	static const enum step steps[] = { S_FREEZE, S_POINT, S_THAW };
	uint64_t until;
	struct fake_ga a;

	(void)state;
	fake_ga_start(&a, qemu.dir);
	for (size_t i = 0; i < 3; i++) {
		killed_at(steps[i], i == 0, false, a.path);
		until = now_ms() + PATIENCE_MS;
		while (fake_ga_frozen(&a) && now_ms() < until)
			poll(NULL, 0, 10);
		assert_false(fake_ga_frozen(&a));
		assert_int_equal(a.freezes, i + 1);
		plain_wait_clean("a frozen one");
		guest_close(plain_open_locked());
	}
	fake_ga_end(&a);
}

int
main(int argc, char **argv)
{
#define RUNNING(test)                                                          \
	cmocka_unit_test_setup_teardown(                                       \
	    test, plain_setup_running, plain_teardown)
	const struct CMUnitTest tests[] = {
		RUNNING(what_a_killed_backup_left_is_let_go_of),
		RUNNING(a_paused_guest_is_not_continued),
		RUNNING(a_killed_backup_leaves_nothing_frozen),
	};
	int rc = guard_main(argc, argv);

	if (rc != -1)
		return rc;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
