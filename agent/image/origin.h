/* SPDX-License-Identifier: Apache-2.0 */
/*
 * origin: where a disk was, and which file or device that was, so that a
 * restore onto it can tell it from another that has its name by then.
 */
#ifndef AGENT_IMAGE_ORIGIN_H
#define AGENT_IMAGE_ORIGIN_H

#include <stdbool.h>

#include "proto/manifest.h"

struct origin {
	char path[MANIFEST_PATH_MAX + 1];
	char identity[MANIFEST_IDENTITY_MAX + 1]; /* "": cannot be told */
};

/** origin_find(path, out): false: it is not there, or has no path that could
 * be recorded. */
bool origin_find(const char *path, struct origin *out);

/**
 * origin_identity(fd, out): "file:INODE:BIRTH" of a regular file, which is
 * another one if it was made anew; "device:SERIAL" of a block device.  A file
 * that a restore put in place of another has that one's (origin_inherit).
 * ${out} has room for MANIFEST_IDENTITY_MAX + 1 bytes; "": cannot be told.
 */
void origin_identity(int fd, char *out);

/** origin_inherit(fd, identity): the new file ${fd} is that disk from here on.
 * Where the file system has no attributes it is a disk of its own. */
void origin_inherit(int fd, const char *identity);

#endif
