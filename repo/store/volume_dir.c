/* SPDX-License-Identifier: Apache-2.0 */
/* Packs as files of a local folder: packs/NNNN/NNNNNNNN.pack.  FORMAT.md 1. */
#include "repo/store/volume_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/store/cached.h"

enum { PER_FOLDER = 1024, NAME_MAX_LEN = VOLUME_FOLDER_LEN + VOLUME_FILE_LEN };

struct dir {
	struct volume v;
	int fd; /* of the folder "packs"; set before start */
};

struct dir_file {
	struct volume_file f;
	struct dir *d;
	int fd;
	uint32_t number;
	/* Nothing was ever written at or behind this offset. */
	_Atomic uint64_t reserved;
	atomic_bool named;     /* its name and folders are durable */
	atomic_bool no_falloc; /* the file system cannot */
	struct cached cached;  /* of the one who reads all of it */
};

static const struct volume_ops dir_ops;
static const struct volume_file_ops dir_file_ops;

static struct dir *
dir_of(struct volume *v)
{
	return (struct dir *)v;
}

static struct dir_file *
file_of(struct volume_file *f)
{
	return (struct dir_file *)f;
}

/* "003f/00ffffff.pack", below the folder "packs". */
static const char *
file_name(uint32_t number, bool poisoned, char *out)
{
	const struct volume_name name = { number, poisoned };
	char folder[VOLUME_FOLDER_LEN], file[VOLUME_FILE_LEN];

	snprintf(out, NAME_MAX_LEN, "%s/%s", volume_folder(number, folder),
	    volume_file_name(&name, file));
	return out;
}

