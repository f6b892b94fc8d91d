/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes over real sockets and real SSH connections on the loopback. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/lane.h"
#include "proto/lane_ssh.h"
#include "proto/lane_unix.h"

enum { SHORT_MS = 400, PATIENCE_MS = 20000 };

static char dir[64];
static char host_key[96], other_host_key[96], id_key[96], stranger_key[96];
static char known_hosts[96], socket_path[96];
static char *id_base64; /* of the key that the server admits */
static int who_it_is;   /* what the check hands on: its address */

/* A server of one connection, in a thread of its own. */
struct server {
	pthread_t thread;
	bool ssh;
	int listener;
	int port;
	struct lane_ssh_server srv;
	int (*body)(struct lane *l, struct err *e);
	/* Set by the thread, to be read when it was joined. */
	int rc;
	struct err e;
	void *who;
	uint64_t served_ms;
	unsigned checks;
};

static bool
check(void *arg, const char *base64, void **who)
{
	struct server *s = arg;

	s->checks++;
	*who = &who_it_is;
	return strcmp(base64, id_base64) == 0;
}

static int
listen_tcp(int *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

static int
connect_tcp(int port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void *
server_thread(void *arg)
{
	struct server *s = arg;
	struct pollfd p = { .fd = s->listener, .events = POLLIN };
	struct lane *l;
	uid_t uid;
	int fd;

	if (poll(&p, 1, PATIENCE_MS) != 1)
		abort();
	fd = accept(s->listener, NULL, NULL);
	if (fd == -1)
		abort();
	s->served_ms = now_ms();
	if (s->ssh)
		s->rc = lane_ssh_serve(&s->srv, fd, &l, &s->who, &s->e);
	else
		s->rc = lane_unix_serve(fd, &uid, &l, &s->e);
	if (s->rc == 0) {
		s->rc = s->body(l, &s->e);
		lane_close(l);
	}
	s->served_ms = now_ms() - s->served_ms;
	return NULL;
}

static void
server_start(
    struct server *s, bool ssh, int (*body)(struct lane *l, struct err *e))
{
	struct err e;

	*s = (struct server){ .ssh = ssh, .body = body };
	s->srv.host_key = host_key;
	s->srv.check = check;
	s->srv.arg = s;
	if (ssh)
		s->listener = listen_tcp(&s->port);
	else
		assert_int_equal(
		    lane_unix_listen(socket_path, &s->listener, &e), 0);
}

static void
server_run(struct server *s)
{
	assert_int_equal(pthread_create(&s->thread, NULL, server_thread, s), 0);
}

static void
server_end(struct server *s)
{
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	close(s->listener);
}

static struct lane_ssh_target
target(const struct server *s)
{
	return (struct lane_ssh_target){ .host = "127.0.0.1",
		.port = s->port,
		.key = id_key,
		.known_hosts = known_hosts };
}

/* Trust the server's key without connecting. */
static void
trust(const char *key, int port)
{
	char path[128], text[256];
	struct buf pub = { 0 };
	int n;

	snprintf(path, sizeof(path), "%s.pub", key);
	assert_int_equal(file_read(AT_FDCWD, path, sizeof(text), &pub), 0);
	n = snprintf(text, sizeof(text), "# pinned\n[127.0.0.1]:%d %s", port,
	    buf_cstr(&pub));
	buf_fini(&pub);
	assert_int_equal(
	    file_replace(AT_FDCWD, known_hosts, text, (size_t)n, 0600), 0);
}

static struct lane *
client_lane(const struct server *s, uint64_t rekey_bytes)
{
	struct lane_ssh_target t = target(s);
	struct lane *l = NULL;
	struct err e = { 0 };
	int rc;

	t.rekey_bytes = rekey_bytes;
	if (s->ssh)
		trust(host_key, s->port);
	rc = s->ssh ? lane_ssh_connect(&t, &l, &e)
		    : lane_unix_connect(socket_path, &l, &e);
	if (rc != 0)
		fail_msg("%s", e.text);
	return l;
}

static int
body_echo(struct lane *l, struct err *e)
{
	struct frame f;
	int rc;

	while ((rc = lane_recv(l, PATIENCE_MS, &f, e)) == 0) {
		rc = lane_send(l, f.type, f.request, f.payload, f.len, e);
		if (rc != 0)
			return rc;
	}
	return rc;
}

/* Bytes that tell where they belong. */
static void
pattern(uint8_t *p, size_t len, uint32_t seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
		}
		p[i] = (uint8_t)(x >> (8 * (i % 8)));
	}
}

static bool
pattern_holds(const struct frame *f, uint8_t *room)
{
	pattern(room, f->len, f->request);
	return memcmp(room, f->payload, f->len) == 0;
}

static void
expect_frame(struct lane *l, struct frame *f)
{
	struct err e = { 0 };

	if (lane_recv(l, PATIENCE_MS, f, &e) != 0)
		fail_msg("%s", e.text);
}

