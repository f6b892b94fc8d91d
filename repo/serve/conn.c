/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/serve/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/lane_ssh.h"
#include "proto/lane_unix.h"
#include "repo/serve/session.h"

/* What a lane counts as. */
enum count { COUNT_NONE, COUNT_FRESH, COUNT_WORK, COUNT_AGENT };

struct conn {
	struct conns *all;
	struct conn *next; /* guarded by all->mu */
	pthread_t thread;
	bool local;
	uid_t uid; /* the thread's; of a local one */
	int fd;    /* the thread's */
	uint64_t since_ms;
	int begun; /* a second handle on it, until there is a lane, or -1 */
	bool cut;  /* guarded by all->mu, with begun and all below */
	bool done;
	enum count count;
	struct lane *lane;
	char *line; /* the key's, as the file had it when the lane began */
};

void
conns_init(struct conns *c, struct serve *srv, const char *host_key, int fd)
{
	memset(c, 0, sizeof(*c));
	c->srv = srv;
	c->host_key = host_key;
	c->wake = fd;
	pthread_mutex_init(&c->mu, NULL);
	cond_init(&c->gone);
}

void
conns_fini(struct conns *c)
{
	pthread_cond_destroy(&c->gone);
	pthread_mutex_destroy(&c->mu);
}

static char *
key_line(const struct auth_key *key)
{
	struct buf b = { 0 };
	char *s;

	auth_print_key(key, &b);
	s = xstrdup(buf_cstr(&b));
	buf_fini(&b);
	return s;
}

static unsigned *
counter(struct conn *k)
{
	struct conns *c = k->all;

	switch (k->count) {
	case COUNT_FRESH: return &c->nfresh;
	case COUNT_WORK: return k->local ? &c->nlocal : &c->nssh;
	case COUNT_AGENT: return &c->nagents;
	default: return NULL;
	}
}

/* ${c} is locked. */
static void
recount(struct conn *k, enum count count)
{
	unsigned *n = counter(k);

	if (n != NULL)
		--*n;
	k->count = count;
	n = counter(k);
	if (n != NULL)
		++*n;
}

int
conn_works(struct conn *k, struct err *e)
{
	struct conns *c = k->all;
	unsigned most = SERVE_LANES_MAX;
	int rc = 0;

	if (!k->local)
		most -= SERVE_LANES_CONSOLE;
	pthread_mutex_lock(&c->mu);
	if (k->count != COUNT_WORK &&
	    c->nssh + (k->local ? c->nlocal : 0) >= most)
		rc = err_set(e, ERR_LIMIT,
		    "%u lanes are open, and there may not be more",
		    c->nlocal + c->nssh);
	else
		recount(k, COUNT_WORK);
	pthread_mutex_unlock(&c->mu);
	return rc;
}

int
conn_serves(struct conn *k, struct err *e)
{
	struct conns *c = k->all;
	int rc = 0;

	pthread_mutex_lock(&c->mu);
	if (k->count != COUNT_AGENT && c->nagents >= SERVE_AGENTS_MAX)
		rc = err_set(e, ERR_LIMIT,
		    "%u agents are connected, and there may not be more",
		    c->nagents);
	else
		recount(k, COUNT_AGENT);
	pthread_mutex_unlock(&c->mu);
	return rc;
}

/* The lane can be cut from outside from here on. */
static int
publish(struct conn *k, struct lane *lane, const struct auth_key *key,
    struct err *e)
{
	struct conns *c = k->all;
	int rc = 0;

	pthread_mutex_lock(&c->mu);
	k->lane = lane;
	if (k->cut)
		lane_shutdown(lane);
	if (!k->local)
		k->line = key_line(key);
	/* Those of hosts keep nobody from the console. */
	if (!k->local && c->nfresh >= SERVE_FRESH_MAX)
		rc = err_set(e, ERR_LIMIT,
		    "%u lanes have not said yet what they are for, and there "
		    "may not be more",
		    c->nfresh);
	else
		recount(k, COUNT_FRESH);
	pthread_mutex_unlock(&c->mu);
	return rc;
}

