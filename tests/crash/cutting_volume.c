/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/cutting_volume.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

enum { SECTOR = 512, PER_FOLDER = 1024, NAME_LEN = 192 };

enum changing { NOTHING, REMOVING, POISONING };

struct extent {
	uint64_t off;
	uint64_t len;
};

struct cut_file {
	struct cut_file *next;
	uint32_t number;
	bool named; /* its name is durable */
	enum changing changing;
	struct extent *lost; /* written, and not synced */
	size_t nlost;
};

struct cut_volume {
	struct volume v;
	struct volume *inner;
	struct cutting *c;
};

struct cut_handle {
	struct volume_file v;
	struct volume_file *inner;
	struct cutting *c;
	uint32_t number;
};

#define VOLUME_OF(volume) ((struct cut_volume *)(volume))
#define HANDLE_OF(file) ((struct cut_handle *)(file))

static void
lock(struct cutting *c)
{
	pthread_mutex_lock(&c->mu);
}

static void
unlock(struct cutting *c)
{
	pthread_mutex_unlock(&c->mu);
}

static struct cut_file *
find(struct cutting *c, uint32_t number)
{
	struct cut_file *f;

	for (f = c->files; f != NULL; f = f->next)
		if (f->number == number)
			return f;
	f = xcalloc(1, sizeof(*f));
	f->number = number;
	f->named = true;
	f->next = c->files;
	c->files = f;
	return f;
}

static void
lose(struct cut_file *f, uint64_t off, uint64_t len)
{
	f->lost = xrealloc(f->lost, (f->nlost + 1) * sizeof(*f->lost));
	f->lost[f->nlost++] = (struct extent){ .off = off, .len = len };
}

void
cutting_init(
    struct cutting *c, const char *repo, const char *unsynced, unsigned seed)
{
	pthread_mutexattr_t a;
	unsigned number, named;
	uint64_t off, len;
	FILE *in;

	memset(c, 0, sizeof(*c));
	/* The point at which it is cut may lie inside of a change. */
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&c->mu, &a);
	pthread_mutexattr_destroy(&a);
	snprintf(c->packs, sizeof(c->packs), "%s/packs", repo);
	c->random = (uint64_t)seed * 0x9e3779b97f4a7c15u + 1;
	in = fopen(unsynced, "r");
	if (in == NULL)
		return;
	while (fscanf(in, "%u %u %" SCNu64 " %" SCNu64 "\n", &number, &named,
		   &off, &len) == 4) {
		struct cut_file *f = find(c, number);

		f->named = named != 0;
		if (len > 0)
			lose(f, off, len);
	}
	fclose(in);
}

void
cutting_save(struct cutting *c, const char *file)
{
	FILE *out;

	lock(c);
	out = fopen(file, "w");
	if (out == NULL)
		abort();
	for (struct cut_file *f = c->files; f != NULL; f = f->next) {
		fprintf(out, "%" PRIu32 " %d 0 0\n", f->number, f->named);
		for (size_t i = 0; i < f->nlost; i++)
			fprintf(out, "%" PRIu32 " %d %" PRIu64 " %" PRIu64 "\n",
			    f->number, f->named, f->lost[i].off,
			    f->lost[i].len);
	}
	if (fclose(out) != 0)
		abort();
}

/* --- the cut */

static uint64_t
draw(struct cutting *c, uint64_t below)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (c->random >> 11) % below;
}

static void
name_of(struct cutting *c, uint32_t number, const char *suffix, char *out)
{
	snprintf(out, NAME_LEN, "%s/%04" PRIx32 "/%08" PRIx32 ".%s", c->packs,
	    number / PER_FOLDER, number, suffix);
}

/* Those bytes were never written. */
static void
wipe(int fd, uint64_t off, uint64_t len)
{
	uint8_t *zeroes = xcalloc(1, (size_t)len);
	struct stat st;

	if (fstat(fd, &st) == 0 && off + len >= (uint64_t)st.st_size) {
		if ((uint64_t)st.st_size > off &&
		    ftruncate(fd, (off_t)off) == -1)
			abort();
	} else if (pwrite_full(fd, zeroes, (size_t)len, off) == -1) {
		abort();
	}
	free(zeroes);
}

/* From the last write back, so that what is lost at the end shortens it. */
static void
cut_writes(struct cutting *c, struct cut_file *f, int fd)
{
	uint64_t mood = draw(c, 4); /* all, none, or a part of it is lost */

	for (size_t i = f->nlost; i-- > 0;) {
		struct extent x = f->lost[i];
		uint64_t sectors = x.len / SECTOR;

		if (mood == 0 || (mood > 1 && draw(c, 2) == 0))
			continue;
		if (mood == 3 && sectors > 0) {
			uint64_t keep = draw(c, sectors + 1) * SECTOR;

			x.off += keep;
			x.len -= keep;
		}
		if (x.len > 0)
			wipe(fd, x.off, x.len);
	}
}

static void
cut_file(struct cutting *c, struct cut_file *f)
{
	char name[NAME_LEN], other[NAME_LEN];
	int fd;

	name_of(c, f->number, "undo", other);
	if (f->changing == REMOVING) {
		name_of(c, f->number, "pack", name);
		if (draw(c, 2) == 0 && access(name, F_OK) == -1)
			(void)rename(other, name);
	}
	(void)unlink(other);
	name_of(c, f->number, "poisoned", name);
	if (f->changing == POISONING && draw(c, 2) == 0) {
		name_of(c, f->number, "pack", other);
		(void)rename(name, other);
	}
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd == -1) {
		name_of(c, f->number, "pack", name);
		fd = open(name, O_RDWR | O_CLOEXEC);
	}
	if (fd == -1)
		return;
	cut_writes(c, f, fd);
	close(fd);
	if (!f->named && draw(c, 3) == 0)
		(void)unlink(name);
}

