/* SPDX-License-Identifier: Apache-2.0 */
/* metrics and http: what is printed, and what a peer gets of it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ctype.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "repo/notify/http.h"
#include "repo/notify/metrics.h"
#include "repo/serve/address.h"
#include "repo/serve/watch.h"

static struct metrics
some(void)
{
	static const struct metrics_vm vms[] = {
		{ .name = "db/one",
		    .backups = 3,
		    .last = 1800000000,
		    .size = 1 << 20 },
		{ .name = "a\"b\\c\nd", .backups = 1 },
	};
	struct metrics m = { .version = "0.1",
		.since = 1700000000,
		.backups = 4,
		.vms = 7,
		.stored = UINT64_MAX,
		.clock_ahead = -86400,
		.jobs = { { .kind = "backup", .running = 2, .done = 5 } },
		.njobs = 1,
		.vm = vms,
		.nvm = 2 };

	m.events.posted[EVENT_DAMAGE] = 9;
	return m;
}

static void
has_line(const char *text, const char *line)
{
	char *want = xasprintf("\n%s\n", line);

	if (strstr(text, want) == NULL)
		fail_msg("there is no line \"%s\"", line);
	free(want);
}

static void
values_are_printed_with_their_labels(void **state)
{
	struct metrics m = some();
	struct buf b = { 0 };
	const char *text;

	(void)state;
	metrics_print(&m, &b);
	text = buf_cstr(&b);
	has_line(text, "backstay_build_info{version=\"0.1\"} 1");
	has_line(text, "backstay_stored_bytes 18446744073709551615");
	has_line(text, "backstay_clock_ahead_seconds -86400");
	has_line(text, "backstay_jobs_running{kind=\"backup\"} 2");
	has_line(text,
	    "backstay_jobs_ended_total{kind=\"backup\",outcome=\"done\"} 5");
	has_line(text, "backstay_events_total{event=\"damage\"} 9");
	has_line(text,
	    "backstay_vm_last_backup_timestamp_seconds{vm=\"db/one\"} "
	    "1800000000");
	has_line(text, "backstay_vm_backups{vm=\"a\\\"b\\\\c\\nd\"} 1");
	has_line(text, "backstay_vms_left_out 5");
	m.vm = NULL;
	b.len = 0;
	metrics_print(&m, &b);
	assert_null(strstr(buf_cstr(&b), "backstay_vm_"));
	buf_fini(&b);
}

/* Each line is a sample of the metric whose HELP and TYPE came last, and no
 * metric comes twice. */
static void
each_metric_has_help_and_type_once_and_then_its_samples(void **state)
{
	struct metrics m = some();
	struct buf b = { 0 };
	char *seen[128], *rest, *line, type[16], name[80] = "";
	unsigned n = 0;

	(void)state;
	metrics_print(&m, &b);
	rest = (char *)(uintptr_t)buf_cstr(&b);
	assert_int_equal(rest[b.len - 1], '\n');
	while ((line = strsep(&rest, "\n")) != NULL && rest != NULL) {
		size_t len;

		if (strncmp(line, "# HELP ", 7) == 0) {
			assert_int_equal(sscanf(line, "# HELP %79s ", name), 1);
			assert_int_equal(line[strlen(line) - 1], '.');
			for (unsigned i = 0; i < n; i++)
				assert_string_not_equal(seen[i], name);
			assert_true(n < 128);
			seen[n++] = xstrdup(name);
			line = strsep(&rest, "\n");
			len = strlen("# TYPE ") + strlen(name);
			assert_int_equal(
			    strncmp(line + 7, name, strlen(name)), 0);
			assert_int_equal(sscanf(line + len, "%15s", type), 1);
			/* A counter ends in _total, and nothing else does. */
			assert_int_equal(strcmp(type, "counter") == 0,
			    strlen(name) > 6 &&
				strcmp(name + strlen(name) - 6, "_total") == 0);
			assert_int_equal(strncmp(name, "backstay_", 9), 0);
			continue;
		}
		len = strlen(name);
		assert_int_equal(strncmp(line, name, len), 0);
		assert_true(line[len] == ' ' || line[len] == '{');
		line = strrchr(line, ' ');
		assert_true(isdigit((unsigned char)line[1]) || line[1] == '-');
	}
	assert_true(n > 40);
	while (n > 0)
		free(seen[--n]);
	buf_fini(&b);
}

/* --- space */

