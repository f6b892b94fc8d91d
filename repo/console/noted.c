/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/console/noted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/owner.h"
#include "repo/audit/audit.h"

int
noted(const char *dir, const char *op, json_t *what, const char *outcome,
    struct err *e)
{
	struct audit_entry a = { .op = op, .what = what, .outcome = outcome };
	char *who = xasprintf("uid %u", (unsigned)owner_before());
	char *from = xasprintf("local process %d", (int)getpid());
	int dirfd, rc;

	a.who = who;
	a.from = from;
	rc = owner_become(dir, e);
	dirfd = rc == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (rc != 0) {
		/* The text is there. */
	} else if (dirfd == -1 ||
	    faccessat(dirfd, "backstay.json", F_OK, 0) == -1) {
		rc = err_set(e, ERR_NOENT, "%s: there is no repository: %s",
		    dir, strerror(errno));
	} else {
		rc = audit_append(dirfd, &a, NULL, e);
	}
	if (dirfd != -1)
		close(dirfd);
	if (rc != 0)
		err_prefix(e, "%s is not noted in the audit log", op);
	json_decref(what);
	free(who);
	free(from);
	return rc;
}
