/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linesock: a Unix socket that carries lines of JSON, as QEMU's monitor and
 * the guest's agent do.  Everything is bounded in time and length: a peer that
 * hangs or talks nonsense is found out.  One thread at a time.
 */
#ifndef AGENT_GUEST_LINESOCK_H
#define AGENT_GUEST_LINESOCK_H

#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/json.h"

struct linesock;

enum { LINESOCK_LINE_MAX = 16 << 20 };

/** linesock_open(path, out, e): ERR_NOENT (nobody listens there), ERR_DENIED,
 * ERR_BUSY (too many wait already), ERR_SYS. */
int linesock_open(const char *path, struct linesock **out, struct err *e);
void linesock_close(struct linesock *s);

/** linesock_fd(s): the socket. */
int linesock_fd(const struct linesock *s);

/*
 * ${deadline}: of now_ms().  ERR_TIMEOUT; ERR_CLOSED; ERR_PROTO (no JSON
 * object); ERR_LIMIT (a line that never ends); ERR_SYS.  After another answer
 * than ERR_TIMEOUT the socket is of no use.
 */

/** linesock_send(s, data, len, fd, deadline, e): ${fd} goes along, or -1. */
int linesock_send(struct linesock *s, const void *data, size_t len, int fd,
    uint64_t deadline, struct err *e);

/** linesock_recv(s, deadline, out, e): the next line; ${out} the caller's. */
int linesock_recv(
    struct linesock *s, uint64_t deadline, json_t **out, struct err *e);

/** linesock_skip(s, byte, deadline, e): drop all up to and with ${byte}. */
int linesock_skip(
    struct linesock *s, uint8_t byte, uint64_t deadline, struct err *e);

#endif