static void
unpublish(struct conn *k)
{
	pthread_mutex_lock(&k->all->mu);
	k->lane = NULL;
	pthread_mutex_unlock(&k->all->mu);
}

/* There is room for another lane. */
static void
uncount(struct conn *k)
{
	struct conns *c = k->all;

	pthread_mutex_lock(&c->mu);
	recount(k, COUNT_NONE);
	pthread_mutex_unlock(&c->mu);
}

static void
run(struct conn *k, struct lane *lane, const struct auth_key *key)
{
	struct conns *c = k->all;
	struct session s = { .srv = c->srv,
		.lane = lane,
		.key = key,
		.conn = k,
		.uid = k->uid };
	struct err refused;
	int rc;

	rc = publish(k, lane, key, &refused);
	if (rc == 0)
		rc = keyring_lane_begin(
		    c->srv->keyring, key, &s.usage, &refused);
	/* It waits a while, and is in no other key's way. */
	if (rc != 0)
		uncount(k);
	session_run(&s, rc != 0 ? &refused : NULL);
	if (rc == 0 && s.use == LANE_WORKS)
		keyring_lane_end(c->srv->keyring, s.usage, s.use);
	/* Before the lane goes, or it could be cut when it is no more. */
	unpublish(k);
	lane_linger(lane, SERVE_FAREWELL_MS);
	/* Others, of which all keys together have few, are its own until here.
	 */
	if (rc == 0 && s.use != LANE_WORKS)
		keyring_lane_end(c->srv->keyring, s.usage, s.use);
	lane_close(lane);
	uncount(k);
}

static bool
check_key(void *arg, const char *base64, void **who)
{
	const struct auth_key *key = auth_find_blob(keyset_auth(arg), base64);

	*who = (void *)(uintptr_t)key;
	return key != NULL;
}

static void
wake(struct conns *c)
{
	uint64_t one = 1;

	if (write(c->wake, &one, sizeof(one)) == -1)
		return; /* it is awake already */
}

/* The handshake is over, well or not: the connection counts otherwise now. */
static void
forget_begun(struct conn *k)
{
	pthread_mutex_lock(&k->all->mu);
	if (k->begun != -1)
		close(k->begun);
	k->begun = -1;
	k->all->nunknown--;
	pthread_mutex_unlock(&k->all->mu);
	wake(k->all);
}

static void
run_ssh(struct conn *k)
{
	struct keyset *keys = keyring_get(k->all->srv->keyring);
	struct lane_ssh_server srv = {
		.host_key = k->all->host_key, .check = check_key, .arg = keys
	};
	struct lane *lane;
	struct err e;
	void *who;
	int rc;

	rc = lane_ssh_serve(&srv, k->fd, &lane, &who, &e);
	forget_begun(k);
	if (rc == 0)
		run(k, lane, who);
	else if (rc == ERR_DENIED)
		log_info("%s", e.text);
	else
		log_debug("%s", e.text);
	keyset_put(keys);
}

static void
run_local(struct conn *k)
{
	struct lane *lane;
	struct err e;
	uid_t uid;

	if (lane_unix_serve(k->fd, &uid, &lane, &e) != 0)
		return;
	if (uid != 0 && uid != geteuid()) {
		log_info("%s: only root and the daemon's own user may use the "
			 "local socket",
		    lane_peer(lane));
		lane_close(lane);
		return;
	}
	k->uid = uid;
	run(k, lane, keyset_console());
}

static void *
conn_main(void *arg)
{
	struct conn *k = arg;
	struct conns *c = k->all;

	if (k->local)
		run_local(k);
	else
		run_ssh(k);
	pthread_mutex_lock(&c->mu);
	k->done = true;
	pthread_cond_signal(&c->gone);
	/* Within the lock: after it, ${c} may be gone. */
	wake(c);
	pthread_mutex_unlock(&c->mu);
	return NULL;
}

