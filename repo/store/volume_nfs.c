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
#include "repo/store/volume_nfs.h"

static const struct volume_ops vol_ops;

static struct nfs_volume *
vol_of(struct volume *v)
{
	return (struct nfs_volume *)v;
}

static const char *
name_of(uint32_t number, bool poisoned, char *out)
{
	const struct volume_name name = { number, poisoned };

	return volume_file_name(&name, out);
}

int
nfs_known(const char *what, uint32_t number, int rc)
{
	char pack[16];

	if (rc == 0 || rc == ERR_NOENT || rc == ERR_EXIST || rc == ERR_NOSPC ||
	    rc == ERR_SYS)
		return rc;
	snprintf(pack, sizeof(pack), "pack %" PRIx32, number);
	log_error("%s: %s: %s", number != 0 ? pack : "packs", what,
	    rc == ERR_TIMEOUT      ? "the NFS server does not answer"
		: rc == ERR_DENIED ? "the NFS server does not permit it"
		: rc == ERR_BUSY   ? "another daemon has the packs"
		: rc == ERR_CLOSED ? "the NFS server does not know it any more"
				   : "the NFS server's disk failed");
	return ERR_SYS;
}

/* The folder of that pack; with ${make} it is made.  ERR_NOENT. */
static int
find_folder(
    struct nfs_volume *x, uint32_t number, bool make, struct nfs3_fh *out)
{
	char name[VOLUME_FOLDER_LEN];
	struct folder *f;
	int rc;

	volume_folder(number, name);
	f = &x->folder[strtoul(name, NULL, 16) % FOLDERS_KEPT];
	pthread_mutex_lock(&x->mu);
	rc = strcmp(f->name, name) == 0 ? 0 : ERR_NOENT;
	if (rc == 0)
		*out = f->fh;
	pthread_mutex_unlock(&x->mu);
	if (rc == 0)
		return 0;
	rc = nfs3_lookup(x->n, nfs3_root(x->n), name, out, NULL);
	if (rc == ERR_NOENT && make)
		rc = nfs3_mkdir(x->n, nfs3_root(x->n), name, 0700, out);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&x->mu);
	memcpy(f->name, name, sizeof(f->name));
	f->fh = *out;
	pthread_mutex_unlock(&x->mu);
	return 0;
}

/* One more user of that pack; NULL: nobody has it open.  Locked. */
static struct pack *
pack_use(struct nfs_volume *x, uint32_t number)
{
	struct pack *p = x->open[number % OPEN_BUCKETS];

	while (p != NULL && p->number != number)
		p = p->next;
	if (p != NULL)
		p->refs++;
	return p;
}

static struct volume_file *
file_new(struct nfs_volume *x, struct pack *p)
{
	struct nfs_pack *f = xcalloc(1, sizeof(*f));

	f->f.ops = &nfs_pack_ops;
	f->x = x;
	f->p = p;
	return &f->f;
}

/* Two may have looked it up at once: the first one's is used by both. */
static struct volume_file *
file_add(struct nfs_volume *x, uint32_t number, struct nfs3_file *file)
{
	struct pack **bucket = &x->open[number % OPEN_BUCKETS], *p;

	pthread_mutex_lock(&x->mu);
	p = pack_use(x, number);
	if (p == NULL) {
		p = xcalloc(1, sizeof(*p));
		p->number = number;
		p->refs = 1;
		p->file = file;
		p->reserved = p->end = nfs3_file_size(file);
		p->next = *bucket;
		*bucket = p;
		file = NULL;
	}
	pthread_mutex_unlock(&x->mu);
	nfs3_file_free(file);
	return file_new(x, p);
}

