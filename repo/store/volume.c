/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/volume.h"

#include <stddef.h>

int
volume_create(struct volume *v, uint32_t number, struct volume_file **out)
{
	return v->ops->create(v, number, out);
}

int
volume_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	return v->ops->open(v, number, writing, out);
}

int
volume_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	return v->ops->each(v, visit, arg);
}

int
volume_remove(struct volume *v, uint32_t number)
{
	return v->ops->remove(v, number);
}

int
volume_poison(struct volume *v, uint32_t number)
{
	return v->ops->poison(v, number);
}

int
volume_space(struct volume *v, uint64_t *avail, uint64_t *total)
{
	return v->ops->space(v, avail, total);
}

void
volume_close(struct volume *v)
{
	if (v != NULL)
		v->ops->close(v);
}

int
volume_reserve(struct volume_file *f, uint64_t upto)
{
	return f->ops->reserve(f, upto);
}

int
volume_write(struct volume_file *f, struct iovec *iov, int n, uint64_t off)
{
	return f->ops->write(f, iov, n, off);
}

int
volume_flush(struct volume_file *f, uint64_t off, uint64_t len)
{
	return f->ops->flush(f, off, len);
}

int
volume_sync(struct volume_file *f)
{
	return f->ops->sync(f);
}

int
volume_read(
    struct volume_file *f, void *data, size_t len, uint64_t off, size_t *got)
{
	struct iovec iov = { .iov_base = data, .iov_len = len };

	return f->ops->read(f, &iov, 1, off, got);
}

int
volume_readv(
    struct volume_file *f, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	return f->ops->read(f, iov, n, off, got);
}

int
volume_size(struct volume_file *f, uint64_t *size)
{
	return f->ops->size(f, size);
}

int
volume_cut(struct volume_file *f, uint64_t size)
{
	return f->ops->cut(f, size);
}

void
volume_note_cache(struct volume_file *f)
{
	if (f->ops->note_cache != NULL)
		f->ops->note_cache(f);
}

void
volume_forget(struct volume_file *f)
{
	if (f->ops->forget != NULL)
		f->ops->forget(f);
}

void
volume_file_close(struct volume_file *f)
{
	if (f != NULL)
		f->ops->close(f);
}
