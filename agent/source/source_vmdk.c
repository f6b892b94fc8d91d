/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "agent/image/vmdk.h"
#include "agent/source/source.h"
#include "proto/base/buf.h"

struct source_vmdk {
	struct source s;
	struct vmdk *v;
};

static int
vmdk_source_read(
    struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	return vmdk_read(((struct source_vmdk *)s)->v, data, len, off, e);
}

static int
vmdk_source_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	return vmdk_map(((struct source_vmdk *)s)->v, off, len, hole, e);
}

static void
vmdk_source_close(struct source *s)
{
	struct source_vmdk *x = (struct source_vmdk *)s;

	vmdk_close(x->v);
	free(x);
}

static const struct source_ops vmdk_ops = {
	.read = vmdk_source_read,
	.map = vmdk_source_map,
	.close = vmdk_source_close,
};

int
source_open_vmdk(
    const char *path, const char *name, struct source **out, struct err *e)
{
	struct source_vmdk *x;
	struct imgfile *f;
	struct vmdk *v;
	int rc;

	rc = imgfile_open(path, &f, e);
	if (rc != 0)
		return rc;
	imgfile_call(f, name);
	rc = vmdk_open(f, &v, e);
	if (rc != 0)
		return rc;
	x = xcalloc(1, sizeof(*x));
	x->s.ops = &vmdk_ops;
	x->s.size = vmdk_size(v);
	/* No restore makes a VMDK: it is the bytes that come back. */
	x->s.format = "raw";
	x->v = v;
	*out = &x->s;
	return 0;
}
