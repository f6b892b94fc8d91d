/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to libvirt.  Its calls have no time limits of their own, and
 * wait for as long as a daemon or a QEMU hangs.  libvirt's keepalive would
 * tell of the daemon but not of the QEMU, and wants an event loop; instead we
 * learn the connection's socket from what libvirt registers with the event
 * loop that it believes to have, and shut it down when a call is late.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guest/guest_libvirt.h"
#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

static pthread_once_t loop_once = PTHREAD_ONCE_INIT;

/* Whose connection this thread opens. */
static _Thread_local struct lv_clock *opening;

/*
 * libvirt would have the socket of a new connection watched.  Refused, it does
 * without events and keepalive, for which nobody here would listen.
 */
static int
handle_add(int fd, int events, virEventHandleCallback cb, void *opaque,
    virFreeCallback ff)
{
	struct stat st;

	(void)events;
	(void)cb;
	(void)opaque;
	(void)ff;
	if (opening != NULL && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
		pthread_mutex_lock(&opening->mu);
		if (opening->fd == -1)
			opening->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		pthread_mutex_unlock(&opening->mu);
	}
	return -1;
}

static void
handle_update(int id, int events)
{
	(void)id;
	(void)events;
}

static int
handle_remove(int id)
{
	(void)id;
	return -1;
}

static int
timer_add(int ms, virEventTimeoutCallback cb, void *opaque, virFreeCallback ff)
{
	(void)ms;
	(void)cb;
	(void)opaque;
	(void)ff;
	return -1;
}

static void
silent(void *arg, virErrorPtr error)
{
	(void)arg;
	(void)error;
}

static void
loop_register(void)
{
	virSetErrorFunc(NULL, silent);
	virInitialize();
	virEventRegisterImpl(handle_add, handle_update, handle_remove,
	    timer_add, handle_update, handle_remove);
}

static void *
clock_main(void *arg)
{
	struct lv_clock *c = arg;

	pthread_mutex_lock(&c->mu);
	while (!c->quit) {
		if (c->deadline == 0) {
			pthread_cond_wait(&c->cond, &c->mu);
			continue;
		}
		if (now_ms() < c->deadline) {
			cond_wait_until(&c->cond, &c->mu, c->deadline);
			continue;
		}
		c->fired = true;
		c->deadline = 0;
		if (c->fd != -1)
			shutdown(c->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&c->mu);
	return NULL;
}

static void
clock_set(struct lv_clock *c, unsigned ms)
{
	pthread_mutex_lock(&c->mu);
	c->deadline = ms == 0 ? 0 : now_ms() + ms;
	if (ms != 0)
		c->fired = false;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->mu);
}

void
lv_init(struct lv *lv)
{
	struct lv_clock *c = &lv->clock;

	pthread_once(&loop_once, loop_register);
	pthread_mutex_init(&lv->mu, NULL);
	pthread_mutex_init(&c->mu, NULL);
	cond_init(&c->cond);
	c->fd = -1;
	if (pthread_create(&c->thread, NULL, clock_main, c) != 0) {
		log_error("no thread can be started");
		abort();
	}
}

static void
disconnect(struct lv *lv)
{
	int fd;

	if (lv->dom != NULL)
		virDomainFree(lv->dom);
	if (lv->conn != NULL)
		virConnectClose(lv->conn);
	lv->dom = NULL;
	lv->conn = NULL;
	pthread_mutex_lock(&lv->clock.mu);
	fd = lv->clock.fd;
	lv->clock.fd = -1;
	pthread_mutex_unlock(&lv->clock.mu);
	if (fd != -1)
		close(fd);
}

void
lv_fini(struct lv *lv)
{
	/* It says good-bye to the daemon, which may not listen. */
	clock_set(&lv->clock, LV_QUICK_MS);
	disconnect(lv);
	pthread_mutex_lock(&lv->clock.mu);
	lv->clock.quit = true;
	pthread_cond_signal(&lv->clock.cond);
	pthread_mutex_unlock(&lv->clock.mu);
	pthread_join(lv->clock.thread, NULL);
	pthread_cond_destroy(&lv->clock.cond);
	pthread_mutex_destroy(&lv->clock.mu);
	pthread_mutex_destroy(&lv->mu);
}

static const char *
uri_name(const struct lv *lv)
{
	return lv->uri == NULL ? "libvirt" : lv->uri;
}

