/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_impl: what the parts of fsck share. */
#ifndef REPO_STORE_FSCK_IMPL_H
#define REPO_STORE_FSCK_IMPL_H

#include "repo/store/fsck.h"
#include "repo/store/pack_counts.h"
#include "repo/store/store_impl.h"

enum {
	FSCK_COUNTED = 0x80, /* flag in scratch: children are counted */
	FSCK_LOT = 1 << 16
};

/* A manifest that stands: value in an idmap. */
struct kept {
	struct place place;
	uint8_t *data;
	uint32_t len;
};

struct fsck {
	const struct fsck_options *o;
	const char *dir;
	void (*say)(void *arg, const char *line);
	void *arg;
	struct fsck_report *out;
	struct err *e;

	struct store_format format;
	int dirfd;
	int lockfd;
	struct volume *volume;
	struct pack_set *packs;
	struct index *index;   /* the real one; NULL in a rebuild */
	struct index *scratch; /* counted anew */
	char *index_path;
	char *scratch_path;

	struct pack_info *pack;
	size_t npacks;
	struct idmap backups; /* struct kept */
	struct idmap tombs;
	struct idmap lot; /* struct index_entry: operands not yet written */
	struct pack_counts live;
	struct buf payload;
	uint64_t seen; /* entries whose record was met */
	uint64_t sequence;
	uint64_t unique_raw;
	uint64_t lines;
	struct index_batch *batch; /* of settle */
	unsigned nbatch;
};

/** fsck_tell(f, fmt, ...): one problem, one line; after a hundred only the
 * totals go on. */
void fsck_tell(struct fsck *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** fsck_short_id(id, out): enough of it to search for. */
const char *fsck_short_id(const struct id *id, char out[17]);

/*
 * The scratch index is written in lots; reads look into the lot first.
 * fsck_get: 0, ERR_NOENT, ERR_SYS (explained).
 */
int fsck_merge(
    struct fsck *f, const struct id *id, const struct index_entry *op);
int fsck_get(struct fsck *f, const struct id *id, struct index_entry *out);
int fsck_flush(struct fsck *f);

/** fsck_find_packs(f): those of the index's table in a check, all that are
 * there in a rebuild; in a check, also the manifests. */
int fsck_find_packs(struct fsck *f);

/** fsck_scan(f): every record's place into scratch, with no reference; what
 * the index says of it is compared on the way. */
int fsck_scan(struct fsck *f);

/** fsck_count(f): every reference, from the manifests down; in a check also
 * those of stored nodes that no backup reaches. */
int fsck_count(struct fsck *f);

/** fsck_compare(f): scratch against the index. */
int fsck_compare(struct fsck *f);

/** fsck_settle(f): make of scratch an index that a store can open. */
int fsck_settle(struct fsck *f);

#endif
