/* SPDX-License-Identifier: Apache-2.0 */
/* damage: what of which backups is damaged, for calls.  STORE.md 21. */
#ifndef REPO_SERVE_DAMAGE_H
#define REPO_SERVE_DAMAGE_H

#include "repo/serve/session.h"

/** damage_of_volume(s, l, v, until_ms): the damaged slices of a volume as
 * PROTOCOL.md 6 has them, the caller's; empty where there are none.  NULL: they
 * cannot be told, or not in time. */
json_t *damage_of_volume(struct store *s, struct store_lane *l,
    const struct manifest_volume *v, uint64_t until_ms);

/** damage_to_json(srv, key, most_ms): how many chunks and nodes are damaged,
 * and the backups hit, of VMs that the key sees. */
json_t *damage_to_json(
    struct serve *srv, const struct auth_key *key, unsigned most_ms);

/** scrub_to_json(srv): how far scrub is, as calls answer it. */
json_t *scrub_to_json(struct serve *srv);

/* The calls. */
int damage_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int scrub_call(struct session *s, const json_t *q, json_t *a, struct err *e);

#endif
