/* SPDX-License-Identifier: Apache-2.0 */
/* nbdconn_impl: what the files of nbdconn have of each other. */
#ifndef AGENT_SOURCE_NBDCONN_IMPL_H
#define AGENT_SOURCE_NBDCONN_IMPL_H

#include "agent/source/nbdconn.h"

/** nbdconn_failed(c, e, code, fmt, ...): says where it was.  Closes ${c},
 * unless it is ERR_SYS: then the server told what its matter was. */
int nbdconn_failed(struct nbdconn *c, struct err *e, int code, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));

/** nbdconn_lost(c, error, e): the connection is gone, or never came to be:
 * libnbd failed with ${error}, and what it says about it is current. */
int nbdconn_lost(struct nbdconn *c, int error, struct err *e);

/** nbdconn_step(c, deadline, timeout_ms, doing, e): wait for the server, and do
 * what it makes possible.  ERR_TIMEOUT, ERR_CLOSED, and as nbdconn_lost. */
int nbdconn_step(struct nbdconn *c, uint64_t deadline, int timeout_ms,
    const char *doing, struct err *e);

#endif
