/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "agent/source/source_kinds.h"
#include "agent/source/source_mem.h"
#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { COPIES = 8 }; /* that are tried, until two are the same */

int
source_file_open(
    const char *path, const char *format, struct source **out, struct err *e)
{
	struct imgfile *f;
	int rc;

	rc = imgfile_open_unlocked(path, &f, e);
	if (rc != 0)
		return rc;
	*out = source_raw_new(f);
	(*out)->format = format;
	return 0;
}

/* All of it, with one byte of room more by which a longer one is told. */
static bool
read_all(int fd, uint64_t max, struct buf *out)
{
	ssize_t n;

	out->len = 0;
	n = pread_full(fd, buf_extend(out, max + 1), max + 1, 0);
	out->len = n < 0 ? 0 : (size_t)n;
	if (out->len > max) {
		errno = EFBIG;
		n = -1;
	}
	return n >= 0;
}

static bool
same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len &&
	    (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

int
source_file_copy(const char *path, const char *format, uint64_t max,
    bool *whole, struct source **out, struct err *e)
{
	struct buf now = { 0 }, was = { 0 }, other;
	struct imgfile *f;
	int rc;

	*whole = false;
	rc = imgfile_open_unlocked(path, &f, e);
	if (rc != 0)
		return rc;
	if (f->size > max) {
		*out = source_raw_new(f);
		(*out)->format = format;
		return 0;
	}
	if (f->size < max / 4)
		max = 2 * f->size + max / 4; /* it may grow */
	for (unsigned i = 0; rc == 0 && i < COPIES && !*whole; i++) {
		other = was;
		was = now;
		now = other;
		if (!read_all(f->fd, max, &now))
			rc = imgfile_sys(e, path, "read");
		else
			/* Both are of the moment between the two readings. */
			*whole = i > 0 && same(&now, &was);
	}
	if (rc == 0)
		*out = source_mem_new(now.data, now.len, format);
	imgfile_close(f);
	buf_fini(&now);
	buf_fini(&was);
	return rc;
}
