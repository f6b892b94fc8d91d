/* SPDX-License-Identifier: Apache-2.0 */
/* follow: wait for the end of a job, showing on stderr how far it is. */
#ifndef REPO_CONSOLE_FOLLOW_H
#define REPO_CONSOLE_FOLLOW_H

#include "repo/console/console.h"

/** follow_job(c, job, quiet, out, e): until it has ended; ${out} is it as
 * `jobs` has it, the caller's.  As console_call. */
int follow_job(
    struct console *c, uint64_t job, bool quiet, json_t **out, struct err *e);

/** follow_status(job): how a command ends that did that job: EXIT_DONE, or
 * EXIT_FAILED and why on stderr. */
int follow_status(const json_t *job);

#endif
