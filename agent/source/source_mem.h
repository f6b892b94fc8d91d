/* SPDX-License-Identifier: Apache-2.0 */
/* source_mem: small volumes that are no images: bytes in memory, plain files.
 */
#ifndef AGENT_SOURCE_SOURCE_MEM_H
#define AGENT_SOURCE_SOURCE_MEM_H

#include "agent/source/source.h"

/** source_mem_new(data, len, format): a volume with a copy of these bytes.
 * ${format} stays the caller's. */
struct source *source_mem_new(const void *data, size_t len, const char *format);

/**
 * source_file_open(path, format, out, e): a file that is nobody's image: it is
 * read as it is, and nobody is kept from it.  Its size is that of now.
 * ${format} stays the caller's.  ERR_NOENT, ERR_DENIED, ERR_INVAL (no regular
 * file), ERR_SYS.
 */
int source_file_open(
    const char *path, const char *format, struct source **out, struct err *e);

/**
 * source_file_copy(path, format, max, whole, out, e): as source_file_open, but
 * what the file holds now is kept in memory, unless that is more than ${max}
 * bytes.  *whole: it is certain that all of it is of one moment.
 */
int source_file_copy(const char *path, const char *format, uint64_t max,
    bool *whole, struct source **out, struct err *e);

#endif
