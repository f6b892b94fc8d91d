/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sink/target_nfs.h"

#include <stdlib.h>
#include <string.h>

#include "agent/image/nfsfile.h"
#include "agent/sink/swap.h"
#include "proto/base/buf.h"
#include "proto/base/log.h"

/* To clean up: of a server that answers, and of one that does not. */
enum { CLEAN_MS = 5000, CLEAN_SILENT_MS = 500 };

struct target_nfs {
	struct nfsdir *dir;
	struct nfs3 *n;
	struct nfs3_fh tmp;
	struct nfs3_file *file;
	bool was; /* there is an old one: */
	struct nfs3_attr old;
};

static int
failed(const struct target *t, int rc, const char *what, struct err *e)
{
	return nfsfile_error(e, rc, t->nfs->n, t->path, what);
}

/* ERR_NOENT is no failure: *${there} false. */
static int
look(const struct target *t, const char *name, struct nfs3_fh *fh,
    struct nfs3_attr *attr, bool *there, struct err *e)
{
	int rc = nfs3_lookup(t->nfs->n, nfs3_root(t->nfs->n), name, fh, attr);

	*there = rc == 0;
	return rc == 0 || rc == ERR_NOENT ? 0 : failed(t, rc, "look", e);
}

static int
check_old(struct target *t, struct err *e)
{
	char *journal = swap_journal_name(t->name);
	struct nfs3_fh fh;
	bool swapping;
	int rc;

	rc = look(t, journal, &fh, NULL, &swapping, e);
	free(journal);
	if (rc == 0 && swapping)
		rc = err_set(e, ERR_EXIST,
		    "%s: a host that mounts the export has begun to swap it, "
		    "and was interrupted: see backstay-agent restore --finish "
		    "there",
		    t->path);
	if (rc == 0)
		rc = look(t, t->name, &fh, &t->nfs->old, &t->nfs->was, e);
	if (rc != 0 || !t->nfs->was)
		return rc;
	if (!t->force)
		return err_set(e, ERR_EXIST,
		    "%s: is there already: restore to another name, or say "
		    "--force to replace it",
		    t->path);
	if (!t->nfs->old.regular)
		return err_set(
		    e, ERR_INVAL, "%s: is not a regular file", t->path);
	return 0;
}

/* Who had it before us writes to a file without a name from here on, and
 * fails. */
static int
make_tmp(struct target *t, struct err *e)
{
	struct target_nfs *f = t->nfs;
	const struct nfs3_fh *dir = nfs3_root(f->n);
	int rc = nfs3_create(f->n, dir, t->tmp, 0600, &f->tmp);

	if (rc == ERR_EXIST && !t->force)
		return err_set(e, ERR_BUSY,
		    "%s: %s is there: another restore writes to it, or one was "
		    "killed; if none does, --force takes it away",
		    t->path, t->tmp);
	if (rc == ERR_EXIST) {
		rc = nfs3_remove(f->n, dir, t->tmp);
		if (rc == 0 || rc == ERR_NOENT)
			rc = nfs3_create(f->n, dir, t->tmp, 0600, &f->tmp);
	}
	return rc != 0 ? failed(t, rc, "create", e) : 0;
}

int
target_nfs_open(struct target *t, struct err *e)
{
	struct target_nfs *f = xcalloc(1, sizeof(*f));
	char name[NFS3_NAME_MAX + 1];
	int rc;

	rc = nfsdir_open(t->path, name, &f->dir, e);
	if (rc != 0)
		goto err_free;
	t->nfs = f;
	f->n = nfsdir_client(f->dir);
	t->name = xstrdup(name);
	t->tmp = xasprintf(".%s.restoring", name);
	if (strlen(t->tmp) > NFS3_NAME_MAX)
		rc = err_set(
		    e, ERR_INVAL, "%s: is not a name for an image", t->path);
	if (rc == 0)
		rc = check_old(t, e);
	if (rc == 0)
		rc = make_tmp(t, e);
	if (rc != 0)
		goto err_dir;
	f->file = nfs3_file_new(f->n, &f->tmp, 0, false);
	t->out.client = f->n;
	t->out.nfs = f->file;
	return 0;
err_dir:
	nfsdir_close(f->dir);
err_free:
	t->nfs = NULL;
	free(f);
	return rc;
}

/* The name must still be that of our file. */
static int
check_tmp(struct target *t, bool *ours, struct err *e)
{
	struct nfs3_fh fh;
	int rc = look(t, t->tmp, &fh, NULL, ours, e);

	*ours = rc == 0 && *ours && nfs3_same(&fh, &t->nfs->tmp);
	return rc;
}

static int
rename_it(struct target *t, struct err *e)
{
	const struct nfs3_fh *dir = nfs3_root(t->nfs->n);
	struct nfs3_fh fh;
	bool ours, there;
	int rc = check_tmp(t, &ours, e);

	if (rc == 0 && !ours)
		return err_set(e, ERR_BUSY,
		    "%s: another restore to it has begun, and taken %s away",
		    t->path, t->tmp);
	if (rc == 0 && !t->force) {
		rc = look(t, t->name, &fh, NULL, &there, e);
		if (rc == 0 && there)
			rc = err_set(e, ERR_EXIST,
			    "%s: somebody made it meanwhile", t->path);
	}
	if (rc != 0)
		return rc;
	rc = nfs3_rename(t->nfs->n, dir, t->tmp, dir, t->name, &t->nfs->tmp);
	if (rc == ERR_TIMEOUT)
		return failed(t, rc,
		    "all is written, but not known whether it has its name", e);
	if (rc != 0)
		return failed(t, rc, "rename", e);
	/* It goes by names, and the name may have been another's by then. */
	rc = look(t, t->name, &fh, NULL, &there, e);
	if (rc == 0 && (!there || !nfs3_same(&fh, &t->nfs->tmp)))
		rc = err_set(e, ERR_BUSY,
		    "%s: another restore to it has begun just now, and what is "
		    "there is its: begin again when it has ended",
		    t->path);
	return rc;
}

int
target_nfs_finish(struct target *t, struct err *e)
{
	struct target_nfs *f = t->nfs;
	int rc = 0;

	if (f->was) {
		rc = nfs3_own(f->n, &f->tmp, &f->old);
		if (rc != 0)
			rc = failed(t, rc, "owner", e);
	}
	if (rc == 0)
		rc = outfile_sync(&t->out, e);
	if (rc == 0)
		rc = rename_it(t, e);
	t->finished = rc == 0;
	return rc;
}

void
target_nfs_close(struct target *t)
{
	struct target_nfs *f = t->nfs;
	char trouble[160];
	bool ours = false;
	int rc = 0;

	/* Whoever has waited for so long does not wait again. */
	if (!t->finished)
		nfs3_patience(f->n,
		    *nfs3_trouble(f->n, trouble, sizeof(trouble)) != 0
			? CLEAN_SILENT_MS
			: CLEAN_MS);
	nfs3_file_free(f->file);
	if (!t->finished)
		rc = check_tmp(t, &ours, NULL);
	if (ours)
		rc = nfs3_remove(f->n, nfs3_root(f->n), t->tmp);
	if (rc != 0)
		log_info("%.*s: %s is left beside it: remove it when the "
			 "server is back",
		    (int)strcspn(t->path, "?"), t->path, t->tmp);
	nfsdir_close(f->dir);
	free(f);
}
