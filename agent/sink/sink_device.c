/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/image/imglock.h"
#include "agent/sink/gaps.h"
#include "agent/sink/sink_kinds.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

struct sink_device {
	struct sink s;
	int fd;
	char *path;
	struct gaps *gaps;
};

static int
write_zeroes(struct sink_device *d, uint64_t off, uint64_t len, struct err *e)
{
	static const uint8_t zeroes[GAPS_UNIT];

	while (len > 0) {
		size_t n = len < sizeof(zeroes) ? (size_t)len : sizeof(zeroes);

		if (pwrite_full(d->fd, zeroes, n, off) == -1)
			return imgfile_write_error(e, d->path);
		off += n;
		len -= n;
	}
	return 0;
}

static int
zero(void *arg, uint64_t off, uint64_t len, struct err *e)
{
	struct sink_device *d = arg;
	uint64_t whole = len - len % GAPS_UNIT;
	uint64_t range[2] = { off, whole };

	/* The kernel has the device do it if that can, or writes itself. */
	if (whole > 0 && ioctl(d->fd, BLKZEROOUT, range) == 0) {
		off += whole;
		len -= whole;
	}
	return write_zeroes(d, off, len, e);
}

static int
device_write(
    struct sink *s, const void *data, size_t len, uint64_t off, struct err *e)
{
	struct sink_device *d = (struct sink_device *)s;
	int rc = gaps_written(d->gaps, off, len, e);

	if (rc != 0)
		return rc;
	if (pwrite_full(d->fd, data, len, off) == -1)
		return imgfile_write_error(e, d->path);
	return 0;
}

static int
device_finish(struct sink *s, struct err *e)
{
	struct sink_device *d = (struct sink_device *)s;
	int rc = gaps_finish(d->gaps, e);

	if (rc != 0)
		return rc;
	if (fsync(d->fd) == -1)
		return imgfile_write_error(e, d->path);
	return 0;
}

static void
device_close(struct sink *s)
{
	struct sink_device *d = (struct sink_device *)s;

	close(d->fd);
	gaps_free(d->gaps);
	free(d->path);
	free(d);
}

static const struct sink_ops device_ops = {
	.write = device_write,
	.finish = device_finish,
	.close = device_close,
};

int
sink_device_open(const struct sink_options *o, struct sink **out, struct err *e)
{
	struct sink_device *d = xcalloc(1, sizeof(*d));
	uint64_t size;
	int rc;

	if (!o->force) {
		rc = err_set(e, ERR_EXIST,
		    "%s: is a block device, whose content would be lost: say "
		    "--force",
		    o->path);
		goto err_free;
	}
	/* With O_EXCL the kernel refuses what is mounted or part of another. */
	d->fd = open(o->path, O_RDWR | O_EXCL | O_CLOEXEC);
	if (d->fd == -1) {
		rc = imgfile_open_error(e, o->path);
		goto err_free;
	}
	rc = imglock_take(d->fd, o->path, IMGLOCK_WRITE, e);
	if (rc != 0)
		goto err_close;
	if (imgfile_device_size(d->fd, &size) == -1) {
		rc = imgfile_sys(e, o->path, "size");
		goto err_close;
	}
	if (size < o->size) {
		rc = err_set(e, ERR_NOSPC,
		    "%s: has %llu bytes, and the volume %llu: enlarge it",
		    o->path, (unsigned long long)size,
		    (unsigned long long)o->size);
		goto err_close;
	}
	d->path = xstrdup(o->path);
	d->gaps = gaps_new(o->size, GAPS_MAPS_MAX, zero, d);
	d->s.ops = &device_ops;
	d->s.size = o->size;
	d->s.fd = d->fd;
	*out = &d->s;
	return 0;
err_close:
	close(d->fd);
err_free:
	free(d);
	return rc;
}
