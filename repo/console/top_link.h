/* SPDX-License-Identifier: Apache-2.0 */
/*
 * top_link: the thread that asks the daemon for `top`, so that keys are heard
 * while it waits.  It connects again, and again, when the daemon is gone.
 */
#ifndef REPO_CONSOLE_TOP_LINK_H
#define REPO_CONSOLE_TOP_LINK_H

#include <jansson.h>
#include <stdbool.h>

#include "repo/console/console.h"
#include "repo/console/top_view.h"

struct top_link;

/* What came since it was looked at last. */
struct top_news {
	json_t *status; /* the taker's, as are the next two; or NULL */
	json_t *jobs;
	json_t *agents;
	uint64_t untold; /* jobs that wait, beyond those of ${jobs} */
	bool lost;       /* there is no daemon; ${why} */
	char why[TOP_SAID_MAX];
	bool answered; /* what was asked; ${said} */
	bool refused;
	char said[TOP_SAID_MAX];
};

/** top_link_start(dir): NULL: it was logged. */
struct top_link *top_link_start(const char *dir);

/** top_link_take(l, out): false: nothing is new. */
bool top_link_take(struct top_link *l, struct top_news *out);

/** top_link_ask(l, ask, done): have it call; ${ask} is consumed, ${done} is
 * what is said if it goes well.  False: it is still at the last one. */
bool top_link_ask(struct top_link *l, json_t *ask, const char *done);

/** top_link_stop(l): and free, unless it is stuck in a call: then it ends with
 * the process. */
void top_link_stop(struct top_link *l);

#endif