static void
echo_sizes(bool ssh)
{
	static const size_t sizes[] = { 0, 1, 11, 12, 13, 4095, 4096, 32755,
		32768, 65536, LANE_FLUSH_LEN - FRAME_HEADER_LEN, LANE_FLUSH_LEN,
		1 << 20, LANE_WINDOW, FRAME_PAYLOAD_MAX };
	uint8_t *data = xmalloc(FRAME_PAYLOAD_MAX);
	uint64_t in, out, sum = 0;
	struct server s;
	struct lane *l;
	struct frame f;
	struct err e;

	server_start(&s, ssh, body_echo);
	server_run(&s);
	l = client_lane(&s, 0);
	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		pattern(data, sizes[i], i);
		assert_int_equal(
		    lane_send(l, (uint8_t)(i + 1), i, data, sizes[i], &e), 0);
		expect_frame(l, &f);
		assert_int_equal(f.type, i + 1);
		assert_int_equal(f.request, i);
		assert_int_equal(f.len, sizes[i]);
		assert_true(pattern_holds(&f, data));
		sum += sizes[i] + FRAME_HEADER_LEN;
	}
	lane_traffic(l, &in, &out);
	assert_int_equal(in, sum);
	assert_int_equal(out, sum);
	lane_close(l);
	server_end(&s);
	assert_int_equal(s.rc, ERR_CLOSED);
	if (ssh)
		assert_ptr_equal(s.who, &who_it_is);
	free(data);
}

static void
frames_of_all_sizes_come_back_over_ssh(void **state)
{
	(void)state;
	echo_sizes(true);
}

static void
frames_of_all_sizes_come_back_over_a_local_socket(void **state)
{
	(void)state;
	echo_sizes(false);
}

static void
pipeline(bool ssh)
{
	enum { N = 20000 };
	uint8_t room[64];
	uint32_t answered = 0;
	struct server s;
	struct lane *l;
	struct frame f;
	struct err e;
	int rc;

	server_start(&s, ssh, body_echo);
	server_run(&s);
	l = client_lane(&s, 0);
	for (uint32_t i = 0; i < N; i++) {
		pattern(room, i % 64, i);
		assert_int_equal(lane_send(l, 1, i, room, i % 64, &e), 0);
		while ((rc = lane_recv(l, 0, &f, &e)) == 0) {
			assert_int_equal(f.request, answered++);
			assert_true(pattern_holds(&f, room));
		}
		assert_int_equal(rc, ERR_TIMEOUT);
	}
	while (answered < N) {
		expect_frame(l, &f);
		assert_int_equal(f.request, answered++);
	}
	lane_close(l);
	server_end(&s);
}

static void
pipelined_requests_are_answered_in_order_over_ssh(void **state)
{
	(void)state;
	pipeline(true);
}

static void
pipelined_requests_are_answered_in_order_over_a_local_socket(void **state)
{
	(void)state;
	pipeline(false);
}

/*
 * Send ${n} frames of 256 KiB, take as many, at once and all of them right.
 * Never more than AHEAD frames ahead of the other end: two ends that both write
 * more than a window without reading wait for one another for ever.
 */
static int
stream(struct lane *l, uint32_t n, struct err *e)
{
	enum { LEN = 256 << 10, AHEAD = 4 };
	uint8_t *data = xmalloc(LEN), *room = xmalloc(LEN);
	uint32_t sent = 0, got = 0;
	struct frame f;
	int rc = 0;

	while (sent < n || got < n) {
		if (sent < n && sent < got + AHEAD) {
			pattern(data, LEN, sent);
			rc = lane_send(l, 1, sent, data, LEN, e);
			if (rc != 0)
				break;
			sent++;
		}
		while (got < n) {
			bool may_send = sent < n && sent < got + AHEAD;

			rc = lane_recv(l, may_send ? 0 : PATIENCE_MS, &f, e);
			if (rc != 0)
				break;
			if (f.request != got || f.len != LEN ||
			    !pattern_holds(&f, room)) {
				rc = err_set(
				    e, ERR_CORRUPT, "frame %u is wrong", got);
				break;
			}
			got++;
		}
		if (rc != 0 && rc != ERR_TIMEOUT)
			break;
		rc = 0;
	}
	free(data);
	free(room);
	return rc;
}

static void
stream_with(struct server *s, struct lane *l, uint32_t n)
{
	struct err e = { 0 };
	struct frame f;

	if (stream(l, n, &e) != 0)
		fail_msg("%s", e.text);
	/* Not closed before the other end has all of it. */
	expect_frame(l, &f);
	assert_int_equal(f.type, 2);
	lane_close(l);
	server_end(s);
	if (s->rc != ERR_CLOSED)
		fail_msg("%s", s->e.text);
}

static int
stream_then_say_so(struct lane *l, uint32_t n, struct err *e)
{
	struct frame f;
	int rc = stream(l, n, e);

	if (rc == 0)
		rc = lane_send(l, 2, 0, "", 0, e);
	return rc == 0 ? lane_recv(l, PATIENCE_MS, &f, e) : rc;
}

