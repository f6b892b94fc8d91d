/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "agent/qcow2/writer.h"
#include "agent/sink/sink_kinds.h"
#include "agent/sink/target.h"
#include "proto/base/buf.h"

struct sink_qcow2 {
	struct sink s;
	struct target t;
	struct qcow2_writer *w;
};

static int
qcow2_write(
    struct sink *s, const void *data, size_t len, uint64_t off, struct err *e)
{
	return qcow2_writer_write(
	    ((struct sink_qcow2 *)s)->w, data, len, off, e);
}

static int
qcow2_finish(struct sink *s, struct err *e)
{
	struct sink_qcow2 *q = (struct sink_qcow2 *)s;
	int rc = qcow2_writer_finish(q->w, e);

	return rc != 0 ? rc : target_finish(&q->t, e);
}

static void
qcow2_close(struct sink *s)
{
	struct sink_qcow2 *q = (struct sink_qcow2 *)s;

	qcow2_writer_free(q->w);
	target_close(&q->t);
	free(q);
}

static const struct sink_ops qcow2_ops = {
	.write = qcow2_write,
	.finish = qcow2_finish,
	.close = qcow2_close,
};

int
sink_qcow2_open(const struct sink_options *o, struct sink **out, struct err *e)
{
	struct sink_qcow2 *q = xcalloc(1, sizeof(*q));
	int rc;

	rc = target_open(&q->t, o->path, o->force, e);
	if (rc != 0)
		goto err_free;
	rc = qcow2_writer_new(&q->t.out, o->size, o->cluster_size, &q->w, e);
	if (rc != 0)
		goto err_close;
	q->s.ops = &qcow2_ops;
	q->s.size = o->size;
	q->s.fd = q->t.fd;
	q->s.target = &q->t;
	q->t.held = o->held;
	*out = &q->s;
	return 0;
err_close:
	target_close(&q->t);
err_free:
	free(q);
	return rc;
}
