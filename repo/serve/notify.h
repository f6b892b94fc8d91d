/* SPDX-License-Identifier: Apache-2.0 */
/* notify: the call that tells how events were told, or posts one to try. */
#ifndef REPO_SERVE_NOTIFY_H
#define REPO_SERVE_NOTIFY_H

#include "repo/serve/session.h"

int notify_call(struct session *s, const json_t *q, json_t *a, struct err *e);

#endif