static int
body_stream_64m(struct lane *l, struct err *e)
{
	return stream_then_say_so(l, 256, e);
}

static int
body_stream_32m(struct lane *l, struct err *e)
{
	return stream_then_say_so(l, 128, e);
}

static void
both_ways(bool ssh)
{
	struct server s;

	server_start(&s, ssh, body_stream_64m);
	server_run(&s);
	stream_with(&s, client_lane(&s, 0), 256);
}

static void
streams_flow_both_ways_at_once_over_ssh(void **state)
{
	(void)state;
	both_ways(true);
}

static void
streams_flow_both_ways_at_once_over_a_local_socket(void **state)
{
	(void)state;
	both_ways(false);
}

static unsigned rekeys;

static void
count_rekeys(int level, const char *function, const char *text, void *arg)
{
	(void)level;
	(void)function;
	(void)arg;
	if (strstr(text, "Set rekey after") != NULL)
		rekeys++;
}

static void
rekey(uint64_t client_bytes, uint64_t server_bytes)
{
	struct server s;
	struct lane *l;

	server_start(&s, true, body_stream_32m);
	s.srv.rekey_bytes = server_bytes;
	server_run(&s);
	l = client_lane(&s, client_bytes);
	/* The log is the calling thread's own. */
	rekeys = 0;
	ssh_set_log_callback(count_rekeys);
	ssh_set_log_level(SSH_LOG_PROTOCOL);
	stream_with(&s, l, 128);
	ssh_set_log_level(SSH_LOG_NOLOG);
	print_message("%u keys changed\n", rekeys);
	/* Each change sets the limits of both directions. */
	assert_true(rekeys >= 8);
}

static void
keys_change_in_mid_stream_when_the_client_asks(void **state)
{
	(void)state;
	rekey(4 << 20, 0);
}

static void
keys_change_in_mid_stream_when_the_server_asks(void **state)
{
	(void)state;
	rekey(0, 4 << 20);
}

static void
keys_change_in_mid_stream_when_both_ask(void **state)
{
	(void)state;
	rekey(1 << 20, 1 << 20);
}

static void
refused(struct server *s, const struct lane_ssh_target *t, const char *why)
{
	struct err e = { 0 };
	struct lane *l;

	server_run(s);
	assert_int_equal(lane_ssh_connect(t, &l, &e), ERR_DENIED);
	print_message("%s\n", e.text);
	if (strstr(e.text, why) == NULL)
		fail_msg("no \"%s\" in \"%s\"", why, e.text);
	pthread_join(s->thread, NULL);
	assert_int_not_equal(s->rc, 0);
}

static void
an_unknown_host_key_is_refused(void **state)
{
	struct lane_ssh_target t;
	struct server s;

	(void)state;
	server_start(&s, true, body_echo);
	t = target(&s);
	unlink(known_hosts);
	refused(&s, &t, "is not known; run `backstay-agent enroll ssh://");
	trust(host_key, s.port + 1);
	refused(&s, &t, "is not known");
	close(s.listener);
	assert_int_equal(s.checks, 0);
}

static void
a_changed_host_key_is_refused(void **state)
{
	struct lane_ssh_target t;
	struct server s;
	struct buf before = { 0 }, after = { 0 };
	char *fingerprint = NULL;
	struct err e = { 0 };

	(void)state;
	server_start(&s, true, body_echo);
	s.srv.host_key = other_host_key;
	t = target(&s);
	trust(host_key, s.port);
	refused(&s, &t, "CHANGED: known is SHA256:");

	assert_int_equal(file_read(AT_FDCWD, known_hosts, 4096, &before), 0);
	server_run(&s);
	assert_int_equal(lane_ssh_pin(&t, NULL, &fingerprint, &e), ERR_DENIED);
	server_end(&s);
	assert_int_equal(file_read(AT_FDCWD, known_hosts, 4096, &after), 0);
	assert_string_equal(buf_cstr(&before), buf_cstr(&after));
	buf_fini(&before);
	buf_fini(&after);
}

static void
an_unknown_client_key_is_refused(void **state)
{
	struct lane_ssh_target t;
	struct server s;

	(void)state;
	server_start(&s, true, body_echo);
	t = target(&s);
	t.key = stranger_key;
	trust(host_key, s.port);
	refused(&s, &t, "is not admitted; on the NAS run `backstay key add");
	close(s.listener);
	assert_int_equal(s.rc, ERR_DENIED);
	assert_int_equal(s.checks, 1);
	assert_null(s.who);
}

static void
a_client_without_a_key_says_how_to_make_one(void **state)
{
	struct server s = { .port = 1 };
	struct lane_ssh_target t = target(&s);
	struct err e = { 0 };
	struct lane *l;

	(void)state;
	t.key = "/nonexistent/id";
	assert_int_equal(lane_ssh_connect(&t, &l, &e), ERR_NOENT);
	assert_non_null(strstr(e.text, "backstay-agent keygen"));
}

