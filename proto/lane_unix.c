/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/lane_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { STASH_STEP = 64 << 10 };

struct unix_end {
	int fd;
	/* Read while a write had to wait; the next reads are served of it. */
	struct buf stash;
	size_t stash_off;
};

static bool
peer_is_gone(int error)
{
	return error == ECONNRESET || error == EPIPE || error == ENOTCONN;
}

/* Milliseconds left until ${deadline}, for poll. */
static int
left_ms(uint64_t deadline)
{
	uint64_t now = now_ms();

	return now < deadline ? (int)(deadline - now) : 0;
}

static size_t
read_stash(struct unix_end *u, void *data, size_t len)
{
	size_t n = u->stash.len - u->stash_off;

	if (n > len)
		n = len;
	memcpy(data, u->stash.data + u->stash_off, n);
	u->stash_off += n;
	if (u->stash_off == u->stash.len) {
		u->stash_off = 0;
		buf_fini(&u->stash);
	}
	return n;
}

static int
unix_read(
    void *t, void *data, size_t len, int timeout_ms, size_t *got, struct err *e)
{
	struct unix_end *u = t;
	struct pollfd p = { .fd = u->fd, .events = POLLIN };
	uint64_t deadline = 0;
	ssize_t n;
	int rc;

	if (u->stash.len != 0) {
		*got = read_stash(u, data, len);
		return 0;
	}
	if (timeout_ms > 0)
		deadline = now_ms() + (uint64_t)timeout_ms;
	for (;;) {
		n = recv(u->fd, data, len, MSG_DONTWAIT);
		if (n > 0) {
			*got = (size_t)n;
			return 0;
		}
		if (n == 0 || (n == -1 && peer_is_gone(errno)))
			return err_set(
			    e, ERR_CLOSED, "the peer closed the connection");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN) {
			err_set(e, ERR_SYS, "cannot read: %s", strerror(errno));
			return log_sys("local socket: read");
		}
		rc = poll(
		    &p, 1, timeout_ms > 0 ? left_ms(deadline) : timeout_ms);
		if (rc == 0)
			return err_set(e, ERR_TIMEOUT, "nothing arrived");
		if (rc == -1 && errno != EINTR) {
			err_set(e, ERR_SYS, "cannot wait: %s", strerror(errno));
			return log_sys("local socket: poll");
		}
	}
}

/*
 * Take in what the peer sends while it takes nothing: if both ends wrote and
 * neither read, they would wait for one another.  False: nothing came, or
 * there is no room for more.
 */
static bool
fill_stash(struct unix_end *u)
{
	ssize_t n;

	if (u->stash.len - u->stash_off >= LANE_WINDOW)
		return false;
	n = recv(
	    u->fd, buf_extend(&u->stash, STASH_STEP), STASH_STEP, MSG_DONTWAIT);
	u->stash.len -= STASH_STEP - (size_t)(n > 0 ? n : 0);
	return n > 0;
}

static int
wait_writable(struct unix_end *u, struct err *e)
{
	struct pollfd p = { .fd = u->fd };
	uint64_t deadline = now_ms() + LANE_STALL_MS;
	bool read_too = true;
	int rc;

	for (;;) {
		p.events = (short)(POLLOUT | (read_too ? POLLIN : 0));
		rc = poll(&p, 1, left_ms(deadline));
		if (rc == -1 && errno != EINTR) {
			err_set(e, ERR_SYS, "cannot wait: %s", strerror(errno));
			return log_sys("local socket: poll");
		}
		if (rc == 0)
			return err_set(e, ERR_TIMEOUT,
			    "the peer took nothing for %d s",
			    LANE_STALL_MS / 1000);
		if (rc == -1)
			continue;
		/* Gone or not, the next send tells. */
		if (p.revents & (POLLOUT | POLLHUP | POLLERR))
			return 0;
		read_too = fill_stash(u);
	}
}

