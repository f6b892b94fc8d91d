/* SPDX-License-Identifier: Apache-2.0 */
/* Packs on an NFS export: PATH/NNNN/NNNNNNNN.pack, as in a local folder. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3_file.h"
#include "repo/store/lease.h"
#include "repo/store/volume.h"

enum {
	PER_FOLDER = 1024,
	NAME_LEN = 24, /* "ffffffff.poisoned" and its NUL */
	FOLDERS_KEPT = 256,
	SPACE_MS = 1000 /* what the server said of its space counts so long */
};

struct folder {
	uint32_t number; /* + 1; 0: none */
	struct nfs3_fh fh;
};

struct export
{
	struct volume v;
	struct nfs3 *n;
	struct lease *lease;
	pthread_mutex_t mu;
	struct folder folder[FOLDERS_KEPT]; /* guarded by mu, as is the rest */
	uint64_t asked_ms;
	uint64_t avail, total; /* as of then */
	uint64_t promised;     /* reserved and not written yet */
};

struct export_file {
	struct volume_file f;
	struct export *x;
	struct nfs3_file *file;
	uint32_t number;
	uint64_t reserved; /* guarded by x->mu */
	uint64_t end;      /* guarded by x->mu: of what was written */
};

static const struct volume_ops export_ops;
static const struct volume_file_ops export_file_ops;

static struct export *
export_of(struct volume *v)
{
	return (struct export *)v;
}

static struct export_file *
file_of(struct volume_file *f)
{
	return (struct export_file *)f;
}

static const char *
folder_name(uint32_t number, char *out)
{
	snprintf(out, NAME_LEN, "%04" PRIx32, number / PER_FOLDER);
	return out;
}

static const char *
file_name(uint32_t number, bool poisoned, char *out)
{
	snprintf(out, NAME_LEN, "%08" PRIx32 ".%s", number,
	    poisoned ? "poisoned" : "pack");
	return out;
}

/* What the volume's callers know. */
static int
known(const char *what, uint32_t number, int rc)
{
	if (rc == 0 || rc == ERR_NOENT || rc == ERR_EXIST || rc == ERR_NOSPC ||
	    rc == ERR_SYS)
		return rc;
	log_error("pack %" PRIx32 ": %s: %s", number, what,
	    rc == ERR_TIMEOUT      ? "the NFS server does not answer"
		: rc == ERR_DENIED ? "the NFS server does not permit it"
				   : "the NFS server's disk failed");
	return ERR_SYS;
}

/* The folder of that pack; with ${make} it is made.  ERR_NOENT. */
static int
find_folder(struct export *x, uint32_t number, bool make, struct nfs3_fh *out)
{
	uint32_t n = number / PER_FOLDER;
	struct folder *f = &x->folder[n % FOLDERS_KEPT];
	char name[NAME_LEN];
	int rc;

	pthread_mutex_lock(&x->mu);
	rc = f->number == n + 1 ? 0 : ERR_NOENT;
	if (rc == 0)
		*out = f->fh;
	pthread_mutex_unlock(&x->mu);
	if (rc == 0)
		return 0;
	folder_name(number, name);
	rc = nfs3_lookup(x->n, nfs3_root(x->n), name, out, NULL);
	if (rc == ERR_NOENT && make)
		rc = nfs3_mkdir(x->n, nfs3_root(x->n), name, 0700, out);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&x->mu);
	f->number = n + 1;
	f->fh = *out;
	pthread_mutex_unlock(&x->mu);
	return 0;
}

static struct volume_file *
file_new(
    struct export *x, uint32_t number, const struct nfs3_fh *fh, uint64_t size)
{
	struct export_file *f = xcalloc(1, sizeof(*f));

	f->f.ops = &export_file_ops;
	f->x = x;
	f->number = number;
	f->file = nfs3_file_new(x->n, fh, size, true);
	f->reserved = f->end = size;
	return &f->f;
}