static void
a_port_where_nothing_listens_and_a_wrong_name_are_said(void **state)
{
	struct server s = { 0 };
	struct lane_ssh_target t;
	struct err e = { 0 };
	struct lane *l;

	(void)state;
	close(listen_tcp(&s.port));
	t = target(&s);
	assert_int_equal(lane_ssh_connect(&t, &l, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "nothing listens there"));
	t.host = "no such name";
	assert_int_equal(lane_ssh_connect(&t, &l, &e), ERR_CLOSED);
	assert_non_null(strstr(e.text, "the name is not found"));
}

static int
run(const char *const argv[])
{
	int status, null;
	pid_t pid = fork();

	assert_int_not_equal(pid, -1);
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 127);
	return WEXITSTATUS(status);
}

static void
a_pinned_host_key_is_trusted_and_known_to_openssh(void **state)
{
	struct lane_ssh_target t;
	char *first = NULL, *again = NULL, name[64];
	struct server s;
	struct lane *l;
	struct err e = { 0 };

	(void)state;
	server_start(&s, true, body_echo);
	t = target(&s);
	snprintf(name, sizeof(name), "[127.0.0.1]:%d", s.port);
	/* A last line that does not end must stay what it is. */
	assert_int_equal(
	    file_replace(AT_FDCWD, known_hosts, "# mine", 6, 0600), 0);

	server_run(&s);
	assert_int_equal(
	    lane_ssh_pin(&t, "SHA256:wrong", &first, &e), ERR_DENIED);
	pthread_join(s.thread, NULL);
	const char *const find[] = { "ssh-keygen", "-F", name, "-f",
		known_hosts, NULL };
	assert_int_not_equal(run(find), 0);

	server_run(&s);
	assert_int_equal(lane_ssh_pin(&t, NULL, &first, &e), 0);
	pthread_join(s.thread, NULL);
	assert_int_equal(strncmp(first, "SHA256:", 7), 0);
	assert_int_equal(run(find), 0);
	server_run(&s);
	assert_int_equal(lane_ssh_pin(&t, first, &again, &e), 0);
	pthread_join(s.thread, NULL);
	assert_string_equal(first, again);
	free(first);
	free(again);

	server_run(&s);
	assert_int_equal(lane_ssh_connect(&t, &l, &e), 0);
	lane_close(l);
	server_end(&s);
	assert_int_equal(s.checks, 1);
}

static void
an_openssh_client_is_let_in_but_gets_no_shell(void **state)
{
	char port[16], hosts[128];
	struct server s;

	(void)state;
	server_start(&s, true, body_echo);
	s.srv.handshake_ms = 5000;
	trust(host_key, s.port);
	snprintf(port, sizeof(port), "%d", s.port);
	snprintf(hosts, sizeof(hosts), "UserKnownHostsFile=%s", known_hosts);
#define SSH_ARGS                                                               \
	"ssh", "-F", "none", "-o", "BatchMode=yes", "-o", hosts, "-o",         \
	    "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-i",     \
	    id_key, "-p", port
	const char *const in[] = { SSH_ARGS, "-s", "127.0.0.1", "backstay",
		NULL };
	const char *const command[] = { SSH_ARGS, "127.0.0.1", "ls", NULL };
	const char *const shell[] = { SSH_ARGS, "-tt", "127.0.0.1", NULL };
	const char *const other[] = { SSH_ARGS, "-s", "127.0.0.1", "sftp",
		NULL };
	const char *const forward[] = { SSH_ARGS, "-N", "-o",
		"ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "127.0.0.1",
		NULL };
	const char *const password[] = { SSH_ARGS, "-o",
		"PubkeyAuthentication=no", "-s", "127.0.0.1", "backstay",
		NULL };
	const char *const *const no[] = { command, shell, other, forward,
		password };

	server_run(&s);
	run(in);
	pthread_join(s.thread, NULL);
	/* Served, and then closed by the client. */
	assert_ptr_equal(s.who, &who_it_is);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		s.who = NULL;
		server_run(&s);
		assert_int_equal(run(no[i]), 255);
		pthread_join(s.thread, NULL);
		assert_int_not_equal(s.rc, 0);
		assert_null(s.who);
	}
	close(s.listener);
}

/* What a peer that does not speak SSH does with its socket. */
struct rude {
	pthread_t thread;
	int fd;       /* of the connection, or */
	int listener; /* where to wait for one */
	const char *bytes;
	size_t len;
	int pause_ms; /* after each byte */
};

