/* SPDX-License-Identifier: Apache-2.0 */
/* index_private: what the files of the module index share.  FORMAT.md 5. */
#ifndef REPO_STORE_INDEX_PRIVATE_H
#define REPO_STORE_INDEX_PRIVATE_H

#include <rocksdb/c.h>
#include <stdatomic.h>

#include "repo/store/index.h"

enum {
	INDEX_VERSION = 2,
	INDEX_VERSION_WHOLE = 1 /* entries are of the whole form only */
};

/* The order is that of their names in index_open.c. */
enum index_cf {
	CF_DEFAULT,
	CF_ENTRIES,
	CF_DYING,
	CF_PACKS,
	CF_BACKUPS,
	CF_COUNT
};

enum {
	INDEX_PACK_LEN = 44,
	INDEX_PLACE_LEN = 20,
	INDEX_DYING_LEN = 8 + ID_LEN,
	INDEX_NUMBER_KEY_LEN = 2,
	INDEX_DAMAGED_LEN = 1 + ID_LEN /* 'd' and the id */
};

/* All but ${lots} set by index_open; RocksDB locks itself. */
struct index {
	char *path;
	rocksdb_t *db;
	rocksdb_options_t *options[CF_COUNT];
	rocksdb_column_family_handle_t *cf[CF_COUNT];
	rocksdb_cache_t *cache;
	rocksdb_readoptions_t *read;
	rocksdb_readoptions_t *read_past; /* puts no block into the cache */
	atomic_uint lots;                 /* that were asked for */
	rocksdb_writeoptions_t *write, *write_sync;
};

/**
 * index_failed(x, what, err): log what RocksDB says and free it.  ERR_SYS.
 */
int index_failed(const struct index *x, const char *what, char *err);

/** index_number_key(which, key): its key in the default column family. */
void index_number_key(unsigned which, uint8_t *key);

/** index_merge_operator(): of column family entries; the options own it. */
rocksdb_mergeoperator_t *index_merge_operator(void);

/* A place as column family backups has it. */
void index_place_print(const struct place *p, uint8_t *out);
void index_place_parse(const uint8_t *in, struct place *out);

#endif
