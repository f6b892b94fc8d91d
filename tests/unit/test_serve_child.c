/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/serve/backoff.h"
#include "agent/serve/child.h"
#include "agent/serve/desk.h"
#include "proto/base/io.h"

enum { WAIT_MS = 10000 };

static char dir[64];
static struct children *kids;
static unsigned nended;
static bool ended_ok;
static char ended_text[TASK_TEXT_MAX], ended_token[TASK_TOKEN_LEN + 1];

static int
set_up(void **state)
{
	(void)state;
	nended = 0;
	kids = children_new("/bin/sh", 200);
	snprintf(dir, sizeof(dir), "/tmp/backstay-child.XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	char *cmd = xasprintf("rm -rf %s", dir);
	int rc = system(cmd);

	(void)state;
	free(cmd);
	children_free(kids);
	return rc;
}

static struct task
a_task(unsigned n)
{
	struct task t = { .job = n };

	snprintf(t.token, sizeof(t.token), "%032x", n);
	return t;
}

static void
start(unsigned n, const char *script)
{
	struct task t = a_task(n);
	struct task_words w = { .n = 3 };
	struct err e = { 0 };

	w.word[0] = xstrdup("sh");
	w.word[1] = xstrdup("-c");
	w.word[2] = xstrdup(script);
	assert_int_equal(children_start(kids, &t, &w, &e), 0);
	task_words_fini(&w);
}

static void
take_end(void *arg, const char *token, bool ok, const char *text)
{
	(void)arg;
	nended++;
	ended_ok = ok;
	snprintf(ended_text, sizeof(ended_text), "%s", text);
	snprintf(ended_token, sizeof(ended_token), "%s", token);
}

static void
until_ended(unsigned n)
{
	uint64_t until = now_ms() + WAIT_MS;
	struct pollfd p[CHILD_FDS_MAX];

	while (nended < n && now_ms() < until) {
		(void)poll(p, children_fds(kids, p), 10);
		children_read(kids);
		(void)children_kill(kids);
		children_reap(kids, take_end, NULL);
	}
	assert_int_equal(nended, n);
}

static bool
there(const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);
	bool yes = access(path, F_OK) == 0;

	free(path);
	return yes;
}

static void
until_there(const char *name)
{
	uint64_t until = now_ms() + WAIT_MS;

	while (!there(name) && now_ms() < until)
		(void)poll(NULL, 0, 10);
	assert_true(there(name));
}

static void
a_child_knows_its_task_and_ends_well(void **state)
{
	char *script = xasprintf(
	    "[ \"$BACKSTAY_AGENT_TASK\" = %032x ] && [ -z \"$NOTIFY_SOCKET\" ] "
	    "&& [ ! -t 0 ] && [ -z \"$(ls /proc/self/fd | grep -v "
	    "'^[0-3]$')\" ]",
	    1u);

	(void)state;
	setenv("NOTIFY_SOCKET", "/nowhere", 1);
	start(1, script);
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(children_count(kids), 1);
	until_ended(1);
	if (!ended_ok)
		fail_msg("%s", ended_text);
	assert_string_equal(ended_text, "");
	assert_int_equal(children_count(kids), 0);
	free(script);
}

static void
the_last_word_of_one_that_failed_is_told(void **state)
{
	(void)state;
	start(1,
	    "echo 'error: first' >&2; echo 'info: not this' >&2;"
	    "echo 'backstay-agent: backup of a failed: why' >&2;"
	    "echo 'error: later' >&2; exit 1");
	until_ended(1);
	assert_false(ended_ok);
	assert_string_equal(ended_text, "backup of a failed: why");
	start(2, "echo 'error: only this' >&2; exit 1");
	until_ended(2);
	assert_string_equal(ended_text, "only this");
	start(3, "exit 3");
	until_ended(3);
	assert_string_equal(ended_text, "its process ended with status 3");
	start(4, "kill -SEGV $$");
	until_ended(4);
	assert_non_null(strstr(ended_text, "ended by signal 11"));
}

static void
one_that_says_much_without_a_newline_harms_nobody(void **state)
{
	(void)state;
	start(1,
	    "head -c 300000 /dev/zero | tr '\\0' x >&2;"
	    "printf 'backstay-agent: the end' >&2; exit 1");
	until_ended(1);
	assert_false(ended_ok);
}

static void
one_that_is_told_to_end_ends_or_is_killed(void **state)
{
	char *script = xasprintf(
	    "trap 'exit 1' TERM; : >%s/up; while :; do sleep 0.01; done", dir);
	char *deaf = xasprintf("trap '' TERM; : >%s/deaf; "
			       "while :; do sleep 0.01; done",
	    dir);
	struct task t = a_task(1);

	(void)state;
	start(1, script);
	start(2, deaf);
	until_there("up");
	until_there("deaf");
	children_stop(kids, t.token);
	until_ended(1);
	assert_string_equal(ended_token, t.token);
	assert_int_equal(children_count(kids), 1);
	children_stop(kids, NULL);
	until_ended(2);
	assert_non_null(strstr(ended_text, "was killed"));
	free(script);
	free(deaf);
}

