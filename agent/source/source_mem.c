/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/source_mem.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

struct source_mem {
	struct source s;
	uint8_t *data;
};

static int
mem_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(data, ((struct source_mem *)s)->data + off, len);
	return 0;
}

static int
mem_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	(void)e;
	*len = s->size - off;
	*hole = false;
	return 0;
}

static void
mem_close(struct source *s)
{
	free(((struct source_mem *)s)->data);
	free(s);
}

static const struct source_ops mem_ops = {
	.read = mem_read,
	.map = mem_map,
	.close = mem_close,
};

struct source *
source_mem_new(const void *data, size_t len, const char *format)
{
	struct source_mem *m = xcalloc(1, sizeof(*m));

	m->s.ops = &mem_ops;
	m->s.size = len;
	m->s.format = format;
	m->data = xmalloc(len + 1); /* of none there is something, too */
	if (len > 0)
		memcpy(m->data, data, len);
	return &m->s;
}
