/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "agent/qcow2/bitmaps.h"
#include "agent/qcow2/chain.h"
#include "agent/source/source_kinds.h"
#include "proto/base/buf.h"

struct source_qcow2 {
	struct source s;
	struct chain *chain;
	struct bitmap *bitmap; /* or NULL; set before start */
};

static int
qcow2_read(
    struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	return chain_read(((struct source_qcow2 *)s)->chain, data, len, off, e);
}

static int
qcow2_source_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	return chain_map(((struct source_qcow2 *)s)->chain, off, len, hole, e);
}

static int
qcow2_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	struct source_qcow2 *q = (struct source_qcow2 *)s;

	if (q->bitmap != NULL)
		return bitmaps_clean(q->bitmap, off, len, clean, e);
	*len = s->size - off;
	*clean = false;
	return 0;
}

static int
qcow2_still(struct source *s, struct err *e)
{
	return chain_still(((struct source_qcow2 *)s)->chain, e);
}

static void
qcow2_close(struct source *s)
{
	struct source_qcow2 *q = (struct source_qcow2 *)s;

	bitmaps_close(q->bitmap);
	chain_close(q->chain);
	free(q);
}

static const struct source_ops qcow2_ops = {
	.read = qcow2_read,
	.map = qcow2_source_map,
	.clean = qcow2_clean,
	.still = qcow2_still,
	.close = qcow2_close,
};

static struct source *
source_new(struct chain *chain)
{
	struct source_qcow2 *q = xcalloc(1, sizeof(*q));

	q->s.ops = &qcow2_ops;
	q->s.size = chain_header(chain)->size;
	q->s.format = "qcow2";
	q->s.cluster_size = UINT32_C(1) << chain_header(chain)->cluster_bits;
	q->chain = chain;
	return &q->s;
}

int
source_qcow2_open(
    struct imgfile *f, bool follow, struct source **out, struct err *e)
{
	struct chain *chain;
	int rc;

	rc = chain_open(f, follow, &chain, e);
	if (rc == 0)
		*out = source_new(chain);
	return rc;
}

int
source_open_chain(const char *path, source_place *place, void *arg,
    struct source **out, struct err *e)
{
	struct chain *chain;
	struct imgfile *f;
	int rc;

	rc = imgfile_open(path, &f, e);
	if (rc == 0)
		rc = chain_open_by(f, place, arg, &chain, e);
	if (rc == 0)
		*out = source_new(chain);
	return rc;
}

void
source_qcow2_bitmap(struct source *s, const char *name, char *why, size_t len)
{
	struct source_qcow2 *q = (struct source_qcow2 *)s;

	q->bitmap = bitmaps_open(chain_top(q->chain), name, why, len);
}
