/* SPDX-License-Identifier: Apache-2.0 */
/* tune: the settings that are in force, handed to the parts that run. */
#ifndef REPO_SERVE_TUNE_H
#define REPO_SERVE_TUNE_H

#include "repo/serve/serve.h"

/** tune(srv): all parts have started. */
void tune(struct serve *srv);

/** tune_again(srv): read the settings anew (SIGHUP): log and note what is
 * otherwise now, or why nothing is.  Main's thread. */
void tune_again(struct serve *srv);

#endif
