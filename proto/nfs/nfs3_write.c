/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: pieces on their way, and the commits that let go of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3_file_impl.h"

enum {
	/* A file has so much committed of its own accord: room for others;
	 * where there is little left, sooner. */
	COMMIT_EVERY = 16 << 20,
	COMMIT_SOON = 2 << 20,
	ROOM_TICK_MS = 50
};

/* The file is locked; whoever waits for room is told. */
static void
piece_free(struct piece *p)
{
	struct nfs3 *n = p->f->n;

	TAILQ_REMOVE(&p->f->pieces, p, link);
	if (p->state == PIECE_WRITTEN)
		p->f->written -= p->len;
	pthread_mutex_lock(&n->mu);
	n->kept -= n->write_max;
	pthread_cond_broadcast(&n->room);
	pthread_mutex_unlock(&n->mu);
	free(p);
}

/* What is written and will not be committed has no right to its room. */
static void
file_fails(struct nfs3_file *f, int rc)
{
	struct piece *p, *next;

	if (f->error == 0)
		f->error = rc;
	for (p = TAILQ_FIRST(&f->pieces); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->state == PIECE_WRITTEN)
			piece_free(p);
	}
}

static uint64_t
commit_at(struct nfs3 *n)
{
	bool little;

	pthread_mutex_lock(&n->mu);
	little = n->kept > NFS3_KEPT_MAX / 2;
	pthread_mutex_unlock(&n->mu);
	return little ? COMMIT_SOON : COMMIT_EVERY;
}

/* The server's disk failing to write is no damage of what is stored. */
static int
write_rc(const struct nfs3_file *f, const char *what, nfsstat3 st)
{
	int rc = nfs3_rc(f->n, what, st);

	if (rc != ERR_CORRUPT)
		return rc;
	errno = EIO;
	return log_sys("nfs://%s%s: %s", f->n->url.host, f->n->url.path, what);
}

/* In the connection's thread. */
static void
piece_done(struct nfs3_op *op, const void *answer)
{
	struct piece *p = (struct piece *)op;
	struct nfs3_file *f = p->f;
	const struct WRITE3res *res = answer;
	const struct WRITE3resok *ok =
	    res != NULL ? &res->WRITE3res_u.resok : NULL;
	/* Else what went before may be in the server's memory only. */
	bool whole = p->at == 0;

	pthread_mutex_lock(&f->mu);
	f->flying--;
	p->state = PIECE_WRITTEN;
	f->written += p->len;
	atomic_fetch_sub(&f->n->unsent, p->len);
	if (res == NULL) {
		file_fails(f, op->fenced ? ERR_BUSY : ERR_TIMEOUT);
	} else if (res->status != NFS3_OK || ok->count == 0 ||
	    ok->count > p->len - p->at) {
		/* Of all that are under way one is told of. */
		file_fails(f,
		    f->error != 0
			? f->error
			: write_rc(f, "write",
			      res->status != NFS3_OK ? res->status
						     : NFS3ERR_SERVERFAULT));
	} else if (f->error != 0) {
		piece_free(p);
	} else if (p->at > 0 &&
	    memcmp(p->verf, ok->verf, sizeof(p->verf)) != 0) {
		/* It restarted in the midst of a piece: all of it anew. */
		p->at = 0;
		f->written -= p->len;
		piece_send(p);
	} else {
		memcpy(p->verf, ok->verf, sizeof(p->verf));
		p->at += ok->count;
		if (p->at < p->len) {
			f->written -= p->len;
			piece_send(p);
		} else if (whole && ok->committed == FILE_SYNC) {
			piece_free(p);
		} else if (f->written >= commit_at(f->n)) {
			file_commit(f);
		}
	}
	pthread_cond_broadcast(&f->moved);
	pthread_mutex_unlock(&f->mu);
}

static uint64_t
file_deadline(struct nfs3_file *f)
{
	return f->patient ? UINT64_MAX : nfs3_deadline(f->n);
}

static int
send_write(struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op)
{
	return rpc_nfs3_write_async(rpc, cb, &((struct piece *)op)->args, op);
}

