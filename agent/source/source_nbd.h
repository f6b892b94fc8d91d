/* SPDX-License-Identifier: Apache-2.0 */
/* source_nbd: an export of an NBD server as a source. */
#ifndef AGENT_SOURCE_SOURCE_NBD_H
#define AGENT_SOURCE_SOURCE_NBD_H

#include <stdint.h>

#include "agent/source/source.h"

enum {
	SOURCE_NBD_CONNECTIONS = 4,
	SOURCE_NBD_CONNECTIONS_MAX = 64,
	SOURCE_NBD_TIMEOUT_MS = 60000
};

struct source_nbd_options {
	const char *socket;   /* path of a Unix socket */
	const char *export;   /* its name; NULL: "" */
	const char *dirty;    /* context of what is not clean, as
				 "qemu:dirty-bitmap:NAME"; NULL: none */
	unsigned connections; /* one for each lane; 0: the default */
	int timeout_ms;       /* of one request; 0: the default */
	const char *format;   /* for the manifest; NULL: "raw" */
	uint32_t cluster_size;
};

/**
 * source_nbd_open(o, out, e): connect; nothing of ${o} is needed afterwards.
 *
 * What an export shows is a point in time, which a server that was started
 * anew does not know.  So the first loss of a connection is the source's: all
 * calls fail with it from then on, and nothing is connected again.  A server
 * that takes fewer connections than asked for is read through fewer.
 *
 * source_read, source_map and source_clean add to their results ERR_TIMEOUT
 * (no answer within ${timeout_ms}), ERR_CLOSED and ERR_PROTO.
 *
 * ERR_NOENT (no such socket, export or context), ERR_DENIED, ERR_CLOSED,
 * ERR_TIMEOUT, ERR_PROTO, ERR_UNSUP, ERR_LIMIT, ERR_INVAL, ERR_SYS.
 */
int source_nbd_open(
    const struct source_nbd_options *o, struct source **out, struct err *e);

/**
 * source_nbd_stop(s): all calls under way end with ERR_CLOSED within some
 * tenths of a second, and so do later ones.  ${s} must be of source_nbd_open.
 * Any thread.
 */
void source_nbd_stop(struct source *s);

#endif