static bool
full(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

int
volume_dir_init(int dirfd, struct err *e)
{
	if (mkdirat(dirfd, "packs", 0700) == -1 && errno != EEXIST)
		return err_set(e, full(errno) ? ERR_NOSPC : ERR_SYS,
		    "packs: cannot make the folder: %s", strerror(errno));
	if (fsync(dirfd) == -1)
		return err_set(e, ERR_SYS,
		    "cannot sync the repository's "
		    "folder: %s",
		    strerror(errno));
	return 0;
}

int
volume_dir_open(int dirfd, struct volume **out, struct err *e)
{
	struct dir *d = xcalloc(1, sizeof(*d));
	int rc;

	d->v.ops = &dir_ops;
	d->fd = openat(dirfd, "packs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd == -1) {
		rc = err_set(e, errno == ENOENT ? ERR_NOENT : ERR_SYS,
		    "packs: cannot open the folder: %s", strerror(errno));
		free(d);
		return rc;
	}
	*out = &d->v;
	return 0;
}

static void
dir_close(struct volume *v)
{
	close(dir_of(v)->fd);
	free(v);
}

static struct volume_file *
file_new(struct dir *d, uint32_t number, int fd, uint64_t size)
{
	struct dir_file *f = xcalloc(1, sizeof(*f));

	f->f.ops = &dir_file_ops;
	f->d = d;
	f->fd = fd;
	f->number = number;
	atomic_init(&f->reserved, size);
	return &f->f;
}

static int
dir_create(struct volume *v, uint32_t number, struct volume_file **out)
{
	char folder[VOLUME_FOLDER_LEN], name[NAME_MAX_LEN];
	struct dir *d = dir_of(v);
	struct stat st;
	int fd;

	if (mkdirat(d->fd, volume_folder(number, folder), 0700) == -1 &&
	    errno != EEXIST)
		return full(errno) ? ERR_NOSPC
				   : log_sys("packs/%s: make folder", folder);
	/* A number is used once, also if its pack was poisoned. */
	if (fstatat(d->fd, file_name(number, true, name), &st, 0) == 0)
		return ERR_EXIST;
	fd = fault_fails(FAULT_PACK_CREATE)
	    ? -1
	    : openat(d->fd, file_name(number, false, name),
		  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -1 && errno == EEXIST)
		return ERR_EXIST;
	if (fd == -1)
		return full(errno) ? ERR_NOSPC
				   : log_sys("packs/%s: create", name);
	fault_pass(FAULT_PACK_CREATED);
	*out = file_new(d, number, fd, 0);
	return 0;
}

static int
dir_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	int flags = (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC, fd;
	char name[NAME_MAX_LEN];
	struct dir *d = dir_of(v);
	struct stat st;

	fd = openat(d->fd, file_name(number, false, name), flags);
	if (fd == -1 && errno == ENOENT)
		fd = openat(d->fd, file_name(number, true, name), flags);
	if (fd == -1)
		return errno == ENOENT ? ERR_NOENT
				       : log_sys("packs/%s: open", name);
	if (fstat(fd, &st) == -1) {
		int rc = log_sys("packs/%s: stat", name);

		close(fd);
		return rc;
	}
	*out = file_new(d, number, fd, (uint64_t)st.st_size);
	return 0;
}

static int
each_file(struct dir *d, const char *folder,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	struct volume_name name;
	struct dirent *de;
	DIR *dp;
	int fd, rc = 0;

	fd = openat(d->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return errno == ENOENT ? 0 : log_sys("packs/%s: open", folder);
	dp = fdopendir(fd);
	if (dp == NULL) {
		close(fd);
		return log_sys("packs/%s: list", folder);
	}
	while (rc == 0 && (errno = 0, de = readdir(dp)) != NULL) {
		if (de->d_name[0] == '.')
			continue;
		/* Only the one name that this number has is a pack's. */
		if (!volume_file_parse(folder, de->d_name, &name))
			log_info("packs/%s/%s: not a pack, ignored", folder,
			    de->d_name);
		else
			rc = visit(arg, &name);
	}
	if (rc == 0 && de == NULL && errno != 0)
		rc = log_sys("packs/%s: list", folder);
	closedir(dp);
	return rc;
}

static int
dir_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	struct dir *d = dir_of(v);
	struct dirent *de;
	DIR *dp;
	int fd, rc = 0;

	fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return log_sys("packs: open");
	dp = fdopendir(fd);
	if (dp == NULL) {
		close(fd);
		return log_sys("packs: list");
	}
	while (rc == 0 && (errno = 0, de = readdir(dp)) != NULL) {
		if (de->d_name[0] == '.')
			continue;
		if (!volume_folder_ok(de->d_name))
			log_info("packs/%s: not a folder of packs, ignored",
			    de->d_name);
		else
			rc = each_file(d, de->d_name, visit, arg);
	}
	if (rc == 0 && de == NULL && errno != 0)
		rc = log_sys("packs: list");
	closedir(dp);
	return rc;
}

static int
sync_folders(struct dir *d, uint32_t number)
{
	char folder[VOLUME_FOLDER_LEN];
	int fd, rc = 0;

	fd = openat(d->fd, volume_folder(number, folder),
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return log_sys("packs/%s: open", folder);
	if (fault_fails(FAULT_FOLDER_SYNC) || fsync(fd) == -1)
		rc = log_sys("packs/%s: sync", folder);
	close(fd);
	/* Another pack may have made the folder and not be synced yet. */
	if (rc == 0 && fsync(d->fd) == -1)
		rc = log_sys("packs: sync");
	fault_pass(FAULT_FOLDER_SYNCED);
	return rc;
}

static int
dir_remove(struct volume *v, uint32_t number)
{
	char name[NAME_MAX_LEN];
	struct dir *d = dir_of(v);
	int rc;

	file_name(number, false, name);
	rc = fault_fails(FAULT_PACK_UNLINK) ? -1 : unlinkat(d->fd, name, 0);
	if (rc == -1 && errno == ENOENT)
		rc = unlinkat(d->fd, file_name(number, true, name), 0);
	if (rc == -1)
		return errno == ENOENT ? ERR_NOENT
				       : log_sys("packs/%s: remove", name);
	fault_pass(FAULT_PACK_UNLINKED);
	return sync_folders(d, number);
}

static int
dir_poison(struct volume *v, uint32_t number)
{
	char from[NAME_MAX_LEN], to[NAME_MAX_LEN];
	struct dir *d = dir_of(v);
	struct stat st;

	file_name(number, false, from);
	file_name(number, true, to);
	if (fault_fails(FAULT_PACK_POISON) ||
	    renameat(d->fd, from, d->fd, to) == -1) {
		if (errno != ENOENT)
			return log_sys("packs/%s: rename", from);
		if (fstatat(d->fd, to, &st, 0) == -1)
			return ERR_NOENT;
	}
	fault_pass(FAULT_PACK_POISONED);
	return sync_folders(d, number);
}

static int
dir_space(struct volume *v, uint64_t *avail, uint64_t *total)
{
	struct statvfs st;

	if (fstatvfs(dir_of(v)->fd, &st) == -1)
		return log_sys("packs: free space");
	*avail = (uint64_t)st.f_bavail * st.f_frsize;
	*total = (uint64_t)st.f_blocks * st.f_frsize;
	return 0;
}

static void
raise_reserved(struct dir_file *f, uint64_t upto)
{
	uint64_t was = atomic_load(&f->reserved);

	while (was < upto &&
	    !atomic_compare_exchange_weak(&f->reserved, &was, upto))
		;
}

static int
file_reserve(struct volume_file *vf, uint64_t upto)
{
	struct dir_file *f = file_of(vf);
	uint64_t was = atomic_load(&f->reserved), avail = 0, total;
	int rc;

	if (upto <= was)
		return 0;
	if (!atomic_load(&f->no_falloc)) {
		do {
			rc = fault_fails(FAULT_PACK_RESERVE)
			    ? -1
			    : fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)was,
				  (off_t)(upto - was));
		} while (rc == -1 && errno == EINTR);
		if (rc == 0) {
			raise_reserved(f, upto);
			return 0;
		}
		if (full(errno)) {
			/* Some file systems keep what they got so far. */
			(void)fallocate(f->fd,
			    FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			    (off_t)was, (off_t)(upto - was));
			return ERR_NOSPC;
		}
		if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
			return log_sys("pack %" PRIx32 ": reserve", f->number);
		atomic_store(&f->no_falloc, true);
	}
	rc = dir_space(&f->d->v, &avail, &total);
	if (rc != 0)
		return rc;
	if (avail < upto - was)
		return ERR_NOSPC;
	raise_reserved(f, upto);
	return 0;
}

