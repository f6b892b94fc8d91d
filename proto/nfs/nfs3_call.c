/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait for their answers. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3_impl.h"

enum {
	LIST_BYTES = 32768,
	LIST_MAX = 64 << 20, /* bytes of names: a server that never ends */
	LIST_TRIES = 20,     /* of a folder that changes all the time */
	IO_MIN = 4096        /* what a server takes less of it takes in parts */
};

struct call {
	struct nfs3_op op;
	sem_t done;
	int rc; /* ERR_TIMEOUT, ERR_BUSY, or 0: st */
	nfsstat3 st;
	union {
		struct LOOKUP3args lookup;
		struct GETATTR3args getattr;
		struct SETATTR3args setattr;
		struct WRITE3args write;
		struct MKDIR3args mkdir;
		struct CREATE3args create;
		struct REMOVE3args remove;
		struct RENAME3args rename;
		struct READDIR3args readdir;
		struct FSSTAT3args fsstat;
		struct FSINFO3args fsinfo;
	} a;
	/* Copies what is wanted of an answer that is NFS3_OK. */
	void (*take)(struct call *c, const void *res);
	void *out, *out2;
};

#define SEND(name, member)                                                     \
	static int send_##name(                                                \
	    struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op)            \
	{                                                                      \
		return rpc_nfs3_##name##_async(                                \
		    rpc, cb, &((struct call *)op)->a.member, op);              \
	}
SEND(lookup, lookup)
SEND(getattr, getattr)
SEND(setattr, setattr)
SEND(write, write)
SEND(mkdir, mkdir)
SEND(create, create)
SEND(remove, remove)
SEND(rename, rename)
SEND(readdir, readdir)
SEND(fsstat, fsstat)
SEND(fsinfo, fsinfo)
#undef SEND

static void
call_done(struct nfs3_op *op, const void *res)
{
	struct call *c = (struct call *)op;

	if (res == NULL) {
		c->rc = op->fenced ? ERR_BUSY : ERR_TIMEOUT;
	} else {
		c->st = *(const nfsstat3 *)res;
		if (c->st == NFS3_OK && c->take != NULL)
			c->take(c, res);
	}
	sem_post(&c->done);
}

/* ERR_TIMEOUT, ERR_BUSY, or 0: ${c->st} says. */
static int
call(struct nfs3 *n, struct call *c,
    int (*send)(struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op),
    uint64_t deadline_ms)
{
	c->op.send = send;
	c->op.done = call_done;
	c->op.deadline_ms = deadline_ms;
	sem_init(&c->done, 0, 0);
	nfs3_give(n, &c->op);
	while (sem_wait(&c->done) == -1)
		;
	sem_destroy(&c->done);
	return c->rc;
}

static int
change(struct nfs3 *n, struct call *c,
    int (*send)(struct rpc_context *rpc, rpc_cb cb, struct nfs3_op *op),
    uint64_t deadline_ms)
{
	c->op.changes = true;
	return call(n, c, send, deadline_ms);
}

static void
take_fh(struct nfs3_fh *out, const struct nfs_fh3 *raw)
{
	out->len = raw->data.data_len;
	if (out->len > NFS3_FH_MAX)
		out->len = 0; /* the protocol has none such */
	memcpy(out->data, raw->data.data_val, out->len);
}

static void
take_fattr(struct nfs3_attr *out, const struct fattr3 *a)
{
	if (out == NULL)
		return;
	out->dir = a->type == NF3DIR;
	out->regular = a->type == NF3REG;
	out->mode = a->mode;
	out->uid = a->uid;
	out->gid = a->gid;
	out->mtime_ns =
	    a->mtime.seconds * UINT64_C(1000000000) + a->mtime.nseconds;
	out->size = a->size;
	out->used = a->used;
	out->fileid = a->fileid;
}

static void
take_getattr(struct call *c, const void *res)
{
	const struct GETATTR3res *r = res;

	take_fattr(c->out, &r->GETATTR3res_u.resok.obj_attributes);
}

int
nfs3_getattr(struct nfs3 *n, const struct nfs3_fh *fh, struct nfs3_attr *attr)
{
	struct call c = { .a.getattr.object = nfs3_raw_fh(fh),
		.take = take_getattr,
		.out = attr };
	int rc = call(n, &c, send_getattr, nfs3_deadline(n));

	return rc != 0 ? rc : nfs3_rc(n, "getattr", c.st);
}

