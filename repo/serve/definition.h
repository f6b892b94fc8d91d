/* SPDX-License-Identifier: Apache-2.0 */
/* definition: the text of a backup that describes its machine. */
#ifndef REPO_SERVE_DEFINITION_H
#define REPO_SERVE_DEFINITION_H

#include "proto/base/json.h"
#include "repo/serve/serve.h"

enum { DEFINITION_MAX = 256 << 10 };

/**
 * definition_to_json(srv, m, out, e): {"format", "text"} of the volume of kind
 * "definition" of ${m}; NULL where it has none, or none that is text.
 * ERR_LIMIT (larger than DEFINITION_MAX), ERR_NOENT (deleted meanwhile),
 * ERR_CORRUPT, ERR_SYS.  Any thread.
 */
int definition_to_json(
    struct serve *srv, const struct manifest *m, json_t **out, struct err *e);

#endif
