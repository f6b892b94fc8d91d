/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: a process of its own that outlives this one if that is killed, and
 * then thaws the guest, lets its processors go on and releases what is left.
 *
 * It is this program again (/proc/self/exe), so that it has connections of
 * its own and no half-held locks of other threads.  It learns of our end by
 * the end of a socket, reads from the lock's file what is to be undone, and
 * takes the lock, which ended with us, to do it.  Owner thread.
 */
#ifndef AGENT_GUEST_GUARD_H
#define AGENT_GUEST_GUARD_H

#include <stdbool.h>

#include "proto/base/err.h"
#include "proto/base/json.h"

struct guard;

/** guard_start(how, out, e): returns when it is ready.  ${how}: as
 * guest_reopen takes it.  ERR_SYS, ERR_TIMEOUT. */
int guard_start(const json_t *how, struct guard **out, struct err *e);

/** guard_alive(g): does it still stand by? */
bool guard_alive(struct guard *g);

/** guard_stop(g): all is well; it ends.  NULL: nothing. */
void guard_stop(struct guard *g);

/** guard_leave(g): we could not undo all of it: it shall go on trying, once we
 * have let go of lock and connections. */
void guard_leave(struct guard *g);

/**
 * guard_main(argc, argv): to be called first in main() of each program that
 * opens guests: -1 in ordinary processes, else this one was the guard and
 * shall exit with what is returned.
 */
int guard_main(int argc, char **argv);

#endif
