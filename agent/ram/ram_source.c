/* SPDX-License-Identifier: Apache-2.0 */
/* A nameless file of scratch as a volume. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ram/ram_impl.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

struct source_fd {
	struct source s;
	int fd;
};

static int
fd_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	ssize_t n = pread_full(((struct source_fd *)s)->fd, data, len, off);

	if (n == (ssize_t)len)
		return 0;
	if (n == -1)
		log_sys("saved memory: read");
	else
		log_error("saved memory: shorter than it was");
	return err_set(e, ERR_SYS, "cannot read the saved memory");
}

static int
fd_map(struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	int fd = ((struct source_fd *)s)->fd;
	off_t data, end;

	(void)e; /* what is not known to be a hole is data */
	*hole = false;
	*len = s->size - off;
	data = lseek(fd, (off_t)off, SEEK_DATA);
	if (data == -1) {
		*hole = errno == ENXIO;
		return 0;
	}
	if ((uint64_t)data > off) {
		*hole = true;
		end = data;
	} else {
		end = lseek(fd, (off_t)off, SEEK_HOLE);
	}
	if (end > (off_t)off && (uint64_t)end < s->size)
		*len = (uint64_t)end - off;
	return 0;
}

static void
fd_close(struct source *s)
{
	close(((struct source_fd *)s)->fd);
	free(s);
}

static const struct source_ops fd_ops = {
	.read = fd_read,
	.map = fd_map,
	.close = fd_close,
};

struct source *
ram_source_fd(int *fd)
{
	struct source_fd *f = xcalloc(1, sizeof(*f));
	off_t size = lseek(*fd, 0, SEEK_END);

	f->s.ops = &fd_ops;
	f->s.size = size < 0 ? 0 : (uint64_t)size;
	f->s.format = "raw";
	f->fd = *fd;
	*fd = -1;
	return &f->s;
}
