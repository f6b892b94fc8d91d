/* SPDX-License-Identifier: Apache-2.0 */
/* delete: the one way in which people let go of backups. */
#ifndef REPO_SERVE_DELETE_H
#define REPO_SERVE_DELETE_H

#include "repo/serve/session.h"

enum { DELETE_MAX = 1000 }; /* in one go */

/**
 * delete_of_vm(s, m, n, wait_ms, e): as a job, the ${n} backups of one VM: all
 * or none.  ERR_DENIED: one may not go, and why; ERR_BUSY: somebody reads one;
 * ERR_NOENT: one is gone already; and what the store says.
 */
int delete_of_vm(struct session *s, const struct manifest *m, unsigned n,
    int wait_ms, struct err *e);

#endif