/* With the clock running. */
static int
open_connection(struct lv *lv, struct err *e)
{
	opening = &lv->clock;
	lv->conn = virConnectOpen(lv->uri);
	opening = NULL;
	if (lv->conn == NULL)
		return lv_error(lv, e, "cannot connect to %s", uri_name(lv));
	return 0;
}

static int
open_domain(struct lv *lv, const char *domain, struct err *e)
{
	int rc = open_connection(lv, e);

	if (rc != 0)
		return rc;
	lv->dom = virDomainLookupByUUIDString(lv->conn, domain);
	if (lv->dom == NULL)
		lv->dom = virDomainLookupByName(lv->conn, domain);
	if (lv->dom == NULL)
		return lv_error(lv, e, "domain %s of %s", domain, uri_name(lv));
	return 0;
}

int
lv_connect(struct lv *lv, const char *domain, struct err *e)
{
	int rc;

	clock_set(&lv->clock, LV_QUICK_MS);
	rc = open_domain(lv, domain, e);
	if (rc == 0 && virDomainGetUUIDString(lv->dom, lv->uuid) == -1)
		rc = lv_error(lv, e, "domain %s", domain);
	clock_set(&lv->clock, 0);
	return rc;
}

int
lv_open(struct lv *lv, unsigned ms, struct err *e)
{
	int rc;

	pthread_mutex_lock(&lv->mu);
	clock_set(&lv->clock, ms);
	rc = open_connection(lv, e);
	if (rc != 0)
		lv_leave(lv);
	return rc;
}

/* Nobody reads but in a call: an end that came between them waits there. */
static bool
is_alive(struct lv *lv)
{
	struct pollfd p = { .fd = lv->clock.fd, .events = POLLRDHUP };

	if (lv->dom == NULL || virConnectIsAlive(lv->conn) != 1)
		return false;
	return p.fd == -1 || poll(&p, 1, 0) <= 0;
}

int
lv_enter(struct lv *lv, unsigned ms, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&lv->mu);
	clock_set(&lv->clock, ms);
	if (!is_alive(lv)) {
		disconnect(lv);
		rc = open_domain(lv, lv->uuid, e);
		if (rc != 0)
			disconnect(lv);
	}
	if (rc != 0)
		lv_leave(lv);
	return rc;
}

void
lv_leave(struct lv *lv)
{
	clock_set(&lv->clock, 0);
	pthread_mutex_unlock(&lv->mu);
}

static int
code_of(int lv_code)
{
	switch (lv_code) {
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_DOMAIN_CHECKPOINT:
	case VIR_ERR_NO_DOMAIN_BACKUP: return ERR_NOENT;
	case VIR_ERR_ACCESS_DENIED:
	case VIR_ERR_OPERATION_DENIED:
	case VIR_ERR_AUTH_FAILED:
	case VIR_ERR_AUTH_CANCELLED:
	case VIR_ERR_AUTH_UNAVAILABLE: return ERR_DENIED;
	case VIR_ERR_NO_SUPPORT:
	case VIR_ERR_NO_CONNECT:
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_OPERATION_UNSUPPORTED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED: return ERR_UNSUP;
	case VIR_ERR_OPERATION_TIMEOUT:
	case VIR_ERR_AGENT_UNRESPONSIVE:
	case VIR_ERR_AGENT_UNSYNCED: return ERR_TIMEOUT;
	default: return ERR_SYS;
	}
}

int
lv_error(struct lv *lv, struct err *e, const char *fmt, ...)
{
	virErrorPtr error = virGetLastError();
	char what[200], why[ERR_TEXT_MAX] = "";
	int code = error == NULL ? 0 : error->code;
	va_list ap;
	bool fired;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	/* Further calls of libvirt forget it. */
	if (error != NULL && error->message != NULL)
		snprintf(why, sizeof(why), "%s", error->message);
	pthread_mutex_lock(&lv->clock.mu);
	fired = lv->clock.fired;
	pthread_mutex_unlock(&lv->clock.mu);
	if (fired)
		return err_set(e, ERR_TIMEOUT,
		    "%s: libvirt does not answer; does the domain's QEMU hang, "
		    "or libvirt's daemon?",
		    what);
	if (lv->conn != NULL && virConnectIsAlive(lv->conn) != 1)
		return err_set(e, ERR_CLOSED,
		    "%s: the connection to libvirt broke: %s", what, why);
	return err_set(e, code_of(code), "%s: %s", what,
	    why[0] == 0 ? "libvirt does not say why" : why);
}