void
piece_send(struct piece *p)
{
	struct nfs3_file *f = p->f;

	p->state = PIECE_FLYING;
	p->covered = false;
	atomic_fetch_add(&f->n->unsent, p->len);
	p->op.send = send_write;
	p->op.done = piece_done;
	p->op.changes = true;
	p->op.deadline_ms = file_deadline(f);
	p->args.file = nfs3_raw_fh(&f->fh);
	p->args.offset = p->off + p->at;
	p->args.count = p->len - p->at;
	p->args.stable = UNSTABLE;
	p->args.data.data_len = p->len - p->at;
	p->args.data.data_val = p->data + p->at;
	f->flying++;
	nfs3_give(f->n, &p->op);
}

static void
commit_done(struct nfs3_op *op, const void *answer)
{
	struct nfs3_file *f = (struct nfs3_file *)((char *)op -
	    offsetof(struct nfs3_file, commit));
	const struct COMMIT3res *res = answer;
	struct piece *p, *next;

	pthread_mutex_lock(&f->mu);
	f->committing = false;
	f->ncommits++;
	if (res == NULL)
		file_fails(f, op->fenced ? ERR_BUSY : ERR_TIMEOUT);
	else if (res->status != NFS3_OK)
		file_fails(f, write_rc(f, "commit", res->status));
	for (p = TAILQ_FIRST(&f->pieces); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (!p->covered)
			continue;
		p->covered = false;
		if (res == NULL || res->status != NFS3_OK)
			continue;
		if (memcmp(p->verf, res->COMMIT3res_u.resok.verf,
			sizeof(p->verf)) == 0) {
			piece_free(p);
		} else {
			/* The server has restarted, and may have lost it. */
			p->at = 0;
			f->written -= p->len;
			piece_send(p);
		}
	}
	pthread_cond_broadcast(&f->moved);
	pthread_mutex_unlock(&f->mu);
}

static int
send_commit(struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op)
{
	struct nfs3_file *f = (struct nfs3_file *)((char *)op -
	    offsetof(struct nfs3_file, commit));

	return rpc_nfs3_commit_async(rpc, cb, &f->commit_args, op);
}

void
file_commit(struct nfs3_file *f)
{
	struct piece *p;

	if (f->committing)
		return;
	TAILQ_FOREACH(p, &f->pieces, link)
	p->covered = p->state == PIECE_WRITTEN;
	f->committing = true;
	f->commit_args.file = nfs3_raw_fh(&f->fh);
	f->commit_args.offset = 0;
	f->commit_args.count = 0;
	f->commit.send = send_commit;
	f->commit.done = commit_done;
	f->commit.deadline_ms = file_deadline(f);
	nfs3_give(f->n, &f->commit);
}

static void
wait_moved(struct nfs3_file *f)
{
	pthread_cond_wait(&f->moved, &f->mu);
}

/* Locked. */
static void
flush(struct nfs3_file *f)
{
	struct piece *p = TAILQ_LAST(&f->pieces, pieces);

	if (p != NULL && p->state == PIECE_FILLING)
		piece_send(p);
}

/*
 * Who waits for room may have none of it himself, and those who have it may be
 * at rest, or wait for us: so it is taken of all files.
 */
static void
ask_for_room(struct nfs3 *n)
{
	struct nfs3_file *f;

	pthread_mutex_lock(&n->files_mu);
	TAILQ_FOREACH(f, &n->files, link)
	{
		pthread_mutex_lock(&f->mu);
		flush(f);
		if (f->written > 0)
			file_commit(f);
		pthread_mutex_unlock(&f->mu);
	}
	pthread_mutex_unlock(&n->files_mu);
}

static int
error_of(struct nfs3_file *f)
{
	int rc;

	pthread_mutex_lock(&f->mu);
	rc = f->error;
	pthread_mutex_unlock(&f->mu);
	return rc;
}

/*
 * Room for ${rooms} pieces, as long as patience lasts: all at once, or two who
 * have some each would wait for each other.  Nothing is locked.
 */
