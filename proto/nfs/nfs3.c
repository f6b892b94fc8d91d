/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing; what all calls share. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3_impl.h"

/* A server that answers nothing at all for so long has a new connection
 * tried; a commit on a busy disk may well take half of it. */
enum { STALL_MS = 60000 };

void
nfs3_patience(struct nfs3 *n, unsigned ms)
{
	if (ms == 0)
		ms = NFS3_PATIENCE_MS;
	atomic_store(&n->patience_ms, ms);
	atomic_store(&n->limits.stall_ms, ms < STALL_MS ? ms : STALL_MS);
}

void
nfs3_changes_until(struct nfs3 *n, uint64_t ms)
{
	atomic_store(&n->limits.changes_until, ms);
	for (unsigned i = 0; i < n->nconns; i++)
		nfs3_conn_wake(&n->conn[i]);
}

void
nfs3_hurry(struct nfs3 *n, unsigned ms)
{
	atomic_store(&n->limits.all_until, now_ms() + ms);
}

uint64_t
nfs3_deadline(struct nfs3 *n)
{
	return now_ms() + atomic_load(&n->patience_ms);
}

void
nfs3_give(struct nfs3 *n, struct nfs3_op *op)
{
	uint64_t now = now_ms();
	struct nfs3_conn *best = NULL;
	bool best_bad = true;

	for (unsigned i = 0; i < n->nconns; i++) {
		struct nfs3_conn *c = &n->conn[i];
		bool bad = now < atomic_load(&c->bad_until_ms);

		if (best == NULL || (best_bad && !bad) ||
		    (best_bad == bad &&
			atomic_load(&c->load) < atomic_load(&best->load))) {
			best = c;
			best_bad = bad;
		}
	}
	nfs3_conn_give(best, op);
}

int
nfs3_rc(const struct nfs3 *n, const char *what, nfsstat3 st)
{
	switch (st) {
	case NFS3_OK: return 0;
	case NFS3ERR_NOENT: return ERR_NOENT;
	case NFS3ERR_EXIST: return ERR_EXIST;
	case NFS3ERR_NOSPC:
	case NFS3ERR_DQUOT: return ERR_NOSPC;
	case NFS3ERR_PERM:
	case NFS3ERR_ACCES:
	case NFS3ERR_ROFS: return ERR_DENIED;
	case NFS3ERR_IO: return ERR_CORRUPT;
	case NFS3ERR_STALE: return ERR_CLOSED;
	case NFS3ERR_NOTDIR: errno = ENOTDIR; break;
	case NFS3ERR_ISDIR: errno = EISDIR; break;
	case NFS3ERR_FBIG: errno = EFBIG; break;
	case NFS3ERR_NAMETOOLONG: errno = ENAMETOOLONG; break;
	case NFS3ERR_NOTEMPTY: errno = ENOTEMPTY; break;
	case NFS3ERR_INVAL: errno = EINVAL; break;
	default: errno = EREMOTEIO; break;
	}
	return log_sys("nfs://%s%s: %s: status %d", n->url.host, n->url.path,
	    what, (int)st);
}

const char *
nfs3_trouble(struct nfs3 *n, char *out, size_t len)
{
	pthread_mutex_lock(&n->limits.mu);
	snprintf(out, len, "%s", n->limits.trouble);
	pthread_mutex_unlock(&n->limits.mu);
	return out;
}

const struct nfs3_fh *
nfs3_root(const struct nfs3 *n)
{
	return &n->root;
}

static int
explain(struct nfs3 *n, int rc, const char *part, struct err *e)
{
	char why[160];

	if (rc == ERR_TIMEOUT)
		return err_set(e, rc,
		    "nfs://%s%s: the server does not answer: %s", n->url.host,
		    n->url.path, nfs3_trouble(n, why, sizeof(why)));
	return err_set(e, rc, "nfs://%s%s: %s: %s", n->url.host, n->url.path,
	    part,
	    rc == ERR_NOENT        ? "there is no such folder"
		: rc == ERR_DENIED ? "the server does not permit it"
		: rc == ERR_NOSPC  ? "the export is full"
		: rc == ERR_CLOSED ? "it was taken away meanwhile"
				   : "the server cannot; the log says why");
}

