/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ram/ramcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/ram/ram.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum { PIECE = 64 << 20, BLOCK = 1 << 20, GRAIN = 64 << 10 };

int
ramcopy_scratch(const char *dir, int *out, struct err *e)
{
	char path[4096];
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd == -1 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		snprintf(path, sizeof(path), "%s/backstay-ram-XXXXXX", dir);
		fd = mkostemp(path, O_CLOEXEC);
		if (fd != -1)
			unlink(path);
	}
	if (fd == -1)
		return err_set(e, errno == ENOENT ? ERR_NOENT : ERR_SYS,
		    "scratch folder %s: %m", dir);
	*out = fd;
	return 0;
}

bool
ramcopy_clone(int from, int to)
{
	return ioctl(to, FICLONE, from) == 0;
}

struct copy {
	int from, to;
	uint64_t size;
	pthread_mutex_t mu;
	uint64_t next; /* guarded by mu */
	int rc;        /* guarded by mu */
	int error;     /* errno of the first failure, guarded by mu */
};

/* The next piece with data.  False: there is none, or somebody failed. */
static bool
next_piece(struct copy *c, uint64_t *off, uint64_t *end)
{
	off_t data, hole;
	bool found = false;

	pthread_mutex_lock(&c->mu);
	if (c->rc == 0 && c->next < c->size) {
		data = lseek(c->from, (off_t)c->next, SEEK_DATA);
		/* A file system that cannot tell has data everywhere. */
		if (data == -1 && errno != ENXIO)
			data = (off_t)c->next;
		hole = data == -1 ? -1 : lseek(c->from, data, SEEK_HOLE);
		if (data != -1 && (uint64_t)data < c->size) {
			*off = (uint64_t)data;
			*end = hole <= data ? c->size : (uint64_t)hole;
			*end = *end < c->size ? *end : c->size;
			*end = *end - *off < PIECE ? *end : *off + PIECE;
			c->next = *end;
			found = true;
		} else {
			c->next = c->size;
		}
	}
	pthread_mutex_unlock(&c->mu);
	return found;
}

static int
write_block(int to, const uint8_t *buf, size_t n, uint64_t off)
{
	size_t at = 0, k;

	while (at < n) {
		k = n - at < GRAIN ? n - at : GRAIN;
		if (bytes_zero(buf + at, k)) {
			at += k;
			continue;
		}
		/* As much at once as has something in it. */
		while (at + k < n) {
			size_t m = n - at - k < GRAIN ? n - at - k : GRAIN;

			if (bytes_zero(buf + at + k, m))
				break;
			k += m;
		}
		if (pwrite_full(to, buf + at, k, off + at) != 0)
			return -1;
		at += k;
	}
	return 0;
}

static void *
copy_thread(void *arg)
{
	struct copy *c = arg;
	uint8_t *buf = aligned_new(BLOCK);
	uint64_t off, end;

	while (next_piece(c, &off, &end)) {
		int error = 0;

		for (; off < end && error == 0; off += BLOCK) {
			size_t n =
			    end - off < BLOCK ? (size_t)(end - off) : BLOCK;
			ssize_t got = pread_full(c->from, buf, n, off);

			if (got == -1 ||
			    write_block(c->to, buf, (size_t)got, off) != 0)
				error = errno;
		}
		if (error != 0) {
			pthread_mutex_lock(&c->mu);
			if (c->rc == 0)
				c->error = error;
			c->rc = error == ENOSPC ? ERR_NOSPC : ERR_SYS;
			pthread_mutex_unlock(&c->mu);
		}
	}
	free(buf);
	return NULL;
}

int
ramcopy_copy(int from, int to, uint64_t size, unsigned threads, struct err *e)
{
	struct copy c = { .from = from, .to = to, .size = size };
	pthread_t t[RAM_THREADS_MAX];
	unsigned n = 0;

	pthread_mutex_init(&c.mu, NULL);
	while (n + 1 < threads && n < RAM_THREADS_MAX &&
	    pthread_create(&t[n], NULL, copy_thread, &c) == 0)
		n++;
	copy_thread(&c);
	while (n > 0)
		pthread_join(t[--n], NULL);
	pthread_mutex_destroy(&c.mu);
	if (c.rc == 0)
		return 0;
	errno = c.error;
	if (c.rc == ERR_SYS)
		log_sys("memory: copy");
	errno = c.error;
	return err_set(e, c.rc, "cannot copy the guest's memory: %m");
}