bool
conns_full(struct conns *c)
{
	bool full;

	pthread_mutex_lock(&c->mu);
	full = c->nunknown >= SERVE_UNKNOWN_MAX;
	pthread_mutex_unlock(&c->mu);
	return full;
}

void
conns_start(struct conns *c, int fd, bool local)
{
	struct conn *k;

	pthread_mutex_lock(&c->mu);
	k = xcalloc(1, sizeof(*k));
	k->all = c;
	k->local = local;
	k->fd = fd;
	k->since_ms = now_ms();
	k->begun = local ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	errno = pthread_create(&k->thread, NULL, conn_main, k);
	if (errno != 0) {
		log_sys("a connection was closed: no thread");
		close(fd);
		if (k->begun != -1)
			close(k->begun);
		free(k);
	} else {
		k->next = c->first;
		c->first = k;
		if (!local)
			c->nunknown++;
	}
	pthread_mutex_unlock(&c->mu);
}

/* One that has ended is taken out of the list; NULL: none has. */
static struct conn *
take_done(struct conns *c)
{
	struct conn **at, *k;

	for (at = &c->first; (k = *at) != NULL; at = &k->next)
		if (k->done) {
			*at = k->next;
			return k;
		}
	return NULL;
}

static void
join(struct conn *k)
{
	pthread_join(k->thread, NULL);
	free(k->line);
	free(k);
}

void
conns_reap(struct conns *c)
{
	struct conn *k;

	do {
		pthread_mutex_lock(&c->mu);
		k = take_done(c);
		pthread_mutex_unlock(&c->mu);
		if (k != NULL)
			join(k);
	} while (k != NULL);
}

/* ${c} is locked. */
static void
cut(struct conn *k)
{
	k->cut = true;
	if (k->lane != NULL)
		lane_shutdown(k->lane);
	else if (k->begun != -1)
		shutdown(k->begun, SHUT_RDWR);
}

void
conns_hurry(struct conns *c, uint64_t within_ms)
{
	uint64_t now = now_ms();

	pthread_mutex_lock(&c->mu);
	for (struct conn *k = c->first; k != NULL; k = k->next)
		if (k->begun != -1 && now - k->since_ms >= within_ms)
			cut(k);
	pthread_mutex_unlock(&c->mu);
}

void
conns_cut_changed(struct conns *c)
{
	struct keyset *keys = keyring_get(c->srv->keyring);
	const struct auth *a = keyset_auth(keys);

	pthread_mutex_lock(&c->mu);
	for (struct conn *k = c->first; k != NULL; k = k->next) {
		bool found = false;

		if (k->line == NULL || k->done)
			continue;
		for (size_t i = 0; i < a->n && !found; i++) {
			char *line = key_line(&a->key[i]);

			found = strcmp(line, k->line) == 0;
			free(line);
		}
		if (!found) {
			log_info("%s: its key was changed or removed",
			    k->lane != NULL ? lane_peer(k->lane) : "a lane");
			cut(k);
		}
	}
	pthread_mutex_unlock(&c->mu);
	keyset_put(keys);
}

void
conns_cut_all(struct conns *c)
{
	pthread_mutex_lock(&c->mu);
	for (struct conn *k = c->first; k != NULL; k = k->next)
		cut(k);
	pthread_mutex_unlock(&c->mu);
}

bool
conns_wait(struct conns *c, uint64_t until_ms)
{
	struct conn *k;
	bool none, late = false;

	pthread_mutex_lock(&c->mu);
	for (;;) {
		k = take_done(c);
		if (k != NULL) {
			pthread_mutex_unlock(&c->mu);
			join(k);
			pthread_mutex_lock(&c->mu);
			continue;
		}
		none = c->first == NULL;
		if (none || late)
			break;
		late = !cond_wait_until(&c->gone, &c->mu, until_ms);
	}
	pthread_mutex_unlock(&c->mu);
	return none;
}