/* From the mounted folder ${fh} along ${rest}. */
static int
walk(struct nfs3 *n, const char *rest, bool make, struct err *e)
{
	char *copy = xstrdup(rest), *at = copy, *part;
	struct nfs3_attr attr = { .dir = true };
	int rc = 0;

	while (rc == 0 && (part = strsep(&at, "/")) != NULL) {
		struct nfs3_fh next;

		if (*part == 0)
			continue;
		rc = nfs3_lookup(n, &n->root, part, &next, &attr);
		if (rc == ERR_NOENT && make) {
			attr.dir = true;
			rc = nfs3_mkdir(n, &n->root, part, 0700, &next);
		}
		if (rc != 0)
			explain(n, rc, part, e);
		else if (!attr.dir)
			rc =
			    err_set(e, ERR_INVAL, "nfs://%s%s: %s is no folder",
				n->url.host, n->url.path, part);
		else
			n->root = next;
	}
	free(copy);
	return rc;
}

/* The longest part of the path that may be mounted, then the rest of it. */
static int
find_root(struct nfs3 *n, bool make, struct err *e)
{
	char *path = xstrdup(n->url.path);
	size_t len = strlen(path);
	struct err first = { 0 };
	int rc;

	for (;;) {
		*e = (struct err){ 0 };
		rc = nfs3_mount(n, path, &n->root, e);
		if (first.code == 0)
			first = *e;
		if ((rc != ERR_NOENT && rc != ERR_DENIED) || len <= 1)
			break;
		while (len > 1 && path[len - 1] != '/')
			len--;
		while (len > 1 && path[len - 1] == '/')
			len--;
		path[len] = 0;
	}
	free(path);
	if (rc == ERR_NOENT || rc == ERR_DENIED)
		*e = first;
	return rc != 0 ? rc : walk(n, n->url.path + len, make, e);
}

int
nfs3_open(const struct nfs3_url *u, const struct nfs3_options *o,
    struct nfs3 **out, struct err *e)
{
	struct nfs3 *n = xcalloc(1, sizeof(*n));
	pthread_condattr_t monotonic;
	int rc = 0;

	n->url = *u;
	n->read_max = n->write_max = NFS3_IO_SIZE;
	nfs3_patience(n, o->patience_ms);
	nfs3_changes_until(n, UINT64_MAX);
	atomic_store(&n->limits.all_until, UINT64_MAX);
	n->bounded = o->bounded;
	pthread_mutex_init(&n->mu, NULL);
	pthread_mutex_init(&n->files_mu, NULL);
	TAILQ_INIT(&n->files);
	pthread_mutex_init(&n->limits.mu, NULL);
	for (unsigned i = 0; i < NFS3_CONNS; i++)
		n->conn[i].next = &n->conn[(i + 1) % NFS3_CONNS];
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&n->room, &monotonic);
	pthread_condattr_destroy(&monotonic);
	while (rc == 0 && n->nconns < NFS3_CONNS) {
		rc = nfs3_conn_start(&n->conn[n->nconns], &n->url, &n->limits);
		if (rc == 0)
			n->nconns++;
		else
			err_set(e, rc, "a thread could not start");
	}
	if (rc == 0)
		rc = find_root(n, o->make, e);
	if (rc == 0 && (rc = nfs3_fsinfo(n)) != 0)
		explain(n, rc, "fsinfo", e);
	if (rc != 0)
		nfs3_close(n);
	else
		*out = n;
	return rc;
}

void
nfs3_close(struct nfs3 *n)
{
	if (n == NULL)
		return;
	for (unsigned i = 0; i < n->nconns; i++)
		nfs3_conn_stop(&n->conn[i]);
	pthread_cond_destroy(&n->room);
	pthread_mutex_destroy(&n->limits.mu);
	pthread_mutex_destroy(&n->files_mu);
	pthread_mutex_destroy(&n->mu);
	free(n);
}
