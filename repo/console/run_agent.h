/* SPDX-License-Identifier: Apache-2.0 */
/* run_agent: this process becomes backstay-agent, at the repository's socket.
 */
#ifndef REPO_CONSOLE_RUN_AGENT_H
#define REPO_CONSOLE_RUN_AGENT_H

#include "proto/base/err.h"

/** run_agent(argv, what, e): ends with a NULL; ${what} it is needed for.
 * Returns only where it cannot be run: ERR_NOENT. */
int run_agent(char **argv, const char *what, struct err *e);

/** agent_url(dir): "unix:DIR/socket", the caller's. */
char *agent_url(const char *dir);

#endif
