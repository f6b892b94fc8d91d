/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/nfs/nfs3_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	NFS_PROGRAM_NUMBER = 100003,
	CONNECT_MS = 10000,
	BACKOFF_MIN_MS = 100,
	BACKOFF_MAX_MS = 2000,
	BAD_MS = 5000,
	TICK_MS = 250,
	BUSY_PAUSE_MS = 1000 /* when the server asks for patience */
};

pthread_mutex_t nfs3_libnfs_mu = PTHREAD_MUTEX_INITIALIZER;

void
nfs3_conn_wake(struct nfs3_conn *c)
{
	uint64_t one = 1;

	if (write(c->wake, &one, sizeof(one)) == -1)
		return; /* it is awake already */
}

void
nfs3_conn_give(struct nfs3_conn *c, struct nfs3_op *op)
{
	op->conn = c;
	op->again = false;
	op->fenced = false;
	op->not_before_ms = 0;
	atomic_fetch_add(&c->load, 1);
	pthread_mutex_lock(&c->mu);
	TAILQ_INSERT_TAIL(&c->inbox, op, link);
	pthread_mutex_unlock(&c->mu);
	nfs3_conn_wake(c);
}

static void
trouble(struct nfs3_conn *c, const char *why)
{
	struct nfs3_limits *l = c->limits;

	pthread_mutex_lock(&l->mu);
	snprintf(l->trouble, sizeof(l->trouble), "%s", why);
	atomic_store(&l->troubled, true);
	pthread_mutex_unlock(&l->mu);
}

static void
no_trouble(struct nfs3_conn *c)
{
	struct nfs3_limits *l = c->limits;

	if (!atomic_load(&l->troubled))
		return; /* as a rule */
	pthread_mutex_lock(&l->mu);
	*l->trouble = 0;
	atomic_store(&l->troubled, false);
	pthread_mutex_unlock(&l->mu);
}

static void
finish(struct nfs3_conn *c, struct nfs3_op *op, const void *res)
{
	atomic_fetch_sub(&c->load, 1);
	/* ${op} may be gone after that. */
	op->done(op, res);
}

/* From libnfs: the answer to a call, or that it will not come this way. */
static void
answered(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct nfs3_op *op = arg;
	struct nfs3_conn *c = op->conn;

	(void)rpc;
	TAILQ_REMOVE(&c->flying, op, link);
	c->nflying--;
	if (status != RPC_STATUS_SUCCESS || data == NULL) {
		if (status == RPC_STATUS_ERROR && !c->broken)
			trouble(c, data != NULL ? data : "no answer");
		c->broken = true;
		op->again = true;
		TAILQ_INSERT_HEAD(&c->todo, op, link);
		return;
	}
	c->heard_ms = now_ms();
	c->served = true;
	c->backoff_ms = BACKOFF_MIN_MS;
	atomic_store(&c->bad_until_ms, 0);
	no_trouble(c);
	if (c->heard_ms - op->sent_ms < c->way_ms)
		c->way_ms = c->heard_ms - op->sent_ms;
	if (op->sent_ms > c->passed_ms)
		c->passed_ms = op->sent_ms;
	if (*(const nfsstat3 *)data == NFS3ERR_JUKEBOX) {
		op->again = true;
		op->not_before_ms = now_ms() + BUSY_PAUSE_MS;
		TAILQ_INSERT_TAIL(&c->todo, op, link);
		return;
	}
	finish(c, op, data);
}

/*
 * What is given up, or was under way when this process died, is not to be sent
 * by the kernel later on: it is sent again, or somebody else has the packs.
 */
static void
forget_at_close(struct nfs3_conn *c)
{
	const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	if (setsockopt(rpc_get_fd(c->rpc), SOL_SOCKET, SO_LINGER, &at_once,
		sizeof(at_once)) == -1)
		log_debug("nfs: no linger");
}

static void
connected(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct nfs3_conn *c = arg;

	(void)rpc;
	if (status != RPC_STATUS_SUCCESS) {
		if (status == RPC_STATUS_ERROR)
			trouble(c, data != NULL ? data : "cannot connect");
		c->broken = true;
		return;
	}
	c->up = true;
	c->heard_ms = now_ms();
	forget_at_close(c);
}

/*
 * The server, or something before it, takes fewer connections than we make:
 * calls must not wait here for ever while another one works.
 */