static int
vol_create(struct volume *v, uint32_t number, struct volume_file **out)
{
	struct nfs_volume *x = vol_of(v);
	struct nfs3_fh folder, fh;
	char name[VOLUME_FILE_LEN];
	int rc;

	rc = lease_check(x->lease);
	if (rc == 0)
		rc = find_folder(x, number, true, &folder);
	/* A number is used once, also if its pack was poisoned. */
	if (rc == 0 &&
	    nfs3_lookup(
		x->n, &folder, name_of(number, true, name), &fh, NULL) == 0)
		return ERR_EXIST;
	if (rc == 0)
		rc = fault_fails(FAULT_PACK_CREATE)
		    ? log_sys("pack %" PRIx32 ": create", number)
		    : nfs3_create(x->n, &folder, name_of(number, false, name),
			  0600, &fh);
	if (rc != 0)
		return nfs_known("create", number, rc);
	fault_pass(FAULT_PACK_CREATED);
	*out = file_add(x, number, nfs3_file_new(x->n, &fh, 0, true));
	return 0;
}

/*
 * Whether the folder is still the one that we have: a server may export the
 * place where a disk is to be mounted before it is, and that is empty.  Then
 * nothing is lost, and must not be taken for it.
 */
static bool
folder_is_ours(struct nfs_volume *x)
{
	struct nfs3_fh fh;

	return nfs3_lookup(x->n, nfs3_root(x->n), LEASE_FILE, &fh, NULL) == 0;
}

/* By its path from the root: a folder's handle may be as stale. */
bool
nfs_pack_gone(struct nfs_volume *x, uint32_t number)
{
	char name[VOLUME_FILE_LEN], in[VOLUME_FOLDER_LEN];
	struct nfs3_fh folder, fh;
	int rc;

	rc = nfs3_lookup(
	    x->n, nfs3_root(x->n), volume_folder(number, in), &folder, NULL);
	for (int i = 0; rc == 0 && i < 2; i++) {
		rc = nfs3_lookup(
		    x->n, &folder, name_of(number, i == 1, name), &fh, NULL);
		if (rc == 0)
			return false;
		if (rc == ERR_NOENT && i == 0)
			rc = 0;
	}
	return rc == ERR_NOENT && folder_is_ours(x);
}

/*
 * What a daemon before us wrote and did not commit may be in the server's
 * memory: it is read only once it is on disk, or a restart of the server could
 * take back what we have built on.  One before that has done so already: what
 * there is is asked again.
 */
static int
open_synced(
    struct nfs_volume *x, const struct nfs3_fh *fh, struct nfs3_file **out)
{
	struct nfs3_file *file = nfs3_file_new(x->n, fh, 0, true);
	struct nfs3_attr attr;
	int rc = nfs3_file_sync(file);

	nfs3_file_free(file);
	if (rc == 0)
		rc = nfs3_getattr(x->n, fh, &attr);
	if (rc == 0)
		*out = nfs3_file_new(x->n, fh, attr.size, true);
	return rc;
}

static int
vol_open(
    struct volume *v, uint32_t number, bool writing, struct volume_file **out)
{
	struct nfs_volume *x = vol_of(v);
	struct nfs3_fh folder, fh;
	struct nfs3_file *file;
	char name[VOLUME_FILE_LEN];
	struct pack *p;
	int rc;

	(void)writing;
	pthread_mutex_lock(&x->mu);
	p = pack_use(x, number);
	pthread_mutex_unlock(&x->mu);
	if (p != NULL) {
		*out = file_new(x, p);
		return 0;
	}
	rc = find_folder(x, number, false, &folder);
	if (rc == 0)
		rc = nfs3_lookup(
		    x->n, &folder, name_of(number, false, name), &fh, NULL);
	if (rc == ERR_NOENT)
		rc = nfs3_lookup(
		    x->n, &folder, name_of(number, true, name), &fh, NULL);
	if (rc == 0)
		rc = open_synced(x, &fh, &file);
	if (rc == ERR_CLOSED || rc == ERR_NOENT)
		rc = nfs_pack_gone(x, number) ? ERR_NOENT : ERR_CLOSED;
	if (rc != 0)
		return nfs_known("open", number, rc);
	*out = file_add(x, number, file);
	return 0;
}

struct visiting {
	struct nfs_volume *x;
	char folder[VOLUME_FOLDER_LEN];
	int (*visit)(void *arg, const struct volume_name *name);
	void *arg;
};

