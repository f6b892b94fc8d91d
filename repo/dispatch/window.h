/* SPDX-License-Identifier: Apache-2.0 */
/*
 * window: hours in which jobs may start: "22:00-06:00", "Mon..Fri 20:00-24:00",
 * "Sat,Sun 00:00-24:00 UTC"; days are those on which one begins.  Pure, but for
 * the zone that libc knows.
 */
#ifndef REPO_DISPATCH_WINDOW_H
#define REPO_DISPATCH_WINDOW_H

#include "repo/dispatch/calendar.h"

struct window {
	struct calendar begin;
	unsigned from, to; /* seconds of the day; to <= from: of the next day */
};

/** window_parse(text, out, e): ERR_INVAL says how one is written. */
int window_parse(const char *text, struct window *out, struct err *e);

/** window_is_open(w, t): ${t} lies in it; its end does not. */
bool window_is_open(const struct window *w, uint64_t t);

/** window_closes(w, t): when it closes, which is open at ${t}. */
uint64_t window_closes(const struct window *w, uint64_t t);

/** window_next(w, t): ${t} if it is open, or when it opens next;
 * CALENDAR_NEVER. */
uint64_t window_next(const struct window *w, uint64_t t);

#endif
