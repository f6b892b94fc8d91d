/* SPDX-License-Identifier: Apache-2.0 */
/* pack_private: what the files of the module pack share. */
#ifndef REPO_STORE_PACK_PRIVATE_H
#define REPO_STORE_PACK_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "repo/store/pack.h"

enum {
	/* Read handles kept open. */
	PACK_HANDLES_MAX = 256,
	/* Bytes behind the records that a footer takes. */
	PACK_FOOTER_MIN = RECORD_HEADER_LEN + PACK_TRAILER_LEN
};

/* A read handle: in the set's list while it is cached, freed by the last user
 * if it is not. */
struct pack_handle {
	TAILQ_ENTRY(pack_handle) link; /* guarded by set->mu */
	struct pack *pack;             /* NULL: no longer cached; set->mu */
	struct volume_file *f;
	unsigned users; /* guarded by set->mu */
};

struct pack {
	struct pack_info info;      /* guarded by set->mu */
	struct pack_handle *handle; /* or NULL; guarded by set->mu */
};

struct pack_set {
	struct volume *v;      /* set before start */
	struct pack_options o; /* set before start */
	pthread_mutex_t space; /* from a look at what is free to its taking */
	pthread_mutex_t mu;    /* a leaf: nothing is locked under it */
	struct pack **packs;   /* by number; guarded by mu */
	size_t npacks, cap;    /* guarded by mu */
	uint32_t first, end;   /* numbers for new packs; guarded by mu */
	TAILQ_HEAD(, pack_handle) handles; /* oldest first; guarded by mu */
	unsigned nhandles;                 /* guarded by mu */
};

/** packs_take_numbers(s, n, &first): ERR_LIMIT if fewer are granted. */
int packs_take_numbers(struct pack_set *s, uint32_t n, uint32_t *first);

/** packs_forget(s, number): out of the table; open handles end. */
void packs_forget(struct pack_set *s, uint32_t number);

/** packs_open(s, number, out, info): a read handle; then packs_close. */
int packs_open(struct pack_set *s, uint32_t number, struct pack_handle **out,
    struct pack_info *info);
void packs_close(struct pack_set *s, struct pack_handle *h);

/* The bytes that the footer of ${count} records takes. */
static inline uint64_t
pack_footer_len(uint64_t count)
{
	return PACK_FOOTER_MIN + count * PACK_ENTRY_LEN;
}

/**
 * pack_footer_write(f, tag, entries, off): footer and trailer at ${off}, not
 * synced.  ${entries} holds printed entries.  ERR_NOSPC, ERR_SYS.
 */
int pack_footer_write(struct volume_file *f, uint64_t tag,
    const struct buf *entries, uint64_t off);

/**
 * pack_footer_read(f, tag, size, entries, off): the list of a sealed pack of
 * ${size} bytes into ${entries} (replaced).  ERR_CORRUPT (none, or no good
 * one), ERR_SYS.
 */
int pack_footer_read(struct volume_file *f, uint64_t tag, uint64_t size,
    struct buf *entries, uint64_t *off);

#endif
