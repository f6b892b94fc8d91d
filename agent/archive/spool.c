/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "proto/base/io.h"

/* Zeroes are looked for in pieces of a page, so that holes stay holes. */
enum { PIECE = 1 << 20, PAGE = 4096 };

/* Of what an archive says without having it: nobody's disk is larger. */
#define DISK_MAX (UINT64_C(1) << 50)

void
spool_init(struct spool *s, const char *dir)
{
	memset(s, 0, sizeof(*s));
	s->dir = dir;
}

void
spool_fini(struct spool *s)
{
	for (unsigned i = 0; i < s->n; i++)
		close(s->file[i].fd);
	s->n = 0;
}

static int
nameless(const char *dir)
{
	char path[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd != -1 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	/* A file system that makes no files without a name. */
	if ((size_t)snprintf(path, sizeof(path), "%s/.backstay-XXXXXX", dir) >=
	    sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd != -1)
		unlink(path);
	return fd;
}

/* What it says to be must fit before any of it is written. */
static int
check_room(const struct spool *s, const struct arcin *a, struct err *e)
{
	uint64_t size = arcin_member(a)->size, data = arcin_member(a)->data;
	uint64_t room;
	char need[16], have[16];
	struct statvfs st;

	if (size > DISK_MAX)
		return arcin_fail(a, ERR_LIMIT, e,
		    "says to have %llu bytes, which no disk has",
		    (unsigned long long)size);
	if (statvfs(s->dir, &st) == -1)
		return imgfile_open_error(e, s->dir);
	room = (uint64_t)st.f_bavail * st.f_frsize;
	if (data <= room)
		return 0;
	return arcin_fail(a, ERR_NOSPC, e,
	    "says to have %s, and %.100s has room for %s: say --spool FOLDER, "
	    "or unpack it",
	    size_print(data, need), s->dir, size_print(room, have));
}

static bool
is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int
write_piece(const char *dir, int fd, const uint8_t *p, size_t len, uint64_t off,
    struct err *e)
{
	while (len > 0) {
		size_t n = len < PAGE ? len : PAGE;

		if (!is_zero(p, n)) {
			while (n < len &&
			    !is_zero(p + n, len - n < PAGE ? len - n : PAGE))
				n += len - n < PAGE ? len - n : PAGE;
			if (pwrite_full(fd, p, n, off) == -1)
				return imgfile_write_error(e, dir);
		}
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static int
copy(const struct spool *s, struct arcin *a, int fd, struct err *e)
{
	uint64_t size = arcin_member(a)->size;
	uint8_t *data = aligned_new(PIECE);
	uint64_t off = 0, len;
	bool hole;
	int rc = 0;

	if (ftruncate(fd, (off_t)size) == -1)
		rc = imgfile_write_error(e, s->dir);
	while (rc == 0 && off < size) {
		rc = arcin_map(a, off, &len, &hole, e);
		if (rc != 0)
			break;
		if (len > size - off)
			len = size - off;
		if (!hole) {
			len = len < PIECE ? len : PIECE;
			rc = arcin_read(a, data, (size_t)len, off, e);
			if (rc == 0)
				rc = write_piece(
				    s->dir, fd, data, (size_t)len, off, e);
		}
		off += len;
	}
	free(data);
	return rc == 0 ? arcin_drain(a, e) : rc;
}

int
spool_member(struct spool *s, struct arcin *a, const char *name, struct err *e)
{
	const struct arcin_member *m = arcin_member(a);
	struct spool_file *f = &s->file[s->n];
	int rc;

	if (s->n == MANIFEST_VOLUMES_MAX)
		return arcin_fail(a, ERR_LIMIT, e,
		    "is one too many: a backup has at most %d volumes",
		    MANIFEST_VOLUMES_MAX);
	if (!m->has_size)
		return arcin_fail(a, ERR_INVAL, e,
		    "the archive does not say its size before it: unpack it, "
		    "and import the files");
	for (unsigned i = 0; i < s->n; i++)
		if (strcmp(s->file[i].name, name) == 0)
			return arcin_fail(a, ERR_INVAL, e,
			    "there is another one for disk %s", name);
	rc = check_room(s, a, e);
	if (rc != 0)
		return rc;
	memcpy(f->name, name, strlen(name) + 1);
	memcpy(f->member, m->name, sizeof(f->member));
	f->size = m->size;
	f->fd = nameless(s->dir);
	if (f->fd == -1)
		return imgfile_open_error(e, s->dir);
	rc = copy(s, a, f->fd, e);
	if (rc != 0) {
		close(f->fd);
		return rc;
	}
	s->n++;
	return 0;
}

int
spool_open(const struct spool *s, unsigned i, enum disk_name_kind kind,
    struct source **out, struct err *e)
{
	const struct spool_file *f = &s->file[i];
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "%s/proc/self/fd/%d",
	    kind == DISK_NAME_RAW ? "raw:" : "", f->fd);
	if (kind == DISK_NAME_VMDK)
		rc = source_open_vmdk(path, f->member, out, e);
	else
		rc = source_open_as(path, f->member, out, e);
	/* Damage there is not damage of the store. */
	if (rc == ERR_CORRUPT)
		rc = e->code = ERR_INVAL;
	return rc;
}
