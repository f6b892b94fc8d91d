/* SPDX-License-Identifier: Apache-2.0 */
/* qmp: a connection to the monitor of a QEMU.  It serves one at a time. */
#ifndef AGENT_GUEST_QMP_H
#define AGENT_GUEST_QMP_H

#include <stdbool.h>

#include "proto/base/err.h"
#include "proto/base/json.h"

struct qmp;

enum { QMP_MS = 30000, QMP_GREETING_MS = 5000 };

/** qmp_open(path, greeting_ms, out, e): ERR_NOENT, ERR_DENIED, ERR_BUSY (no
 * greeting in time: it has another client, or hangs), ERR_PROTO (no QEMU),
 * ERR_SYS. */
int qmp_open(
    const char *path, unsigned greeting_ms, struct qmp **out, struct err *e);
void qmp_close(struct qmp *q);

/** qmp_pid(q): of the process that listens there.  qmp_version(q): major * 100
 * + minor.  Both of them any thread. */
int qmp_pid(const struct qmp *q);
unsigned qmp_version(const struct qmp *q);

/**
 * qmp_command(q, name, args, fd, ms, out, e): ${args} (or NULL) is used up;
 * ${fd} (-1: none) goes along; ${out} (or NULL): what it returned, the
 * caller's.  Any thread, one after the other.
 *
 * ERR_UNSUP: there is no such command; ERR_INVAL: QEMU refuses, ${e} says with
 * what words; ERR_TIMEOUT: no answer within ${ms}: it may be carried out yet,
 * and the next command is answered after it; ERR_CLOSED: QEMU has ended;
 * ERR_PROTO, ERR_LIMIT: nonsense; ERR_SYS.
 */
int qmp_command(struct qmp *q, const char *name, json_t *args, int fd,
    unsigned ms, json_t **out, struct err *e);

/** qmp_pause(q, ms): until something happens in QEMU, but ${ms} at most.  What
 * it was is to be asked. */
void qmp_pause(struct qmp *q, unsigned ms);

#endif
