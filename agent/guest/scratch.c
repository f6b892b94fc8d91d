/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/guest/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/qcow2/writer.h"
#include "proto/base/buf.h"
#include "proto/base/log.h"

/* Those that older headers lack. */
#define CIFS_MAGIC UINT32_C(0xff534d42)
#define SMB2_MAGIC UINT32_C(0xfe534d42)
#define CEPH_MAGIC UINT32_C(0x00c36400)

static bool
of_the_network(uint32_t type)
{
	return type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC ||
	    type == CIFS_MAGIC || type == SMB2_MAGIC || type == CEPH_MAGIC;
}

int
scratch_check(const char *dir, uint64_t need, struct err *e)
{
	struct statfs fs;
	struct stat st;
	uint64_t room;

	if (stat(dir, &st) == -1 && errno == ENOENT)
		return err_set(e, ERR_NOENT,
		    "there is no folder %s for scratch files", dir);
	if (stat(dir, &st) == -1 || statfs(dir, &fs) == -1)
		return err_set(e, log_sys("%s: statfs", dir),
		    "cannot look at the folder for scratch files, %s", dir);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVAL, "%s is no folder", dir);
	if (of_the_network((uint32_t)fs.f_type))
		return err_set(e, ERR_INVAL,
		    "%s is on a share of the network, for which the guest "
		    "would wait: choose a local folder for scratch files",
		    dir);
	room = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	if (room < SCRATCH_MARGIN || room - SCRATCH_MARGIN < need)
		return err_set(e, ERR_NOSPC,
		    "%s has %llu MiB free, of %llu MiB that the scratch files "
		    "may need: choose another folder, or a lower limit",
		    dir, (unsigned long long)room >> 20,
		    (unsigned long long)(need + SCRATCH_MARGIN) >> 20);
	return 0;
}

uint64_t
scratch_need(uint64_t size, uint64_t max)
{
	/* The clusters, and the tables that find them: 10 bytes for each. */
	uint64_t most = size + size / 4096 + (4 << 20);

	return most < max ? most : max;
}

/* Has no name, or none any more. */
static int
nameless(const char *dir, struct err *e)
{
	char path[PATH_MAX];
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd != -1)
		return fd;
	snprintf(path, sizeof(path), "%s/backstay-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd == -1) {
		err_set(e, log_sys("%s: create", path),
		    "cannot make a scratch file in %s", dir);
		return -1;
	}
	unlink(path);
	return fd;
}

int
scratch_new(
    const char *dir, uint64_t size, uint64_t reserve, int *out, struct err *e)
{
	struct outfile f = { .path = dir };
	struct qcow2_writer *w;
	int fd, rc;

	fd = nameless(dir, e);
	if (fd == -1)
		return ERR_SYS;
	f.fd = fd;
	/* Not all file systems can; then the margin must do. */
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)reserve) == -1 &&
	    errno == ENOSPC) {
		rc = err_set(e, ERR_NOSPC,
		    "%s has no room for a scratch file of %llu MiB", dir,
		    (unsigned long long)reserve >> 20);
		goto err_close;
	}
	rc = qcow2_writer_new(&f, size, 0, &w, e);
	if (rc != 0)
		goto err_close;
	rc = qcow2_writer_finish(w, e);
	qcow2_writer_free(w);
	if (rc != 0)
		goto err_close;
	*out = fd;
	return 0;
err_close:
	close(fd);
	return rc;
}

uint64_t
scratch_used(int fd)
{
	struct stat st;

	/* What is reserved lies behind the end of the file. */
	return fstat(fd, &st) == -1 ? 0 : (uint64_t)st.st_size;
}

uint64_t
scratch_room(int fd)
{
	struct statvfs fs;

	if (fstatvfs(fd, &fs) == -1)
		return UINT64_MAX;
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}
