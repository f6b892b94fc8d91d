/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/cached.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/buf.h"

void
cached_note(struct cached *c, int fd)
{
	uint64_t size, page = (uint64_t)sysconf(_SC_PAGESIZE), n;
	struct stat st;
	void *map;

	cached_fini(c);
	if (fstat(fd, &st) == -1 || st.st_size == 0)
		return;
	size = (uint64_t)st.st_size;
	n = (size + page - 1) / page;
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return;
	c->there = xmalloc(n);
	if (mincore(map, size, c->there) == 0) {
		c->size = size;
		c->bytes = page;
	}
	munmap(map, size);
}

void
cached_restore(const struct cached *c, int fd)
{
	uint64_t n = c->size == 0 ? 0 : (c->size + c->bytes - 1) / c->bytes;

	for (uint64_t i = 0, end; i < n; i = end) {
		for (end = i; end < n && (c->there[end] & 1) == 0; end++)
			;
		/* Of a page that is given in part nothing goes. */
		if (end > i)
			posix_fadvise(fd, (off_t)(i * c->bytes),
			    (off_t)((end - i) * c->bytes), POSIX_FADV_DONTNEED);
		while (end < n && (c->there[end] & 1) != 0)
			end++;
	}
}

void
cached_fini(struct cached *c)
{
	free(c->there);
	memset(c, 0, sizeof(*c));
}
