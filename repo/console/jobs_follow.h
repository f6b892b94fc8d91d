/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_follow: `backstay jobs --follow`, until it is ended by a signal. */
#ifndef REPO_CONSOLE_JOBS_FOLLOW_H
#define REPO_CONSOLE_JOBS_FOLLOW_H

#include "repo/console/console.h"

/** jobs_follow(c, json): the table, as it changes, on a terminal; elsewhere a
 * line for each job that comes, does something else, or ends.  EXIT_FAILED:
 * there was no daemon to begin with; one that goes later is waited for. */
int jobs_follow(struct console *c, bool json);

#endif
