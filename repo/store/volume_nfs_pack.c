/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with a pack of an export that is open. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "repo/store/volume_nfs.h"

static struct nfs_pack *
file_of(struct volume_file *f)
{
	return (struct nfs_pack *)f;
}

/* An export has no call for that: the sum of all promises must fit. */
static int
file_reserve(struct volume_file *vf, uint64_t upto)
{
	struct nfs_pack *f = file_of(vf);
	struct pack *p = f->p;
	uint64_t avail, total, promised;
	struct nfs_volume *x = f->x;
	int rc;

	if (fault_fails(FAULT_PACK_RESERVE))
		return ERR_NOSPC;
	rc = nfs_volume_space(x, &avail, &total, &promised);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&x->mu);
	if (upto > p->reserved) {
		uint64_t more = upto - p->reserved;

		if (avail < promised || avail - promised < more) {
			rc = ERR_NOSPC;
		} else {
			x->promised += more;
			p->reserved = upto;
		}
	}
	pthread_mutex_unlock(&x->mu);
	return rc;
}

/* That much of what was promised is not needed any more.  Locked. */
static void
end_promise(struct nfs_volume *x, struct pack *p, uint64_t from, uint64_t upto)
{
	if (upto > p->reserved)
		upto = p->reserved;
	if (upto > from)
		x->promised -= upto - from;
}

/* It grew: what the server said of its space was before that.  Locked. */
static void
note_growth(struct nfs_volume *x, struct pack *p, uint64_t end)
{
	uint64_t more = end - p->end;

	end_promise(x, p, p->end, end);
	x->avail -= more < x->avail ? more : x->avail;
	p->end = end;
	if (p->reserved < end)
		p->reserved = end;
}

static int
file_write(struct volume_file *vf, struct iovec *iov, int n, uint64_t off)
{
	struct nfs_pack *f = file_of(vf);
	struct pack *p = f->p;
	uint64_t end = off;
	int rc;

	for (int i = 0; i < n; i++)
		end += iov[i].iov_len;
	rc = lease_check(f->x->lease);
	if (rc == 0 && fault_write(FAULT_PACK_WRITE, end - off) != end - off)
		rc = ERR_NOSPC;
	if (rc == 0)
		rc = nfs3_file_write(p->file, iov, n, off);
	if (rc != 0)
		return nfs_known("write", p->number, rc);
	pthread_mutex_lock(&f->x->mu);
	if (end > p->end)
		note_growth(f->x, p, end);
	pthread_mutex_unlock(&f->x->mu);
	fault_pass(FAULT_PACK_WRITTEN);
	return 0;
}

static int
file_flush(struct volume_file *vf, uint64_t off, uint64_t len)
{
	(void)off;
	(void)len;
	nfs3_file_flush(file_of(vf)->p->file);
	return 0;
}

static int
file_sync(struct volume_file *vf)
{
	struct nfs_pack *f = file_of(vf);
	struct pack *p = f->p;
	int rc = fault_fails(FAULT_PACK_SYNC)
	    ? log_sys("pack %" PRIx32 ": sync", p->number)
	    : nfs3_file_sync(p->file);

	if (rc == 0)
		fault_pass(FAULT_PACK_SYNCED);
	return nfs_known("sync", p->number, rc);
}

/*
 * The server knows the handle no more: the pack was removed under a reader, who
 * then looks where its record is now; or it is there, and only the server is at
 * odds with itself, which must not pass for a pack that is lost.
 */
static int
read_stale(struct nfs_pack *f)
{
	return nfs_pack_gone(f->x, f->p->number) ? ERR_NOENT : ERR_CLOSED;
}

static int
file_read_at(
    struct volume_file *vf, struct iovec *iov, int n, uint64_t off, size_t *got)
{
	struct nfs_pack *f = file_of(vf);
	struct pack *p = f->p;
	int rc = fault_fails(FAULT_PACK_READ) ? ERR_CORRUPT : 0;

	if (rc == 0)
		rc = nfs3_file_readv(p->file, iov, n, off, got);
	if (rc == ERR_CLOSED)
		rc = read_stale(f);
	return rc == ERR_CORRUPT ? rc : nfs_known("read", p->number, rc);
}

static int
file_size(struct volume_file *vf, uint64_t *size)
{
	*size = nfs3_file_size(file_of(vf)->p->file);
	return 0;
}

static int
file_cut(struct volume_file *vf, uint64_t size)
{
	struct nfs_pack *f = file_of(vf);
	struct pack *p = f->p;
	int rc;

	rc = lease_check(f->x->lease);
	if (rc == 0)
		rc = fault_fails(FAULT_PACK_CUT)
		    ? log_sys("pack %" PRIx32 ": cut", p->number)
		    : nfs3_file_cut(p->file, size);
	if (rc != 0)
		return nfs_known("cut", p->number, rc);
	pthread_mutex_lock(&f->x->mu);
	end_promise(f->x, p, p->end, p->reserved);
	p->end = p->reserved = size;
	f->x->asked_ms = 0;
	pthread_mutex_unlock(&f->x->mu);
	return 0;
}

static void
file_close(struct volume_file *vf)
{
	struct nfs_pack *f = file_of(vf);
	struct pack *p = f->p, **at;
	struct nfs_volume *x = f->x;

	pthread_mutex_lock(&x->mu);
	if (--p->refs == 0) {
		end_promise(x, p, p->end, p->reserved);
		at = &x->open[p->number % OPEN_BUCKETS];
		while (*at != p)
			at = &(*at)->next;
		*at = p->next;
	} else {
		p = NULL;
	}
	pthread_mutex_unlock(&x->mu);
	if (p != NULL)
		nfs3_file_free(p->file);
	free(p);
	free(f);
}

const struct volume_file_ops nfs_pack_ops = {
	.reserve = file_reserve,
	.write = file_write,
	.flush = file_flush,
	.sync = file_sync,
	.read = file_read_at,
	.size = file_size,
	.cut = file_cut,
	.close = file_close,
};
