/* SPDX-License-Identifier: Apache-2.0 */
/* verifiers: the verify jobs of the daemon, a thread each.  Any thread. */
#ifndef REPO_SERVE_VERIFY_H
#define REPO_SERVE_VERIFY_H

#include "repo/serve/session.h"

struct verifiers;

struct verifiers *verifiers_new(void);

/** verifiers_free(v): their jobs have ended; waits for the threads. */
void verifiers_free(struct verifiers *v);

/** verifiers_see(v, id, key): there is a verify job of that number, and the key
 * sees the VMs of all of its backups. */
bool verifiers_see(
    struct verifiers *v, uint64_t id, const struct auth_key *key);

/** The calls "verify" (begin one) and "verified" (how it is). */
int verify_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int verified_call(struct session *s, const json_t *q, json_t *a, struct err *e);

#endif
