/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh.h"
#include "proto/lane_unix.h"
#include "repo/serve/address.h"
#include "repo/serve/audited.h"
#include "repo/serve/conn.h"

enum {
	TICK_MS = 1000,  /* between looks at jobs and keys */
	HURRY_MS = 2000, /* for strangers, while all their places are taken */
	GRACE_MS = 2000, /* for lanes to tell their peers of the end */
	PAUSE_MS = 100   /* after an accept that failed for want of means */
};

struct listener {
	struct serve *srv;
	char *dir;
	int dirfd;
	char *addresses;
	int fd[LISTEN_MAX + 1]; /* the last is the local socket */
	unsigned nfd;
	int wake; /* eventfd: the accepting thread looks around */
	pthread_t thread;
	struct conns conns;
	atomic_bool stopping;
	atomic_bool reload;
	_Atomic uint64_t looked_ms; /* the accepting thread lives */
};

static bool
is_local(const struct listener *l, unsigned i)
{
	return i == l->nfd - 1;
}

static void
wake(struct listener *l)
{
	uint64_t one = 1;

	if (write(l->wake, &one, sizeof(one)) == -1)
		return; /* it is awake already */
}

static void
look_at_keys(struct listener *l)
{
	struct keyset *old = keyring_get(l->srv->keyring), *now;

	if (keyring_refresh(l->srv->keyring)) {
		conns_cut_changed(&l->conns);
		now = keyring_get(l->srv->keyring);
		audited_keys(l->srv, keyset_auth(old), keyset_auth(now));
		keyset_put(now);
	}
	keyset_put(old);
}

/* A peer that vanished without a word is noticed within two minutes. */
static void
keep_alive(int fd)
{
	int on = 1, idle = 60, interval = 20, count = 3;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static void
take(struct listener *l, unsigned i)
{
	int fd = accept4(l->fd[i], NULL, NULL, SOCK_CLOEXEC);

	if (fd == -1) {
		struct timespec t = { .tv_nsec = PAUSE_MS * 1000000L };

		if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS &&
		    errno != ENOMEM)
			return;
		log_sys("a connection could not be taken");
		nanosleep(&t, NULL);
		return;
	}
	if (!is_local(l, i)) {
		keep_alive(fd);
		look_at_keys(l);
	}
	conns_start(&l->conns, fd, is_local(l, i));
}

static void *
listener_main(void *arg)
{
	struct listener *l = arg;
	struct pollfd p[LISTEN_MAX + 2];
	uint64_t looked = now_ms(), n;

	for (unsigned i = 0; i < l->nfd; i++)
		p[i] = (struct pollfd){ .fd = l->fd[i], .events = POLLIN };
	p[l->nfd] = (struct pollfd){ .fd = l->wake, .events = POLLIN };
	while (!atomic_load(&l->stopping)) {
		bool full = conns_full(&l->conns);

		atomic_store(&l->looked_ms, now_ms());
		if (full)
			conns_hurry(&l->conns, HURRY_MS);

		/* poll skips what is negative. */
		for (unsigned i = 0; i < l->nfd; i++)
			p[i].fd = full && !is_local(l, i) ? -1 : l->fd[i];
		if (poll(p, l->nfd + 1, full ? TICK_MS / 4 : TICK_MS) == -1 &&
		    errno != EINTR) {
			log_sys("listener: poll");
			break;
		}
		if (p[l->nfd].revents != 0 &&
		    read(l->wake, &n, sizeof(n)) == -1)
			log_debug("listener: woken for nothing");
		for (unsigned i = 0; i < l->nfd; i++)
			if (p[i].revents != 0 && p[i].fd != -1)
				take(l, i);
		conns_reap(&l->conns);
		if (atomic_exchange(&l->reload, false) ||
		    now_ms() - looked >= TICK_MS) {
			looked = now_ms();
			look_at_keys(l);
			jobs_expire(l->srv->jobs, JOB_SILENCE_MS);
			queue_tick(l->srv->queue);
			pace_tick(l->srv->pace);
		}
	}
	return NULL;
}