static void *
rude_thread(void *arg)
{
	struct rude *r = arg;
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	uint8_t drop[4096];
	uint64_t end = now_ms() + PATIENCE_MS;
	size_t at = 0;

	if (r->listener > 0)
		r->fd = p.fd = accept(r->listener, NULL, NULL);
	/* Until the other end has had enough. */
	while (now_ms() < end) {
		if (at < r->len &&
		    send(r->fd, r->bytes + at, r->pause_ms ? 1 : r->len - at,
			MSG_NOSIGNAL) == -1)
			break;
		at = r->pause_ms ? at + 1 : r->len;
		if (poll(&p, 1, r->pause_ms ? r->pause_ms : PATIENCE_MS) == 1 &&
		    recv(r->fd, drop, sizeof(drop), 0) <= 0)
			break;
	}
	close(r->fd);
	return NULL;
}

static const char trickle[] = "SSH-2.0-a_name_that_takes_very_long_to_arrive_"
			      "because_it_is_sent_one_byte_at_a_time_for_ever";
static char garbage[64 << 10];

static const struct rude rude_peers[] = {
	{ .bytes = "", .len = 0 },
	{ .bytes = trickle, .len = sizeof(trickle) - 1, .pause_ms = 20 },
	{ .bytes = garbage, .len = sizeof(garbage) },
	{ .bytes = "SSH-2.0-x\r\n", .len = 11 },
	{ .bytes = "SSH-1.5-x\r\n", .len = 11 },
	{ .bytes = "SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff", .len = 19 },
	{ .bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", .len = 27 },
};
enum { RUDE = sizeof(rude_peers) / sizeof(rude_peers[0]) };

static void
a_peer_without_manners_costs_the_server_its_deadline_at_most(void **state)
{
	struct server s;
	struct rude r;

	(void)state;
	pattern((uint8_t *)garbage, sizeof(garbage), 1);
	server_start(&s, true, body_echo);
	s.srv.handshake_ms = SHORT_MS;
	for (size_t i = 0; i < RUDE; i++) {
		r = rude_peers[i];
		server_run(&s);
		r.fd = connect_tcp(s.port);
		pthread_create(&r.thread, NULL, rude_thread, &r);
		pthread_join(s.thread, NULL);
		pthread_join(r.thread, NULL);
		print_message("%s (%d ms)\n", s.e.text, (int)s.served_ms);
		assert_true(s.rc == ERR_TIMEOUT || s.rc == ERR_PROTO ||
		    s.rc == ERR_CLOSED);
		assert_true(s.served_ms < 10 * SHORT_MS);
	}
	close(s.listener);
}

static void
a_server_without_manners_costs_the_client_its_deadline_at_most(void **state)
{
	struct server s = { 0 };
	struct lane_ssh_target t;
	struct err e = { 0 };
	struct lane *l;
	struct rude r;
	uint64_t start;
	int listener, rc;

	(void)state;
	pattern((uint8_t *)garbage, sizeof(garbage), 1);
	listener = listen_tcp(&s.port);
	t = target(&s);
	t.handshake_ms = SHORT_MS;
	for (size_t i = 0; i < RUDE; i++) {
		r = rude_peers[i];
		r.listener = listener;
		pthread_create(&r.thread, NULL, rude_thread, &r);
		start = now_ms();
		rc = lane_ssh_connect(&t, &l, &e);
		start = now_ms() - start;
		pthread_join(r.thread, NULL);
		print_message("%s (%d ms)\n", e.text, (int)start);
		assert_true(rc == ERR_TIMEOUT || rc == ERR_CLOSED);
		assert_true(start < 10 * SHORT_MS);
	}
	close(listener);
}

/* A lane at one end of a local socket, raw bytes at the other. */
static struct lane *
raw_pair(int *raw)
{
	struct lane *l;
	struct err e;
	uid_t uid;
	int sv[2];

	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(lane_unix_serve(sv[0], &uid, &l, &e), 0);
	assert_int_equal(uid, getuid());
	*raw = sv[1];
	return l;
}

static void
raw_write(int fd, const void *data, size_t len)
{
	assert_int_equal(write(fd, data, len), (ssize_t)len);
}

static void
a_peer_that_closes_in_the_middle_of_a_frame_is_told_from_one_that_is_done(
    void **state)
{
	uint8_t bytes[FRAME_HEADER_LEN + 100] = { 0 };
	struct frame f = { .type = 1, .request = 7, .len = 100 };
	struct lane *l;
	struct err e = { 0 };
	int raw;

	(void)state;
	frame_print(&f, bytes);
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		l = raw_pair(&raw);
		raw_write(raw, bytes, n);
		close(raw);
		if (n == sizeof(bytes)) {
			assert_int_equal(lane_recv(l, -1, &f, &e), 0);
			assert_int_equal(f.len, 100);
		}
		assert_int_equal(lane_recv(l, -1, &f, &e), ERR_CLOSED);
		assert_int_equal(strstr(e.text, "in the middle") != NULL,
		    n != 0 && n != sizeof(bytes));
		lane_close(l);
	}
}