static void
low_space_is_told_when_it_begins_and_when_it_is_well_over(void **state)
{
	struct watch_space s = { .low = false };

	(void)state;
	assert_false(watch_space_changed(&s, 100, 1000, 10));
	assert_true(watch_space_changed(&s, 99, 1000, 10));
	assert_true(s.low);
	assert_false(watch_space_changed(&s, 50, 1000, 10));
	/* Not while it is just over the bound. */
	assert_false(watch_space_changed(&s, 100, 1000, 10));
	assert_false(watch_space_changed(&s, 109, 1000, 10));
	assert_true(watch_space_changed(&s, 111, 1000, 10));
	assert_false(s.low);
	assert_false(watch_space_changed(&s, 101, 1000, 10));
}

static void
low_space_can_be_switched_off_and_can_end_on_an_empty_volume(void **state)
{
	struct watch_space s = { .low = true };

	(void)state;
	assert_true(watch_space_changed(&s, 1, 1000, 0));
	assert_false(s.low);
	assert_false(watch_space_changed(&s, 0, 1000, 0));
	assert_false(watch_space_changed(&s, 0, 0, 10));
	assert_true(watch_space_changed(&s, 980, 1000, 99));
	assert_false(watch_space_changed(&s, 999, 1000, 99));
	assert_true(watch_space_changed(&s, 1000, 1000, 99));
}

/* --- http */

static int
make_page(void *arg, struct buf *out)
{
	unsigned *n = arg;

	buf_printf(out, "page %u\n", ++*n);
	return *n < 3 ? 200 : 503;
}

static const struct http_page pages[] = { { "/page", "text/x", make_page } };

static struct sockaddr_in
place(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int
dial(uint16_t port)
{
	struct sockaddr_in sa = place(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd != -1);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/* What comes until the peer closes. */
static char *
ask(uint16_t port, const char *request)
{
	int fd = dial(port);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct buf b = { 0 };
	char some_bytes[1024], *s;
	ssize_t n;

	assert_true(
	    write(fd, request, strlen(request)) == (ssize_t)strlen(request));
	while (poll(&p, 1, 20000) == 1 &&
	    (n = read(fd, some_bytes, sizeof(some_bytes))) > 0)
		buf_add(&b, some_bytes, (size_t)n);
	close(fd);
	s = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return s;
}

#define GET(path)                                                              \
	"GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void
expect(
    uint16_t port, const char *request, const char *status, const char *content)
{
	char *got = ask(port, request);

	if (strncmp(got, status, strlen(status)) != 0 ||
	    strstr(got, content) == NULL)
		fail_msg("to %s came %s", request, got);
	free(got);
}

static void
pages_are_made_when_they_are_asked_for_and_nothing_else_is(void **state)
{
	unsigned n = 0;
	struct http *h;
	struct err e;
	uint16_t port;
	int fd;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(address_listen("127.0.0.1:0", &fd, &port, &e), 0);
	assert_int_equal(http_start(fd, pages, 1, &n, &h), 0);
	expect(port, GET("/page"), "HTTP/1.1 200", "\r\n\r\npage 1\n");
	expect(port, GET("/page?x=1"), "HTTP/1.1 200", "text/x");
	expect(port, GET("/page"), "HTTP/1.1 503", "\r\n\r\npage 3\n");
	expect(port, GET("/"), "HTTP/1.1 404", "");
	expect(port, GET("/page/"), "HTTP/1.1 404", "");
	expect(port,
	    "POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
	    "Connection: close\r\n\r\nabc",
	    "HTTP/1.1 405", "Allow: GET");
	expect(port, "nonsense\r\n\r\n", "", "");
	assert_int_equal(n, 3);
	http_stop(h);
}

static void
connections_that_say_nothing_take_no_more_than_their_places(void **state)
{
	int fd, idle[HTTP_CONNECTIONS_MAX + 8];
	unsigned n = 0, most = sizeof(idle) / sizeof(idle[0]);
	struct http *h;
	struct err e;
	uint16_t port;

	(void)state;
	assert_int_equal(address_listen("127.0.0.1:0", &fd, &port, &e), 0);
	assert_int_equal(http_start(fd, pages, 1, &n, &h), 0);
	for (unsigned i = 0; i < most; i++)
		idle[i] = dial(port);
	/* They are let go of after HTTP_IDLE_S, and others have their turn. */
	expect(port, GET("/page"), "HTTP/1.1 200", "page 1");
	for (unsigned i = 0; i < most; i++)
		close(idle[i]);
	http_stop(h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_printed_with_their_labels),
		cmocka_unit_test(
		    each_metric_has_help_and_type_once_and_then_its_samples),
		cmocka_unit_test(
		    low_space_is_told_when_it_begins_and_when_it_is_well_over),
		cmocka_unit_test(
		    low_space_can_be_switched_off_and_can_end_on_an_empty_volume),
		cmocka_unit_test(
		    pages_are_made_when_they_are_asked_for_and_nothing_else_is),
		cmocka_unit_test(
		    connections_that_say_nothing_take_no_more_than_their_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
