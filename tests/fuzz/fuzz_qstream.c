/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an image that export is said to have written, out of an archive:
 * what its map tells is within the disk, what is told as nothing reads as
 * zeroes, and its checksum is that of the bytes that the archive has, or it is
 * refused.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/archive/arcin.h"
#include "agent/archive/arcout.h"
#include "agent/archive/qstream.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20, CLUSTER = 65536, STEPS_MAX = 4096 };

static int
keep(void *arg, const void *data, size_t len, struct err *e)
{
	(void)e;
	buf_add(arg, data, len);
	return 0;
}

static int
archive_of(const uint8_t *data, size_t len)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);
	struct buf b = { 0 };
	struct arcout *o;
	struct err e;

	if (fd == -1 || arcout_open(ARCOUT_TAR, keep, &b, &o, &e) != 0 ||
	    arcout_begin(o, "vda.qcow2", len, 1, NULL, 0, &e) != 0 ||
	    arcout_data(o, data, len, &e) != 0 || arcout_end(o, &e) != 0 ||
	    arcout_finish(o, &e) != 0 ||
	    pwrite_full(fd, b.data, b.len, 0) == -1)
		abort();
	arcout_free(o);
	buf_fini(&b);
	return fd;
}

/* As a backup reads it: cluster by cluster, forward.  False: refused. */
static bool
read_disk(struct qstream *q, uint64_t size)
{
	static uint8_t cluster[CLUSTER];
	enum qstream_kind kind;
	uint64_t off = 0, len;
	struct err e;
	bool none;

	for (int i = 0; i < STEPS_MAX && off < size; i++) {
		if (qstream_map(q, off, &len, &kind, &e) != 0)
			return false;
		if (len == 0 || len > size - off)
			abort();
		if (kind == QSTREAM_DATA) {
			if (len > CLUSTER)
				len = CLUSTER;
			if (qstream_read(
				q, cluster, (size_t)len, off, &none, &e) != 0)
				return false;
			if (none && !bytes_zero(cluster, (size_t)len))
				abort();
		}
		off += len;
	}
	return true;
}

static void
check_sum(struct digest *got, const uint8_t *data, size_t len)
{
	char is[DIGEST_TEXT], want[DIGEST_TEXT];
	struct digest *d = digest_new();

	digest_add(d, data, len);
	if (strcmp(digest_text(got, is), digest_text(d, want)) != 0)
		abort();
	digest_free(d);
}

static void
one(struct arcin *a, uint64_t size, const uint8_t *data, size_t len)
{
	struct digest *d = digest_new();
	struct qstream *q;
	struct err e = { 0 };

	if (arcin_next(a, &e) != 0)
		abort();
	if (qstream_open(a, d, size, &q, &e) == 0) {
		if (read_disk(q, size) && qstream_end(q, &e) == 0)
			check_sum(d, data, len);
		qstream_free(q);
	} else if (e.text[0] == 0) {
		abort();
	}
	digest_free(d);
}

/* The disk's size is the first eight bytes. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arcin *a;
	struct err e;
	int fd;

	if (size < 16 || size > INPUT_MAX)
		return -1;
	fd = archive_of(data + 8, size - 8);
	if (arcin_open(fd, "archive", &a, &e) != 0 || a == NULL)
		abort();
	one(a, get_le64(data), data + 8, size - 8);
	arcin_close(a);
	close(fd);
	return 0;
}
