/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck: the packs against the index, and the index from the packs.
 *
 * Both count every reference anew, from the manifests down, into an index of
 * their own beside the real one: a check compares the two, a rebuild puts the
 * new one in place.  Memory is bounded: the index sorts on disk.
 */
#ifndef REPO_STORE_FSCK_H
#define REPO_STORE_FSCK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

struct fsck_options {
	bool rebuild;      /* from the packs alone; replaces the index */
	bool data;         /* read every record's payload and check its CRC */
	const char *index; /* folder of the index; NULL: REPO/index */
};

struct fsck_report {
	uint64_t packs;
	uint64_t records;
	uint64_t entries;
	uint64_t backups;
	uint64_t damaged;     /* records whose bytes are wrong */
	uint64_t no_record;   /* entries that point at no valid record */
	uint64_t wrong_refs;  /* entries whose count differs */
	uint64_t missing;     /* chunks or nodes of a backup that are nowhere */
	uint64_t wrong_live;  /* packs whose live bytes differ */
	uint64_t hit_backups; /* backups that lack something */
};

/** fsck_clean(r): nothing is wrong. */
bool fsck_clean(const struct fsck_report *r);

/**
 * fsck(dir, o, say, arg, out, e): takes the repository's lock; no daemon may
 * run.  ${say} is told of each problem in one line.  A check writes nothing but
 * its scratch folder.  A rebuild refuses nothing that it can read: what is
 * lost is told.  0: done, ${out} says what was found; ERR_BUSY, ERR_NOENT,
 * ERR_CORRUPT (there is no index to check), ERR_NOSPC, ERR_SYS.
 */
int fsck(const char *dir, const struct fsck_options *o,
    void (*say)(void *arg, const char *line), void *arg,
    struct fsck_report *out, struct err *e);

#endif