/* As a guard does, it has its parent's stderr. */
static void
a_child_has_ended_though_its_own_child_goes_on(void **state)
{
	char *script = xasprintf("(while [ ! -e %s/go ]; do sleep 0.01; done; "
				 "echo 'info: done' >&2; : >%s/gone) & exit 0",
	    dir, dir);
	struct pollfd p[CHILD_FDS_MAX];
	char *go = xasprintf("%s/go", dir);
	uint64_t until;

	(void)state;
	start(1, script);
	until_ended(1);
	assert_true(ended_ok);
	assert_int_equal(children_fds(kids, p), 1);
	close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	until_there("gone");
	until = now_ms() + WAIT_MS;
	while (children_fds(kids, p) > 0 && now_ms() < until) {
		(void)poll(p, 1, 10);
		children_read(kids);
	}
	assert_int_equal(children_fds(kids, p), 0);
	free(script);
	free(go);
}

static void
no_child_outlives_a_parent_that_was_killed(void **state)
{
	char *script = xasprintf("trap ': >%s/told; exit 1' TERM; : >%s/up; "
				 "while :; do sleep 0.01; done",
	    dir, dir);
	pid_t pid = fork();

	(void)state;
	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		start(1, script);
		for (;;)
			pause();
	}
	until_there("up");
	assert_false(there("told"));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	until_there("told");
	free(script);
}

/* --- the desk */

static void
a_task_stays_until_its_end_was_told(void **state)
{
	struct desk *d = desk_new();
	struct task t = a_task(1), again = a_task(1), out;
	struct desk_end end;
	unsigned n, running;
	json_t *list;

	(void)state;
	assert_true(desk_give(d, &t));
	assert_false(desk_give(d, &again));
	assert_true(desk_start(d, &out));
	assert_false(desk_start(d, &again));
	assert_string_equal(out.token, t.token);
	assert_false(desk_ended(d, &end));
	desk_end(d, t.token, false, "why");
	desk_counts(d, &n, &running);
	assert_int_equal(n, 1);
	assert_int_equal(running, 0);
	list = desk_running(d);
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
	assert_true(desk_ended(d, &end));
	assert_string_equal(end.text, "why");
	desk_told(d, end.token);
	list = desk_running(d);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	desk_free(d);
}

static void
one_that_waits_and_is_cancelled_never_runs(void **state)
{
	struct desk *d = desk_new();
	struct task a = a_task(1), b = a_task(2), out;
	char token[TASK_TOKEN_LEN + 1];
	struct desk_end end;

	(void)state;
	assert_true(desk_give(d, &a));
	assert_true(desk_give(d, &b));
	desk_cancel(d, a.token);
	assert_true(desk_start(d, &out));
	assert_string_equal(out.token, b.token);
	assert_true(desk_ended(d, &end));
	assert_string_equal(end.token, a.token);
	assert_false(desk_to_stop(d, token));
	desk_cancel(d, b.token);
	assert_true(desk_to_stop(d, token));
	assert_string_equal(token, b.token);
	assert_false(desk_to_stop(d, token));
	desk_cancel(d, "no such");
	desk_free(d);
}

static void
a_closed_desk_takes_nothing_and_starts_nothing(void **state)
{
	struct desk *d = desk_new();
	struct task a = a_task(1), b = a_task(2), out;
	struct desk_end end;

	(void)state;
	assert_true(desk_give(d, &a));
	desk_close(d, "stopping");
	assert_false(desk_give(d, &b));
	assert_false(desk_start(d, &out));
	assert_true(desk_ended(d, &end));
	assert_string_equal(end.text, "stopping");
	desk_free(d);
}

/* --- how long to wait */

static void
tries_come_further_apart_up_to_a_minute(void **state)
{
	struct backoff b = { 0 };
	unsigned expect[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000,
		60000, 60000 };

	(void)state;
	for (size_t i = 0; i < sizeof(expect) / sizeof(expect[0]); i++)
		assert_int_equal(backoff_ms(&b, 0), expect[i]);
	backoff_reset(&b);
	assert_int_equal(backoff_ms(&b, 0), 1000);
	for (uint32_t chance = 0; chance < 100000; chance += 77) {
		struct backoff x = { .next_ms = 8000 };
		unsigned ms = backoff_ms(&x, chance);

		assert_true(ms >= 4000 && ms <= 8000);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_child_knows_its_task_and_ends_well),
		TEST(the_last_word_of_one_that_failed_is_told),
		TEST(one_that_says_much_without_a_newline_harms_nobody),
		TEST(one_that_is_told_to_end_ends_or_is_killed),
		TEST(a_child_has_ended_though_its_own_child_goes_on),
		TEST(no_child_outlives_a_parent_that_was_killed),
		TEST(a_task_stays_until_its_end_was_told),
		TEST(one_that_waits_and_is_cancelled_never_runs),
		TEST(a_closed_desk_takes_nothing_and_starts_nothing),
		TEST(tries_come_further_apart_up_to_a_minute),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
