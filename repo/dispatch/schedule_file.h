/* SPDX-License-Identifier: Apache-2.0 */
/* schedule_file: which runs were done: REPO/schedule.json, FORMAT.md 9. */
#ifndef REPO_DISPATCH_SCHEDULE_FILE_H
#define REPO_DISPATCH_SCHEDULE_FILE_H

#include "proto/base/buf.h"
#include "repo/dispatch/schedule.h"

#define SCHEDULE_FILE "schedule.json"

enum { SCHEDULE_FILE_MAX = 64 << 20, SCHEDULE_VMS_MAX = 50000 };

/** schedule_file_print(v, n, out): the whole file, in place of what ${out}
 * had. */
void schedule_file_print(
    const struct schedule_vm *const *v, size_t n, struct buf *out);

/** schedule_file_parse(text, len, v, n, e): all or nothing.  ERR_CORRUPT,
 * ERR_UNSUP.  ${*v} is the caller's: free. */
int schedule_file_parse(const void *text, size_t len, struct schedule_vm **v,
    size_t *n, struct err *e);

#endif