static void
hand_over(struct nfs3_conn *c)
{
	uint64_t now = now_ms();
	struct nfs3_conn *to = c->next;
	struct nfs3_op *op;

	while (to != c && now < atomic_load(&to->bad_until_ms))
		to = to->next;
	/* (At a close others may have gone; then there are no calls.) */
	if (to == c || TAILQ_EMPTY(&c->todo))
		return;
	pthread_mutex_lock(&to->mu);
	while ((op = TAILQ_FIRST(&c->todo)) != NULL) {
		TAILQ_REMOVE(&c->todo, op, link);
		atomic_fetch_sub(&c->load, 1);
		atomic_fetch_add(&to->load, 1);
		op->conn = to;
		TAILQ_INSERT_TAIL(&to->inbox, op, link);
	}
	pthread_mutex_unlock(&to->mu);
	nfs3_conn_wake(to);
}

/* All calls under way come back to ${todo}. */
static void
give_up_connection(struct nfs3_conn *c)
{
	char err[] = "the connection is given up";

	if (c->ctx == NULL)
		return;
	c->broken = true;
	rpc_disconnect(c->rpc, err);
	nfs_destroy_context(c->ctx);
	c->ctx = NULL;
	c->rpc = NULL;
	c->up = false;
	c->broken = false;
	c->next_try_ms = now_ms() + c->backoff_ms;
	c->backoff_ms *= 2;
	if (c->backoff_ms > BACKOFF_MAX_MS)
		c->backoff_ms = BACKOFF_MAX_MS;
	if (!c->served) {
		atomic_store(&c->bad_until_ms, now_ms() + BAD_MS);
		hand_over(c);
	}
	c->served = false;
}

static void
begin_connection(struct nfs3_conn *c)
{
	int rc;

	pthread_mutex_lock(&nfs3_libnfs_mu);
	c->ctx = nfs_init_context();
	if (c->ctx == NULL) {
		pthread_mutex_unlock(&nfs3_libnfs_mu);
		c->next_try_ms = now_ms() + BACKOFF_MAX_MS;
		return;
	}
	/* We do that: libnfs would spin. */
	nfs_set_autoreconnect(c->ctx, 0);
	c->rpc = nfs_get_rpc_context(c->ctx);
	if (c->url->uid != -1)
		rpc_set_uid(c->rpc, c->url->uid);
	if (c->url->gid != -1)
		rpc_set_gid(c->rpc, c->url->gid);
	c->up = false;
	c->broken = false;
	c->way_ms = NFS3_FLYING_MAX;
	c->passed_ms = 0;
	c->heard_ms = now_ms();
	rc = c->url->nfsport != 0
	    ? rpc_connect_port_async(c->rpc, c->url->host, c->url->nfsport,
		  NFS_PROGRAM_NUMBER, 3, connected, c)
	    : rpc_connect_program_async(
		  c->rpc, c->url->host, NFS_PROGRAM_NUMBER, 3, connected, c);
	pthread_mutex_unlock(&nfs3_libnfs_mu);
	if (rc != 0) {
		trouble(c, rpc_get_error(c->rpc));
		give_up_connection(c);
	}
}

static void
take_inbox(struct nfs3_conn *c)
{
	pthread_mutex_lock(&c->mu);
	TAILQ_CONCAT(&c->todo, &c->inbox, link);
	pthread_mutex_unlock(&c->mu);
}

static void
expire(struct nfs3_conn *c, uint64_t now)
{
	bool fenced = atomic_load(&c->limits->changes_until) == NFS3_FENCED,
	     all = now >= atomic_load(&c->limits->all_until);
	struct nfs3_op *op, *next;

	for (op = TAILQ_FIRST(&c->todo); op != NULL; op = next) {
		next = TAILQ_NEXT(op, link);
		op->fenced = op->changes && fenced;
		if (now < op->deadline_ms && !op->fenced && !all)
			continue;
		TAILQ_REMOVE(&c->todo, op, link);
		finish(c, op, NULL);
	}
}

static unsigned
flying_max(const struct nfs3_conn *c)
{
	uint64_t n = NFS3_FLYING_MIN + c->way_ms * NFS3_FLYING_PER_MS;

	return n < NFS3_FLYING_MAX ? (unsigned)n : NFS3_FLYING_MAX;
}

static void
send_all(struct nfs3_conn *c, uint64_t now)
{
	bool may_change = now < atomic_load(&c->limits->changes_until);
	struct nfs3_op *op, *next;

	for (op = TAILQ_FIRST(&c->todo);
	     op != NULL && c->nflying < flying_max(c) && !c->broken;
	     op = next) {
		next = TAILQ_NEXT(op, link);
		if (now < op->not_before_ms || (op->changes && !may_change))
			continue;
		TAILQ_REMOVE(&c->todo, op, link);
		if (c->nflying == 0)
			c->heard_ms = now;
		TAILQ_INSERT_TAIL(&c->flying, op, link);
		c->nflying++;
		op->sent_ms = now;
		if (op->send(c->rpc, answered, op) != 0) {
			TAILQ_REMOVE(&c->flying, op, link);
			c->nflying--;
			TAILQ_INSERT_HEAD(&c->todo, op, link);
			trouble(c, rpc_get_error(c->rpc));
			c->broken = true;
		}
	}
}