static int
unix_write(void *t, const void *data, size_t len, struct err *e)
{
	struct unix_end *u = t;
	const uint8_t *p = data;
	ssize_t n;
	int rc;

	while (len > 0) {
		n = send(u->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (peer_is_gone(errno))
			return err_set(
			    e, ERR_CLOSED, "the peer closed the connection");
		if (errno != EAGAIN) {
			err_set(
			    e, ERR_SYS, "cannot write: %s", strerror(errno));
			return log_sys("local socket: write");
		}
		rc = wait_writable(u, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static void
unix_shutdown(void *t)
{
	struct unix_end *u = t;

	shutdown(u->fd, SHUT_RDWR);
}

static void
unix_linger(void *t, unsigned ms)
{
	struct unix_end *u = t;

	if (shutdown(u->fd, SHUT_WR) == 0)
		socket_drain(u->fd, ms);
}

static void
unix_close(void *t)
{
	struct unix_end *u = t;

	close(u->fd);
	buf_fini(&u->stash);
	free(u);
}

static const struct lane_ops unix_ops = { .read = unix_read,
	.write = unix_write,
	.shutdown = unix_shutdown,
	.linger = unix_linger,
	.close = unix_close };

static struct lane *
lane_over(int fd, const char *peer)
{
	struct unix_end *u = xcalloc(1, sizeof(*u));

	u->fd = fd;
	return lane_new(&unix_ops, u, peer);
}

static int
socket_address(const char *path, struct sockaddr_un *sa, struct err *e)
{
	size_t len = strlen(path);

	if (len >= sizeof(sa->sun_path))
		return err_set(e, ERR_INVAL,
		    "%s: the path of a local socket may have %zu bytes", path,
		    sizeof(sa->sun_path) - 1);
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	memcpy(sa->sun_path, path, len);
	return 0;
}

int
lane_unix_connect(const char *path, struct lane **out, struct err *e)
{
	struct sockaddr_un sa;
	int fd, rc;

	rc = socket_address(path, &sa, e);
	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1) {
		err_set(e, ERR_SYS, "%s: socket: %s", path, strerror(errno));
		return log_sys("%s: socket", path);
	}
	do
		rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	while (rc == -1 && errno == EINTR);
	if (rc == 0) {
		*out = lane_over(fd, path);
		return 0;
	}
	if (errno == ENOENT || errno == ENOTDIR || errno == ECONNREFUSED)
		rc = err_set(e, ERR_NOENT,
		    "%s: nobody listens there; backstayd is not running on "
		    "this repository",
		    path);
	else if (errno == EACCES || errno == EPERM)
		rc = err_set(e, ERR_DENIED,
		    "%s: permission denied; run this as root, or as the user "
		    "that runs backstayd",
		    path);
	else {
		err_set(e, ERR_SYS, "%s: connect: %s", path, strerror(errno));
		rc = log_sys("%s: connect", path);
	}
	close(fd);
	return rc;
}

/* Only a socket is taken away: any other file there is no work of ours. */
static int
remove_dead_socket(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) == -1) {
		if (errno == ENOENT)
			return 0;
	} else if (!S_ISSOCK(st.st_mode)) {
		log_error("%s: there is something that is no socket", path);
		return err_set(e, ERR_SYS,
		    "%s: there is something that is no socket; remove it",
		    path);
	} else if (unlink(path) == 0) {
		return 0;
	}
	err_set(e, ERR_SYS, "%s: cannot replace it: %s", path, strerror(errno));
	return log_sys("%s: unlink", path);
}

int
lane_unix_listen(const char *path, int *fd, struct err *e)
{
	struct sockaddr_un sa;
	int rc;

	rc = socket_address(path, &sa, e);
	if (rc != 0)
		return rc;
	rc = remove_dead_socket(path, e);
	if (rc != 0)
		return rc;
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd == -1) {
		err_set(e, ERR_SYS, "%s: socket: %s", path, strerror(errno));
		return log_sys("%s: socket", path);
	}
	/*
	 * bind makes the file with the socket's own mode less the umask: set
	 * before, so that nobody else can connect for a moment either.
	 */
	if (fchmod(*fd, 0600) == -1 ||
	    bind(*fd, (struct sockaddr *)&sa, sizeof(sa)) == -1 ||
	    chmod(path, 0600) == -1 || listen(*fd, SOMAXCONN) == -1) {
		err_set(
		    e, ERR_SYS, "%s: cannot listen: %s", path, strerror(errno));
		rc = log_sys("%s: listen", path);
		close(*fd);
		return rc;
	}
	return 0;
}

int
lane_unix_serve(int fd, uid_t *uid, struct lane **out, struct err *e)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	char *peer;
	int rc;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1) {
		err_set(e, ERR_SYS, "local socket: peer credentials: %s",
		    strerror(errno));
		rc = log_sys("local socket: peer credentials");
		close(fd);
		return rc;
	}
	*uid = cred.uid;
	peer = xasprintf(
	    "local process %d (uid %u)", (int)cred.pid, (unsigned)cred.uid);
	*out = lane_over(fd, peer);
	free(peer);
	return 0;
}
