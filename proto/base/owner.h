/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owner: root works on another user's folder as that user, so that all that it
 * makes there is theirs, and nothing there can lead root astray.
 */
#ifndef PROTO_BASE_OWNER_H
#define PROTO_BASE_OWNER_H

#include <stdbool.h>
#include <sys/types.h>

#include "proto/base/err.h"

/**
 * owner_become(path, e): if this process is root's and the folder ${path} is
 * another user's: be that user from here on.  0 also where there is nothing to
 * do, or no such folder.  Before any thread.  ERR_SYS.
 */
int owner_become(const char *path, struct err *e);

/** owner_give(path, name, e): root gives the folder to that user and becomes
 * them.  ERR_NOENT (no such user), ERR_DENIED (they could not reach it; it was
 * not given), ERR_SYS. */
int owner_give(const char *path, const char *name, struct err *e);

/** owner_known(name): there is such a user.  owner_is(path, name): it belongs
 * to that user. */
bool owner_known(const char *name);
bool owner_is(const char *path, const char *name);

/** owner_before(): who started this process, whoever it became. */
uid_t owner_before(void);

#endif
