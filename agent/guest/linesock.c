/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/linesock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/io.h"
#include "proto/base/log.h"

enum { PIECE = 64 << 10 };

struct linesock {
	int fd;
	struct buf in;
	size_t seen; /* of ${in}, without an end of line */
	char *path;
};

/* Socket addresses are short; paths need not be. */
static int
connect_path(int fd, const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *name = strrchr(path, '/');
	char *dir;
	int dirfd, rc;

	if (strlen(path) < sizeof(a.sun_path)) {
		memcpy(a.sun_path, path, strlen(path) + 1);
		return connect(fd, (struct sockaddr *)&a, sizeof(a));
	}
	if (name == NULL || strlen(name) > 64) {
		errno = ENAMETOOLONG;
		return -1;
	}
	dir = xasprintf("%.*s/", (int)(name - path), path);
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (dirfd == -1)
		return -1;
	snprintf(
	    a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d%s", dirfd, name);
	rc = connect(fd, (struct sockaddr *)&a, sizeof(a));
	close(dirfd);
	return rc;
}

int
linesock_open(const char *path, struct linesock **out, struct err *e)
{
	struct linesock *s = xcalloc(1, sizeof(*s));
	int rc;

	s->path = xstrdup(path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd == -1) {
		rc = err_set(e, log_sys("socket"), "cannot make a socket");
		goto err_free;
	}
	if (connect_path(s->fd, path) == -1) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			rc = err_set(e, ERR_NOENT,
			    "nobody listens at %s: is the guest running?",
			    path);
		else if (errno == EACCES || errno == EPERM)
			rc = err_set(e, ERR_DENIED,
			    "no right to talk to %s: be its owner or root",
			    path);
		else if (errno == EAGAIN)
			rc = err_set(e, ERR_BUSY,
			    "others wait for an answer of %s already", path);
		else
			rc = err_set(e, log_sys("%s: connect", path),
			    "cannot connect to %s", path);
		goto err_close;
	}
	*out = s;
	return 0;
err_close:
	close(s->fd);
err_free:
	free(s->path);
	free(s);
	return rc;
}

void
linesock_close(struct linesock *s)
{
	if (s == NULL)
		return;
	close(s->fd);
	buf_fini(&s->in);
	free(s->path);
	free(s);
}

int
linesock_fd(const struct linesock *s)
{
	return s->fd;
}

static int
wait_for(struct linesock *s, short events, uint64_t deadline, struct err *e)
{
	struct pollfd p = { .fd = s->fd, .events = events };
	uint64_t now;
	int n;

	do {
		now = now_ms();
		n = poll(&p, 1,
		    now >= deadline                  ? 0
			: deadline - now > (1 << 30) ? 1 << 30
						     : (int)(deadline - now));
	} while (n == -1 && errno == EINTR);
	if (n == -1)
		return err_set(e, log_sys("%s: poll", s->path),
		    "cannot wait for %s", s->path);
	if (n == 0)
		return err_set(
		    e, ERR_TIMEOUT, "%s does not answer in time", s->path);
	return 0;
}

static ssize_t
send_some(struct linesock *s, const void *data, size_t len, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd != -1) {
		m.msg_control = control.room;
		m.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(s->fd, &m, MSG_NOSIGNAL);
}

static int
gone(const struct linesock *s, struct err *e)
{
	return err_set(
	    e, ERR_CLOSED, "%s was closed by its other end", s->path);
}

int
linesock_send(struct linesock *s, const void *data, size_t len, int fd,
    uint64_t deadline, struct err *e)
{
	const uint8_t *p = data;
	ssize_t n;
	int rc;

	while (len > 0) {
		n = send_some(s, p, len, fd);
		if (n > 0) {
			p += n;
			len -= (size_t)n;
			fd = -1; /* it goes along with the first byte */
			continue;
		}
		if (n == -1 && (errno == EPIPE || errno == ECONNRESET))
			return gone(s, e);
		if (n == -1 && errno != EAGAIN && errno != EINTR)
			return err_set(e, log_sys("%s: send", s->path),
			    "cannot send to %s", s->path);
		rc = wait_for(s, POLLOUT, deadline, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
more(struct linesock *s, uint64_t deadline, struct err *e)
{
	size_t had = s->in.len;
	ssize_t n;
	int rc;

	/* A peer that sends without end has no more time than a silent one. */
	if (now_ms() >= deadline)
		return err_set(
		    e, ERR_TIMEOUT, "%s does not answer in time", s->path);
	rc = wait_for(s, POLLIN, deadline, e);
	if (rc != 0)
		return rc;
	if (had > LINESOCK_LINE_MAX)
		return err_set(
		    e, ERR_LIMIT, "%s sends a line without end", s->path);
	n = recv(s->fd, buf_extend(&s->in, PIECE), PIECE, 0);
	s->in.len = had + (n > 0 ? (size_t)n : 0);
	if (n == 0 || (n == -1 && errno == ECONNRESET))
		return gone(s, e);
	if (n == -1 && errno != EAGAIN && errno != EINTR)
		return err_set(e, log_sys("%s: recv", s->path),
		    "cannot read from %s", s->path);
	return 0;
}

/* Up to and with ${byte}: how many bytes, in ${len}. */
static int
find(struct linesock *s, uint8_t byte, uint64_t deadline, size_t *len,
    struct err *e)
{
	const uint8_t *at;
	int rc;

	for (s->seen = 0;;) {
		at = s->in.len == s->seen
		    ? NULL
		    : memchr(s->in.data + s->seen, byte, s->in.len - s->seen);
		if (at != NULL) {
			*len = (size_t)(at - s->in.data) + 1;
			return 0;
		}
		s->seen = s->in.len;
		rc = more(s, deadline, e);
		if (rc != 0)
			return rc;
	}
}

static void
drop(struct linesock *s, size_t len)
{
	memmove(s->in.data, s->in.data + len, s->in.len - len);
	s->in.len -= len;
}

int
linesock_skip(
    struct linesock *s, uint8_t byte, uint64_t deadline, struct err *e)
{
	size_t len;
	int rc;

	rc = find(s, byte, deadline, &len, e);
	if (rc == 0)
		drop(s, len);
	return rc;
}

int
linesock_recv(
    struct linesock *s, uint64_t deadline, json_t **out, struct err *e)
{
	json_error_t why;
	size_t len;
	int rc;

	rc = find(s, '\n', deadline, &len, e);
	if (rc != 0)
		return rc;
	/* Not json_parse: long answers are usual here. */
	*out = json_loadb(
	    (const char *)s->in.data, len, JSON_REJECT_DUPLICATES, &why);
	drop(s, len);
	if (json_is_object(*out))
		return 0;
	json_decref(*out);
	return err_set(
	    e, ERR_PROTO, "%s does not speak JSON: %.80s", s->path, why.text);
}
