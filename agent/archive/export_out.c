/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/export_out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WAIT_MS = 200 };

int
export_out_open(
    struct export_out *o, const char *path, bool force, struct err *e)
{
	struct stat st;

	memset(o, 0, sizeof(*o));
	o->to_file = strcmp(path, "-") != 0;
	if (o->to_file)
		return target_open(&o->target, path, force, e);
	if (isatty(STDOUT_FILENO))
		return err_set(e, ERR_INVAL,
		    "the standard output is a terminal: say --to FILE, or "
		    "send it somewhere");
	o->fd = STDOUT_FILENO;
	if (fstat(o->fd, &st) == -1)
		return err_set(
		    e, ERR_SYS, "the standard output: %s", strerror(errno));
	if (S_ISREG(st.st_mode))
		return 0;
	/*
	 * A signal must end it also while nobody reads.  Others may have the
	 * same end of the pipe, so it is not ours to change: another one of
	 * our own is, and where there is none small pieces do not wait.
	 */
	o->small = true;
	if (S_ISFIFO(st.st_mode)) {
		int fd =
		    open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

		if (fd != -1) {
			o->fd = fd;
			o->reopened = true;
			o->small = false;
		}
	}
	return 0;
}

static int
wait_for_reader(struct export_out *o, struct err *e)
{
	struct pollfd p = { .fd = o->fd, .events = POLLOUT };
	int rc = 0;

	while (rc == 0 && poll(&p, 1, WAIT_MS) == 0)
		if (o->wait != NULL)
			rc = o->wait(o->arg, e);
	return rc;
}

int
export_out_write(void *arg, const void *data, size_t len, struct err *e)
{
	struct export_out *o = arg;
	const char *p = data;

	if (o->to_file) {
		int rc =
		    outfile_write(&o->target.out, data, len, o->written, e);

		o->written += len;
		return rc;
	}
	while (len > 0) {
		size_t n = o->small && len > PIPE_BUF ? PIPE_BUF : len;
		ssize_t done;
		int rc = wait_for_reader(o, e);

		if (rc != 0)
			return rc;
		done = write(o->fd, p, n);
		if (done == -1 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (done == -1)
			return err_set(e,
			    errno == EPIPE        ? ERR_CLOSED
				: errno == ENOSPC ? ERR_NOSPC
						  : ERR_SYS,
			    "the standard output: %s",
			    errno == EPIPE ? "nobody reads it any more"
					   : strerror(errno));
		p += done;
		len -= (size_t)done;
		o->written += (uint64_t)done;
	}
	return 0;
}

int
export_out_finish(struct export_out *o, struct err *e)
{
	struct stat st;

	if (o->to_file)
		return target_finish(&o->target, e);
	if (fstat(o->fd, &st) == 0 && S_ISREG(st.st_mode) && fsync(o->fd) == -1)
		return err_set(
		    e, ERR_SYS, "the standard output: %s", strerror(errno));
	return 0;
}

void
export_out_close(struct export_out *o)
{
	if (o->to_file)
		target_close(&o->target);
	else if (o->reopened)
		close(o->fd);
}
