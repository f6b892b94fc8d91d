/* SPDX-License-Identifier: Apache-2.0 */
/* tender: the thread that does what is due now and then. */
#ifndef REPO_SERVE_TENDER_H
#define REPO_SERVE_TENDER_H

#include "repo/serve/serve.h"

enum { TENDER_EVERY_MS = 60000 };

struct tender;

/** tender_start(srv, out): its thread runs.  ERR_SYS.
 * tender_stop(t): joins and frees it.  NULL is nothing. */
int tender_start(struct serve *srv, struct tender **out);
void tender_stop(struct tender *t);

#endif
