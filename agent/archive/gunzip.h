/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gunzip: a file or pipe as it is, or unpacked if gzip packed it, with the
 * checksums checked, which libarchive does not.  One thread.
 */
#ifndef AGENT_ARCHIVE_GUNZIP_H
#define AGENT_ARCHIVE_GUNZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct gunzip;

/** gunzip_new(fd): ${fd} stays the caller's.  gunzip_free(g). */
struct gunzip *gunzip_new(int fd);
void gunzip_free(struct gunzip *g);

/**
 * gunzip_read(g, &data): the next bytes, which are ${g}'s until the next call.
 * Their number; 0 at the end; -1: gunzip_error(g) says why.
 */
ssize_t gunzip_read(struct gunzip *g, const void **data);
const char *gunzip_error(const struct gunzip *g);

/** gunzip_unread(g): that is of reading, by the system or a signal, and not of
 * what was read. */
bool gunzip_unread(const struct gunzip *g);

#endif