static void
a_look_tells_whether_the_peer_is_there_and_loses_nothing(void **state)
{
	uint8_t bytes[FRAME_HEADER_LEN + 100] = { 0 };
	struct frame f = { .type = 1, .request = 7, .len = 100 };
	struct err e = { 0 };
	struct lane *l;
	int raw;

	(void)state;
	frame_print(&f, bytes);
	l = raw_pair(&raw);
	assert_int_equal(lane_look(l, &e), 0);
	raw_write(raw, bytes, 20);
	assert_int_equal(lane_look(l, &e), 0);
	raw_write(raw, bytes + 20, sizeof(bytes) - 20);
	for (int i = 0; i < 3; i++)
		assert_int_equal(lane_look(l, &e), 0);
	assert_int_equal(lane_recv(l, 0, &f, &e), 0);
	assert_int_equal(f.len, 100);
	assert_int_equal(lane_recv(l, 0, &f, &e), ERR_TIMEOUT);
	close(raw);
	assert_int_equal(lane_look(l, &e), ERR_CLOSED);
	lane_close(l);
}

static void
a_frame_that_claims_too_much_or_flags_is_refused_at_its_header(void **state)
{
	uint8_t bytes[FRAME_HEADER_LEN] = { 0 };
	struct lane *l;
	struct frame f;
	struct err e;
	int raw;

	(void)state;
	l = raw_pair(&raw);
	put_le32(bytes, FRAME_PAYLOAD_MAX + 1);
	raw_write(raw, bytes, sizeof(bytes));
	assert_int_equal(lane_recv(l, PATIENCE_MS, &f, &e), ERR_LIMIT);
	/* And again: there is no way past it. */
	assert_int_equal(lane_recv(l, PATIENCE_MS, &f, &e), ERR_LIMIT);
	lane_close(l);
	close(raw);

	l = raw_pair(&raw);
	put_le32(bytes, 0);
	bytes[5] = 1;
	raw_write(raw, bytes, sizeof(bytes));
	assert_int_equal(lane_recv(l, PATIENCE_MS, &f, &e), ERR_PROTO);
	assert_non_null(strstr(e.text, "local process"));
	lane_close(l);
	close(raw);
}

static void
a_frame_that_arrives_byte_by_byte_survives_every_timeout(void **state)
{
	uint8_t bytes[FRAME_HEADER_LEN + 20] = { 0 };
	struct frame f = { .type = 3, .request = 9, .len = 20 };
	struct lane *l;
	struct err e;
	int raw;

	(void)state;
	l = raw_pair(&raw);
	frame_print(&f, bytes);
	pattern(bytes + FRAME_HEADER_LEN, 20, 9);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(lane_recv(l, 0, &f, &e), ERR_TIMEOUT);
		raw_write(raw, bytes + i, 1);
	}
	assert_int_equal(lane_recv(l, 0, &f, &e), 0);
	assert_true(pattern_holds(&f, bytes));
	assert_int_equal(lane_recv(l, 20, &f, &e), ERR_TIMEOUT);
	lane_close(l);
	close(raw);
}

static void
frames_wait_for_a_flush_and_a_cancelled_one_never_leaves(void **state)
{
	struct pollfd p = { .events = POLLIN };
	uint8_t bytes[64];
	struct lane *l;
	struct frame f;
	struct err e;

	(void)state;
	l = raw_pair(&p.fd);
	assert_int_equal(lane_send(l, 1, 1, "ab", 2, &e), 0);
	buf_add(lane_begin(l, 2, 2), "never", 5);
	lane_cancel(l);
	assert_int_equal(lane_recv(l, 0, &f, &e), ERR_TIMEOUT);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(lane_flush(l, &e), 0);
	assert_int_equal(read(p.fd, bytes, sizeof(bytes)), 14);
	/* lane_recv flushes before it waits. */
	assert_int_equal(lane_send(l, 1, 1, "ab", 2, &e), 0);
	assert_int_equal(lane_recv(l, 1, &f, &e), ERR_TIMEOUT);
	assert_int_equal(read(p.fd, bytes, sizeof(bytes)), 14);
	lane_close(l);
	close(p.fd);
}

static void
what_a_peer_said_before_it_left_can_still_be_read(void **state)
{
	uint8_t bytes[FRAME_HEADER_LEN];
	struct frame f = { .type = 9, .request = 1 };
	struct lane *l;
	struct err e;
	int raw;

	(void)state;
	l = raw_pair(&raw);
	frame_print(&f, bytes);
	raw_write(raw, bytes, sizeof(bytes));
	close(raw);
	assert_int_equal(lane_send(l, 1, 1, "x", 1, &e), 0);
	assert_int_equal(lane_flush(l, &e), ERR_CLOSED);
	assert_int_equal(lane_recv(l, -1, &f, &e), 0);
	assert_int_equal(f.type, 9);
	assert_int_equal(lane_recv(l, -1, &f, &e), ERR_CLOSED);
	assert_int_equal(lane_flush(l, &e), ERR_CLOSED);
	lane_close(l);
}

static int
body_last_word(struct lane *l, struct err *e)
{
	struct frame f;
	int rc = lane_recv(l, PATIENCE_MS, &f, e);

	if (rc != 0)
		return rc;
	lane_send(l, 9, f.request, "enough", 6, e);
	lane_linger(l, PATIENCE_MS);
	return 0;
}

