/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as an image with a bitmap "b0": opened and asked in bounded time,
 * and a stretch looks the same from wherever in it one asks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/source/source.h"
#include "proto/base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20, STRETCHES_MAX = 64 };

static void
expect(struct source *s, uint64_t off, bool want, uint64_t left)
{
	uint64_t len;
	struct err e;
	bool clean;

	/* It was read a moment ago, so it can be again. */
	if (source_clean(s, off, &len, &clean, &e) != 0)
		abort();
	if (clean != want || len < left)
		abort();
}

static void
walk(struct source *s, uint64_t from)
{
	uint64_t off = from, len;
	struct err e;
	bool clean;

	for (int i = 0; i < STRETCHES_MAX && off < s->size; i++) {
		if (source_clean(s, off, &len, &clean, &e) != 0)
			abort(); /* what is damaged was told as it opened */
		if (len == 0 || len > s->size - off)
			abort();
		expect(s, off + len / 2, clean, len - len / 2);
		expect(s, off + len - 1, clean, 1);
		off += len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char spec[64], why[160];
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
	if (source_open_bitmap(spec, "b0", &s, why, sizeof(why), &e) == 0) {
		if (strlen(why) >= sizeof(why))
			abort();
		walk(s, 0);
		walk(s, s->size / 2);
		walk(s, s->size - s->size / 1000);
		source_close(s);
	}
	close(fd);
	return 0;
}
