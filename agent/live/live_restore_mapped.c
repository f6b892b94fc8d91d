/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's file of mapped memory names places in itself by their offsets in the
 * whole file.  To put something before it, each is counted up, and the pages
 * are copied, holes left holes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/live/live_restore_impl.h"
#include "agent/ram/wire.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	MAPPED_VERSION = 1,
	MAPPED_HEADER = 28, /* version, page size, bitmap's place, pages' */
	COPY = 1 << 20
};

/* A walk over the marks; after a failure all reads as zero. */
struct walk {
	int fd;
	uint64_t at, end;
	bool bad;
};

static void
take(struct walk *w, void *out, size_t n)
{
	memset(out, 0, n);
	if (w->bad || n > w->end - w->at ||
	    pread_full(w->fd, out, n, w->at) != (ssize_t)n)
		w->bad = true;
	else
		w->at += n;
}

static uint8_t
take_u8(struct walk *w)
{
	uint8_t b;

	take(w, &b, 1);
	return b;
}

static uint32_t
take_u32(struct walk *w)
{
	uint8_t b[4];

	take(w, b, sizeof(b));
	return get_be32(b);
}

static uint64_t
take_u64(struct walk *w)
{
	uint8_t b[8];

	take(w, b, sizeof(b));
	return get_be64(b);
}

static void
take_name(struct walk *w, char name[RAM_NAME_MAX + 1])
{
	uint8_t n = take_u8(w);

	take(w, name, n);
	name[n] = 0;
}

/* Up to the first block; how many bytes of memory follow, 0: not understood. */
static uint64_t
walk_to_blocks(struct walk *w)
{
	char name[RAM_NAME_MAX + 1];
	uint8_t kind;
	uint32_t n;
	uint64_t v;

	if (take_u32(w) != QEMU_MAGIC || take_u32(w) != QEMU_VERSION ||
	    take_u8(w) != QEMU_CONFIGURATION)
		return 0;
	n = take_u32(w);
	if (n > RAM_NAME_MAX)
		return 0;
	take(w, name, n);
	while ((kind = take_u8(w)) == QEMU_SUBSECTION) {
		take_name(w, name);
		take_u32(w);
		if (strcmp(name, "configuration/uuid") == 0) {
			take(w, name, 16);
			continue;
		}
		if (strcmp(name, "configuration/capabilities") != 0)
			return 0;
		n = take_u32(w);
		for (uint32_t i = 0; i < n && !w->bad; i++)
			take_name(w, name);
	}
	if (kind != QEMU_START)
		return 0;
	take_u32(w);
	take_name(w, name);
	if (strcmp(name, "ram") != 0 || take_u32(w) != 0 ||
	    take_u32(w) != QEMU_RAM_VERSION)
		return 0;
	v = take_u64(w);
	return (v & QEMU_PAGE_FLAGS) == QEMU_PAGE_SIZES && !w->bad
	    ? v & ~(uint64_t)QEMU_PAGE_FLAGS
	    : 0;
}

/* One block's header: its places in ${out} move.  Goes on behind its pages. */
static int
move_block(struct walk *w, int out, uint64_t by, uint64_t *size, struct err *e)
{
	char name[RAM_NAME_MAX + 1];
	uint8_t b[16];
	uint64_t bitmap, pages, at;

	take_name(w, name);
	*size = take_u64(w);
	if (take_u32(w) != MAPPED_VERSION || take_u64(w) != RAM_PAGE)
		return err_set(e, w->bad ? ERR_CORRUPT : ERR_UNSUP,
		    "QEMU's file of mapped memory is not understood");
	at = w->at;
	bitmap = take_u64(w);
	pages = take_u64(w);
	if (w->bad || bitmap < w->at || pages < bitmap || pages > w->end ||
	    *size > w->end - pages || pages % RAM_BLOCK_ALIGN != 0)
		return err_set(
		    e, ERR_CORRUPT, "QEMU's file of mapped memory is cut off");
	put_be64(b, bitmap + by);
	put_be64(b + 8, pages + by);
	if (pwrite_full(out, b, sizeof(b), at + by) != 0)
		return imgfile_write_error(e, "save image");
	w->at = pages + *size;
	return 0;
}

/* What is data of it, [from, to). */
static int
copy_run(
    int in, int out, uint64_t from, uint64_t to, uint64_t by, struct err *e)
{
	uint8_t *b = xmalloc(COPY);
	int rc = 0;

	while (from < to && rc == 0) {
		size_t n = to - from < COPY ? (size_t)(to - from) : COPY;

		if (pread_full(in, b, n, from) != (ssize_t)n)
			rc = err_set(e, log_sys("saved memory: read"),
			    "cannot read the memory");
		else if (!bytes_zero(b, n) &&
		    pwrite_full(out, b, n, from + by) != 0)
			rc = imgfile_write_error(e, "save image");
		from += n;
	}
	free(b);
	return rc;
}

static int
copy_all(int in, int out, uint64_t size, uint64_t by, struct err *e)
{
	off_t from = 0, to;
	int rc = 0;

	if (ftruncate(out, (off_t)(size + by)) == -1)
		return imgfile_write_error(e, "save image");
	while (rc == 0 && (uint64_t)from < size) {
		from = lseek(in, from, SEEK_DATA);
		if (from == -1)
			return errno == ENXIO
			    ? 0
			    : err_set(e, log_sys("saved memory: seek"),
				  "cannot read the memory");
		to = lseek(in, from, SEEK_HOLE);
		if (to == -1)
			to = (off_t)size;
		rc = copy_run(in, out, (uint64_t)from, (uint64_t)to, by, e);
		from = to;
	}
	return rc;
}

int
lr_mapped_move(int in, int out, uint64_t by, struct err *e)
{
	struct walk w = { .fd = in };
	uint64_t total, size;
	struct stat st;
	int rc;

	if (fstat(in, &st) == -1)
		return err_set(
		    e, log_sys("saved memory: stat"), "cannot read the memory");
	w.end = (uint64_t)st.st_size;
	rc = copy_all(in, out, w.end, by, e);
	if (rc != 0)
		return rc;
	total = walk_to_blocks(&w);
	if (total == 0)
		return err_set(e, w.bad ? ERR_CORRUPT : ERR_UNSUP,
		    "QEMU's file of mapped memory is not understood");
	while (total > 0) {
		rc = move_block(&w, out, by, &size, e);
		if (rc == 0 && (size == 0 || size > total))
			rc = err_set(e, ERR_CORRUPT,
			    "QEMU's file of mapped memory is wrong");
		if (rc != 0)
			return rc;
		total -= size;
	}
	return 0;
}