static int
export_create(struct volume *v, uint32_t number, struct volume_file **out)
{
	struct export *x = export_of(v);
	struct nfs3_fh folder, fh;
	char name[NAME_LEN];
	int rc;

	rc = lease_check(x->lease);
	if (rc == 0)
		rc = find_folder(x, number, true, &folder);
	/* A number is used once, also if its pack was poisoned. */
	if (rc == 0 &&
	    nfs3_lookup(
		x->n, &folder, file_name(number, true, name), &fh, NULL) == 0)
		return ERR_EXIST;
	if (rc == 0)
		rc = fault_fails(FAULT_PACK_CREATE)
		    ? log_sys("pack %" PRIx32 ": create", number)
		    : nfs3_create(x->n, &folder, file_name(number, false, name),
			  0600, &fh);
	if (rc != 0)
		return known("create", number, rc);
	fault_pass(FAULT_PACK_CREATED);
	*out = file_new(x, number, &fh, 0);
	return 0;
}

/*
 * What a daemon before us wrote and did not commit may be in the server's
 * memory: it is read only once it is on disk, or a restart of the server could
 * take back what we have built on.
 */
static int
export_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	struct export *x = export_of(v);
	struct nfs3_attr attr;
	struct nfs3_fh folder, fh;
	char name[NAME_LEN];
	int rc;

	rc = find_folder(x, number, false, &folder);
	if (rc == 0)
		rc = nfs3_lookup(
		    x->n, &folder, file_name(number, false, name), &fh, &attr);
	if (rc == ERR_NOENT)
		rc = nfs3_lookup(
		    x->n, &folder, file_name(number, true, name), &fh, &attr);
	if (rc != 0)
		return known("open", number, rc);
	(void)writing;
	*out = file_new(x, number, &fh, attr.size);
	rc = nfs3_file_sync(file_of(*out)->file);
	if (rc != 0) {
		volume_file_close(*out);
		return known("open", number, rc);
	}
	return 0;
}

struct visiting {
	struct export *x;
	char folder[NFS3_NAME_MAX + 1];
	int (*visit)(void *arg, const struct volume_name *name);
	void *arg;
};

/* What a name begins with; that all of it is right is tested by printing. */
static uint32_t
leading_hex(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n <= 8 ? (uint32_t)strtoul(s, NULL, 16) : 0;
}

static int
visit_file(void *arg, const char *s)
{
	struct visiting *w = arg;
	struct volume_name name = { .number = leading_hex(s),
		.poisoned = strstr(s, ".poisoned") != NULL };
	char expect[NAME_LEN], folder[NAME_LEN];

	if (*s == '.')
		return 0;
	if (name.number != 0 &&
	    strcmp(file_name(name.number, name.poisoned, expect), s) == 0 &&
	    strcmp(folder_name(name.number, folder), w->folder) == 0)
		return w->visit(w->arg, &name);
	log_info("packs/%.40s/%.40s: not a pack, ignored", w->folder, s);
	return 0;
}

static int
visit_folder(void *arg, const char *s)
{
	struct visiting *w = arg;
	struct nfs3_attr attr;
	struct nfs3_fh fh;
	char expect[NAME_LEN];
	uint32_t n = leading_hex(s);
	int rc;

	if (*s == '.' || strcmp(s, LEASE_FILE) == 0)
		return 0;
	if (n > UINT32_MAX / PER_FOLDER ||
	    strcmp(folder_name(n * PER_FOLDER, expect), s) != 0) {
		log_info("packs/%.40s: not a folder of packs, ignored", s);
		return 0;
	}
	rc = nfs3_lookup(w->x->n, nfs3_root(w->x->n), s, &fh, &attr);
	if (rc != 0 || !attr.dir)
		return rc;
	snprintf(w->folder, sizeof(w->folder), "%s", s);
	return nfs3_list(w->x->n, &fh, visit_file, w);
}

static int
export_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	struct export *x = export_of(v);
	struct visiting w = { .x = x, .visit = visit, .arg = arg };

	return nfs3_list(x->n, nfs3_root(x->n), visit_folder, &w);
}

