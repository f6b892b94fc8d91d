/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sink/sink.h"

#include <string.h>
#include <sys/stat.h>

#include "agent/sink/sink_kinds.h"

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
	if (!is_device(o->path))
		return formats[i].open(o, out, e);
	if (strcmp(o->format, "raw") != 0)
		return err_set(e, ERR_INVAL,
		    "%s: a block device takes the format raw only", o->path);
	return sink_device_open(o, out, e);
}

int
sink_write(
    struct sink *s, const void *data, size_t len, uint64_t off, struct err *e)
{
	if (off > s->size || len > s->size - off)
		return err_set(e, ERR_INVAL,
		    "write of %zu bytes at %llu: beyond the volume's end", len,
		    (unsigned long long)off);
	if (len == 0)
		return 0;
	return s->ops->write(s, data, len, off, e);
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
