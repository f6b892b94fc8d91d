/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's client against a real QEMU, and against one that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/guest/ga.h"
#include "agent/guest/qmp.h"
#include "proto/base/io.h"
#include "tests/unit/qemu_fixture.h"
#include "tests/unit/standstill.h"

enum { SHORT_MS = 300, LONG_MS = 20000 };

#define HELLO                                                                  \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, "     \
	"\"major\": 7}, \"package\": \"\"}, \"capabilities\": []}}\r\n"
#define GOOD "{\"return\": {}, \"id\": 1}\r\n"

static struct qemu qemu;

static int
setup(void **state)
{
	(void)state;
	qemu_folder(&qemu);
	qemu_start(&qemu, false);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	qemu_folder_remove(&qemu);
	return 0;
}

static void
answers_of_a_real_qemu_arrive(void **state)
{
	struct err e = { 0 };
	struct qmp *q;
	json_t *j;

	(void)state;
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), 0);
	assert_int_equal(qmp_pid(q), qemu.pid);
	assert_in_range(qmp_version(q), 600, 9900);
	assert_int_equal(
	    qmp_command(q, "query-status", NULL, -1, LONG_MS, &j, &e), 0);
	assert_string_equal(
	    json_string_value(json_object_get(j, "status")), "prelaunch");
	json_decref(j);
	/* The longest answer there is. */
	assert_int_equal(
	    qmp_command(q, "query-qmp-schema", NULL, -1, LONG_MS, &j, &e), 0);
	assert_true(json_array_size(j) > 500);
	json_decref(j);
	qmp_close(q);
}

static void
a_refusal_is_told_from_an_unknown_command(void **state)
{
	struct err e = { 0 };
	struct qmp *q;

	(void)state;
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), 0);
	assert_int_equal(
	    qmp_command(q, "no-such-thing", NULL, -1, LONG_MS, NULL, &e),
	    ERR_UNSUP);
	assert_int_equal(qmp_command(q, "blockdev-del",
			     json_pack("{s:s}", "node-name", "nobody"), -1,
			     LONG_MS, NULL, &e),
	    ERR_INVAL);
	assert_non_null(strstr(e.text, "nobody"));
	qmp_close(q);
}

static void
a_second_client_is_told_that_it_is_the_second(void **state)
{
	struct err e = { 0 };
	struct qmp *q, *q2;

	(void)state;
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), 0);
	assert_int_equal(qmp_open(qemu.qmp, SHORT_MS, &q2, &e), ERR_BUSY);
	qmp_close(q);
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q2, &e), 0);
	qmp_close(q2);
}

static void
a_file_descriptor_goes_along(void **state)
{
	struct err e = { 0 };
	struct stat ours, theirs;
	char path[64];
	struct qmp *q;
	uint64_t n;
	json_t *j;
	int fd;

	(void)state;
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), 0);
	fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	assert_int_not_equal(fd, -1);
	assert_int_equal(
	    qmp_command(q, "add-fd", NULL, fd, LONG_MS, &j, &e), 0);
	assert_int_equal(json_get_u64(j, "fd", &n, &e), 0);
	json_decref(j);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", qemu.pid, (int)n);
	assert_int_equal(stat(path, &theirs), 0);
	assert_int_equal(fstat(fd, &ours), 0);
	assert_int_equal(ours.st_ino, theirs.st_ino);
	close(fd);
	qmp_close(q);
}

static void
a_qemu_that_hangs_is_a_timeout_and_is_in_step_afterwards(void **state)
{
	struct err e = { 0 };
	struct qmp *q;
	json_t *j;

	(void)state;
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), 0);
	standstill(qemu.pid);
	assert_int_equal(
	    qmp_command(q, "query-name", NULL, -1, SHORT_MS, NULL, &e),
	    ERR_TIMEOUT);
	kill(qemu.pid, SIGCONT);
	/* Not the late answer to the other. */
	assert_int_equal(
	    qmp_command(q, "query-status", NULL, -1, LONG_MS, &j, &e), 0);
	assert_non_null(json_object_get(j, "status"));
	json_decref(j);
	qmp_close(q);
}

