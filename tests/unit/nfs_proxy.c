/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/nfs_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/buf.h"

enum {
	PAIRS_MAX = 32,
	CALLS_MAX = 4096, /* whose procedures are remembered */
	MARK = 4,         /* before each record */
	CALL_HEAD = 24,
	ANSWER_HEAD = 24,
	READ_LEN = 1 << 16,
	TICK_MS = 20
};

#define LAST_FRAGMENT 0x80000000u

struct pair {
	int fd[2]; /* client, server; -1: none */
	struct buf in[2];
};

struct nfs_proxy {
	int listening, server_port;
	proxy_look *look;
	void *arg;
	pthread_t thread;
	atomic_bool stop;
	atomic_int max;
	struct pair pair[PAIRS_MAX];
	uint32_t xid[CALLS_MAX], proc[CALLS_MAX];
	unsigned next;
	pthread_mutex_t mu;
	struct buf kept; /* guarded by mu, as is the next */
	unsigned nkept;
};

uint32_t
proxy_u32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return ntohl(v);
}

void
proxy_set_u32(uint8_t *at, uint32_t v)
{
	v = htonl(v);
	memcpy(at, &v, sizeof(v));
}

static bool
send_full(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static int
to_server(const struct nfs_proxy *p)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)p->server_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd != -1 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == -1) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
pair_end(struct pair *q)
{
	for (int i = 0; i < 2; i++) {
		if (q->fd[i] != -1)
			close(q->fd[i]);
		q->fd[i] = -1;
		buf_fini(&q->in[i]);
	}
}

static void
pair_begin(struct nfs_proxy *p)
{
	int fd = accept4(p->listening, NULL, NULL, SOCK_CLOEXEC), server;
	int max = atomic_load(&p->max), there = 0;

	if (fd == -1)
		return;
	for (int i = 0; i < PAIRS_MAX; i++)
		there += p->pair[i].fd[0] != -1;
	if (max != 0 && there >= max) {
		close(fd);
		return;
	}
	server = to_server(p);
	for (int i = 0; server != -1 && i < PAIRS_MAX; i++) {
		if (p->pair[i].fd[0] != -1)
			continue;
		p->pair[i].fd[0] = fd;
		p->pair[i].fd[1] = server;
		return;
	}
	close(fd);
	if (server != -1)
		close(server);
}

/* The procedure of a call, which is remembered, or of an answer. */
static uint32_t
proc_of(struct nfs_proxy *p, bool answer, const uint8_t *rpc)
{
	uint32_t xid = proxy_u32(rpc);

	if (!answer) {
		p->xid[p->next % CALLS_MAX] = xid;
		p->proc[p->next++ % CALLS_MAX] = proxy_u32(rpc + 20);
		return proxy_u32(rpc + 20);
	}
	for (unsigned i = 0; i < CALLS_MAX; i++)
		if (p->xid[i] == xid)
			return p->proc[i];
	return UINT32_MAX;
}

/* Credential and verifier of a call have any length. */
static size_t
body_at(bool answer, const uint8_t *rpc)
{
	size_t at = CALL_HEAD;

	if (answer)
		return ANSWER_HEAD;
	for (int i = 0; i < 2; i++)
		at += 8 + (proxy_u32(rpc + at + 4) + 3) / 4 * 4;
	return at;
}

/* All whole messages that came from that side.  False: break it. */
static bool
pass_on(struct nfs_proxy *p, struct pair *q, int from)
{
	struct buf *in = &q->in[from];

	while (in->len >= MARK) {
		size_t len = proxy_u32(in->data) & ~LAST_FRAGMENT, at;
		uint8_t *rpc = in->data + MARK;
		enum proxy_fate fate = PROXY_PASS;
		uint32_t proc;

		if (in->len < MARK + len)
			return true;
		if (len >= ANSWER_HEAD) {
			proc = proc_of(p, from == 1, rpc);
			at = body_at(from == 1, rpc);
			fate = p->look(
			    p->arg, proc, from == 1, rpc + at, len - at);
		}
		if (fate == PROXY_BREAK)
			return false;
		if (fate == PROXY_KEEP) {
			pthread_mutex_lock(&p->mu);
			buf_add(&p->kept, in->data, MARK + len);
			p->nkept++;
			pthread_mutex_unlock(&p->mu);
		} else if (fate == PROXY_PASS &&
		    !send_full(q->fd[!from], in->data, MARK + len)) {
			return false;
		}
		memmove(in->data, in->data + MARK + len, in->len - MARK - len);
		in->len -= MARK + len;
	}
	return true;
}

