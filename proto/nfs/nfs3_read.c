/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: many requests at once, and what is kept here in their place. */
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/nfs/nfs3_file_impl.h"

struct reading {
	pthread_mutex_t mu;
	pthread_cond_t done;
	unsigned left; /* guarded by mu, as is the next */
	int rc;
};

/* Where what is read goes: as many parts, one behind another. */
struct places {
	const struct iovec *iov;
	int n;
};

/* ${len} bytes to what is ${at} behind the beginning of ${to}. */
static void
place(const struct places *to, size_t at, const void *from, size_t len)
{
	const char *data = from;

	for (int i = 0; i < to->n && len > 0; i++) {
		size_t room = to->iov[i].iov_len, n;

		if (at >= room) {
			at -= room;
			continue;
		}
		n = room - at < len ? room - at : len;
		if (data != NULL) {
			memcpy((char *)to->iov[i].iov_base + at, data, n);
			data += n;
		} else {
			memset((char *)to->iov[i].iov_base + at, 0, n);
		}
		at = 0;
		len -= n;
	}
}

/* One READ. */
struct part {
	struct nfs3_op op;
	struct nfs3_file *f;
	struct reading *r;
	struct READ3args args;
	const struct places *to;
	size_t at; /* behind the beginning of these */
	uint32_t want;
	uint32_t got; /* its thread, then whoever waited for it */
};

static int
send_read(struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op)
{
	return rpc_nfs3_read_async(rpc, cb, &((struct part *)op)->args, op);
}

static void
part_send(struct part *p)
{
	p->args.count = p->want - p->got;
	p->op.send = send_read;
	nfs3_give(p->f->n, &p->op);
}

static void
part_done(struct nfs3_op *op, const void *answer)
{
	struct part *p = (struct part *)op;
	const struct READ3res *res = answer;
	const struct READ3resok *ok =
	    res != NULL ? &res->READ3res_u.resok : NULL;
	struct reading *r = p->r;
	int rc = ERR_TIMEOUT;

	/* A length that does not fit what was asked for, libnfs may not have
	 * held against what came either. */
	if (res != NULL && res->status == NFS3_OK &&
	    ok->data.data_len > p->want - p->got) {
		rc = nfs3_rc(p->f->n, "read", NFS3ERR_SERVERFAULT);
	} else if (res != NULL && res->status == NFS3_OK) {
		uint32_t n = ok->data.data_len;

		place(p->to, p->at + p->got, ok->data.data_val, n);
		p->got += n;
		rc = 0;
		if (n > 0 && !ok->eof && p->got < p->want) {
			p->args.offset += n;
			part_send(p);
			return;
		}
	} else if (res != NULL) {
		rc = nfs3_rc(p->f->n, "read", res->status);
	}
	pthread_mutex_lock(&r->mu);
	if (r->rc == 0)
		r->rc = rc;
	/* Under the lock: ${r} is on the stack of whoever waits. */
	if (--r->left == 0)
		pthread_cond_signal(&r->done);
	pthread_mutex_unlock(&r->mu);
}

/* From the server; ${len} may be more than there is. */
static int
fetch(struct nfs3_file *f, const struct places *to, size_t at, size_t len,
    uint64_t off, size_t *got)
{
	uint32_t max = f->n->read_max;
	size_t n = (len + max - 1) / max;
	struct part *part = xcalloc(n, sizeof(*part));
	struct reading r = { .left = (unsigned)n };
	uint64_t deadline = nfs3_deadline(f->n);

	pthread_mutex_init(&r.mu, NULL);
	pthread_cond_init(&r.done, NULL);
	for (size_t i = 0; i < n; i++) {
		size_t begin = i * max;

		part[i].f = f;
		part[i].r = &r;
		part[i].to = to;
		part[i].at = at + begin;
		part[i].want =
		    (uint32_t)(len - begin < max ? len - begin : max);
		part[i].args.file = nfs3_raw_fh(&f->fh);
		part[i].args.offset = off + begin;
		part[i].op.done = part_done;
		part[i].op.deadline_ms = deadline;
		part_send(&part[i]);
	}
	pthread_mutex_lock(&r.mu);
	while (r.left > 0)
		pthread_cond_wait(&r.done, &r.mu);
	pthread_mutex_unlock(&r.mu);
	pthread_cond_destroy(&r.done);
	pthread_mutex_destroy(&r.mu);
	*got = 0;
	for (size_t i = 0; i < n; i++) {
		*got += part[i].got;
		if (part[i].got < part[i].want)
			break;
	}
	free(part);
	return r.rc;
}

/*
 * What is kept here counts, and is not asked for: the server may have lost it,
 * and have been sent it again.  The first run from ${off} on that is kept goes
 * to ${to}, and its length is returned; else 0, and ${*len} ends where one
 * begins.
 */
static size_t
from_pieces(struct nfs3_file *f, const struct places *to, size_t at,
    size_t *len, uint64_t off)
{
	const struct piece *p;
	size_t n = 0;

	pthread_mutex_lock(&f->mu);
	TAILQ_FOREACH(p, &f->pieces, link)
	{
		if (p->off + p->len <= off + n)
			continue;
		if (p->off <= off + n) {
			size_t skip = (size_t)(off + n - p->off);
			size_t take = p->len - skip;

			if (take > *len - n)
				take = *len - n;
			place(to, at + n, p->data + skip, take);
			n += take;
			if (n == *len)
				break;
		} else if (n == 0 && p->off - off < *len) {
			*len = (size_t)(p->off - off);
		}
	}
	pthread_mutex_unlock(&f->mu);
	return n;
}

int
nfs3_file_readv(struct nfs3_file *f, const struct iovec *iov, int n,
    uint64_t off, size_t *got)
{
	const struct places to = { iov, n };
	size_t len = 0, at = 0;
	int rc = 0;

	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	while (rc == 0 && at < len) {
		size_t want = len - at, done;

		done = from_pieces(f, &to, at, &want, off + at);
		if (done > 0) {
			at += done;
			continue;
		}
		rc = fetch(f, &to, at, want, off + at, &done);
		if (rc != 0)
			break;
		if (done < want && at + want < len) {
			/* A hole before what is kept here. */
			place(&to, at + done, NULL, want - done);
			done = want;
		}
		at += done;
		if (done < want)
			break;
	}
	*got = at;
	return rc;
}

int
nfs3_file_read(
    struct nfs3_file *f, void *data, size_t len, uint64_t off, size_t *got)
{
	struct iovec iov = { data, len };

	return nfs3_file_readv(f, &iov, 1, off, got);
}
