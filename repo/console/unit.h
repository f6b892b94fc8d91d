/* SPDX-License-Identifier: Apache-2.0 */
/* unit: the systemd unit of a repository, etc/backstayd@.service. */
#ifndef REPO_CONSOLE_UNIT_H
#define REPO_CONSOLE_UNIT_H

#include <stdbool.h>

#include "proto/base/buf.h"

/* Its user, which the package makes. */
#define UNIT_USER "backstay"

/** unit_name(dir, out): "backstayd@srv-backstay", as `systemd-escape --path`
 * has it, in quotes where a shell needs them.  ${dir} need not be there. */
void unit_name(const char *dir, struct buf *out);

/** unit_start(dir, always, out): the command that starts the daemon of ${dir}:
 * by its unit, if the folder belongs to the unit's user; ${always}: from now on
 * with the machine. */
void unit_start(const char *dir, bool always, struct buf *out);

#endif
