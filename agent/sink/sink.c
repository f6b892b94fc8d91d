/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sink/sink.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/sink/sink_kinds.h"
#include "proto/nfs/nfs3.h"

enum { FLUSH_STEP = 32 << 20 };

static const struct {
	const char *name;
	int (*open)(
	    const struct sink_options *o, struct sink **out, struct err *e);
} formats[] = {
	{ "raw", sink_raw_open },
	{ "qcow2", sink_qcow2_open },
};

static bool
is_device(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

int
sink_no_swap(const char *path, struct err *e)
{
	return err_set(e, ERR_UNSUP,
	    "%.200s: disks on NFS are not swapped: there it cannot be seen to "
	    "that all of them change places, or none; restore without --swap, "
	    "to another name, or over it by --force",
	    path);
}

int
sink_open(const struct sink_options *o, struct sink **out, struct err *e)
{
	size_t i, n = sizeof(formats) / sizeof(formats[0]);

	for (i = 0; i < n; i++)
		if (strcmp(o->format, formats[i].name) == 0)
			break;
	if (i == n)
		return err_set(e, ERR_INVAL,
		    "%s: unknown format \"%s\": say qcow2 or raw", o->path,
		    o->format);
	if (o->held && nfs3_is_url(o->path))
		return sink_no_swap(o->path, e);
	if (nfs3_is_url(o->path) || !is_device(o->path))
		return formats[i].open(o, out, e);
	if (strcmp(o->format, "raw") != 0)
		return err_set(e, ERR_INVAL,
		    "%s: a block device takes the format raw only", o->path);
	return sink_device_open(o, out, e);
}

/* The disk shall work while the network does, not only at the end. */
static void
write_behind(struct sink *s, size_t len)
{
	uint64_t n = atomic_fetch_add(&s->unflushed, len) + len;

	/* One lane; a hint that fails is no failure: finish syncs. */
	if (s->fd != -1 && n >= FLUSH_STEP &&
	    atomic_compare_exchange_strong(&s->unflushed, &n, 0))
		sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

int
sink_write(
    struct sink *s, const void *data, size_t len, uint64_t off, struct err *e)
{
	int rc;

	if (off > s->size || len > s->size - off)
		return err_set(e, ERR_INVAL,
		    "write of %zu bytes at %llu: beyond the volume's end", len,
		    (unsigned long long)off);
	if (len == 0)
		return 0;
	rc = s->ops->write(s, data, len, off, e);
	if (rc == 0)
		write_behind(s, len);
	return rc;
}

int
sink_finish(struct sink *s, struct err *e)
{
	return s->ops->finish(s, e);
}

void
sink_close(struct sink *s)
{
	if (s != NULL)
		s->ops->close(s);
}