static void
serve(struct nfs_proxy *p, struct pair *q, int from)
{
	ssize_t n =
	    read(q->fd[from], buf_extend(&q->in[from], READ_LEN), READ_LEN);

	q->in[from].len -= READ_LEN - (size_t)(n > 0 ? n : 0);
	if (n <= 0 || !pass_on(p, q, from))
		pair_end(q);
}

static void *
proxy_main(void *arg)
{
	struct nfs_proxy *p = arg;

	while (!atomic_load(&p->stop)) {
		struct pollfd fds[2 * PAIRS_MAX + 1];

		for (int i = 0; i < 2 * PAIRS_MAX; i++)
			fds[i] = (struct pollfd){ p->pair[i / 2].fd[i % 2],
				POLLIN, 0 };
		fds[2 * PAIRS_MAX] = (struct pollfd){ p->listening, POLLIN, 0 };
		if (poll(fds, 2 * PAIRS_MAX + 1, TICK_MS) <= 0)
			continue;
		for (int i = 0; i < 2 * PAIRS_MAX; i++)
			if (fds[i].revents != 0 &&
			    p->pair[i / 2].fd[i % 2] == fds[i].fd)
				serve(p, &p->pair[i / 2], i % 2);
		if (fds[2 * PAIRS_MAX].revents != 0)
			pair_begin(p);
	}
	return NULL;
}

struct nfs_proxy *
nfs_proxy_new(const struct nfs_room *r, proxy_look *look, void *arg, char *url,
    size_t len)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct nfs_proxy *p = xcalloc(1, sizeof(*p));
	const char *query = strchr(r->url, '?');
	socklen_t alen = sizeof(a);

	p->server_port = r->port;
	p->look = look;
	p->arg = arg;
	for (int i = 0; i < PAIRS_MAX; i++)
		p->pair[i].fd[0] = p->pair[i].fd[1] = -1;
	p->listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
	    bind(p->listening, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(p->listening, 16), 0);
	assert_int_equal(
	    getsockname(p->listening, (struct sockaddr *)&a, &alen), 0);
	snprintf(url, len, "%.*s?nfsport=%u&mountport=%d",
	    (int)(query - r->url), r->url, ntohs(a.sin_port), r->port + 1);
	pthread_mutex_init(&p->mu, NULL);
	assert_int_equal(pthread_create(&p->thread, NULL, proxy_main, p), 0);
	return p;
}

void
nfs_proxy_free(struct nfs_proxy *p)
{
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	for (int i = 0; i < PAIRS_MAX; i++)
		pair_end(&p->pair[i]);
	close(p->listening);
	buf_fini(&p->kept);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

void
nfs_proxy_limit(struct nfs_proxy *p, int max)
{
	atomic_store(&p->max, max);
}

unsigned
nfs_proxy_let_go(struct nfs_proxy *p)
{
	uint8_t mark[MARK];
	struct buf kept;
	unsigned n;
	int fd;

	pthread_mutex_lock(&p->mu);
	kept = p->kept;
	n = p->nkept;
	memset(&p->kept, 0, sizeof(p->kept));
	p->nkept = 0;
	pthread_mutex_unlock(&p->mu);
	fd = to_server(p);
	assert_int_not_equal(fd, -1);
	assert_true(send_full(fd, kept.data, kept.len));
	buf_fini(&kept);
	for (unsigned i = 0; i < n; i++) {
		struct buf answer = { 0 };
		size_t len;

		assert_int_equal(recv(fd, mark, MARK, MSG_WAITALL), MARK);
		len = proxy_u32(mark) & ~LAST_FRAGMENT;
		assert_int_equal(
		    recv(fd, buf_extend(&answer, len), len, MSG_WAITALL), len);
		buf_fini(&answer);
	}
	close(fd);
	return n;
}
