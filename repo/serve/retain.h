/* SPDX-License-Identifier: Apache-2.0 */
/* retain: calls about what is kept: prune, protect, lock.  PROTOCOL.md 6. */
#ifndef REPO_SERVE_RETAIN_H
#define REPO_SERVE_RETAIN_H

#include "repo/serve/session.h"

/** retain_open(srv, dirfd, jump_s): the guard, by the settings in force. */
struct guard *retain_open(struct serve *srv, int dirfd, uint64_t jump_s);

/** prune_due(s, vm): so many of its backups the settings' rules do not keep. */
size_t prune_due(struct session *s, const char *vm);

int prune_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int protect_call(struct session *s, const json_t *q, json_t *a, struct err *e);
int lock_call(struct session *s, const json_t *q, json_t *a, struct err *e);

/** retain_face(srv, m, o): in the listing of a backup: "protected" and
 * "locked_until", where it is. */
void retain_face(struct serve *srv, const struct manifest *m, json_t *o);

/** retain_to_json(srv): the repository's time, for status. */
json_t *retain_to_json(struct serve *srv);

#endif
