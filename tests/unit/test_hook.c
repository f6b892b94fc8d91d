/* SPDX-License-Identifier: Apache-2.0 */
/* hook: real programs, which are short scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/json.h"
#include "repo/notify/hook.h"

static char dir[] = "/tmp/test_hook.XXXXXX";

enum { LONG_MS = 20000 };

static int
set_up(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
	return mkdtemp(dir) == NULL;
}

static int
tear_down(void **state)
{
	static const char *const names[] = { "hook", "out", "pid" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = xasprintf("%s/%s", dir, names[i]);

		unlink(path);
		free(path);
	}
	return rmdir(dir);
}

/* The path of a script that does that; the caller's. */
static char *
script(const char *body)
{
	char *path = xasprintf("%s/hook", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

	assert_true(fd != -1);
	assert_true(dprintf(fd, "#!/bin/sh\n%s\n", body) > 0);
	close(fd);
	return path;
}

/* What the script wrote there. */
static char *
content(const char *name)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct buf b = { 0 };
	char *s;

	if (file_read(dirfd, name, 1 << 20, &b) != 0)
		fail_msg("%s/%s: is not there", dir, name);
	close(dirfd);
	s = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return s;
}

static int
run_for(const char *command, const char *input, unsigned timeout_ms,
    struct hook_result *r, struct err *e)
{
	static const char *const args[] = { "job-end", "a b", "", NULL };
	static const char *const env[] = { "PATH=/usr/bin:/bin", "X=1", NULL };
	struct hook_call c = { .command = command,
		.args = args,
		.env = env,
		.input = input,
		.timeout_ms = timeout_ms,
		.wake = -1 };

	return hook_run(&c, r, e);
}

static void
words_input_and_environment_arrive(void **state)
{
	const char *want;
	char *path, *body, *command, *got;
	struct hook_result r;
	struct err e = { 0 };

	(void)state;
	setenv("SECRET", "daemon", 1);
	body = xasprintf(
	    "exec >%s/out; for i; do echo \"[$i]\"; done; cat; echo; env | "
	    "grep -E '^(X|SECRET)='; pwd; ls -1 /proc/self/fd | wc -l",
	    dir);
	path = script(body);
	command = xasprintf("  %s  one two ", path);
	assert_int_equal(run_for(command, "{\"a\":1}", LONG_MS, &r, &e), 0);
	assert_int_equal(r.status, 0);
	assert_string_equal(r.line, "");
	got = content("out");
	/* ls has the folder open, too. */
	want = "[one]\n[two]\n[job-end]\n[a b]\n[]\n{\"a\":1}\nX=1\n/\n4\n";
	assert_string_equal(got, want);
	free(got);
	free(command);
	free(path);
	free(body);
}