/*
 * No answer at all; or none to a call while such come that were sent as long
 * after it as is waited for: that one is lost.  (Not by its age alone: over a
 * slow line it may wait for its turn.)
 */
static bool
stalls(const struct nfs3_conn *c, uint64_t now)
{
	const struct nfs3_op *oldest = TAILQ_FIRST(&c->flying);
	unsigned stall_ms = atomic_load(&c->limits->stall_ms);

	return oldest != NULL &&
	    (now >= atomic_load(&c->limits->all_until) ||
		now - c->heard_ms > stall_ms ||
		(c->passed_ms > oldest->sent_ms &&
		    c->passed_ms - oldest->sent_ms > stall_ms));
}

/* A change is under way that may not come to the server any more. */
static bool
must_not_arrive(const struct nfs3_conn *c, uint64_t now)
{
	const struct nfs3_op *op;

	if (now < atomic_load(&c->limits->changes_until))
		return false;
	TAILQ_FOREACH(op, &c->flying, link)
	if (op->changes)
		return true;
	return false;
}

static void
look(struct nfs3_conn *c)
{
	uint64_t now = now_ms();

	take_inbox(c);
	if (c->ctx == NULL && !TAILQ_EMPTY(&c->todo) && now >= c->next_try_ms)
		begin_connection(c);
	if (c->ctx != NULL && c->up)
		send_all(c, now);
	if (c->ctx != NULL && !c->up && now - c->heard_ms > CONNECT_MS) {
		trouble(c, "it does not take the connection");
		c->broken = true;
	}
	if (stalls(c, now)) {
		trouble(c, "it takes calls and does not answer");
		c->broken = true;
	}
	if (must_not_arrive(c, now)) {
		trouble(c, "it did not answer while things could be changed");
		c->broken = true;
	}
	if (c->broken)
		give_up_connection(c);
	expire(c, now);
}

static int
wait_ms(const struct nfs3_conn *c)
{
	return c->nflying > 0 || !TAILQ_EMPTY(&c->todo) || c->ctx != NULL
	    ? TICK_MS
	    : -1;
}

static void *
conn_main(void *arg)
{
	struct nfs3_conn *c = arg;
	struct pollfd p[2];
	uint64_t n;

	while (!atomic_load(&c->stop)) {
		look(c);
		p[0] = (struct pollfd){ .fd = c->wake, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = -1 };
		if (c->ctx != NULL) {
			p[1].fd = rpc_get_fd(c->rpc);
			p[1].events = (short)rpc_which_events(c->rpc);
		}
		if (poll(p, 2, wait_ms(c)) == -1 && errno != EINTR) {
			log_sys("nfs: poll");
			break;
		}
		if (p[0].revents != 0 && read(c->wake, &n, sizeof(n)) == -1)
			log_debug("nfs: woken for nothing");
		if (c->ctx == NULL || p[1].revents == 0)
			continue;
		/* What cannot be told apart any more comes back as broken. */
		if (rpc_service(c->rpc, p[1].revents) != 0) {
			if (!c->broken)
				trouble(c, rpc_get_error(c->rpc));
			c->broken = true;
		}
	}
	give_up_connection(c);
	return NULL;
}

int
nfs3_conn_start(
    struct nfs3_conn *c, const struct nfs3_url *url, struct nfs3_limits *limits)
{
	int rc;

	c->url = url;
	c->limits = limits;
	c->backoff_ms = BACKOFF_MIN_MS;
	TAILQ_INIT(&c->inbox);
	TAILQ_INIT(&c->todo);
	TAILQ_INIT(&c->flying);
	pthread_mutex_init(&c->mu, NULL);
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake == -1) {
		rc = log_sys("nfs: eventfd");
		goto fail;
	}
	rc = pthread_create(&c->thread, NULL, conn_main, c);
	if (rc == 0)
		return 0;
	errno = rc;
	rc = log_sys("nfs: a thread could not start");
	close(c->wake);
fail:
	pthread_mutex_destroy(&c->mu);
	return rc;
}

void
nfs3_conn_stop(struct nfs3_conn *c)
{
	atomic_store(&c->stop, true);
	nfs3_conn_wake(c);
	pthread_join(c->thread, NULL);
	close(c->wake);
	pthread_mutex_destroy(&c->mu);
}
