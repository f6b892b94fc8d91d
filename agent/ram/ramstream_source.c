/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a stream as a volume, without copying them: read from where
 * QEMU wrote them.  Pages that follow each other in memory mostly do so in the
 * stream, a few bytes apart, and are read together.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/ram/ramstream_index.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	GAP_MAX = 8 + 1 + RAM_NAME_MAX, /* before a page in the stream */
	RUN_PAGES = 64
};

struct source_ram {
	struct source s;
	struct ramstream *r;
};

/* How many pages from ${first} on lie close together, ${n} at most. */
static size_t
run_length(const struct ramstream *r, uint64_t first, size_t n)
{
	size_t k = 1;

	while (k < n && k < RUN_PAGES) {
		uint64_t a = r->page[first + k - 1], b = r->page[first + k];

		if (b < a + RAM_PAGE || b - a - RAM_PAGE > GAP_MAX)
			break;
		k++;
	}
	return k;
}

static int
read_run(const struct ramstream *r, uint64_t first, size_t k, uint8_t *buf,
    uint8_t *out)
{
	uint64_t start = r->page[first];
	size_t len = (size_t)(r->page[first + k - 1] + RAM_PAGE - start);

	if (pread_full(r->fd, buf, len, start) != (ssize_t)len)
		return log_sys("saved memory: read");
	for (size_t i = 0; i < k; i++)
		memcpy(out + i * RAM_PAGE, buf + (r->page[first + i] - start),
		    RAM_PAGE);
	return 0;
}

/* Whole pages. */
static int
read_pages(const struct ramstream *r, uint64_t first, size_t n, uint8_t *out)
{
	uint8_t *buf = xmalloc(RUN_PAGES * (RAM_PAGE + GAP_MAX));
	int rc = 0;

	while (n > 0 && rc == 0) {
		size_t k = 1;

		if (r->page[first] == 0) {
			memset(out, 0, RAM_PAGE);
		} else {
			k = run_length(r, first, n);
			rc = read_run(r, first, k, buf, out);
		}
		first += k;
		n -= k;
		out += k * RAM_PAGE;
	}
	free(buf);
	return rc;
}

static int
ram_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	const struct ramstream *r = ((struct source_ram *)s)->r;
	uint64_t first = off / RAM_PAGE;
	uint64_t last = (off + len - 1) / RAM_PAGE;
	size_t n = (size_t)(last - first + 1);
	bool whole = off % RAM_PAGE == 0 && len % RAM_PAGE == 0;
	uint8_t *out = whole ? data : xmalloc(n * RAM_PAGE);
	int rc;

	rc = read_pages(r, first, n, out);
	if (!whole) {
		memcpy(data, out + off % RAM_PAGE, len);
		free(out);
	}
	return rc == 0 ? 0 : err_set(e, rc, "cannot read the saved memory");
}

static int
ram_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	const struct ramstream *r = ((struct source_ram *)s)->r;
	uint64_t p = off / RAM_PAGE;

	(void)e;
	*hole = r->page[p] == 0;
	do
		p++;
	while (p < r->npages && (r->page[p] == 0) == *hole);
	*len = p * RAM_PAGE - off;
	return 0;
}

static void
ram_close_source(struct source *s)
{
	struct source_ram *m = (struct source_ram *)s;

	ramstream_close(m->r);
	free(m);
}

static const struct source_ops ram_ops = {
	.read = ram_read,
	.map = ram_map,
	.close = ram_close_source,
};

struct source *
ramstream_source(struct ramstream *r)
{
	struct source_ram *m = xcalloc(1, sizeof(*m));

	m->s.ops = &ram_ops;
	m->s.size = r->layout.size;
	m->s.format = "raw";
	m->r = r;
	return &m->s;
}