static int
visit_file(void *arg, const char *s)
{
	struct visiting *w = arg;
	struct volume_name name;

	if (*s == '.')
		return 0;
	if (volume_file_parse(w->folder, s, &name))
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
	int rc;

	if (*s == '.' || strcmp(s, LEASE_FILE) == 0 ||
	    strncmp(s, LEASE_ASIDE, sizeof(LEASE_ASIDE) - 1) == 0)
		return 0;
	if (!volume_folder_ok(s)) {
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
vol_each(struct volume *v,
    int (*visit)(void *arg, const struct volume_name *name), void *arg)
{
	struct nfs_volume *x = vol_of(v);
	struct visiting w = { .x = x, .visit = visit, .arg = arg };

	return nfs3_list(x->n, nfs3_root(x->n), visit_folder, &w);
}

/* Space came back: what the server said of it counts no more. */
static void
ask_again(struct nfs_volume *x)
{
	pthread_mutex_lock(&x->mu);
	x->asked_ms = 0;
	pthread_mutex_unlock(&x->mu);
}

static int
vol_remove(struct volume *v, uint32_t number)
{
	struct nfs_volume *x = vol_of(v);
	char name[VOLUME_FILE_LEN];
	struct nfs3_fh folder;
	int rc;

	rc = lease_check(x->lease);
	if (rc == 0)
		rc = find_folder(x, number, false, &folder);
	if (rc != 0)
		return nfs_known("remove", number, rc);
	if (fault_fails(FAULT_PACK_UNLINK))
		return log_sys("pack %" PRIx32 ": remove", number);
	rc = nfs3_remove(x->n, &folder, name_of(number, false, name));
	if (rc == ERR_NOENT)
		rc = nfs3_remove(x->n, &folder, name_of(number, true, name));
	ask_again(x);
	if (rc == 0)
		fault_pass(FAULT_PACK_UNLINKED);
	return nfs_known("remove", number, rc);
}

static int
vol_poison(struct volume *v, uint32_t number)
{
	struct nfs_volume *x = vol_of(v);
	char from[VOLUME_FILE_LEN], to[VOLUME_FILE_LEN];
	struct nfs3_fh folder, fh;
	int rc;

	name_of(number, false, from);
	name_of(number, true, to);
	rc = find_folder(x, number, false, &folder);
	if (rc != 0)
		return nfs_known("rename", number, rc);
	if (fault_fails(FAULT_PACK_POISON))
		return log_sys("pack %" PRIx32 ": rename", number);
	rc = nfs3_rename(x->n, &folder, from, &folder, to, NULL);
	if (rc == ERR_NOENT)
		rc = nfs3_lookup(x->n, &folder, to, &fh, NULL);
	if (rc == 0)
		fault_pass(FAULT_PACK_POISONED);
	return nfs_known("rename", number, rc);
}

/* As of a moment ago: this is asked for often. */
int
nfs_volume_space(
    struct nfs_volume *x, uint64_t *avail, uint64_t *total, uint64_t *promised)
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
			return nfs_known("free space", 0, rc);
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
vol_space(struct volume *v, uint64_t *avail, uint64_t *total)
{
	uint64_t promised;
	int rc = nfs_volume_space(vol_of(v), avail, total, &promised);

	if (rc == 0)
		*avail -= promised < *avail ? promised : *avail;
	return rc;
}

static void
vol_close(struct volume *v)
{
	struct nfs_volume *x = vol_of(v);

	lease_end(x->lease);
	nfs3_close(x->n);
	pthread_mutex_destroy(&x->mu);
	free(x);
}

static const struct volume_ops vol_ops = {
	.create = vol_create,
	.open = vol_open,
	.each = vol_each,
	.remove = vol_remove,
	.poison = vol_poison,
	.space = vol_space,
	.close = vol_close,
};

int
volume_nfs_open(const char *url, int dirfd, const struct volume_nfs_options *o,
    struct volume **out, struct err *e)
{
	struct nfs3_options no = { .patience_ms = o->patience_ms,
		.make = o->make };
	struct nfs_volume *x = xcalloc(1, sizeof(*x));
	struct nfs3_url u;
	int rc;

	x->v.ops = &vol_ops;
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