static void
last_word(bool ssh)
{
	static uint8_t more[100 << 10];
	struct timespec pause = { .tv_nsec = 100000000 };
	struct server s;
	struct frame f;
	struct lane *l;
	struct err e;

	server_start(&s, ssh, body_last_word);
	server_run(&s);
	l = client_lane(&s, 0);
	assert_int_equal(lane_send(l, 1, 1, "x", 1, &e), 0);
	assert_int_equal(lane_flush(l, &e), 0);
	/* What comes when all was said must not take it away. */
	nanosleep(&pause, NULL);
	for (int i = 0; i < 8; i++)
		lane_send(l, 1, 2, more, sizeof(more), &e);
	lane_flush(l, &e);
	nanosleep(&pause, NULL);
	assert_int_equal(lane_recv(l, PATIENCE_MS, &f, &e), 0);
	assert_int_equal(f.type, 9);
	assert_int_equal(lane_recv(l, PATIENCE_MS, &f, &e), ERR_CLOSED);
	lane_close(l);
	server_end(&s);
	assert_int_equal(s.rc, 0);
	assert_true(s.served_ms < PATIENCE_MS);
}

static void
the_last_word_reaches_a_peer_that_is_sending_over_ssh(void **state)
{
	(void)state;
	last_word(true);
}

static void
the_last_word_reaches_a_peer_that_is_sending_locally(void **state)
{
	(void)state;
	last_word(false);
}

struct blocked {
	struct lane *l;
	pthread_barrier_t begun;
	int rc;
	struct err e;
};

static void *
blocked_thread(void *arg)
{
	struct blocked *b = arg;
	struct frame f;

	pthread_barrier_wait(&b->begun);
	b->rc = lane_recv(b->l, -1, &f, &b->e);
	return NULL;
}

static void
shut_down(bool ssh)
{
	pthread_t thread;
	struct blocked b = { 0 };
	struct server s;
	struct frame f;
	struct err e;

	server_start(&s, ssh, body_echo);
	server_run(&s);
	b.l = client_lane(&s, 0);
	pthread_barrier_init(&b.begun, NULL, 2);
	pthread_create(&thread, NULL, blocked_thread, &b);
	pthread_barrier_wait(&b.begun);
	lane_shutdown(b.l);
	pthread_join(thread, NULL);
	assert_int_equal(b.rc, ERR_CLOSED);
	assert_non_null(strstr(b.e.text, "ended on this side"));
	assert_int_equal(lane_recv(b.l, -1, &f, &e), ERR_CLOSED);
	assert_int_equal(lane_send(b.l, 1, 1, "x", 1, &e), 0);
	assert_int_equal(lane_flush(b.l, &e), ERR_CLOSED);
	lane_close(b.l);
	pthread_barrier_destroy(&b.begun);
	server_end(&s);
	assert_int_equal(s.rc, ERR_CLOSED);
}

static void
a_shutdown_from_another_thread_ends_a_receive_that_waits_over_ssh(void **state)
{
	(void)state;
	shut_down(true);
}

static void
a_shutdown_from_another_thread_ends_a_receive_that_waits_locally(void **state)
{
	(void)state;
	shut_down(false);
}

