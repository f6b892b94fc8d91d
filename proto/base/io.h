/* SPDX-License-Identifier: Apache-2.0 */
/* io: whole reads and writes, small files replaced atomically, time. */
#ifndef PROTO_BASE_IO_H
#define PROTO_BASE_IO_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "proto/base/buf.h"

/**
 * pread_full(fd, data, len, off): read until ${len} bytes or the end of the
 * file.  Returns how many were read, or -1 with errno.
 */
ssize_t pread_full(int fd, void *data, size_t len, uint64_t off);

/**
 * preadv_full(fd, iov, n, off): the same into all parts one after another; at
 * most IOV_MAX of them; ${iov} is used up.
 */
ssize_t preadv_full(int fd, struct iovec *iov, int n, uint64_t off);

/** pwrite_full(fd, data, len, off): returns 0, or -1 with errno. */
int pwrite_full(int fd, const void *data, size_t len, uint64_t off);

/**
 * pwritev_full(fd, iov, n, off): write all parts one after another; ${iov} is
 * used up.  Returns 0, or -1 with errno.
 */
int pwritev_full(int fd, struct iovec *iov, int n, uint64_t off);

/**
 * file_read(dirfd, name, max, out): the whole small file into ${out} (its
 * content is replaced).  Returns 0; ERR_NOENT; ERR_LIMIT if it holds more
 * than ${max} bytes; ERR_SYS.
 */
int file_read(int dirfd, const char *name, size_t max, struct buf *out);

/**
 * file_replace(dirfd, name, data, len, mode): write a temporary file beside
 * ${name}, sync it, rename it over ${name}, sync the folder.  Returns 0;
 * ERR_NOSPC; ERR_SYS.
 */
int file_replace(
    int dirfd, const char *name, const void *data, size_t len, mode_t mode);

/**
 * socket_drain(fd, ms): drop what the peer sends until it closes, for ${ms} at
 * most.  A socket that is closed with bytes unread takes what was sent last
 * away from the peer.
 */
void socket_drain(int fd, unsigned ms);

/**
 * std_fds_keep(): a standard stream that nobody opened for us becomes one that
 * can be neither read nor written, so that no file or socket of ours gets its
 * number, and with it what is printed.  First of all in main.
 */
void std_fds_keep(void);

/** now_ms(): milliseconds of the monotonic clock. */
uint64_t now_ms(void);

/** random_bytes(out, len): from the kernel; ends the process if it cannot. */
void random_bytes(void *out, size_t len);

/** hex(in, len, out): lower-case digits and a NUL: 2 * ${len} + 1 bytes. */
char *hex(const uint8_t *in, size_t len, char *out);

/** unhex(in, out, len): exactly 2 * ${len} digits.  Returns 0 or ERR_INVAL. */
int unhex(const char *in, uint8_t *out, size_t len);

#endif