/* As pwritev_full; a test may have it write only a part. */
static int
write_parts(
    struct dir_file *f, struct iovec *iov, int n, uint64_t off, uint64_t len)
{
	size_t whole = fault_write(FAULT_PACK_WRITE, len), left = whole;

	if (whole == len)
		return pwritev_full(f->fd, iov, n, off);
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len > left)
			iov[i].iov_len = left;
		left -= iov[i].iov_len;
	}
	if (pwritev_full(f->fd, iov, n, off) == 0)
		fault_torn(FAULT_PACK_WRITE);
	return -1;
}

static int
file_write(struct volume_file *vf, struct iovec *iov, int n, uint64_t off)
{
	struct dir_file *f = file_of(vf);
	uint64_t end = off;

	for (int i = 0; i < n; i++)
		end += iov[i].iov_len;
	raise_reserved(f, end);
	if (write_parts(f, iov, n, off, end - off) == -1)
		return full(errno)
		    ? ERR_NOSPC
		    : log_sys("pack %" PRIx32 ": write at %" PRIu64, f->number,
			  off);
	fault_pass(FAULT_PACK_WRITTEN);
	return 0;
}

static int
file_flush(struct volume_file *vf, uint64_t off, uint64_t len)
{
	/* A failure of the device is told by the sync, and only there. */
	(void)sync_file_range(
	    file_of(vf)->fd, (off_t)off, (off_t)len, SYNC_FILE_RANGE_WRITE);
	return 0;
}

static int
file_sync(struct volume_file *vf)
{
	struct dir_file *f = file_of(vf);
	int rc;

	if (fault_fails(FAULT_PACK_SYNC) || fdatasync(f->fd) == -1) {
		rc = full(errno) ? ERR_NOSPC : ERR_SYS;
		log_sys("pack %" PRIx32 ": sync", f->number);
		return rc;
	}
	/* After a crash the name of a pack that is there may not be durable
	 * yet either: so this is for files that were opened, too. */
	if (!atomic_load(&f->named)) {
		rc = sync_folders(f->d, f->number);
		if (rc != 0)
			return rc;
		atomic_store(&f->named, true);
	}
	fault_pass(FAULT_PACK_SYNCED);
	return 0;
}

static int
file_read_at(
    struct volume_file *vf, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	struct dir_file *f = file_of(vf);
	ssize_t len =
	    fault_fails(FAULT_PACK_READ) ? -1 : preadv_full(f->fd, iov, n, off);

	if (len == -1) {
		/* How a disk tells of bit rot: damage, and no surprise. */
		bool bad = errno == EIO || errno == EBADMSG;
		int rc = log_sys(
		    "pack %" PRIx32 ": read at %" PRIu64, f->number, off);

		return bad ? ERR_CORRUPT : rc;
	}
	*got = (size_t)len;
	return 0;
}

static void
file_note_cache(struct volume_file *vf)
{
	struct dir_file *f = file_of(vf);

	cached_note(&f->cached, f->fd);
}

static void
file_forget(struct volume_file *vf)
{
	struct dir_file *f = file_of(vf);

	cached_restore(&f->cached, f->fd);
}

static int
file_size(struct volume_file *vf, uint64_t *size)
{
	struct dir_file *f = file_of(vf);
	struct stat st;

	if (fstat(f->fd, &st) == -1)
		return log_sys("pack %" PRIx32 ": stat", f->number);
	*size = (uint64_t)st.st_size;
	return 0;
}

static int
file_cut(struct volume_file *vf, uint64_t size)
{
	struct dir_file *f = file_of(vf);

	/* Also to the size it has: that gives back what is reserved. */
	if (fault_fails(FAULT_PACK_CUT) || ftruncate(f->fd, (off_t)size) == -1)
		return log_sys("pack %" PRIx32 ": cut", f->number);
	atomic_store(&f->reserved, size);
	return 0;
}

static void
file_close(struct volume_file *vf)
{
	struct dir_file *f = file_of(vf);

	/* Nothing rests on what this says: what counts was synced. */
	close(f->fd);
	cached_fini(&f->cached);
	free(f);
}

static const struct volume_ops dir_ops = {
	.create = dir_create,
	.open = dir_open,
	.each = dir_each,
	.remove = dir_remove,
	.poison = dir_poison,
	.space = dir_space,
	.close = dir_close,
};

static const struct volume_file_ops dir_file_ops = {
	.reserve = file_reserve,
	.write = file_write,
	.flush = file_flush,
	.sync = file_sync,
	.read = file_read_at,
	.note_cache = file_note_cache,
	.forget = file_forget,
	.size = file_size,
	.cut = file_cut,
	.close = file_close,
};
