/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image/imglock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>

#include "agent/image/imgfile.h"
#include "proto/base/log.h"

/*
 * QEMU's protocol (its block/file-posix.c): whoever uses permission i of an
 * image holds a shared lock of byte 100 + i; whoever cannot bear that others
 * use it holds one of byte 200 + i.  After taking its own, each looks with
 * tests for exclusive locks (which its own do not disturb) whether another
 * holds the opposite byte.  Taking first and looking second is what makes two
 * who start at once see each other.
 */
enum { PERM_BASE = 100, UNSHARED_BASE = 200 };
enum { PERM_CONSISTENT_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE };
enum {
	BIT_READ = 1 << PERM_CONSISTENT_READ,
	BIT_WRITE = 1 << PERM_WRITE,
	BIT_RESIZE = 1 << PERM_RESIZE,
	NPERMS = PERM_RESIZE + 1
};

static struct flock
one_byte(short type, int byte)
{
	return (struct flock){ .l_type = type,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1 };
}

/* True if another holds ${byte}; -1 with errno if that cannot be told. */
static int
held(int fd, int byte)
{
	struct flock l = one_byte(F_WRLCK, byte);

	if (fcntl(fd, F_OFD_GETLK, &l) == -1)
		return -1;
	return l.l_type != F_UNLCK;
}

static int
lock_one(int fd, int byte)
{
	struct flock l = one_byte(F_RDLCK, byte);

	return fcntl(fd, F_OFD_SETLK, &l);
}

/* Bytes of ${perms} at one base, by ${op}; the first that is not 0. */
static int
each(int fd, int base, int perms, int (*op)(int, int))
{
	for (int i = 0; i < NPERMS; i++) {
		int r = (perms & 1 << i) != 0 ? op(fd, base + i) : 0;

		if (r != 0)
			return r;
	}
	return 0;
}

static int
failed(const char *path, struct err *e)
{
	/* A lock of all bytes by some other program is a holder as well. */
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, ERR_BUSY,
		    "%s: another program has locked it; end that first", path);
	if (errno == ENOLCK || errno == EINVAL || errno == EOPNOTSUPP ||
	    errno == ENOSYS) {
		log_info("%s: its file system has no locks: make sure that "
			 "nothing writes to it",
		    path);
		return 0;
	}
	return imgfile_sys(e, path, "lock");
}

int
imglock_take(int fd, const char *path, enum imglock_mode mode, struct err *e)
{
	const int unshared = BIT_WRITE | BIT_RESIZE;
	const int perms = mode == IMGLOCK_WRITE
	    ? BIT_READ | BIT_WRITE | BIT_RESIZE
	    : BIT_READ;
	int r;

	if (each(fd, PERM_BASE, perms, lock_one) != 0 ||
	    each(fd, UNSHARED_BASE, unshared, lock_one) != 0)
		return failed(path, e);
	r = each(fd, PERM_BASE, unshared, held);
	if (r == 0)
		r = each(fd, UNSHARED_BASE, perms, held);
	if (r == -1)
		return failed(path, e);
	if (r == 0)
		return 0;
	if (mode == IMGLOCK_WRITE)
		return err_set(e, ERR_BUSY,
		    "%s: is in use by QEMU or another backup or restore: stop "
		    "the guest that uses it, or wait",
		    path);
	return err_set(e, ERR_BUSY,
	    "%s: QEMU or a restore has it open for writing: back up the "
	    "running guest instead (--domain), or stop it",
	    path);
}