static void
take_lookup(struct call *c, const void *res)
{
	const struct LOOKUP3resok *r =
	    &((const struct LOOKUP3res *)res)->LOOKUP3res_u.resok;

	take_fh(c->out, &r->object);
	if (r->obj_attributes.attributes_follow)
		take_fattr(
		    c->out2, &r->obj_attributes.post_op_attr_u.attributes);
	else
		c->out2 = NULL;
}

int
nfs3_lookup(struct nfs3 *n, const struct nfs3_fh *dir, const char *name,
    struct nfs3_fh *out, struct nfs3_attr *attr)
{
	struct call c = { .a.lookup.what = { nfs3_raw_fh(dir),
			      (char *)(uintptr_t)name },
		.take = take_lookup,
		.out = out,
		.out2 = attr };
	int rc = call(n, &c, send_lookup, nfs3_deadline(n));

	if (rc == 0)
		rc = nfs3_rc(n, name,
		    c.st == NFS3_OK && out->len == 0 ? NFS3ERR_SERVERFAULT
						     : c.st);
	if (rc == 0 && attr != NULL && c.out2 == NULL)
		rc = nfs3_getattr(n, out, attr);
	return rc;
}

static void
take_mkdir(struct call *c, const void *res)
{
	const struct post_op_fh3 *o =
	    &((const struct MKDIR3res *)res)->MKDIR3res_u.resok.obj;

	if (o->handle_follows)
		take_fh(c->out, &o->post_op_fh3_u.handle);
}

int
nfs3_mkdir(struct nfs3 *n, const struct nfs3_fh *dir, const char *name,
    uint32_t mode, struct nfs3_fh *out)
{
	struct call c = { .a.mkdir = { .where = { nfs3_raw_fh(dir),
					   (char *)(uintptr_t)name },
			      .attributes.mode = { .set_it = 1,
				  .set_mode3_u.mode = mode } },
		.take = take_mkdir,
		.out = out };
	int rc;

	out->len = 0;
	rc = change(n, &c, send_mkdir, nfs3_deadline(n));
	if (rc == 0)
		rc = nfs3_rc(n, name, c.st);
	if (rc == ERR_EXIST || (rc == 0 && out->len == 0))
		rc = nfs3_lookup(n, dir, name, out, NULL);
	return rc;
}

static void
take_create(struct call *c, const void *res)
{
	const struct post_op_fh3 *o =
	    &((const struct CREATE3res *)res)->CREATE3res_u.resok.obj;

	if (o->handle_follows)
		take_fh(c->out, &o->post_op_fh3_u.handle);
}

/*
 * Exclusive: the server keeps our verifier with the file, so a call that is
 * sent again finds the file that it made, and another's is told apart.  The
 * mode is set by a second call, as such a file comes without one.
 */
int
nfs3_create(struct nfs3 *n, const struct nfs3_fh *dir, const char *name,
    uint32_t mode, struct nfs3_fh *out)
{
	struct call c = { .a.create = { .where = { nfs3_raw_fh(dir),
					    (char *)(uintptr_t)name },
			      .how.mode = EXCLUSIVE },
		.take = take_create,
		.out = out };
	struct call m = { .rc = 0 };
	int rc;

	random_bytes(c.a.create.how.createhow3_u.verf,
	    sizeof(c.a.create.how.createhow3_u.verf));
	out->len = 0;
	rc = change(n, &c, send_create, nfs3_deadline(n));
	if (rc == 0)
		rc = nfs3_rc(n, name, c.st);
	if (rc == 0 && out->len == 0)
		rc = nfs3_lookup(n, dir, name, out, NULL);
	if (rc != 0)
		return rc;
	m.a.setattr.object = nfs3_raw_fh(out);
	m.a.setattr.new_attributes.mode.set_it = 1;
	m.a.setattr.new_attributes.mode.set_mode3_u.mode = mode;
	rc = change(n, &m, send_setattr, nfs3_deadline(n));
	return rc != 0 ? rc : nfs3_rc(n, name, m.st);
}

/* Of what changes names and sizes. */
static uint64_t
change_deadline(struct nfs3 *n)
{
	return n->bounded ? nfs3_deadline(n) : UINT64_MAX;
}

