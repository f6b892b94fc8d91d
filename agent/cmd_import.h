/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_import: what the two files of `backstay-agent import` share. */
#ifndef AGENT_CMD_IMPORT_H
#define AGENT_CMD_IMPORT_H

#include "agent/cmd.h"
#include "agent/pipeline/backup.h"

/** cmd_import_is_cloudstack(argc, argv): it has --cloudstack: a whole tree. */
bool cmd_import_is_cloudstack(int argc, char **argv);
int cmd_import_cloudstack(int argc, char **argv);

/** cmd_import_folder(c, o, path): all points in time of an instance, or one of
 * them, into the VM that ${o} names.  The exit code. */
int cmd_import_folder(const struct cmd_common *c,
    const struct backup_options *o, const char *path);

#endif