static void
the_end_of_qemu_is_noticed(void **state)
{
	struct err e = { 0 };
	struct qmp *q;

	(void)state;
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), 0);
	qemu_kill(&qemu);
	assert_int_equal(
	    qmp_command(q, "query-status", NULL, -1, LONG_MS, NULL, &e),
	    ERR_CLOSED);
	assert_int_equal(
	    qmp_command(q, "query-status", NULL, -1, LONG_MS, NULL, &e),
	    ERR_CLOSED);
	qmp_close(q);
	assert_int_equal(qmp_open(qemu.qmp, LONG_MS, &q, &e), ERR_NOENT);
	qemu_start(&qemu, false);
}

/* --- one that lies: says what it is told to, whatever it hears */

struct liar {
	pthread_t thread;
	char path[96];
	int listener;
	int fd;
	/* Before and after the first line that it hears. */
	const char *first, *then;
	bool forever; /* ${then}, again and again */
	bool hang_up;
};

static void
say(int fd, const char *s)
{
	size_t len = strlen(s);
	ssize_t n;

	while (len > 0 && (n = send(fd, s, len, MSG_NOSIGNAL)) > 0) {
		s += n;
		len -= (size_t)n;
	}
}

static void *
lie(void *arg)
{
	struct liar *l = arg;
	char line[4096];

	l->fd = accept(l->listener, NULL, NULL);
	say(l->fd, l->first);
	if (l->hang_up)
		goto out;
	while (recv(l->fd, line, sizeof(line), 0) > 0) {
		do
			say(l->fd, l->then);
		while (l->forever &&
		    send(l->fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) == 0 &&
		    recv(l->fd, line, 1, MSG_PEEK | MSG_DONTWAIT) != 0);
	}
out:
	close(l->fd);
	return NULL;
}

static void
liar_start(struct liar *l)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(l->path, sizeof(l->path), "%s/liar.sock", qemu.dir);
	unlink(l->path);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", l->path);
	l->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(
	    bind(l->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(l->listener, 4), 0);
	assert_int_equal(pthread_create(&l->thread, NULL, lie, l), 0);
}

static void
liar_end(struct liar *l)
{
	pthread_join(l->thread, NULL);
	close(l->listener);
}

static int
open_liar(struct liar *l)
{
	struct err e = { 0 };
	struct qmp *q;
	int rc;

	liar_start(l);
	rc = qmp_open(l->path, SHORT_MS, &q, &e);
	if (rc == 0)
		qmp_close(q);
	else
		assert_true(e.text[0] != 0);
	liar_end(l);
	return rc;
}

static void
whoever_is_no_qemu_is_found_out(void **state)
{
	static const char *const no_greetings[] = { "SSH-2.0-OpenSSH\r\n",
		"[]\n", "{}\n", "{\"QMP\": 7}\n",
		"{\"QMP\": {\"version\": []}}\n",
		"{\"QMP\": {\"version\": {\"qemu\": {\"major\": \"7\"}}}}\n",
		"{\"a\": 1, \"a\": 2}\n", "\n", "\xff\xfe\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(no_greetings) / sizeof(*no_greetings);
	     i++) {
		struct liar l = { .first = no_greetings[i], .then = "" };

		assert_int_equal(open_liar(&l), ERR_PROTO);
	}
}

static void
one_that_hangs_up_is_noticed(void **state)
{
	struct liar l = { .first = HELLO "{\"ret", .hang_up = true };
	struct liar mute = { .first = "", .hang_up = true };

	(void)state;
	assert_int_equal(open_liar(&l), ERR_CLOSED);
	assert_int_equal(open_liar(&mute), ERR_CLOSED);
}

static void
nesting_without_end_is_refused(void **state)
{
	size_t depth = 1 << 20;
	char *deep = malloc(depth + 2);
	struct liar l = { .first = deep, .then = "" };

	(void)state;
	memset(deep, '[', depth);
	memcpy(deep + depth, "\n", 2);
	assert_int_equal(open_liar(&l), ERR_PROTO);
	free(deep);
}

