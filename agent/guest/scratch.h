/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch: where what the guest overwrites while it is read is kept.  Should
 * that fill up, the guest's own writes would fail: so room is reserved before,
 * and the size is watched.
 */
#ifndef AGENT_GUEST_SCRATCH_H
#define AGENT_GUEST_SCRATCH_H

#include <stdint.h>

#include "proto/base/err.h"

enum {
	/* Of the file system, that stays free; below it a view ends. */
	SCRATCH_MARGIN = 64 << 20
};

/**
 * scratch_check(dir, need, e): is ${dir} a folder of a local file system with
 * ${need} bytes to spare?  ERR_INVAL (it is a share of the network: the guest
 * would wait for it), ERR_NOENT, ERR_NOSPC, ERR_SYS.
 */
int scratch_check(const char *dir, uint64_t need, struct err *e);

/**
 * scratch_need(size, max): what the scratch file of a disk of ${size} can take
 * at most, ${max} if that is less.
 */
uint64_t scratch_need(uint64_t size, uint64_t max);

/**
 * scratch_new(dir, size, reserve, fd, e): an empty qcow2 image of ${size} bytes
 * without a name, open for reading and writing; ${reserve} bytes are set aside
 * for it where the file system can do that.  It is gone when all have closed
 * it.  ERR_NOSPC, ERR_SYS.
 */
int scratch_new(
    const char *dir, uint64_t size, uint64_t reserve, int *fd, struct err *e);

/** scratch_used(fd): bytes; without what is reserved only. */
uint64_t scratch_used(int fd);

/** scratch_room(fd): bytes left in its file system; UINT64_MAX: not known. */
uint64_t scratch_room(int fd);

#endif