static void
a_local_socket_is_private_and_replaces_a_dead_one(void **state)
{
	struct server s;
	struct stat st;
	struct lane *l;
	struct frame f;
	struct err e;
	char far[200];
	int dead, fd;

	(void)state;
	unlink(socket_path);
	assert_int_equal(lane_unix_connect(socket_path, &l, &e), ERR_NOENT);
	assert_non_null(strstr(e.text, "not running"));
	assert_int_equal(lane_unix_listen(socket_path, &dead, &e), 0);
	assert_int_equal(stat(socket_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(dead);
	assert_int_equal(lane_unix_connect(socket_path, &l, &e), ERR_NOENT);
	assert_non_null(strstr(e.text, "not running"));

	server_start(&s, false, body_echo);
	server_run(&s);
	l = client_lane(&s, 0);
	assert_int_equal(lane_send(l, 5, 6, "hi", 2, &e), 0);
	expect_frame(l, &f);
	assert_memory_equal(f.payload, "hi", 2);
	lane_close(l);
	server_end(&s);

	unlink(socket_path);
	fd = open(socket_path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(lane_unix_listen(socket_path, &fd, &e), ERR_SYS);
	assert_int_equal(stat(socket_path, &st), 0);
	unlink(socket_path);
	memset(far, 'x', sizeof(far) - 1);
	far[sizeof(far) - 1] = '\0';
	assert_int_equal(lane_unix_listen(far, &fd, &e), ERR_INVAL);
	assert_int_equal(lane_unix_connect(far, &l, &e), ERR_INVAL);
}

static unsigned
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void
connections_good_and_bad_leave_no_descriptor_behind(void **state)
{
	unsigned before = open_descriptors();

	echo_sizes(true);
	an_unknown_host_key_is_refused(state);
	an_unknown_client_key_is_refused(state);
	a_peer_without_manners_costs_the_server_its_deadline_at_most(state);
	a_server_without_manners_costs_the_client_its_deadline_at_most(state);
	a_port_where_nothing_listens_and_a_wrong_name_are_said(state);
	a_local_socket_is_private_and_replaces_a_dead_one(state);
	assert_int_equal(open_descriptors(), before);
}

static int
setup(void **state)
{
	char *type, *fingerprint, *comment, path[128];
	struct buf pub = { 0 };
	struct err e;

	(void)state;
	lane_ssh_init();
	snprintf(dir, sizeof(dir), "/tmp/test_lane.XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(host_key, sizeof(host_key), "%s/host", dir);
	snprintf(other_host_key, sizeof(other_host_key), "%s/other", dir);
	snprintf(id_key, sizeof(id_key), "%s/id", dir);
	snprintf(stranger_key, sizeof(stranger_key), "%s/stranger", dir);
	snprintf(known_hosts, sizeof(known_hosts), "%s/known_hosts", dir);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", dir);
	snprintf(path, sizeof(path), "%s.pub", id_key);
	if (lane_ssh_keygen(host_key, "host", &e) != 0 ||
	    lane_ssh_keygen(other_host_key, "other host", &e) != 0 ||
	    lane_ssh_keygen(id_key, "id", &e) != 0 ||
	    lane_ssh_keygen(stranger_key, "stranger", &e) != 0 ||
	    file_read(AT_FDCWD, path, 4096, &pub) != 0 ||
	    lane_ssh_pubkey(buf_cstr(&pub), &type, &id_base64, &fingerprint,
		&comment, &e) != 0)
		return -1;
	free(type);
	free(fingerprint);
	free(comment);
	buf_fini(&pub);
	return 0;
}

static int
teardown(void **state)
{
	const char *const rm[] = { "rm", "-r", dir, NULL };

	(void)state;
	free(id_base64);
	return run(rm);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_all_sizes_come_back_over_ssh),
		cmocka_unit_test(
		    frames_of_all_sizes_come_back_over_a_local_socket),
		cmocka_unit_test(
		    pipelined_requests_are_answered_in_order_over_ssh),
		cmocka_unit_test(
		    pipelined_requests_are_answered_in_order_over_a_local_socket),
		cmocka_unit_test(streams_flow_both_ways_at_once_over_ssh),
		cmocka_unit_test(
		    streams_flow_both_ways_at_once_over_a_local_socket),
		cmocka_unit_test(
		    keys_change_in_mid_stream_when_the_client_asks),
		cmocka_unit_test(
		    keys_change_in_mid_stream_when_the_server_asks),
		cmocka_unit_test(keys_change_in_mid_stream_when_both_ask),
		cmocka_unit_test(an_unknown_host_key_is_refused),
		cmocka_unit_test(a_changed_host_key_is_refused),
		cmocka_unit_test(an_unknown_client_key_is_refused),
		cmocka_unit_test(a_client_without_a_key_says_how_to_make_one),
		cmocka_unit_test(
		    a_port_where_nothing_listens_and_a_wrong_name_are_said),
		cmocka_unit_test(
		    a_pinned_host_key_is_trusted_and_known_to_openssh),
		cmocka_unit_test(an_openssh_client_is_let_in_but_gets_no_shell),
		cmocka_unit_test(
		    a_peer_without_manners_costs_the_server_its_deadline_at_most),
		cmocka_unit_test(
		    a_server_without_manners_costs_the_client_its_deadline_at_most),
		cmocka_unit_test(
		    a_peer_that_closes_in_the_middle_of_a_frame_is_told_from_one_that_is_done),
		cmocka_unit_test(
		    a_frame_that_claims_too_much_or_flags_is_refused_at_its_header),
		cmocka_unit_test(
		    a_frame_that_arrives_byte_by_byte_survives_every_timeout),
		cmocka_unit_test(
		    frames_wait_for_a_flush_and_a_cancelled_one_never_leaves),
		cmocka_unit_test(
		    what_a_peer_said_before_it_left_can_still_be_read),
		cmocka_unit_test(
		    the_last_word_reaches_a_peer_that_is_sending_over_ssh),
		cmocka_unit_test(
		    the_last_word_reaches_a_peer_that_is_sending_locally),
		cmocka_unit_test(
		    a_shutdown_from_another_thread_ends_a_receive_that_waits_over_ssh),
		cmocka_unit_test(
		    a_shutdown_from_another_thread_ends_a_receive_that_waits_locally),
		cmocka_unit_test(
		    a_local_socket_is_private_and_replaces_a_dead_one),
		cmocka_unit_test(
		    a_look_tells_whether_the_peer_is_there_and_loses_nothing),
		cmocka_unit_test(
		    connections_good_and_bad_leave_no_descriptor_behind),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
