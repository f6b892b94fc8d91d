/* SPDX-License-Identifier: Apache-2.0 */
/* watch_view: one job, as `backstay watch` shows it.  Pure. */
#ifndef REPO_CONSOLE_WATCH_VIEW_H
#define REPO_CONSOLE_WATCH_VIEW_H

#include <jansson.h>

#include "proto/base/buf.h"
#include "repo/console/canvas.h"
#include "repo/console/feed.h"

/** watch_draw(c, job, f): ${job} as the daemon has it, ${f} its rates or NULL.
 * How many rows it took. */
unsigned watch_draw(
    struct canvas *c, const json_t *job, const struct feed_job *f);

/** watch_line(job, f, out): append the same in one line, for a log. */
void watch_line(const json_t *job, const struct feed_job *f, struct buf *out);

/** watch_end(job, out): append how it ended, in one line. */
void watch_end(const json_t *job, struct buf *out);

/** watch_title(job, out): append "job 17: backup of web1 (kvm01)"; text from
 * elsewhere without control characters. */
void watch_title(const json_t *job, struct buf *out);

/** watch_running(job): it has not ended. */
bool watch_running(const json_t *job);

#endif