/* Where one listens: for the log, and in the file "port" for scripts. */
static int
publish(struct listener *l, const uint16_t *port, unsigned nport, struct err *e)
{
	struct buf text = { 0 }, ports = { 0 };
	char one[64];
	int rc;

	for (unsigned i = 0; i < nport; i++) {
		buf_printf(&text, "%s, ", address_print(l->fd[i], one));
		buf_printf(&ports, "%u\n", (unsigned)port[i]);
	}
	buf_printf(&text, "%s/socket", l->dir);
	l->addresses = xstrdup(buf_cstr(&text));
	rc = file_replace(l->dirfd, "port", ports.data, ports.len, 0600);
	if (rc != 0)
		err_set(e, rc, "%s/port: cannot be written", l->dir);
	buf_fini(&text);
	buf_fini(&ports);
	return rc;
}

static int
open_all(struct listener *l, const struct listener_options *o, struct err *e)
{
	char every[8], *path;
	uint16_t port[LISTEN_MAX] = { 0 };
	unsigned n = o->no_ssh ? 0 : o->naddr;
	int rc;

	snprintf(every, sizeof(every), "%d", LANE_SSH_PORT);
	/* That of a daemon that was killed would mislead. */
	unlinkat(l->dirfd, "port", 0);
	if (n > LISTEN_MAX)
		return err_set(
		    e, ERR_INVAL, "more than %d addresses", LISTEN_MAX);
	for (unsigned i = 0; i < n; i++) {
		rc = address_listen(
		    o->addr[i], &l->fd[l->nfd], &port[l->nfd], e);
		if (rc != 0)
			return rc;
		l->nfd++;
	}
	if (n == 0 && !o->no_ssh) {
		rc = address_listen(every, &l->fd[0], &port[0], e);
		if (rc != 0)
			return rc;
		l->nfd++;
	}
	path = xasprintf("%s/socket", l->dir);
	rc = lane_unix_listen(path, &l->fd[l->nfd], e);
	free(path);
	if (rc != 0)
		return rc;
	l->nfd++;
	return publish(l, port, l->nfd - 1, e);
}

static void
listener_free(struct listener *l)
{
	for (unsigned i = 0; i < l->nfd; i++)
		close(l->fd[i]);
	conns_fini(&l->conns);
	close(l->wake);
	free(l->addresses);
	free(l->dir);
	free(l);
}

int
listener_start(struct serve *srv, const struct listener_options *o,
    struct listener **out, struct err *e)
{
	struct listener *l = xcalloc(1, sizeof(*l));
	int rc;

	l->srv = srv;
	l->dir = xstrdup(o->dir);
	l->dirfd = o->dirfd;
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	conns_init(&l->conns, srv, o->host_key, l->wake);
	if (l->wake == -1) {
		err_set(e, ERR_SYS, "eventfd: %s", strerror(errno));
		rc = log_sys("eventfd");
		goto err;
	}
	rc = open_all(l, o, e);
	if (rc != 0)
		goto err;
	atomic_store(&l->looked_ms, now_ms());
	errno = pthread_create(&l->thread, NULL, listener_main, l);
	if (errno != 0) {
		err_set(e, ERR_SYS, "no thread: %s", strerror(errno));
		rc = log_sys("listener: thread");
		goto err;
	}
	*out = l;
	return 0;
err:
	listener_free(l);
	return rc;
}

const char *
listener_addresses(const struct listener *l)
{
	return l->addresses;
}

uint64_t
listener_quiet_ms(struct listener *l)
{
	return now_ms() - atomic_load(&l->looked_ms);
}

void
listener_reload(struct listener *l)
{
	atomic_store(&l->reload, true);
	wake(l);
}

bool
listener_stop(struct listener *l, unsigned within_ms)
{
	uint64_t end = now_ms() + within_ms;

	atomic_store(&l->stopping, true);
	wake(l);
	pthread_join(l->thread, NULL);
	unlinkat(l->dirfd, "port", 0);
	unlinkat(l->dirfd, "socket", 0);
	if (!conns_wait(&l->conns, now_ms() + GRACE_MS)) {
		conns_cut_all(&l->conns);
		if (!conns_wait(&l->conns, end))
			return false;
	}
	listener_free(l);
	return true;
}
