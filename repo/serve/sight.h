/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sight: what a key with patterns may know of what belongs to all VMs.
 *
 * A call that is about one VM asks auth_sees itself.  Here is what is about
 * jobs, which have a VM, and about the daemon as a whole, which has all of
 * them.  PROTOCOL.md 6.
 */
#ifndef REPO_SERVE_SIGHT_H
#define REPO_SERVE_SIGHT_H

#include "repo/serve/session.h"

/** sight_vm(key, vm): auth_sees, as a callback. */
bool sight_vm(void *key, const char *vm);

/** sight_all(key): it has no patterns, and so sees whatever there is. */
bool sight_all(const struct auth_key *key);

/** sight_need_all(s, what, e): 0, or ERR_DENIED: "key K may not WHAT, ...". */
int sight_need_all(const struct session *s, const char *what, struct err *e);

/** sight_job(s, id): there is a job of that number, and the key sees its VM:
 * of a verify of several backups, all of their VMs; of a restore from one VM to
 * another, both.  True for a key without
 * patterns, also where there is no such job. */
bool sight_job(struct session *s, uint64_t id);

/** sight_jobs(s, list, vm): leave in an array only the objects whose job the
 * key sees; ${vm}: they say of which VM it is, else it is looked up. */
void sight_jobs(struct session *s, json_t *list, bool vm);

/** sight_rates(s): pace_to_json, of the key itself and of jobs that it sees. */
json_t *sight_rates(struct session *s);

#endif