static int
export_remove(struct volume *v, uint32_t number)
{
	struct export *x = export_of(v);
	struct nfs3_fh folder;
	char name[NAME_LEN];
	int rc;

	rc = lease_check(x->lease);
	if (rc == 0)
		rc = find_folder(x, number, false, &folder);
	if (rc == 0 && fault_fails(FAULT_PACK_UNLINK))
		return log_sys("pack %" PRIx32 ": remove", number);
	if (rc == 0)
		rc = nfs3_remove(x->n, &folder, file_name(number, false, name));
	if (rc == ERR_NOENT)
		rc = nfs3_remove(x->n, &folder, file_name(number, true, name));
	if (rc == 0)
		fault_pass(FAULT_PACK_UNLINKED);
	return known("remove", number, rc);
}

static int
export_poison(struct volume *v, uint32_t number)
{
	struct export *x = export_of(v);
	char from[NAME_LEN], to[NAME_LEN];
	struct nfs3_fh folder, fh;
	int rc;

	file_name(number, false, from);
	file_name(number, true, to);
	rc = find_folder(x, number, false, &folder);
	if (rc == 0 && fault_fails(FAULT_PACK_POISON))
		return log_sys("pack %" PRIx32 ": rename", number);
	if (rc == 0)
		rc = nfs3_rename(x->n, &folder, from, &folder, to);
	if (rc == ERR_NOENT)
		rc = nfs3_lookup(x->n, &folder, to, &fh, NULL);
	if (rc == 0)
		fault_pass(FAULT_PACK_POISONED);
	return known("rename", number, rc);
}

/* As of a moment ago: this is asked for often. */
static int
space(struct export *x, uint64_t *avail, uint64_t *total, uint64_t *promised)
{
	uint64_t now = now_ms(), a, t;
	bool old;
	int rc;

	pthread_mutex_lock(&x->mu);
	old = x->asked_ms == 0 || now - x->asked_ms > SPACE_MS;
	pthread_mutex_unlock(&x->mu);
	if (old) {
		rc = nfs3_space(x->n, &a, &t);
		if (rc != 0)
			return known("free space", 0, rc);
		pthread_mutex_lock(&x->mu);
		x->avail = a;
		x->total = t;
		x->asked_ms = now;
		pthread_mutex_unlock(&x->mu);
	}
	pthread_mutex_lock(&x->mu);
	*avail = x->avail;
	*total = x->total;
	*promised = x->promised;
	pthread_mutex_unlock(&x->mu);
	return 0;
}

static int
export_space(struct volume *v, uint64_t *avail, uint64_t *total)
{
	uint64_t promised;
	int rc = space(export_of(v), avail, total, &promised);

	if (rc == 0)
		*avail -= promised < *avail ? promised : *avail;
	return rc;
}

static void
export_close(struct volume *v)
{
	struct export *x = export_of(v);

	lease_end(x->lease);
	nfs3_close(x->n);
	pthread_mutex_destroy(&x->mu);
	free(x);
}

/* An export has no call for that: the sum of all promises must fit. */
static int
file_reserve(struct volume_file *vf, uint64_t upto)
{
	struct export_file *f = file_of(vf);
	uint64_t avail, total, promised;
	struct export *x = f->x;
	int rc;

	if (fault_fails(FAULT_PACK_RESERVE))
		return ERR_NOSPC;
	rc = space(x, &avail, &total, &promised);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&x->mu);
	if (upto > f->reserved) {
		uint64_t more = upto - f->reserved;

		if (avail < promised || avail - promised < more) {
			rc = ERR_NOSPC;
		} else {
			x->promised += more;
			f->reserved = upto;
		}
	}
	pthread_mutex_unlock(&x->mu);
	return rc;
}

/* That much of what was promised is taken, or given back.  Locked. */
static void
keep_promise(struct export_file *f, uint64_t from, uint64_t upto)
{
	if (upto > f->reserved)
		upto = f->reserved;
	if (upto > from)
		f->x->promised -= upto - from;
}

static int
file_write(struct volume_file *vf, struct iovec *iov, int n, uint64_t off)
{
	struct export_file *f = file_of(vf);
	uint64_t end = off;
	int rc;

	for (int i = 0; i < n; i++)
		end += iov[i].iov_len;
	rc = lease_check(f->x->lease);
	if (rc == 0 && fault_write(FAULT_PACK_WRITE, end - off) != end - off)
		rc = ERR_NOSPC;
	if (rc == 0)
		rc = nfs3_file_write(f->file, iov, n, off);
	if (rc != 0)
		return known("write", f->number, rc);
	pthread_mutex_lock(&f->x->mu);
	if (end > f->end) {
		keep_promise(f, f->end, end);
		f->end = end;
		if (f->end > f->reserved)
			f->reserved = f->end;
	}
	pthread_mutex_unlock(&f->x->mu);
	fault_pass(FAULT_PACK_WRITTEN);
	return 0;
}