static int
take_room(struct nfs3_file *f, uint64_t rooms)
{
	uint64_t until = nfs3_deadline(f->n), want = rooms * f->n->write_max;
	struct nfs3 *n = f->n;
	struct timespec t;
	int rc = 0;

	pthread_mutex_lock(&n->mu);
	while (n->kept > 0 && n->kept + want > NFS3_KEPT_MAX) {
		pthread_mutex_unlock(&n->mu);
		rc = error_of(f);
		if (rc == 0 && now_ms() >= until)
			rc = ERR_TIMEOUT;
		if (rc == 0)
			ask_for_room(n);
		pthread_mutex_lock(&n->mu);
		if (rc != 0 || n->kept + want <= NFS3_KEPT_MAX)
			break;
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_nsec += ROOM_TICK_MS * 1000000L;
		if (t.tv_nsec >= 1000000000L) {
			t.tv_nsec -= 1000000000L;
			t.tv_sec++;
		}
		pthread_cond_timedwait(&n->room, &n->mu, &t);
	}
	if (rc == 0)
		n->kept += want;
	pthread_mutex_unlock(&n->mu);
	return rc;
}

static void
give_room(struct nfs3 *n, uint64_t rooms)
{
	pthread_mutex_lock(&n->mu);
	n->kept -= rooms * n->write_max;
	pthread_cond_broadcast(&n->room);
	pthread_mutex_unlock(&n->mu);
}

/*
 * Pieces end where a multiple of their length lies, wherever they begin: what
 * the server keeps in blocks or pages it then is given whole.
 */
static uint32_t
piece_room(const struct piece *p)
{
	uint32_t max = p->f->n->write_max;

	return max - (uint32_t)(p->off % max) - p->len;
}

/* The piece that more may be added to at ${off}, or NULL.  Locked. */
static struct piece *
filling(struct nfs3_file *f, uint64_t off)
{
	struct piece *p = TAILQ_LAST(&f->pieces, pieces);

	if (p == NULL || p->state != PIECE_FILLING)
		return NULL;
	if (p->off + p->len == off)
		return p;
	piece_send(p);
	return NULL;
}

static struct piece *
piece_new(struct nfs3_file *f, uint64_t off)
{
	struct piece *p = xmalloc(sizeof(*p) + f->n->write_max);

	memset(p, 0, sizeof(*p));
	p->f = f;
	p->off = off;
	p->seq = f->next_seq++;
	TAILQ_INSERT_TAIL(&f->pieces, p, link);
	return p;
}

/*
 * What is there already may be on its way: nothing orders two writes of one
 * place but the end of the first.  Locked; waits.
 */
static void
wait_for_others(struct nfs3_file *f, uint64_t off, uint64_t len)
{
	struct piece *p;

	if (off >= f->end)
		return; /* as a rule */
again:
	TAILQ_FOREACH(p, &f->pieces, link)
	{
		if (p->off >= off + len || p->off + p->len <= off)
			continue;
		if (f->error != 0)
			return;
		if (p->state == PIECE_FILLING)
			piece_send(p);
		else if (p->state == PIECE_WRITTEN)
			file_commit(f);
		wait_moved(f);
		goto again;
	}
}

/*
 * All room is taken before anything is, so that a write that fails has done
 * nothing.  One piece more than its length needs: it may begin in the midst.
 */
int
nfs3_file_write(
    struct nfs3_file *f, const struct iovec *iov, int n, uint64_t off)
{
	uint64_t max = f->n->write_max, len = 0, rooms;
	struct piece *p;
	int rc;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (len == 0)
		return 0;
	rooms = len / max + 2;
	rc = take_room(f, rooms);
	if (rc != 0)
		return rc;
	pthread_mutex_lock(&f->mu);
	wait_for_others(f, off, len);
	rc = f->error;
	for (int i = 0; rc == 0 && i < n; i++) {
		const char *at = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left > 0) {
			size_t take;

			p = filling(f, off);
			if (p == NULL) {
				p = piece_new(f, off);
				rooms--;
			}
			take = piece_room(p);
			take = take < left ? take : left;
			memcpy(p->data + p->len, at, take);
			p->len += (uint32_t)take;
			at += take;
			off += take;
			left -= take;
			if (piece_room(p) == 0)
				piece_send(p);
		}
	}
	if (off > f->end)
		f->end = off;
	if (rc == 0 && off > f->size)
		f->size = off;
	pthread_mutex_unlock(&f->mu);
	give_room(f->n, rooms);
	return rc;
}