static void
signals_are_as_after_a_login(void **state)
{
	char *path, *body, *got;
	struct hook_result r;
	struct err e = { 0 };
	unsigned long long blocked, ignored;
	sigset_t set, old;

	(void)state;
	body =
	    xasprintf("grep -E '^Sig(Blk|Ign)' /proc/self/status >%s/out", dir);
	path = script(body);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	assert_int_equal(run_for(path, "", LONG_MS, &r, &e), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	got = content("out");
	assert_int_equal(
	    sscanf(got, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	assert_true(blocked == 0);
	/* Two are the C library's own. */
	assert_true((ignored & ~(3ULL << 31)) == 0);
	free(got);
	free(path);
	free(body);
}

static void
its_status_and_last_line_are_told(void **state)
{
	char *path = script("echo first >&2; echo on stdout; "
			    "printf 'it\\033 broke\\n\\n' >&2; exit 7");
	struct hook_result r;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(run_for(path, "", LONG_MS, &r, &e), 0);
	assert_int_equal(r.status, 7);
	assert_string_equal(r.line, "it? broke");
	free(path);
	path = script("kill -9 $$");
	assert_int_equal(run_for(path, "", LONG_MS, &r, &e), 0);
	assert_int_equal(r.status, 128 + 9);
	free(path);
}

static void
much_on_stderr_and_much_unread_input_are_no_matter(void **state)
{
	char *path = script("exec <&-; yes a long line of words | "
			    "head -c 3000000 >&2; printf end >&2");
	char *input = xmalloc(1 << 20);
	struct hook_result r;
	struct err e = { 0 };

	(void)state;
	memset(input, 'x', (1 << 20) - 1);
	input[(1 << 20) - 1] = 0;
	assert_int_equal(run_for(path, input, LONG_MS, &r, &e), 0);
	assert_int_equal(r.status, 0);
	assert_true(strlen(r.line) >= 3);
	assert_string_equal(r.line + strlen(r.line) - 3, "end");
	free(path);
	path = script("test $(wc -c) = 1048575");
	assert_int_equal(run_for(path, input, LONG_MS, &r, &e), 0);
	assert_int_equal(r.status, 0);
	free(path);
	free(input);
}

static bool
lives(const char *pid)
{
	char *path = xasprintf("/proc/%d/stat", atoi(pid)), state = 0;
	FILE *f = fopen(path, "re");

	free(path);
	if (f == NULL)
		return false;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'X';
	fclose(f);
	return state != 'Z' && state != 'X';
}

static void
a_program_that_hangs_is_killed_with_its_children(void **state)
{
	char *path, *body, *pid;
	struct hook_result r;
	struct err e = { 0 };
	uint64_t until;

	(void)state;
	body = xasprintf("trap '' TERM; sleep 1000 & echo $! >%s/pid; "
			 "echo hanging >&2; wait; wait; sleep 1000",
	    dir);
	path = script(body);
	assert_int_equal(run_for(path, "", 1000, &r, &e), ERR_TIMEOUT);
	assert_non_null(strstr(e.text, "killed"));
	assert_string_equal(r.line, "hanging");
	pid = content("pid");
	until = now_ms() + LONG_MS;
	while (lives(pid) && now_ms() < until)
		;
	assert_false(lives(pid));
	/* It is waited for: no zombie of ours is left. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	free(pid);
	free(path);
	free(body);
}

/* What it started and left behind has its stderr, and does not hold us up. */
static void
what_it_leaves_running_is_not_waited_for(void **state)
{
	char *body =
	    xasprintf("sleep 1000 & echo $! >%s/pid; echo done >&2", dir);
	char *path = script(body), *pid;
	struct hook_result r;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(run_for(path, "", LONG_MS, &r, &e), 0);
	assert_true(r.ms < LONG_MS / 2);
	assert_string_equal(r.line, "done");
	pid = content("pid");
	kill(atoi(pid), SIGKILL);
	free(pid);
	free(path);
	free(body);
}

static void
what_is_no_program_is_refused_and_named(void **state)
{
	char *path = script(""), *none = xasprintf("%s/none", dir);
	struct hook_result r;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(hook_check(path, &e), 0);
	assert_int_equal(hook_check("", &e), ERR_INVAL);
	assert_int_equal(hook_check("hook", &e), ERR_INVAL);
	assert_int_equal(
	    hook_check("/a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", &e),
	    ERR_INVAL);
	assert_int_equal(hook_check(dir, &e), ERR_DENIED);
	assert_int_equal(hook_check(none, &e), ERR_NOENT);
	assert_non_null(strstr(e.text, none));
	assert_int_equal(run_for(none, "", LONG_MS, &r, &e), ERR_NOENT);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(run_for(path, "", LONG_MS, &r, &e), ERR_DENIED);
	free(path);
	free(none);
}

/* --- the thread */

struct room {
	struct events *v;
	struct hook *h;
};

static void
begin(struct room *r, const char *command, unsigned timeout_s)
{
	r->v = events_new(dir);
	assert_int_equal(hook_start(r->v, dir, &r->h), 0);
	hook_set(r->h, command, timeout_s);
}

static void
end(struct room *r, unsigned within_ms)
{
	hook_stop(r->h, within_ms);
	events_free(r->v);
}

static uint64_t
post(struct room *r, const char *vm)
{
	json_t *o = json_object();

	json_set_str(o, "vm", vm);
	json_set_str(o, "outcome", "done");
	return event_post(r->v, EVENT_JOB_END, o);
}

static void
events_are_told_in_order_one_at_a_time(void **state)
{
	char *body = xasprintf("mkdir %s/lock || exit 9; "
			       "echo $1 $2 $3 $BACKSTAY_REPO >>%s/out; "
			       "rmdir %s/lock",
	    dir, dir, dir);
	char *path = script(body), *got, *want;
	struct hook_outcome o;
	struct hook_status st;
	struct room r;
	uint64_t last;

	(void)state;
	begin(&r, path, 20);
	post(&r, "a");
	post(&r, "b/c");
	last = post(&r, "d");
	assert_int_equal(hook_wait(r.h, last, LONG_MS, &o), 0);
	assert_int_equal(o.code, 0);
	assert_int_equal(o.status, 0);
	got = content("out");
	want = xasprintf("job-end a done %s\njob-end b/c done %s\n"
			 "job-end d done %s\n",
	    dir, dir, dir);
	assert_string_equal(got, want);
	hook_status(r.h, &st);
	assert_int_equal(st.runs, 3);
	assert_int_equal(st.failures, 0);
	assert_int_equal(st.nlast, 3);
	assert_int_equal(st.last[0].number, last);
	free(st.command);
	end(&r, LONG_MS);
	free(got);
	free(want);
	free(path);
	free(body);
}

static void
another_hook_counts_from_the_next_event_on(void **state)
{
	char *path = script("echo said by $3 >&2; exit 3");
	struct hook_outcome o;
	struct room r;

	(void)state;
	begin(&r, "", 20);
	assert_int_equal(hook_wait(r.h, post(&r, "a"), LONG_MS, &o), 0);
	assert_false(o.told);
	hook_set(r.h, path, 20);
	assert_int_equal(hook_wait(r.h, post(&r, "a"), LONG_MS, &o), 0);
	assert_true(o.told);
	assert_int_equal(o.status, 3);
	assert_string_equal(o.text, "said by done");
	hook_set(r.h, "/nowhere/hook", 20);
	assert_int_equal(hook_wait(r.h, post(&r, "a"), LONG_MS, &o), 0);
	assert_int_equal(o.code, ERR_NOENT);
	assert_int_equal(hook_wait(r.h, 99, 1, &o), ERR_TIMEOUT);
	end(&r, LONG_MS);
	free(path);
}

static void
a_stop_tells_what_waits_and_ends_what_hangs(void **state)
{
	char *body = xasprintf("echo $2 >>%s/out", dir);
	char *path = script(body), *got;
	struct room r;
	uint64_t from;

	(void)state;
	begin(&r, path, 20);
	post(&r, "a");
	post(&r, "b");
	end(&r, LONG_MS);
	got = content("out");
	assert_string_equal(got, "a\nb\n");
	free(got);
	free(path);
	path = script("exec sleep 1000");
	begin(&r, path, 3600);
	post(&r, "a");
	post(&r, "b");
	from = now_ms();
	end(&r, 100);
	assert_true(now_ms() - from < LONG_MS / 2);
	free(path);
	free(body);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(words_input_and_environment_arrive),
		TEST(signals_are_as_after_a_login),
		TEST(its_status_and_last_line_are_told),
		TEST(much_on_stderr_and_much_unread_input_are_no_matter),
		TEST(a_program_that_hangs_is_killed_with_its_children),
		TEST(what_it_leaves_running_is_not_waited_for),
		TEST(what_is_no_program_is_refused_and_named),
		TEST(events_are_told_in_order_one_at_a_time),
		TEST(another_hook_counts_from_the_next_event_on),
		TEST(a_stop_tells_what_waits_and_ends_what_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
