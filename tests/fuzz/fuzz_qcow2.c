/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an image: opened, mapped and read in bounded time, and what the
 * map calls a hole reads as zeroes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/source/source.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20, WINDOW = 256 << 10, EXTENTS_MAX = 64 };

/* Some bytes of an extent, from its beginning and from its end. */
static void
read_extent(struct source *s, uint64_t off, uint64_t len, bool hole)
{
	static uint8_t window[WINDOW];
	size_t n = len < WINDOW ? (size_t)len : WINDOW;
	struct err e;

	for (int i = 0; i < 2; i++) {
		uint64_t at = i == 0 ? off : off + len - n;
		int rc = source_read(s, window, n, at, &e);

		if (hole && (rc != 0 || !bytes_zero(window, n)))
			abort();
	}
}

static void
walk(struct source *s, uint64_t from)
{
	uint64_t off = from, len;
	struct err e;
	bool hole;

	for (int i = 0; i < EXTENTS_MAX && off < s->size; i++) {
		if (source_map(s, off, &len, &hole, &e) != 0)
			break;
		if (len == 0 || len > s->size - off)
			abort();
		read_extent(s, off, len, hole);
		off += len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char spec[64];
	struct source *s;
	struct err e;
	int fd;

	if (size > INPUT_MAX)
		return -1;
	fd = memfd_create("image", MFD_CLOEXEC);
	if (fd == -1 || pwrite_full(fd, data, size, 0) == -1)
		abort();
	/* Not "qcow2:": an input must not choose further files to open. */
	snprintf(spec, sizeof(spec), "/proc/self/fd/%d", fd);
	if (source_open(spec, &s, &e) == 0) {
		walk(s, 0);
		walk(s, s->size / 2);
		walk(s, s->size - s->size / 1000);
		source_close(s);
	}
	close(fd);
	return 0;
}
