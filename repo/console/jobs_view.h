/* SPDX-License-Identifier: Apache-2.0 */
/* jobs_view: the table of jobs in `top` and `jobs --follow`.  Pure. */
#ifndef REPO_CONSOLE_JOBS_VIEW_H
#define REPO_CONSOLE_JOBS_VIEW_H

#include <jansson.h>

#include "repo/console/canvas.h"
#include "repo/console/feed.h"

struct jobs_view {
	const json_t *jobs; /* as the daemon has them: running ones first */
	const struct feed *feed;
	uint64_t chosen; /* id of the one under the cursor; 0: none */
	unsigned skip;   /* so many at the top are not shown */
};

/** jobs_view_draw(c, row, rows, v): heads and as many jobs as fit into ${rows}
 * rows; the row behind the last. */
unsigned jobs_view_draw(
    struct canvas *c, unsigned row, unsigned rows, const struct jobs_view *v);

/** jobs_view_move(v, by, rows): the one ${by} further down is chosen, and
 * ${skip} such that it is among the ${rows} - 1 that are shown.  With ${by} 0:
 * one that there is. */
void jobs_view_move(struct jobs_view *v, int by, unsigned rows);

#endif