static void
a_line_without_end_is_refused(void **state)
{
	size_t len = (16 << 20) + (1 << 17);
	char *line = malloc(len + 1);
	struct liar l = { .first = line, .then = "" };
	struct err e = { 0 };
	struct qmp *q;

	(void)state;
	memset(line, ' ', len);
	line[len] = 0;
	liar_start(&l);
	assert_int_equal(qmp_open(l.path, LONG_MS, &q, &e), ERR_LIMIT);
	liar_end(&l);
	free(line);
}

/* A client of a liar that has said a good greeting. */
static int
ask_liar(struct liar *l, const char *then, bool forever, json_t **out)
{
	struct err e = { 0 };
	struct qmp *q;
	int rc;

	l->first = HELLO GOOD;
	l->then = then;
	l->forever = forever;
	liar_start(l);
	assert_int_equal(qmp_open(l->path, LONG_MS, &q, &e), 0);
	rc = qmp_command(q, "x", NULL, -1, SHORT_MS, out, &e);
	qmp_close(q);
	liar_end(l);
	return rc;
}

static void
events_without_end_do_not_take_for_ever(void **state)
{
	struct liar l = { 0 };
	uint64_t start = now_ms();

	(void)state;
	assert_int_equal(
	    ask_liar(&l, "{\"event\": \"RTC_CHANGE\"}\r\n", true, NULL),
	    ERR_TIMEOUT);
	assert_true(now_ms() - start < LONG_MS);
}

static void
answers_of_others_are_not_taken(void **state)
{
	struct liar l = { 0 };
	json_t *j;

	(void)state;
	assert_int_equal(ask_liar(&l,
			     "{\"return\": 1, \"id\": 1}\n"
			     "{\"event\": \"X\"}\n"
			     "{\"return\": 3, \"id\": \"2\"}\n"
			     "{\"return\": 4, \"id\": 3}\n"
			     "{\"return\": 2, \"id\": 2}\n",
			     false, &j),
	    0);
	assert_int_equal(json_integer_value(j), 2);
	json_decref(j);
	assert_int_equal(ask_liar(&l, "{\"id\": 2}\n", false, NULL), ERR_PROTO);
	assert_int_equal(
	    ask_liar(&l, "{\"error\": 5, \"id\": 2}\n", false, NULL),
	    ERR_INVAL);
}

/* --- the guest's agent */

static void
an_agent_that_is_silent_is_none(void **state)
{
	struct liar l = { .first = "{\"return\": 5}\n", .then = "" };
	uint64_t start = now_ms();
	struct err e = { 0 };
	struct ga *a;

	(void)state;
	liar_start(&l);
	assert_int_equal(ga_open(l.path, SHORT_MS, &a, &e), ERR_UNSUP);
	assert_true(now_ms() - start < LONG_MS);
	liar_end(&l);
	assert_int_equal(
	    ga_open("/nonexistent/ga.sock", SHORT_MS, &a, &e), ERR_UNSUP);
}

static void
an_agent_that_answers_to_others_is_none(void **state)
{
	struct liar l = { .first = "",
		.then = "\xff{\"return\": 123456}\n",
		.forever = true };
	struct err e = { 0 };
	struct ga *a;

	(void)state;
	liar_start(&l);
	assert_int_equal(ga_open(l.path, SHORT_MS, &a, &e), ERR_UNSUP);
	liar_end(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_of_a_real_qemu_arrive),
		cmocka_unit_test(a_refusal_is_told_from_an_unknown_command),
		cmocka_unit_test(a_second_client_is_told_that_it_is_the_second),
		cmocka_unit_test(a_file_descriptor_goes_along),
		cmocka_unit_test(
		    a_qemu_that_hangs_is_a_timeout_and_is_in_step_afterwards),
		cmocka_unit_test(the_end_of_qemu_is_noticed),
		cmocka_unit_test(whoever_is_no_qemu_is_found_out),
		cmocka_unit_test(one_that_hangs_up_is_noticed),
		cmocka_unit_test(nesting_without_end_is_refused),
		cmocka_unit_test(a_line_without_end_is_refused),
		cmocka_unit_test(events_without_end_do_not_take_for_ever),
		cmocka_unit_test(answers_of_others_are_not_taken),
		cmocka_unit_test(an_agent_that_is_silent_is_none),
		cmocka_unit_test(an_agent_that_answers_to_others_is_none),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup, teardown);
}
