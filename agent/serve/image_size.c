/* SPDX-License-Identifier: Apache-2.0 */
/* What of images and sockets can be told without touching them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/image/imgfile.h"
#include "agent/qcow2/header.h"
#include "agent/serve/inventory.h"
#include "proto/base/io.h"

enum { FIRST_LEN = 64 << 10, UNIX_LINE_MAX = 512, SO_ACCEPTCON = 0x10000 };

static const char *
qcow2_size(int fd, uint64_t *out)
{
	uint8_t *first = xmalloc(FIRST_LEN);
	struct qcow2_header h;
	ssize_t n = pread_full(fd, first, FIRST_LEN, 0);
	bool ok = n > 0 && qcow2_header_decode(first, (size_t)n, &h, NULL) == 0;

	free(first);
	if (!ok)
		return NULL;
	*out = h.size;
	return "qcow2";
}

static bool
has_magic(int fd)
{
	char magic[QCOW2_MAGIC_LEN];

	return pread_full(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	    memcmp(magic, QCOW2_MAGIC, sizeof(magic)) == 0;
}

const char *
image_size(const char *path, const char *format, uint64_t *out)
{
	/* A pipe, or a device that is not there, would wait. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *is = NULL;
	struct stat st;

	*out = 0;
	if (fd == -1)
		return NULL;
	if (fstat(fd, &st) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
		if (strcmp(format, "qcow2") == 0 ||
		    (*format == 0 && has_magic(fd))) {
			is = qcow2_size(fd, out);
		} else if (S_ISREG(st.st_mode)) {
			*out = (uint64_t)st.st_size;
			is = "raw";
		} else if (imgfile_device_size(fd, out) == 0) {
			is = "raw";
		}
	}
	close(fd);
	return is;
}

/* A connection would be the one that a monitor takes; the kernel's list tells
 * as well. */
bool
socket_listens(const char *path)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[UNIX_LINE_MAX];
	bool found = false;

	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		/* Num: RefCount Protocol Flags Type St Inode Path */
		unsigned long flags;
		int at = 0;

		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "%*s %*s %*s %lx %*s %*s %*s %n", &flags,
			&at) == 1 &&
		    at > 0 && (flags & SO_ACCEPTCON) != 0)
			found = strcmp(line + at, path) == 0;
	}
	fclose(f);
	return found;
}