int
nfs3_remove(struct nfs3 *n, const struct nfs3_fh *dir, const char *name)
{
	struct call c = { .a.remove.object = {
			      nfs3_raw_fh(dir), (char *)(uintptr_t)name } };
	int rc = change(n, &c, send_remove, change_deadline(n));

	/* The first sending has done it. */
	if (rc == 0 && c.st == NFS3ERR_NOENT && c.op.again)
		return 0;
	return rc != 0 ? rc : nfs3_rc(n, name, c.st);
}

bool
nfs3_same(const struct nfs3_fh *a, const struct nfs3_fh *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

int
nfs3_rename(struct nfs3 *n, const struct nfs3_fh *from_dir, const char *from,
    const struct nfs3_fh *to_dir, const char *to, const struct nfs3_fh *what)
{
	struct call c = {
		.a.rename = { { nfs3_raw_fh(from_dir),
				  (char *)(uintptr_t)from },
		    { nfs3_raw_fh(to_dir), (char *)(uintptr_t)to } }
	};
	struct nfs3_fh fh;
	int rc = change(n, &c, send_rename, change_deadline(n));

	if (rc == 0 && c.st == NFS3ERR_NOENT && c.op.again) {
		rc = nfs3_lookup(n, to_dir, to, &fh, NULL);
		/* What is there may as well be another. */
		if (rc == 0 && what != NULL && !nfs3_same(&fh, what))
			rc = ERR_NOENT;
		return rc;
	}
	return rc != 0 ? rc : nfs3_rc(n, from, c.st);
}

int
nfs3_truncate(struct nfs3 *n, const struct nfs3_fh *fh, uint64_t size)
{
	struct call c = { .a.setattr = { .object = nfs3_raw_fh(fh),
			      .new_attributes.size = {
				  .set_it = 1, .set_size3_u.size = size } } };
	int rc = change(n, &c, send_setattr, change_deadline(n));

	return rc != 0 ? rc : nfs3_rc(n, "truncate", c.st);
}

static void
take_count(struct call *c, const void *res)
{
	*(uint32_t *)c->out =
	    ((const struct WRITE3res *)res)->WRITE3res_u.resok.count;
}

int
nfs3_put(
    struct nfs3 *n, const struct nfs3_fh *fh, const void *data, uint32_t len)
{
	uint32_t count = 0;
	struct call c = { .a.write = { .file = nfs3_raw_fh(fh),
			      .count = len,
			      .stable = FILE_SYNC,
			      .data = { len, (char *)(uintptr_t)data } },
		.take = take_count,
		.out = &count };
	int rc = call(n, &c, send_write, nfs3_deadline(n));

	if (rc == 0)
		rc = nfs3_rc(n, "write", c.st);
	if (rc == 0 && count != len) {
		errno = EIO;
		rc = log_sys("nfs://%s%s: a record was written in part",
		    n->url.host, n->url.path);
	}
	return rc;
}

static int
set_owner(struct nfs3 *n, const struct nfs3_fh *fh, const struct sattr3 *as)
{
	struct call c = { .a.setattr = { .object = nfs3_raw_fh(fh),
			      .new_attributes = *as } };
	int rc = change(n, &c, send_setattr, nfs3_deadline(n));

	return rc != 0 ? rc : nfs3_rc(n, "setattr", c.st);
}

int
nfs3_own(struct nfs3 *n, const struct nfs3_fh *fh, const struct nfs3_attr *like)
{
	struct sattr3 owner = { .uid = { .set_it = 1,
				    .set_uid3_u.uid = like->uid },
		.gid = { .set_it = 1, .set_gid3_u.gid = like->gid } };
	struct sattr3 mode = { .mode = { .set_it = 1,
				   .set_mode3_u.mode = like->mode & 0777 } };
	int rc = set_owner(n, fh, &owner);

	if (rc != 0 && rc != ERR_DENIED)
		return rc;
	return set_owner(n, fh, &mode);
}

struct names {
	struct buf text; /* each with its NUL */
	cookie3 cookie;
	cookieverf3 verf;
	bool eof;
};

static void
take_names(struct call *c, const void *res)
{
	const struct READDIR3resok *r =
	    &((const struct READDIR3res *)res)->READDIR3res_u.resok;
	struct names *out = c->out;
	struct entry3 entry;

	/* libnfs lays them wherever there is room, also at odd addresses. */
	for (const void *at = r->reply.entries; at != NULL;
	     at = entry.nextentry) {
		memcpy(&entry, at, sizeof(entry));
		buf_add(&out->text, entry.name, strlen(entry.name) + 1);
		out->cookie = entry.cookie;
	}
	/* An answer without names that is not the last would go on for ever. */
	out->eof = r->reply.eof || r->reply.entries == NULL;
	memcpy(out->verf, r->cookieverf, sizeof(out->verf));
}

/* ERR_BUSY: it has changed so that the server cannot go on. */
static int
list_all(struct nfs3 *n, const struct nfs3_fh *dir, struct names *names)
{
	int rc = 0;

	while (rc == 0 && !names->eof) {
		struct call c = { .a.readdir = { .dir = nfs3_raw_fh(dir),
				      .cookie = names->cookie,
				      .count = LIST_BYTES },
			.take = take_names,
			.out = names };

		memcpy(
		    c.a.readdir.cookieverf, names->verf, sizeof(names->verf));
		rc = call(n, &c, send_readdir, nfs3_deadline(n));
		if (rc == 0 && c.st == NFS3ERR_BAD_COOKIE)
			return ERR_BUSY;
		if (rc == 0)
			rc = nfs3_rc(n, "list", c.st);
		if (rc == 0 && names->text.len > LIST_MAX) {
			errno = EFBIG;
			rc = log_sys("nfs://%s%s: a folder without an end",
			    n->url.host, n->url.path);
		}
	}
	return rc;
}

int
nfs3_list(struct nfs3 *n, const struct nfs3_fh *dir,
    int (*visit)(void *arg, const char *name), void *arg)
{
	struct names names = { .cookie = 0 };
	int rc;

	for (int i = 0; (rc = list_all(n, dir, &names)) == ERR_BUSY; i++) {
		buf_fini(&names.text);
		memset(&names, 0, sizeof(names));
		if (i < LIST_TRIES)
			continue;
		errno = EAGAIN;
		rc = log_sys("nfs://%s%s: a folder changes all the time",
		    n->url.host, n->url.path);
		break;
	}
	for (size_t at = 0; rc == 0 && at < names.text.len;) {
		const char *name = (const char *)names.text.data + at;

		at += strlen(name) + 1;
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			rc = visit(arg, name);
	}
	buf_fini(&names.text);
	return rc;
}

static void
take_fsstat(struct call *c, const void *res)
{
	const struct FSSTAT3resok *r =
	    &((const struct FSSTAT3res *)res)->FSSTAT3res_u.resok;

	*(uint64_t *)c->out = r->abytes;
	*(uint64_t *)c->out2 = r->tbytes;
}

int
nfs3_space(struct nfs3 *n, uint64_t *avail, uint64_t *total)
{
	struct call c = { .a.fsstat.fsroot = nfs3_raw_fh(&n->root),
		.take = take_fsstat,
		.out = avail,
		.out2 = total };
	uint64_t unsent = atomic_load(&n->unsent);
	int rc = call(n, &c, send_fsstat, nfs3_deadline(n));

	if (rc == 0)
		rc = nfs3_rc(n, "statfs", c.st);
	if (rc == 0)
		*avail -= unsent < *avail ? unsent : *avail;
	return rc;
}

static void
take_fsinfo(struct call *c, const void *res)
{
	const struct FSINFO3resok *r =
	    &((const struct FSINFO3res *)res)->FSINFO3res_u.resok;
	struct nfs3 *n = c->out;

	if (r->rtmax > 0 && r->rtmax < n->read_max)
		n->read_max = r->rtmax > IO_MIN ? r->rtmax : IO_MIN;
	if (r->wtmax > 0 && r->wtmax < n->write_max)
		n->write_max = r->wtmax > IO_MIN ? r->wtmax : IO_MIN;
}

int
nfs3_fsinfo(struct nfs3 *n)
{
	struct call c = { .a.fsinfo.fsroot = nfs3_raw_fh(&n->root),
		.take = take_fsinfo,
		.out = n };
	int rc = call(n, &c, send_fsinfo, nfs3_deadline(n));

	return rc != 0 ? rc : nfs3_rc(n, "fsinfo", c.st);
}
