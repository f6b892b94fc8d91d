/* SPDX-License-Identifier: Apache-2.0 */
/*
 * form: how a volume becomes a member of an archive.  Its size has to be known
 * before its first byte, so its tree is walked twice: first every region is
 * planned, then all is written, in the same order.  One thread.
 */
#ifndef AGENT_ARCHIVE_FORM_H
#define AGENT_ARCHIVE_FORM_H

#include "agent/archive/arcout.h"
#include "agent/archive/digest.h"
#include "agent/archive/walk.h"

/* A member in the making. */
struct member {
	struct arcout *out;
	struct digest *digest; /* of all bytes, unless ${blocks} */
	bool blocks;           /* the form tells blocks to it */
	uint64_t mtime;
};

/** member_put(m, data, len, e), member_hole(m, len, e): the next bytes; holes
 * are not for digests of all bytes. */
int member_put(struct member *m, const void *data, size_t len, struct err *e);
int member_hole(struct member *m, uint64_t len, struct err *e);

struct form;

struct form_ops {
	int (*plan)(struct form *f, struct err *e);
	int (*size)(struct form *f, uint64_t *out, struct err *e);
	int (*head)(struct form *f, struct err *e);
	int (*region)(struct form *f, struct err *e);
	int (*slice)(struct form *f, unsigned i, const uint8_t *data,
	    uint32_t len, struct err *e);
	int (*region_end)(struct form *f, struct err *e);
	int (*end)(struct form *f, struct err *e);
	void (*free)(struct form *f);
};

/* What every form begins with. */
struct form {
	const struct form_ops *ops;
	const char *word; /* as heads have it */
	struct walk *walk;
	struct member *member; /* while it is written */
	/* Of raw ones, after size(): where data is. */
	const struct arcout_extent *extent;
	size_t nextents;
};

/**
 * form_qcow2_new(w, backing): standalone, or with ${backing}, its name and
 * format qcow2, an overlay of what differs.
 * form_raw_new(w, sparse): its bytes; ${sparse}: tell extents.
 * form_file_new(w): a small one's.
 * form_vmdk_new(w, name): streamOptimized, for OVF; form_vmdk_capacity(size):
 * how large a disk that is, in bytes.
 * They keep ${w}, which is the caller's, and copies of names.
 */
struct form *form_qcow2_new(struct walk *w, const char *backing);
struct form *form_raw_new(struct walk *w, bool sparse);
struct form *form_file_new(struct walk *w);
struct form *form_vmdk_new(struct walk *w, const char *name);
uint64_t form_vmdk_capacity(uint64_t size);
void form_free(struct form *f);

/** form_plan(f, &len, e): the whole first walk: how long the member will be.
 * form_write(f, m, done, arg, e): the second, into ${m}, for which
 * arcout_begin was called; ${done} is told how much of the volume is done.  As
 * walk_next and arcout_data; ERR_LIMIT: no such image can be so large. */
int form_plan(struct form *f, uint64_t *len, struct err *e);
typedef void form_done(void *arg, uint64_t bytes, bool read);
int form_write(struct form *f, struct member *m, form_done *done, void *arg,
    struct err *e);

#endif
