/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/notify.h"

#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 10000 };

/* What the service manager is to a service: a socket of datagrams. */
struct manager {
	int fd;
	char path[64];
};

static int
setup(void **state)
{
	static struct manager m;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(m.path, sizeof(m.path), "/tmp/test_notify.%d", (int)getpid());
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", m.path);
	unlink(m.path);
	m.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (m.fd == -1 || bind(m.fd, (struct sockaddr *)&sa, sizeof(sa)) == -1)
		return -1;
	setenv("NOTIFY_SOCKET", m.path, 1);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	*state = &m;
	return 0;
}

static int
teardown(void **state)
{
	struct manager *m = *state;

	close(m->fd);
	unlink(m->path);
	unsetenv("NOTIFY_SOCKET");
	return 0;
}

static bool
hear(struct manager *m, char text[512], int wait_ms)
{
	struct pollfd p = { .fd = m->fd, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, wait_ms) != 1)
		return false;
	n = recv(m->fd, text, 511, 0);
	assert_true(n >= 0);
	text[n] = 0;
	return true;
}

static void
ready_is_told_with_a_line(void **state)
{
	char text[512];

	notify_ready("%d jobs", 3);
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "READY=1\nSTATUS=3 jobs");
	notify_status("none");
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "STATUS=none");
	notify_stopping("over");
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "STOPPING=1\nSTATUS=over");
}

static void
a_line_break_begins_no_field(void **state)
{
	char text[512];

	notify_status("of %s", "web1\nMAINPID=1");
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "STATUS=of web1");
}

static void
a_long_line_is_cut(void **state)
{
	char text[512], line[1000];

	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = 0;
	notify_status("%s", line);
	assert_true(hear(*state, text, WAIT_MS));
	assert_int_equal(strncmp(text, "STATUS=xxx", 10), 0);
	assert_int_equal(strlen(text), 7 + 255);
}

static void
a_reload_tells_its_time(void **state)
{
	char text[512];
	uint64_t us;

	notify_reloading();
	assert_true(hear(*state, text, WAIT_MS));
	assert_int_equal(
	    sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &us), 1);
	assert_true(us > 0);
}

static void
the_watchdog_wants_half_of_its_time(void **state)
{
	char text[512], pid[16];

	assert_int_equal(notify_watchdog_ms(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(notify_watchdog_ms(), 15000);
	/* Of another process: not ours to feed. */
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(notify_watchdog_ms(), 0);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_ms(), 15000);
	notify_alive();
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "WATCHDOG=1");
}

static void
patience_asks_for_time_until_its_end(void **state)
{
	char text[512];

	notify_patience(60000);
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "EXTEND_TIMEOUT_USEC=30000000");
	assert_true(hear(*state, text, WAIT_MS));
	assert_string_equal(text, "EXTEND_TIMEOUT_USEC=30000000");
	notify_patience_end();
	notify_patience_end();
	/* And again, as at a stop. */
	notify_patience(60000);
	assert_true(hear(*state, text, WAIT_MS));
	notify_patience_end();
	assert_false(hear(*state, text, 0));
}

static void
patience_has_a_limit(void **state)
{
	char text[512];

	notify_patience(1);
	while (hear(*state, text, 3000))
		assert_string_equal(text, "EXTEND_TIMEOUT_USEC=30000000");
	notify_patience_end();
}

static void
nobody_is_told_where_nobody_asked(void **state)
{
	char text[512];

	unsetenv("NOTIFY_SOCKET");
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_false(notify_wanted());
	notify_ready("x");
	notify_reloading();
	notify_alive();
	notify_patience(60000);
	notify_patience_end();
	assert_int_equal(notify_watchdog_ms(), 0);
	assert_false(hear(*state, text, 0));
}

static void
a_deaf_manager_stops_nothing(void **state)
{
	struct manager *m = *state;

	unlink(m->path);
	notify_ready("x");
	notify_status("x");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(ready_is_told_with_a_line),
		TEST(a_line_break_begins_no_field),
		TEST(a_long_line_is_cut),
		TEST(a_reload_tells_its_time),
		TEST(the_watchdog_wants_half_of_its_time),
		TEST(patience_asks_for_time_until_its_end),
		TEST(patience_has_a_limit),
		TEST(nobody_is_told_where_nobody_asked),
		TEST(a_deaf_manager_stops_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
