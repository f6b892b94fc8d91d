/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/faulty_volume.h"

#include <poll.h>
#include <stdlib.h>

#include "proto/base/buf.h"

struct faulty {
	struct volume v;
	struct volume *inner;
	struct faults *f;
};

struct faulty_file {
	struct volume_file v;
	struct volume_file *inner;
	struct faults *f;
};

static bool
fires(atomic_int *countdown)
{
	int n = atomic_load(countdown);

	while (n > 0)
		if (atomic_compare_exchange_weak(countdown, &n, n - 1))
			return n == 1;
	return false;
}

#define FILE_OF(file) ((struct faulty_file *)(file))

static int
file_reserve(struct volume_file *v, uint64_t upto)
{
	struct faulty_file *w = FILE_OF(v);

	/* Stays at 1: the disk stays full. */
	if (atomic_load(&w->f->reserve) == 1)
		return ERR_NOSPC;
	fires(&w->f->reserve);
	return volume_reserve(w->inner, upto);
}

static int
file_write(struct volume_file *v, struct iovec *iov, int n, uint64_t off)
{
	if (fires(&FILE_OF(v)->f->write))
		return ERR_SYS;
	return volume_write(FILE_OF(v)->inner, iov, n, off);
}

static int
file_flush(struct volume_file *v, uint64_t off, uint64_t len)
{
	return volume_flush(FILE_OF(v)->inner, off, len);
}

static int
file_sync(struct volume_file *v)
{
	atomic_fetch_add(&FILE_OF(v)->f->nsync, 1);
	while (atomic_load(&FILE_OF(v)->f->hold))
		poll(NULL, 0, 1);
	if (fires(&FILE_OF(v)->f->sync))
		return ERR_SYS;
	return volume_sync(FILE_OF(v)->inner);
}

static int
file_read(
    struct volume_file *v, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	return volume_readv(FILE_OF(v)->inner, iov, n, off, got);
}

static int
file_size(struct volume_file *v, uint64_t *size)
{
	return volume_size(FILE_OF(v)->inner, size);
}

static int
file_cut(struct volume_file *v, uint64_t size)
{
	return volume_cut(FILE_OF(v)->inner, size);
}

static void
file_close(struct volume_file *v)
{
	volume_file_close(FILE_OF(v)->inner);
	free(v);
}

static const struct volume_file_ops file_ops = { .reserve = file_reserve,
	.write = file_write,
	.flush = file_flush,
	.sync = file_sync,
	.read = file_read,
	.size = file_size,
	.cut = file_cut,
	.close = file_close };

static struct volume_file *
wrap(struct faulty *v, struct volume_file *inner)
{
	struct faulty_file *w = xcalloc(1, sizeof(*w));

	w->v.ops = &file_ops;
	w->inner = inner;
	w->f = v->f;
	return &w->v;
}

#define VOLUME_OF(volume) ((struct faulty *)(volume))

static int
faulty_create(struct volume *v, uint32_t number, struct volume_file **out)
{
	int rc = volume_create(VOLUME_OF(v)->inner, number, out);

	if (rc == 0)
		*out = wrap(VOLUME_OF(v), *out);
	return rc;
}

static int
faulty_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	int rc = volume_open(VOLUME_OF(v)->inner, number, writing, out);

	if (rc == 0)
		*out = wrap(VOLUME_OF(v), *out);
	return rc;
}

static int
faulty_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	return volume_each(VOLUME_OF(v)->inner, visit, arg);
}

static int
faulty_remove(struct volume *v, uint32_t number)
{
	return volume_remove(VOLUME_OF(v)->inner, number);
}

static int
faulty_poison(struct volume *v, uint32_t number)
{
	return volume_poison(VOLUME_OF(v)->inner, number);
}

static int
faulty_space(struct volume *v, uint64_t *avail, uint64_t *total)
{
	return volume_space(VOLUME_OF(v)->inner, avail, total);
}

static void
faulty_close(struct volume *v)
{
	volume_close(VOLUME_OF(v)->inner);
	free(v);
}

static const struct volume_ops volume_ops = { .create = faulty_create,
	.open = faulty_open,
	.each = faulty_each,
	.remove = faulty_remove,
	.poison = faulty_poison,
	.space = faulty_space,
	.close = faulty_close };

struct volume *
faulty_volume_new(struct volume *inner, struct faults *f)
{
	struct faulty *v = xcalloc(1, sizeof(*v));

	v->v.ops = &volume_ops;
	v->inner = inner;
	v->f = f;
	return &v->v;
}
