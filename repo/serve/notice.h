/* SPDX-License-Identifier: Apache-2.0 */
/* notice: backups that stand out, noticed as they commit. */
#ifndef REPO_SERVE_NOTICE_H
#define REPO_SERVE_NOTICE_H

#include "repo/catalog/unusual.h"
#include "repo/serve/serve.h"

/* What is to be said of one, once it is committed. */
struct notice {
	struct unusual_facts facts;
	enum unusual unusual;
	uint64_t usual; /* bytes */
};

/** notice_judge(srv, m, out): ${m} is about to be committed, and its VM is
 * locked: sets its member unusual.  Compares with the backups that there are.
 */
void notice_judge(struct serve *srv, struct manifest *m, struct notice *out);

/** notice_tell(srv, m, n): it was committed: log it and post an event, if there
 * is anything to say. */
void notice_tell(
    struct serve *srv, const struct manifest *m, const struct notice *n);

#endif
