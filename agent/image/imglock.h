/* SPDX-License-Identifier: Apache-2.0 */
/* imglock: the byte locks by which QEMU processes keep off each other. */
#ifndef AGENT_IMAGE_IMGLOCK_H
#define AGENT_IMAGE_IMGLOCK_H

#include "proto/base/err.h"

enum imglock_mode {
	IMGLOCK_READ, /* others may read; nobody may write or resize */
	IMGLOCK_WRITE /* others may read in principle, QEMU readers do not */
};

/**
 * imglock_take(fd, path, mode, e): lock the open image ${fd} as QEMU would,
 * until ${fd} is closed, and look whether anybody is in our way.  ${fd} must
 * be open for reading.  Does not wait.
 *
 * A file system without such locks is read without them, with one line in the
 * log.  Returns 0; ERR_BUSY; ERR_SYS.  Any thread.
 */
int imglock_take(
    int fd, const char *path, enum imglock_mode mode, struct err *e);

#endif
