/* SPDX-License-Identifier: Apache-2.0 */
/* ramcopy: the files behind a guest's memory, cloned or copied. */
#ifndef AGENT_RAM_RAMCOPY_H
#define AGENT_RAM_RAMCOPY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

/** ramcopy_scratch(dir, out, e): an empty file without a name in ${dir}, for
 * reading and writing.  ERR_NOENT, ERR_SYS. */
int ramcopy_scratch(const char *dir, int *out, struct err *e);

/** ramcopy_clone(from, to): ${to} shares the blocks of ${from}; false: these
 * files cannot. */
bool ramcopy_clone(int from, int to);

/** ramcopy_copy(from, to, size, threads, e): what is not zero, by several
 * threads; ${to} is empty, or zero wherever ${from} is.  ERR_NOSPC, ERR_SYS. */
int ramcopy_copy(
    int from, int to, uint64_t size, unsigned threads, struct err *e);

#endif
