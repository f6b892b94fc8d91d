/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image/nfsfile.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "proto/base/buf.h"

struct nfsdir {
	LIST_ENTRY(nfsdir) link;
	struct nfs3_url url;
	struct nfs3 *n;
	unsigned refs;
};

struct nfsfile {
	struct nfsdir *dir;
	struct nfs3_fh fh;
	struct nfs3_attr attr; /* when it was opened */
	struct nfs3_file *file;
	char *url;
};

static unsigned patience_s = NFSFILE_PATIENCE_S; /* set before start */

/* Also held while a folder is looked for: who wants the same one waits. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, nfsdir) dirs = LIST_HEAD_INITIALIZER(dirs);

void
nfsfile_patience(unsigned s)
{
	patience_s = s;
}

static bool
same_place(const struct nfs3_url *a, const struct nfs3_url *b)
{
	return strcmp(a->host, b->host) == 0 && strcmp(a->path, b->path) == 0 &&
	    a->nfsport == b->nfsport && a->mountport == b->mountport &&
	    a->uid == b->uid && a->gid == b->gid;
}

static int
get_dir(const struct nfs3_url *u, struct nfsdir **out, struct err *e)
{
	const struct nfs3_options o = { .patience_ms = patience_s * 1000,
		.bounded = true };
	struct nfsdir *d;
	int rc;

	LIST_FOREACH(d, &dirs, link)
	{
		if (same_place(&d->url, u)) {
			d->refs++;
			*out = d;
			return 0;
		}
	}
	d = xcalloc(1, sizeof(*d));
	d->url = *u;
	d->refs = 1;
	rc = nfs3_open(u, &o, &d->n, e);
	if (rc != 0) {
		free(d);
		return rc == ERR_TIMEOUT ? ERR_CLOSED : rc;
	}
	LIST_INSERT_HEAD(&dirs, d, link);
	*out = d;
	return 0;
}

int
nfsdir_open(const char *url, char *name, struct nfsdir **out, struct err *e)
{
	struct nfs3_url u;
	int rc = nfs3_url_parse(url, &u, e);

	if (rc == 0)
		rc = nfs3_url_split(&u, name, e);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&mu);
	rc = get_dir(&u, out, e);
	pthread_mutex_unlock(&mu);
	return rc;
}

struct nfs3 *
nfsdir_client(const struct nfsdir *d)
{
	return d->n;
}

void
nfsdir_close(struct nfsdir *d)
{
	bool last;

	if (d == NULL)
		return;
	pthread_mutex_lock(&mu);
	last = --d->refs == 0;
	if (last)
		LIST_REMOVE(d, link);
	pthread_mutex_unlock(&mu);
	if (!last)
		return;
	nfs3_close(d->n);
	free(d);
}

int
nfsfile_error(
    struct err *e, int rc, struct nfs3 *n, const char *url, const char *what)
{
	int len = (int)strcspn(url, "?");
	const char *why;
	char trouble[160];

	switch (rc) {
	case ERR_TIMEOUT:
		nfs3_trouble(n, trouble, sizeof(trouble));
		return err_set(e, ERR_CLOSED,
		    "%.*s: %s: the NFS server has not answered for %u s: %s; "
		    "begin again when it is back",
		    len, url, what, patience_s,
		    *trouble != 0 ? trouble
				  : "it takes what is sent, and is "
				    "silent");
	case ERR_CLOSED:
		rc = ERR_NOENT;
		why = "was removed or replaced by somebody meanwhile";
		break;
	case ERR_NOENT: why = "there is no such file"; break;
	case ERR_EXIST: why = "is there already"; break;
	case ERR_DENIED:
		why = "the server does not permit it: say another ?uid= and "
		      "gid=, or change who may there";
		break;
	case ERR_NOSPC:
		why = "the export is full, or over its quota: make room, or "
		      "restore to another place";
		break;
	case ERR_CORRUPT: why = "the server's disk cannot read it"; break;
	default: why = "the NFS server cannot; the log says why";
	}
	return err_set(e, rc, "%.*s: %s: %s", len, url, what, why);
}

int
nfsfile_open(
    const char *url, uint64_t *size, struct nfsfile **out, struct err *e)
{
	struct nfsfile *f = xcalloc(1, sizeof(*f));
	char name[NFS3_NAME_MAX + 1];
	struct nfs3 *n;
	int rc;

	f->url = xstrdup(url);
	rc = nfsdir_open(url, name, &f->dir, e);
	if (rc != 0)
		goto err_close;
	n = nfsdir_client(f->dir);
	rc = nfs3_lookup(n, nfs3_root(n), name, &f->fh, &f->attr);
	if (rc != 0) {
		rc = nfsfile_error(e, rc, n, url, "open");
		goto err_close;
	}
	if (!f->attr.regular) {
		rc = err_set(e, ERR_INVAL, "%.*s: is no regular file",
		    (int)strcspn(url, "?"), url);
		goto err_close;
	}
	f->file = nfs3_file_new(n, &f->fh, f->attr.size, false);
	*size = f->attr.size;
	*out = f;
	return 0;
err_close:
	nfsfile_close(f);
	return rc;
}

void
nfsfile_close(struct nfsfile *f)
{
	if (f == NULL)
		return;
	nfs3_file_free(f->file);
	nfsdir_close(f->dir);
	free(f->url);
	free(f);
}

int
nfsfile_read(
    struct nfsfile *f, void *data, size_t len, uint64_t off, struct err *e)
{
	size_t got;
	int rc = nfs3_file_read(f->file, data, len, off, &got);

	if (rc != 0)
		return nfsfile_error(e, rc, f->dir->n, f->url, "read");
	if (got < len)
		return err_set(e, ERR_CORRUPT,
		    "%.*s: became shorter while it was read",
		    (int)strcspn(f->url, "?"), f->url);
	return 0;
}

int
nfsfile_still(struct nfsfile *f, struct err *e)
{
	struct nfs3_attr now;
	int rc = nfs3_getattr(f->dir->n, &f->fh, &now);

	if (rc != 0)
		return nfsfile_error(e, rc, f->dir->n, f->url, "stat");
	if (now.mtime_ns == f->attr.mtime_ns && now.size == f->attr.size)
		return 0;
	return err_set(e, ERR_BUSY,
	    "%.*s: was written to while it was read: stop the guest that uses "
	    "it, or back it up where it runs (--domain)",
	    (int)strcspn(f->url, "?"), f->url);
}

bool
nfsfile_same(const struct nfsfile *a, const struct nfsfile *b)
{
	return strcmp(a->dir->url.host, b->dir->url.host) == 0 &&
	    nfs3_same(&a->fh, &b->fh);
}
