/* SPDX-License-Identifier: Apache-2.0 */
/* top_warn: what of a repository's state somebody should see.  Pure. */
#ifndef REPO_CONSOLE_TOP_WARN_H
#define REPO_CONSOLE_TOP_WARN_H

#include <jansson.h>
#include <stdbool.h>

enum { TOP_WARN_MAX = 6, TOP_WARN_LEN = 120 };

struct top_warn {
	bool bad; /* something is lost or will be */
	char text[TOP_WARN_LEN];
};

/** top_warnings(status, jobs, out): how many of ${out}, worst first. */
unsigned top_warnings(const json_t *status, const json_t *jobs,
    struct top_warn out[TOP_WARN_MAX]);

#endif