void
nfs3_file_flush(struct nfs3_file *f)
{
	pthread_mutex_lock(&f->mu);
	flush(f);
	pthread_mutex_unlock(&f->mu);
}

/*
 * Pieces go only when a COMMIT that was sent after they were written came back
 * with their verifier; so it is done when none is left of those that were there
 * at first.  Others may be written meanwhile, and are not waited for.
 */
int
nfs3_file_sync(struct nfs3_file *f)
{
	uint64_t upto, ncommits;
	struct piece *p;
	int rc;

	pthread_mutex_lock(&f->mu);
	flush(f);
	upto = f->next_seq;
	ncommits = f->ncommits;
	for (;;) {
		/* Before us somebody else may have written to it. */
		bool flying = false,
		     any = f->foreign && f->ncommits == ncommits;

		if (f->error != 0)
			break;
		TAILQ_FOREACH(p, &f->pieces, link)
		{
			if (p->seq >= upto)
				break;
			any = true;
			flying = flying || p->state != PIECE_WRITTEN;
		}
		if (!any)
			break;
		if (!flying)
			file_commit(f);
		wait_moved(f);
	}
	rc = f->error;
	if (rc == 0)
		f->foreign = false;
	pthread_mutex_unlock(&f->mu);
	return rc;
}

int
nfs3_file_cut(struct nfs3_file *f, uint64_t size)
{
	struct piece *p, *next;
	struct nfs3_attr attr;

	pthread_mutex_lock(&f->mu);
	flush(f);
	while (f->flying > 0 || f->committing)
		wait_moved(f);
	for (p = TAILQ_FIRST(&f->pieces); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (p->off >= size) {
			piece_free(p);
		} else if (p->off + p->len > size) {
			f->written -= p->len;
			p->len = (uint32_t)(size - p->off);
			p->at = p->len;
			f->written += p->len;
		}
	}
	f->size = f->end = size;
	pthread_mutex_unlock(&f->mu);
	/* As a rule it is as long already.  A call that is sent again leaves
	 * one behind that may be done later, when there is more behind. */
	if (nfs3_getattr(f->n, &f->fh, &attr) == 0 && attr.size == size)
		return 0;
	return nfs3_truncate(f->n, &f->fh, size);
}

struct nfs3_file *
nfs3_file_new(
    struct nfs3 *n, const struct nfs3_fh *fh, uint64_t size, bool patient)
{
	struct nfs3_file *f = xcalloc(1, sizeof(*f));

	f->n = n;
	f->fh = *fh;
	f->size = f->end = size;
	f->patient = patient;
	f->foreign = true;
	pthread_mutex_lock(&n->files_mu);
	TAILQ_INSERT_TAIL(&n->files, f, link);
	pthread_mutex_unlock(&n->files_mu);
	TAILQ_INIT(&f->pieces);
	pthread_mutex_init(&f->mu, NULL);
	pthread_cond_init(&f->moved, NULL);
	return f;
}

void
nfs3_file_free(struct nfs3_file *f)
{
	struct piece *p, *next;

	if (f == NULL)
		return;
	pthread_mutex_lock(&f->n->files_mu);
	TAILQ_REMOVE(&f->n->files, f, link);
	pthread_mutex_unlock(&f->n->files_mu);
	pthread_mutex_lock(&f->mu);
	flush(f);
	while (f->flying > 0 || f->committing)
		wait_moved(f);
	for (p = TAILQ_FIRST(&f->pieces); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		piece_free(p);
	}
	pthread_mutex_unlock(&f->mu);
	pthread_cond_destroy(&f->moved);
	pthread_mutex_destroy(&f->mu);
	free(f);
}

uint64_t
nfs3_file_size(struct nfs3_file *f)
{
	uint64_t size;

	pthread_mutex_lock(&f->mu);
	size = f->size;
	pthread_mutex_unlock(&f->mu);
	return size;
}
