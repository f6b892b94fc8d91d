/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/qmp.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/guest/linesock.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { RETRY_MS = 20 };

struct qmp {
	struct linesock *s; /* guarded by mu */
	pthread_mutex_t mu;
	json_int_t id; /* of the last command; guarded by mu */
	int broken;    /* with what the connection ended; guarded by mu */
	int pid;
	unsigned version;
	char *path;
};

static int
greeting(struct qmp *q, unsigned ms, struct err *e)
{
	const json_t *v;
	json_t *j;
	int rc;

	rc = linesock_recv(q->s, now_ms() + ms, &j, e);
	if (rc == ERR_TIMEOUT)
		return err_set(e, ERR_BUSY,
		    "%s: QEMU does not greet: somebody else talks to this "
		    "monitor, which serves one at a time (give QEMU a second "
		    "-qmp socket), or QEMU hangs",
		    q->path);
	if (rc != 0)
		return rc;
	v = json_object_get(
	    json_object_get(json_object_get(j, "QMP"), "version"), "qemu");
	if (!json_is_integer(json_object_get(v, "major")) ||
	    !json_is_integer(json_object_get(v, "minor"))) {
		json_decref(j);
		return err_set(
		    e, ERR_PROTO, "%s is not a QMP monitor of a QEMU", q->path);
	}
	q->version =
	    (unsigned)json_integer_value(json_object_get(v, "major")) * 100 +
	    (unsigned)json_integer_value(json_object_get(v, "minor"));
	json_decref(j);
	return 0;
}

int
qmp_open(
    const char *path, unsigned greeting_ms, struct qmp **out, struct err *e)
{
	struct qmp *q = xcalloc(1, sizeof(*q));
	uint64_t end = now_ms() + greeting_ms;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int rc;

	pthread_mutex_init(&q->mu, NULL);
	q->path = xstrdup(path);
	while (
	    (rc = linesock_open(path, &q->s, e)) == ERR_BUSY && now_ms() < end)
		poll(NULL, 0, RETRY_MS);
	if (rc == 0)
		rc = greeting(q, greeting_ms, e);
	if (rc == 0)
		rc = qmp_command(
		    q, "qmp_capabilities", NULL, -1, QMP_MS, NULL, e);
	if (rc != 0) {
		qmp_close(q);
		return rc;
	}
	if (getsockopt(
		linesock_fd(q->s), SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		q->pid = cred.pid;
	*out = q;
	return 0;
}

void
qmp_close(struct qmp *q)
{
	if (q == NULL)
		return;
	linesock_close(q->s);
	pthread_mutex_destroy(&q->mu);
	free(q->path);
	free(q);
}

int
qmp_pid(const struct qmp *q)
{
	return q->pid;
}

unsigned
qmp_version(const struct qmp *q)
{
	return q->version;
}

static int
refused(const char *name, const json_t *error, struct err *e)
{
	const char *class = json_string_value(json_object_get(error, "class"));
	const char *desc = json_string_value(json_object_get(error, "desc"));
	bool unknown = class != NULL && strcmp(class, "CommandNotFound") == 0;

	return err_set(e, unknown ? ERR_UNSUP : ERR_INVAL,
	    "QEMU refuses %s: %.250s", name, desc == NULL ? "" : desc);
}

/* Events, and answers that came too late for those who asked, are dropped. */
static int
answer(struct qmp *q, const char *name, uint64_t deadline, json_t **out,
    struct err *e)
{
	json_t *j, *v;
	int rc;

	for (;;) {
		rc = linesock_recv(q->s, deadline, &j, e);
		if (rc != 0)
			return rc;
		v = json_object_get(j, "id");
		if (!json_is_integer(v) || json_integer_value(v) != q->id) {
			/* What it could not read it answers without id. */
			if (v != NULL || json_object_get(j, "error") == NULL) {
				json_decref(j);
				continue;
			}
		}
		break;
	}
	v = json_object_get(j, "error");
	if (v != NULL)
		rc = refused(name, v, e);
	else if ((v = json_object_get(j, "return")) == NULL)
		rc =
		    err_set(e, ERR_PROTO, "%s: no answer to %s", q->path, name);
	else if (out != NULL)
		*out = json_incref(v);
	json_decref(j);
	return rc;
}

static int
exchange(struct qmp *q, const char *name, const struct buf *text, int fd,
    unsigned ms, json_t **out, struct err *e)
{
	uint64_t deadline = now_ms() + ms;
	int rc;

	if (q->broken != 0)
		return err_set(
		    e, q->broken, "%s: the connection has ended", q->path);
	rc = linesock_send(q->s, text->data, text->len, fd, deadline, e);
	if (rc == ERR_TIMEOUT)
		q->broken = rc; /* half a command was sent */
	if (rc == 0)
		rc = answer(q, name, deadline, out, e);
	if (rc == ERR_CLOSED || rc == ERR_PROTO || rc == ERR_LIMIT ||
	    rc == ERR_SYS)
		q->broken = rc;
	if (rc == ERR_TIMEOUT)
		err_set(e, rc, "%s: QEMU does not answer to %s within %u s",
		    q->path, name, ms / 1000);
	return rc;
}

int
qmp_command(struct qmp *q, const char *name, json_t *args, int fd, unsigned ms,
    json_t **out, struct err *e)
{
	struct buf text = { 0 };
	json_t *j = json_object();
	int rc;

	json_set_str(j, "execute", name);
	if (args != NULL)
		json_object_set_new(j, "arguments", args);
	pthread_mutex_lock(&q->mu);
	json_object_set_new(j, "id", json_integer(++q->id));
	json_print(j, &text);
	buf_add(&text, "\n", 1);
	rc = exchange(q, name, &text, fd, ms, out, e);
	pthread_mutex_unlock(&q->mu);
	json_decref(j);
	buf_fini(&text);
	return rc;
}

void
qmp_pause(struct qmp *q, unsigned ms)
{
	json_t *j = NULL;
	int rc;

	pthread_mutex_lock(&q->mu);
	if (q->broken == 0) {
		rc = linesock_recv(q->s, now_ms() + ms, &j, NULL);
		if (rc == 0)
			json_decref(j);
		else if (rc != ERR_TIMEOUT)
			q->broken = rc;
	}
	pthread_mutex_unlock(&q->mu);
}
