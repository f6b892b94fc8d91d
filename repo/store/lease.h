/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: one daemon at a time has the packs of an export.
 *
 * The lock of a repository is local; its packs may be reached from elsewhere,
 * by a copy of the repository's folder.  So there is a record beside the packs:
 * who holds them, and a count that goes on while he does.  Whoever finds the
 * record of another waits until the count has stood still for LEASE_MS; who
 * holds it and could not renew it for LEASE_HOLD_MS changes nothing more, and
 * cuts off what is under way, until he has seen that it is still his.
 */
#ifndef REPO_STORE_LEASE_H
#define REPO_STORE_LEASE_H

#include "proto/nfs/nfs3.h"

#define LEASE_FILE "lease"
#define LEASE_ASIDE "lease-" /* another's that is being taken over */

/* Between the last two lies what may be late: the network, and clocks that do
 * not go alike. */
enum { LEASE_RENEW_MS = 5000, LEASE_HOLD_MS = 15000, LEASE_MS = 30000 };

struct lease;

/**
 * lease_begin(n, dirfd, url, out, e): take it, or wait for LEASE_MS to see
 * whether another uses it: ERR_BUSY, with who.  ${dirfd} is the repository:
 * its file "lease" tells that the last holder was this very folder, and then
 * nobody waits.  ERR_TIMEOUT, ERR_SYS, ....
 */
int lease_begin(struct nfs3 *n, int dirfd, const char *url, struct lease **out,
    struct err *e);

/** lease_end(l): give it back, if the server answers soon. */
void lease_end(struct lease *l);

/** lease_check(l): 0: it is ours; waits while that is not certain, as long as
 * patience lasts: ERR_TIMEOUT.  ERR_SYS, logged: another has it, and nothing
 * may be changed any more.  Any thread. */
int lease_check(struct lease *l);

#endif
