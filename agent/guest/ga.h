/* SPDX-License-Identifier: Apache-2.0 */
/* ga: the QEMU guest agent, by the host's socket of its serial port. */
#ifndef AGENT_GUEST_GA_H
#define AGENT_GUEST_GA_H

#include "proto/base/err.h"

struct ga;

/** ga_open(path, ms, out, e): connects and sees that it answers within ${ms}.
 * ERR_UNSUP: nobody does; ERR_SYS. */
int ga_open(const char *path, unsigned ms, struct ga **out, struct err *e);
void ga_close(struct ga *a);

/**
 * ga_freeze(a, ms, e), ga_thaw(a, ms, e): all file systems of the guest.
 * ERR_UNSUP: it cannot, or others have frozen them; nothing is frozen by this
 * call then.  ERR_TIMEOUT: it may be done yet; ERR_CLOSED, ERR_PROTO,
 * ERR_INVAL (it says why), ERR_SYS.  To thaw what is not frozen is no error.
 */
int ga_freeze(struct ga *a, unsigned ms, struct err *e);
int ga_thaw(struct ga *a, unsigned ms, struct err *e);

#endif
