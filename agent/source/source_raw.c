/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "agent/source/source_kinds.h"
#include "proto/base/buf.h"

struct source_raw {
	struct source s;
	struct imgfile *file;
};

static int
raw_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	return imgfile_read(((struct source_raw *)s)->file, data, len, off, e);
}

static int
raw_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	(void)e; /* what is not known to be a hole is data */
	*len = imgfile_map(
	    ((struct source_raw *)s)->file, off, s->size - off, hole);
	return 0;
}

static int
raw_still(struct source *s, struct err *e)
{
	return imgfile_still(((struct source_raw *)s)->file, e);
}

static void
raw_close(struct source *s)
{
	struct source_raw *r = (struct source_raw *)s;

	imgfile_close(r->file);
	free(r);
}

static const struct source_ops raw_ops = {
	.read = raw_read,
	.map = raw_map,
	.still = raw_still,
	.close = raw_close,
};

struct source *
source_raw_new(struct imgfile *f)
{
	struct source_raw *r = xcalloc(1, sizeof(*r));

	r->s.ops = &raw_ops;
	r->s.size = f->size;
	r->s.format = "raw";
	r->file = f;
	return &r->s;
}
