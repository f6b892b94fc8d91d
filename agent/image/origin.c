/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image/origin.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"

/* "INODE IDENTITY": the inode, since copies have their original's. */
#define ATTRIBUTE "user.backstay.disk"

enum { SYSFS_MAX = 4096 };

static bool
plain(const char *s)
{
	for (; *s != 0; s++)
		if (*s <= ' ' || *s > '~')
			return false;
	return true;
}

/* What a restore noted at the file that it put in its place. */
static bool
inherited(int fd, const struct statx *st, char *out)
{
	char text[MANIFEST_IDENTITY_MAX + 32], *end;
	ssize_t n = fgetxattr(fd, ATTRIBUTE, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = 0;
	if (strtoull(text, &end, 10) != st->stx_ino || *end != ' ' ||
	    strlen(end + 1) > MANIFEST_IDENTITY_MAX || !plain(end + 1))
		return false;
	memcpy(out, end + 1, strlen(end + 1) + 1);
	return true;
}

/* A line of what the kernel tells of a device, without blanks. */
static bool
device_fact(const struct statx *st, const char *name, char *out)
{
	struct buf b = { 0 };
	size_t at = (size_t)snprintf(out, MANIFEST_IDENTITY_MAX + 1, "device:");
	char *path;
	bool is;

	path = xasprintf("/sys/dev/block/%u:%u/%s", st->stx_rdev_major,
	    st->stx_rdev_minor, name);
	is = file_read(AT_FDCWD, path, SYSFS_MAX, &b) == 0;
	for (size_t i = 0; is && i < b.len && at < MANIFEST_IDENTITY_MAX; i++)
		if (b.data[i] > ' ' && b.data[i] <= '~')
			out[at++] = (char)b.data[i];
	out[at] = 0;
	free(path);
	buf_fini(&b);
	return is && at > strlen("device:");
}

static void
device_identity(const struct statx *st, char *out)
{
	static const char *const facts[] = { "dm/uuid", "md/uuid", "wwid",
		"device/wwid", "device/serial", "serial", "loop/backing_file" };

	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		if (device_fact(st, facts[i], out))
			return;
	out[0] = 0;
}

void
origin_identity(int fd, char *out)
{
	struct statx st;

	out[0] = 0;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME,
		&st) == -1)
		return;
	if (S_ISBLK(st.stx_mode))
		device_identity(&st, out);
	if (!S_ISREG(st.stx_mode) || inherited(fd, &st, out))
		return;
	/* Not the file system's number: it may be another after a boot. */
	if ((st.stx_mask & STATX_BTIME) != 0)
		snprintf(out, MANIFEST_IDENTITY_MAX + 1,
		    "file:%" PRIu64 ":%" PRId64 ".%09" PRIu32,
		    (uint64_t)st.stx_ino, (int64_t)st.stx_btime.tv_sec,
		    st.stx_btime.tv_nsec);
	else
		snprintf(out, MANIFEST_IDENTITY_MAX + 1, "file:%" PRIu64,
		    (uint64_t)st.stx_ino);
}

void
origin_inherit(int fd, const char *identity)
{
	struct stat st;
	char *text;

	if (identity[0] == 0 || !plain(identity) || fstat(fd, &st) == -1)
		return;
	text = xasprintf("%" PRIu64 " %s", (uint64_t)st.st_ino, identity);
	(void)fsetxattr(fd, ATTRIBUTE, text, strlen(text), 0);
	free(text);
}

/* As it was said, if it was said from the root: a name below /dev/disk stays
 * the disk's when devices are numbered anew. */
static bool
whole_path(const char *path, char *out)
{
	char *real = path[0] == '/' ? xstrdup(path) : realpath(path, NULL);
	json_t *text = real == NULL ? NULL : json_string(real);
	bool is = text != NULL && strlen(real) <= MANIFEST_PATH_MAX;

	for (const char *p = real; is && *p != 0; p++)
		is = (unsigned char)*p >= ' ' && *p != 0x7f;
	if (is)
		memcpy(out, real, strlen(real) + 1);
	json_decref(text);
	free(real);
	return is;
}

bool
origin_find(const char *path, struct origin *out)
{
	int fd;

	if (!whole_path(path, out->path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd == -1)
		return false;
	origin_identity(fd, out->identity);
	close(fd);
	return true;
}