void
cutting_cut(void *arg)
{
	struct cutting *c = arg;

	lock(c);
	for (struct cut_file *f = c->files; f != NULL; f = f->next)
		cut_file(c, f);
}

/* --- files */

static int
file_reserve(struct volume_file *v, uint64_t upto)
{
	return volume_reserve(HANDLE_OF(v)->inner, upto);
}

static int
file_write(struct volume_file *v, struct iovec *iov, int n, uint64_t off)
{
	struct cut_handle *h = HANDLE_OF(v);
	uint64_t len = 0;
	int rc;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	lock(h->c);
	lose(find(h->c, h->number), off, len);
	rc = volume_write(h->inner, iov, n, off);
	unlock(h->c);
	return rc;
}

static int
file_flush(struct volume_file *v, uint64_t off, uint64_t len)
{
	return volume_flush(HANDLE_OF(v)->inner, off, len);
}

static int
file_sync(struct volume_file *v)
{
	struct cut_handle *h = HANDLE_OF(v);
	struct cut_file *f;
	int rc;

	lock(h->c);
	rc = volume_sync(h->inner);
	f = find(h->c, h->number);
	if (rc == 0) {
		f->nlost = 0;
		f->named = true;
	}
	unlock(h->c);
	return rc;
}

static int
file_readv(
    struct volume_file *v, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	return volume_readv(HANDLE_OF(v)->inner, iov, n, off, got);
}

static int
file_size(struct volume_file *v, uint64_t *size)
{
	return volume_size(HANDLE_OF(v)->inner, size);
}

static int
file_cut(struct volume_file *v, uint64_t size)
{
	struct cut_handle *h = HANDLE_OF(v);
	int rc;

	lock(h->c);
	rc = volume_cut(h->inner, size);
	unlock(h->c);
	return rc;
}

static void
file_close(struct volume_file *v)
{
	volume_file_close(HANDLE_OF(v)->inner);
	free(v);
}

static const struct volume_file_ops file_ops = { .reserve = file_reserve,
	.write = file_write,
	.flush = file_flush,
	.sync = file_sync,
	.read = file_readv,
	.size = file_size,
	.cut = file_cut,
	.close = file_close };

static struct volume_file *
wrap(struct cutting *c, uint32_t number, struct volume_file *inner)
{
	struct cut_handle *h = xcalloc(1, sizeof(*h));

	h->v.ops = &file_ops;
	h->inner = inner;
	h->c = c;
	h->number = number;
	return &h->v;
}

/* --- the volume */

static int
cutting_create(struct volume *v, uint32_t number, struct volume_file **out)
{
	struct cutting *c = VOLUME_OF(v)->c;
	int rc;

	lock(c);
	find(c, number)->named = false;
	rc = volume_create(VOLUME_OF(v)->inner, number, out);
	if (rc == 0)
		*out = wrap(c, number, *out);
	unlock(c);
	return rc;
}

static int
cutting_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	int rc = volume_open(VOLUME_OF(v)->inner, number, writing, out);

	if (rc == 0)
		*out = wrap(VOLUME_OF(v)->c, number, *out);
	return rc;
}

static int
cutting_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	return volume_each(VOLUME_OF(v)->inner, visit, arg);
}

static int
cutting_remove(struct volume *v, uint32_t number)
{
	struct cutting *c = VOLUME_OF(v)->c;
	char name[NAME_LEN], undo[NAME_LEN];
	struct cut_file *f;
	int rc;

	lock(c);
	f = find(c, number);
	f->changing = REMOVING;
	name_of(c, number, "pack", name);
	name_of(c, number, "undo", undo);
	(void)link(name, undo);
	rc = volume_remove(VOLUME_OF(v)->inner, number);
	(void)unlink(undo);
	f->changing = NOTHING;
	unlock(c);
	return rc;
}

static int
cutting_poison(struct volume *v, uint32_t number)
{
	struct cutting *c = VOLUME_OF(v)->c;
	struct cut_file *f;
	int rc;

	lock(c);
	f = find(c, number);
	f->changing = POISONING;
	rc = volume_poison(VOLUME_OF(v)->inner, number);
	f->changing = NOTHING;
	f->named = f->named || rc == 0;
	unlock(c);
	return rc;
}

static int
cutting_space(struct volume *v, uint64_t *avail, uint64_t *total)
{
	return volume_space(VOLUME_OF(v)->inner, avail, total);
}

static void
cutting_close(struct volume *v)
{
	volume_close(VOLUME_OF(v)->inner);
	free(v);
}

static const struct volume_ops volume_ops = { .create = cutting_create,
	.open = cutting_open,
	.each = cutting_each,
	.remove = cutting_remove,
	.poison = cutting_poison,
	.space = cutting_space,
	.close = cutting_close };

struct volume *
cutting_wrap(void *c, struct volume *inner)
{
	struct cut_volume *v = xcalloc(1, sizeof(*v));

	v->v.ops = &volume_ops;
	v->inner = inner;
	v->c = c;
	return &v->v;
}
