/* SPDX-License-Identifier: Apache-2.0 */
/* pack_writer: what pack_writer.c and pack_sync.c share. */
#ifndef REPO_STORE_PACK_WRITER_H
#define REPO_STORE_PACK_WRITER_H

#include "repo/store/pack_private.h"

/*
 * A pack that is being written; with a meta writer both twins of it.  It is
 * freed by the caller of pack_sync only, so that one may use the files of
 * what it found under the lock after giving up the lock.
 */
struct open_pack {
	TAILQ_ENTRY(open_pack) link; /* guarded by w->mu */
	struct pack_info info[2];    /* known: pack_sync's caller only */
	struct volume_file *f[2];    /* set before it is seen; [1] or NULL */
	uint64_t mark;   /* the end at the last pack_mark; guarded by w->mu */
	uint64_t synced; /* pack_sync's caller only */
	bool closed;     /* was full at the last pack_mark; guarded by w->mu */
	uint64_t end;    /* behind the last whole record; guarded by w->mu */
	uint64_t reserved;  /* guarded by w->mu */
	uint64_t flushed;   /* guarded by w->mu */
	struct buf entries; /* printed; guarded by w->mu while it is cur */
};

struct pack_writer {
	struct pack_set *set; /* this down to ncopies: set before start */
	enum pack_type type;
	uint32_t domain;
	uint64_t limit; /* bytes a pack may reach, footer included */
	int ncopies;
	pthread_mutex_t mu;           /* taken before the set's */
	struct open_pack *cur;        /* or NULL; guarded by mu */
	TAILQ_HEAD(, open_pack) full; /* to be sealed; guarded by mu */
	bool finish;                  /* guarded by mu */
	bool bad;                     /* no more appends; guarded by mu */
	uint64_t unsynced;            /* guarded by mu */
	struct buf changed;           /* struct pack_info; guarded by mu */
};

void open_pack_free(struct open_pack *p);

#endif
