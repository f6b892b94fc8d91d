/* SPDX-License-Identifier: Apache-2.0 */
/* lane_unix: lanes over the local socket of a repository. */
#ifndef PROTO_LANE_UNIX_H
#define PROTO_LANE_UNIX_H

#include <sys/types.h>

#include "proto/lane.h"

/**
 * lane_unix_connect(path, out, e): ERR_NOENT (no socket there, or nobody
 * listens: the text says that the daemon is not running), ERR_DENIED, ERR_SYS.
 */
int lane_unix_connect(const char *path, struct lane **out, struct err *e);

/**
 * lane_unix_listen(path, &fd, e): a listening socket of mode 0600, in place of
 * a dead one that is there.  The caller holds the repository's lock, so no
 * living daemon can be at it.  ERR_SYS; ERR_INVAL if ${path} is too long.
 */
int lane_unix_listen(const char *path, int *fd, struct err *e);

/**
 * lane_unix_serve(fd, &uid, out, e): a lane over the accepted socket ${fd},
 * which is the lane's from here on (closed on failure too).  ${uid} is the
 * peer's by SO_PEERCRED.  ERR_SYS.
 */
int lane_unix_serve(int fd, uid_t *uid, struct lane **out, struct err *e);

#endif
