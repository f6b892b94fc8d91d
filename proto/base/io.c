/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/err.h"
#include "proto/base/log.h"

/* The parts that are left behind ${done} bytes. */
static void
advance(struct iovec **iov, int *n, size_t done)
{
	while (*n > 0 && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n > 0) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

ssize_t
pread_full(int fd, void *data, size_t len, uint64_t off)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };

	return preadv_full(fd, &iov, 1, off);
}

ssize_t
preadv_full(int fd, struct iovec *iov, int n, uint64_t off)
{
	size_t all = 0;

	advance(&iov, &n, 0);
	while (n > 0) {
		ssize_t done = preadv(fd, iov, n, (off_t)(off + all));

		if (done == -1 && errno == EINTR)
			continue;
		if (done == -1)
			return -1;
		if (done == 0)
			break;
		all += (size_t)done;
		advance(&iov, &n, (size_t)done);
	}
	return (ssize_t)all;
}

int
pwrite_full(int fd, const void *data, size_t len, uint64_t off)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data,
		.iov_len = len };

	return pwritev_full(fd, &iov, 1, off);
}

int
pwritev_full(int fd, struct iovec *iov, int n, uint64_t off)
{
	while (n > 0) {
		ssize_t done = pwritev(fd, iov, n, (off_t)off);

		if (done == -1 && errno == EINTR)
			continue;
		if (done == -1)
			return -1;
		off += (uint64_t)done;
		advance(&iov, &n, (size_t)done);
	}
	return 0;
}

int
file_read(int dirfd, const char *name, size_t max, struct buf *out)
{
	ssize_t n;
	int fd, rc;

	out->len = 0;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return errno == ENOENT ? ERR_NOENT : log_sys("%s: open", name);
	n = pread_full(fd, buf_extend(out, max + 1), max + 1, 0);
	if (n == -1)
		rc = log_sys("%s: read", name);
	else
		rc = (size_t)n > max ? ERR_LIMIT : 0;
	out->len = rc == 0 ? (size_t)n : 0;
	close(fd);
	return rc;
}

int
file_replace(
    int dirfd, const char *name, const void *data, size_t len, mode_t mode)
{
	char tmp[256];
	int fd, rc;

	snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd == -1)
		return errno == ENOSPC ? ERR_NOSPC : log_sys("%s: create", tmp);
	if (pwrite_full(fd, data, len, 0) == -1 || fsync(fd) == -1) {
		rc = errno == ENOSPC ? ERR_NOSPC : log_sys("%s: write", tmp);
		close(fd);
		goto err_unlink;
	}
	if (close(fd) == -1 || renameat(dirfd, tmp, dirfd, name) == -1) {
		rc = log_sys("%s: replace", name);
		goto err_unlink;
	}
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1 || fsync(fd) == -1) {
		rc = log_sys("%s: sync its folder", name);
		if (fd != -1)
			close(fd);
		return rc;
	}
	close(fd);
	return 0;
err_unlink:
	unlinkat(dirfd, tmp, 0);
	return rc;
}

void
socket_drain(int fd, unsigned ms)
{
	uint64_t now = now_ms(), end = now + ms;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char dropped[16 << 10];
	ssize_t n;

	for (; now < end; now = now_ms()) {
		if (poll(&p, 1, (int)(end - now)) == -1 && errno != EINTR)
			return;
		n = recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT);
		if (n == 0 || (n == -1 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void
random_bytes(void *out, size_t len)
{
	uint8_t *p = out;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_sys("getrandom");
			abort();
		}
		p += n;
		len -= (size_t)n;
	}
}

void
std_fds_keep(void)
{
	/* Each takes the lowest number that is free: the one that is missing.
	 */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) == -1 && errno == EBADF &&
		    open("/dev/null",
			fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			abort(); /* there is always a /dev/null */
}

char *
hex(const uint8_t *in, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[in[i] >> 4];
		out[2 * i + 1] = digits[in[i] & 15];
	}
	out[2 * len] = 0;
	return out;
}

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int
unhex(const char *in, uint8_t *out, size_t len)
{
	if (strlen(in) != 2 * len)
		return ERR_INVAL;
	for (size_t i = 0; i < len; i++) {
		int hi = digit(in[2 * i]), lo = digit(in[2 * i + 1]);

		if (hi == -1 || lo == -1)
			return ERR_INVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}
