/* SPDX-License-Identifier: Apache-2.0 */
/* noted: what the console does to the repository without the daemon, in the
 * audit log. */
#ifndef REPO_CONSOLE_NOTED_H
#define REPO_CONSOLE_NOTED_H

#include <jansson.h>

#include "proto/base/err.h"

/** noted(dir, op, what, outcome, e): one line; ${what} is consumed.  As
 * audit_append; what was done already is done: the text says only that it is
 * not noted. */
int noted(const char *dir, const char *op, json_t *what, const char *outcome,
    struct err *e);

#endif
