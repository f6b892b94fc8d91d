/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch: the thread that looks once a second whether there is something that
 * nobody tells of by himself: damage that a read found, and space that runs
 * out.
 */
#ifndef REPO_SERVE_WATCH_H
#define REPO_SERVE_WATCH_H

#include "repo/serve/serve.h"

enum {
	WATCH_EVERY_MS = 1000,
	WATCH_DAMAGE_MS = 60000, /* damage is told so often at most */
	WATCH_HITS_MAX = 32      /* backups that are named then */
};

struct watch;

/** watch_start(srv, out): all parts have started.  ERR_SYS.
 * watch_stop(w): joins and frees.  NULL is nothing. */
int watch_start(struct serve *srv, struct watch **out);
void watch_stop(struct watch *w);

/* Whether space is low, from one look to the next. */
struct watch_space {
	bool low;
};

/** watch_space_changed(s, avail, total, percent): less than that is free, or is
 * not any more: then a tenth more must be, so that it does not flicker.  True:
 * s->low is not what it was.  Pure. */
bool watch_space_changed(
    struct watch_space *s, uint64_t avail, uint64_t total, uint64_t percent);

#endif
