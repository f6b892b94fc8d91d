/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lookout: a thread that takes the inventory now and then, so that nobody else
 * waits for libvirt.  All calls from any thread.
 */
#ifndef AGENT_SERVE_LOOKOUT_H
#define AGENT_SERVE_LOOKOUT_H

#include "agent/serve/inventory.h"

struct lookout;

/** lookout_new(now): ${now} outlives it. */
struct lookout *lookout_new(struct conf_now *now);

/** lookout_free(l): false: libvirt holds its thread up, and it was left
 * behind: the process is to end. */
bool lookout_free(struct lookout *l);

/** lookout_again(l): do not wait for the next time. */
void lookout_again(struct lookout *l);

/** lookout_wait(l, ms): until there was a first look, at most so long; is there
 * one? */
bool lookout_wait(struct lookout *l, unsigned ms);

/** lookout_version(l): another one when the list has changed. */
uint64_t lookout_version(struct lookout *l);

/** lookout_get(l): the last look, until lookout_put; NULL: there is none. */
const struct inventory *lookout_get(struct lookout *l);
void lookout_put(struct lookout *l, const struct inventory *v);

#endif
