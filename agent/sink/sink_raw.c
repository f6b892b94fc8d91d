/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "agent/sink/sink_kinds.h"
#include "agent/sink/target.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"

struct sink_raw {
	struct sink s;
	struct target t;
};

/* So much that is all zero stays a hole. */
enum { HOLE = 64 << 10 };

static int
raw_write(
    struct sink *s, const void *data, size_t len, uint64_t off, struct err *e)
{
	struct sink_raw *r = (struct sink_raw *)s;
	const uint8_t *p = data;

	while (len > 0) {
		size_t n = 0, skip = len < HOLE ? len : HOLE;
		int rc;

		while (n < len) {
			size_t m = len - n < HOLE ? len - n : HOLE;

			if (bytes_zero(p + n, m))
				break;
			n += m;
		}
		if (n == 0) {
			n = skip;
		} else {
			rc = outfile_write(&r->t.out, p, n, off, e);
			if (rc != 0)
				return rc;
		}
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int
raw_finish(struct sink *s, struct err *e)
{
	return target_finish(&((struct sink_raw *)s)->t, e);
}

static void
raw_close(struct sink *s)
{
	struct sink_raw *r = (struct sink_raw *)s;

	target_close(&r->t);
	free(r);
}

static const struct sink_ops raw_ops = {
	.write = raw_write,
	.finish = raw_finish,
	.close = raw_close,
};

int
sink_raw_open(const struct sink_options *o, struct sink **out, struct err *e)
{
	struct sink_raw *r = xcalloc(1, sizeof(*r));
	int rc;

	rc = target_open(&r->t, o->path, o->force, e);
	if (rc != 0)
		goto err_free;
	rc = outfile_resize(&r->t.out, o->size, e);
	if (rc != 0)
		goto err_close;
	r->s.ops = &raw_ops;
	r->s.size = o->size;
	r->s.fd = r->t.fd;
	r->s.target = &r->t;
	r->t.held = o->held;
	*out = &r->s;
	return 0;
err_close:
	target_close(&r->t);
err_free:
	free(r);
	return rc;
}
