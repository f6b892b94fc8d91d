/* SPDX-License-Identifier: Apache-2.0 */
/* What a restore to a folder calls its files, also on an NFS export. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/nfs/nfs3.h"
#include "repo/console/restore.h"

/* For a person who waits; the agent waits for longer. */
enum { PATIENCE_MS = 20000 };

static char *
file_name(const struct manifest *m, unsigned i, const char *format)
{
	char vm[VM_NAME_MAX + 1];

	memcpy(vm, m->vm, sizeof(vm));
	for (char *p = vm; *p != 0; p++)
		if (*p == '/')
			*p = '-';
	return xasprintf("%s-%s.%s", vm, m->volume[i].name, format);
}

char *
restore_target(
    const char *to, const struct manifest *m, unsigned i, const char *format)
{
	size_t len = nfs3_is_url(to) ? strcspn(to, "?") : strlen(to);
	char *name = file_name(m, i, format), *path;

	path = xasprintf("%.*s%s%s%s", (int)len, to,
	    len > 0 && to[len - 1] == '/' ? "" : "/", name, to + len);
	free(name);
	return path;
}

/* Not whether it could be replaced: that is the agent's. */
static int
look_for(struct nfs3 *n, const struct restore_wish *w, const struct manifest *m,
    unsigned i, struct err *e)
{
	char *name = file_name(m, i, w->format);
	struct nfs3_fh fh;
	int rc = nfs3_lookup(n, nfs3_root(n), name, &fh, NULL);

	if (rc == ERR_NOENT)
		rc = 0;
	else if (rc == 0)
		rc = err_set(e, ERR_EXIST,
		    "%.*s has %s already; --force overwrites it",
		    (int)strcspn(w->to, "?"), w->to, name);
	else
		err_set(e, rc, "%.*s: %s: the NFS server does not answer",
		    (int)strcspn(w->to, "?"), w->to, name);
	free(name);
	return rc;
}

int
restore_nfs_folder(
    const struct restore_wish *w, const struct manifest *m, struct err *e)
{
	const struct nfs3_options o = {
		.patience_ms = PATIENCE_MS, .make = true, .bounded = true
	};
	struct nfs3_url u;
	struct nfs3 *n;
	int rc = nfs3_url_parse(w->to, &u, e);

	if (rc == 0)
		rc = nfs3_open(&u, &o, &n, e);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < m->nvolumes && rc == 0 && !w->force; i++)
		rc = look_for(n, w, m, i, e);
	nfs3_close(n);
	return rc;
}