static int
file_flush(struct volume_file *vf, uint64_t off, uint64_t len)
{
	(void)off;
	(void)len;
	nfs3_file_flush(file_of(vf)->file);
	return 0;
}

static int
file_sync(struct volume_file *vf)
{
	struct export_file *f = file_of(vf);
	int rc = fault_fails(FAULT_PACK_SYNC)
	    ? log_sys("pack %" PRIx32 ": sync", f->number)
	    : nfs3_file_sync(f->file);

	if (rc == 0)
		fault_pass(FAULT_PACK_SYNCED);
	return known("sync", f->number, rc);
}

static int
file_read_at(
    struct volume_file *vf, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	struct export_file *f = file_of(vf);
	int rc = fault_fails(FAULT_PACK_READ) ? ERR_CORRUPT : 0;

	*got = 0;
	for (int i = 0; rc == 0 && i < n; i++) {
		size_t len;

		rc = nfs3_file_read(
		    f->file, iov[i].iov_base, iov[i].iov_len, off + *got, &len);
		*got += rc == 0 ? len : 0;
		if (rc == 0 && len < iov[i].iov_len)
			break;
	}
	return rc == ERR_CORRUPT ? rc : known("read", f->number, rc);
}

static int
file_size(struct volume_file *vf, uint64_t *size)
{
	*size = nfs3_file_size(file_of(vf)->file);
	return 0;
}

static int
file_cut(struct volume_file *vf, uint64_t size)
{
	struct export_file *f = file_of(vf);
	int rc;

	rc = lease_check(f->x->lease);
	if (rc == 0)
		rc = fault_fails(FAULT_PACK_CUT)
		    ? log_sys("pack %" PRIx32 ": cut", f->number)
		    : nfs3_file_cut(f->file, size);
	if (rc != 0)
		return known("cut", f->number, rc);
	pthread_mutex_lock(&f->x->mu);
	keep_promise(f, f->end, f->reserved);
	f->end = f->reserved = size;
	pthread_mutex_unlock(&f->x->mu);
	return 0;
}

static void
file_close(struct volume_file *vf)
{
	struct export_file *f = file_of(vf);

	pthread_mutex_lock(&f->x->mu);
	keep_promise(f, f->end, f->reserved);
	pthread_mutex_unlock(&f->x->mu);
	nfs3_file_free(f->file);
	free(f);
}

static const struct volume_ops export_ops = {
	.create = export_create,
	.open = export_open,
	.each = export_each,
	.remove = export_remove,
	.poison = export_poison,
	.space = export_space,
	.close = export_close,
};

static const struct volume_file_ops export_file_ops = {
	.reserve = file_reserve,
	.write = file_write,
	.flush = file_flush,
	.sync = file_sync,
	.read = file_read_at,
	.size = file_size,
	.cut = file_cut,
	.close = file_close,
};

int
volume_nfs_open(const char *url, int dirfd, const struct volume_nfs_options *o,
    struct volume **out, struct err *e)
{
	struct nfs3_options no = { .patience_ms = o->patience_ms,
		.make = o->make };
	struct export *x = xcalloc(1, sizeof(*x));
	struct nfs3_url u;
	int rc;

	x->v.ops = &export_ops;
	pthread_mutex_init(&x->mu, NULL);
	rc = nfs3_url_parse(url, &u, e);
	if (rc == 0)
		rc = nfs3_open(&u, &no, &x->n, e);
	if (rc == 0)
		rc = lease_begin(x->n, dirfd, url, &x->lease, e);
	if (rc != 0) {
		nfs3_close(x->n);
		pthread_mutex_destroy(&x->mu);
		free(x);
		return rc;
	}
	*out = &x->v;
	return 0;
}
