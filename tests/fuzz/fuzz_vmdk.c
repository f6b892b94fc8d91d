/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a streamOptimized VMDK: opened, mapped and read in bounded time
 * and memory, and what the map calls a hole reads as zeroes, whatever the parts
 * in which it is read.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/source/source.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 18, WINDOW = 256 << 10, EXTENTS_MAX = 32, ODD = 4999 };

/* From its beginning and from its end; again in odd parts. */
static void
read_extent(struct source *s, uint64_t off, uint64_t len, bool hole)
{
	static uint8_t window[WINDOW], part[ODD];
	size_t n = len < WINDOW ? (size_t)len : WINDOW;
	struct err e;

	for (int i = 0; i < 2; i++) {
		uint64_t at = i == 0 ? off : off + len - n;
		int rc = source_read(s, window, n, at, &e);

		if (hole && (rc != 0 || !bytes_zero(window, n)))
			abort();
		if (rc != 0 || n < 2 * (size_t)ODD)
			continue;
		if (source_read(s, part, ODD, at + 77, &e) != 0 ||
		    memcmp(part, window + 77, ODD) != 0)
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
	struct err e = { 0 };
	struct source *s;
	char path[64];
	int fd;

	if (size > INPUT_MAX)
		return -1;
	fd = memfd_create("image", MFD_CLOEXEC);
	if (fd == -1 || pwrite_full(fd, data, size, 0) == -1)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (source_open_vmdk(path, "x.vmdk", &s, &e) == 0) {
		walk(s, 0);
		walk(s, s->size / 2);
		walk(s, s->size - s->size / 1000);
		source_close(s);
	} else if (e.text[0] == 0) {
		abort();
	}
	close(fd);
	return 0;
}
