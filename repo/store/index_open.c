/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, with all settings of RocksDB; closing; removing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/store/index_private.h"

enum {
	LOG_LEN_MAX = 4 << 20,
	MEMTABLES_MIN = 4 << 20,
	OPEN_FILES_MAX = 512, /* opening a table costs many look-ups */
	/* An id shares its block with nothing else that is asked for, so what
	 * is read, checked and copied for it is best little. */
	BLOCK = 2 << 10,
	/* RocksDB has no name for it in C.  Its CRC-32C goes by tables where
	 * it was built for any processor: 2 us for 4 KiB. */
	CHECKSUM_XXH3 = 4,
	/* Of a part of an index or filter: the filter of 50,000 ids.  With
	 * parts of 4 KiB finding each in the cache costs more than all else of
	 * a look-up; larger ones cost more where not all are in the cache. */
	META_BLOCK = 64 << 10,
	/* Of the cache: with room for many parts, since they are spread by
	 * chance. */
	SHARD_MIN = 4 << 20,
	SHARD_BITS_MAX = 6
};

static const char *const cf_names[CF_COUNT] = { "default", "entries", "dying",
	"packs", "backups" };

int
index_failed(const struct index *x, const char *what, char *err)
{
	log_error("index %s: %s: %s", x->path, what, err);
	rocksdb_free(err);
	return ERR_SYS;
}

static rocksdb_cache_t *
new_cache(uint64_t bytes)
{
	rocksdb_lru_cache_options_t *o = rocksdb_lru_cache_options_create();
	rocksdb_cache_t *cache;
	int bits = 0;

	while (bits < SHARD_BITS_MAX && bytes >> (bits + 1) >= SHARD_MIN)
		bits++;
	rocksdb_lru_cache_options_set_capacity(o, bytes);
	rocksdb_lru_cache_options_set_num_shard_bits(o, bits);
	cache = rocksdb_cache_create_lru_opts(o);
	rocksdb_lru_cache_options_destroy(o);
	return cache;
}

static void
set_tables(struct index *x, enum index_cf cf)
{
	rocksdb_block_based_table_options_t *t =
	    rocksdb_block_based_options_create();

	rocksdb_block_based_options_set_block_cache(t, x->cache);
	rocksdb_block_based_options_set_format_version(t, 5);
	rocksdb_block_based_options_set_block_size(t, BLOCK);
	rocksdb_block_based_options_set_checksum(t, CHECKSUM_XXH3);
	/* So that the cache bounds all that reading needs. */
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
	rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(
	    t, 1);
	/* In parts: filters and indexes of a large index are several times the
	 * cache, and whole ones would push one another out with each look-up.
	 */
	rocksdb_block_based_options_set_index_type(
	    t, rocksdb_block_based_table_index_type_two_level_index_search);
	rocksdb_block_based_options_set_partition_filters(t, 1);
	rocksdb_block_based_options_set_metadata_block_size(t, META_BLOCK);
	rocksdb_block_based_options_set_pin_top_level_index_and_filter(t, 1);
	/* Most questions are about ids that are not there. */
	if (cf == CF_ENTRIES)
		rocksdb_block_based_options_set_filter_policy(
		    t, rocksdb_filterpolicy_create_bloom_full(10));
	rocksdb_options_set_block_based_table_factory(x->options[cf], t);
	rocksdb_block_based_options_destroy(t);
}

static void
set_options(struct index *x, const struct index_options *o, enum index_cf cf)
{
	rocksdb_options_t *opt = rocksdb_options_create();
	uint64_t memtables =
	    o->memtables > MEMTABLES_MIN ? o->memtables : MEMTABLES_MIN;

	x->options[cf] = opt;
	rocksdb_options_set_create_if_missing(opt, o->create);
	rocksdb_options_set_create_missing_column_families(opt, !o->read_only);
	rocksdb_options_set_paranoid_checks(opt, 1);
	/* Up to the first record that is not whole: a prefix of the batches,
	 * which the packs then bring up to date. */
	rocksdb_options_set_wal_recovery_mode(
	    opt, rocksdb_point_in_time_recovery);
	rocksdb_options_set_max_open_files(opt, OPEN_FILES_MAX);
	rocksdb_options_set_max_background_jobs(opt, 2);
	rocksdb_options_set_info_log_level(opt, 2); /* warnings */
	rocksdb_options_set_keep_log_file_num(opt, 2);
	rocksdb_options_set_stats_dump_period_sec(opt, 0);
	rocksdb_options_set_stats_persist_period_sec(opt, 0);
	rocksdb_options_set_bytes_per_sync(opt, 1 << 20);
	/* Entries are ids and bytes that are not zero: nothing to gain. */
	rocksdb_options_set_compression(opt,
	    cf == CF_ENTRIES ? rocksdb_no_compression
			     : rocksdb_lz4_compression);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(opt, 1);
	/* All memtables together; the next bounds what a restart replays. */
	rocksdb_options_set_db_write_buffer_size(opt, memtables);
	rocksdb_options_set_max_total_wal_size(opt, 2 * memtables);
	rocksdb_options_set_write_buffer_size(
	    opt, memtables / (cf == CF_ENTRIES ? 3 : 16));
	rocksdb_options_set_max_write_buffer_number(opt, 3);
	if (cf == CF_ENTRIES)
		rocksdb_options_set_merge_operator(opt, index_merge_operator());
	set_tables(x, cf);
}

/*
 * 0 if there is an index, ERR_NOENT if there is nothing; ERR_CORRUPT if there
 * is a part of one: RocksDB would begin a new one over it.
 */
static int
look(const char *path, struct err *e)
{
	struct dirent *de;
	int rc = ERR_NOENT;
	bool tables = false, current = false;
	DIR *d = opendir(path);

	if (d == NULL && errno != ENOENT)
		return err_set(e, ERR_SYS, "index %s: cannot open: %s", path,
		    strerror(errno));
	if (d == NULL)
		return err_set(e, ERR_NOENT, "index %s: there is none", path);
	while ((de = readdir(d)) != NULL) {
		size_t len = strlen(de->d_name);

		current = current || strcmp(de->d_name, "CURRENT") == 0;
		tables = tables ||
		    (len > 4 && strcmp(de->d_name + len - 4, ".sst") == 0);
	}
	closedir(d);
	if (current)
		return 0;
	rc = tables ? ERR_CORRUPT : ERR_NOENT;
	return err_set(e, rc,
	    tables ? "index %s: is only there in part"
		   : "index %s: there is none",
	    path);
}

/* What RocksDB says when it refuses to open. */
static int
refused(const char *path, char *err, struct err *e)
{
	static const struct {
		const char *text;
		int code;
	} known[] = {
		{ "Corruption", ERR_CORRUPT },
		{ "No such file", ERR_CORRUPT },
		{ "lock", ERR_BUSY },
		{ "LOCK", ERR_BUSY },
		{ "Column families not opened", ERR_UNSUP },
		{ "Invalid argument", ERR_UNSUP },
		{ "Not implemented", ERR_UNSUP },
	};
	int rc = ERR_SYS;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strstr(err, known[i].text) != NULL) {
			rc = known[i].code;
			break;
		}
	}
	err_set(e, rc, "index %s: cannot open: %s", path, err);
	rocksdb_free(err);
	return rc;
}

/* RocksDB tells only its own log that it left out a part of the WAL. */
static void
report_dropped(const struct index *x)
{
	struct buf log = { 0 };
	const char *p, *eol;
	int fd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd == -1)
		return;
	if (file_read(fd, "LOG", LOG_LEN_MAX, &log) == 0) {
		p = buf_cstr(&log);
		while ((p = strstr(p, ": dropping ")) != NULL) {
			eol = strchr(p, '\n');
			eol = eol != NULL ? eol : p + strlen(p);
			log_error("index %s: a part of its WAL was lost%.*s",
			    x->path, (int)(eol - p), p);
			p = eol;
		}
	}
	buf_fini(&log);
	close(fd);
}

static int
put_version(struct index *x, struct err *e)
{
	uint8_t key[INDEX_NUMBER_KEY_LEN], value[8];
	char *err = NULL;

	index_number_key('v', key);
	put_le64(value, INDEX_VERSION);
	rocksdb_put_cf(x->db, x->write_sync, x->cf[CF_DEFAULT],
	    (const char *)key, sizeof(key), (const char *)value, sizeof(value),
	    &err);
	return err != NULL ? refused(x->path, err, e) : 0;
}

/*
 * A new index gets its version.  One of version 1, all of whose entries are of
 * the whole form, is read as it is, and gets ours as soon as it can change: the
 * older program knows no other form.
 */
static int
check_version(struct index *x, const struct index_options *o, struct err *e)
{
	uint8_t key[INDEX_NUMBER_KEY_LEN];
	char *err = NULL, *got;
	uint64_t version = 0;
	size_t len;

	index_number_key('v', key);
	got = rocksdb_get_cf(x->db, x->read, x->cf[CF_DEFAULT],
	    (const char *)key, sizeof(key), &len, &err);
	if (err != NULL)
		return refused(x->path, err, e);
	if (got == NULL) {
		if (!o->create || o->read_only)
			return err_set(e, ERR_CORRUPT,
			    "index %s: was never finished: rebuild it",
			    x->path);
		return put_version(x, e);
	}
	if (len == 8)
		version = get_le64((const uint8_t *)got);
	rocksdb_free(got);
	if (version == INDEX_VERSION)
		return 0;
	if (version == INDEX_VERSION_WHOLE)
		return o->read_only ? 0 : put_version(x, e);
	return err_set(e, ERR_UNSUP,
	    "index %s: has format version %llu, this program knows %d: use a "
	    "newer one, or rebuild the index",
	    x->path, (unsigned long long)version, INDEX_VERSION);
}

int
index_open(const char *path, const struct index_options *o, struct index **out,
    struct err *e)
{
	struct index *x;
	char *err = NULL;
	int rc;

	rc = look(path, e);
	if (rc != 0 && (rc != ERR_NOENT || !o->create))
		return rc;
	x = xcalloc(1, sizeof(*x));
	x->path = xstrdup(path);
	x->cache = new_cache(o->block_cache);
	for (int i = 0; i < CF_COUNT; i++)
		set_options(x, o, (enum index_cf)i);
	x->read = rocksdb_readoptions_create();
	x->read_past = rocksdb_readoptions_create();
	rocksdb_readoptions_set_fill_cache(x->read_past, 0);
	x->write = rocksdb_writeoptions_create();
	x->write_sync = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(x->write_sync, 1);
	if (o->read_only)
		x->db = rocksdb_open_for_read_only_column_families(
		    x->options[CF_DEFAULT], path, CF_COUNT, cf_names,
		    (const rocksdb_options_t *const *)x->options, x->cf, 0,
		    &err);
	else
		x->db = rocksdb_open_column_families(x->options[CF_DEFAULT],
		    path, CF_COUNT, cf_names,
		    (const rocksdb_options_t *const *)x->options, x->cf, &err);
	if (err != NULL) {
		rc = refused(path, err, e);
		goto err_close;
	}
	report_dropped(x);
	rc = check_version(x, o, e);
	if (rc != 0)
		goto err_close;
	*out = x;
	return 0;
err_close:
	index_close(x);
	return rc;
}

void
index_close(struct index *x)
{
	if (x == NULL)
		return;
	if (x->db != NULL) {
		for (int i = 0; i < CF_COUNT; i++)
			rocksdb_column_family_handle_destroy(x->cf[i]);
		rocksdb_close(x->db);
	}
	rocksdb_writeoptions_destroy(x->write_sync);
	rocksdb_writeoptions_destroy(x->write);
	rocksdb_readoptions_destroy(x->read_past);
	rocksdb_readoptions_destroy(x->read);
	for (int i = 0; i < CF_COUNT; i++)
		rocksdb_options_destroy(x->options[i]);
	rocksdb_cache_destroy(x->cache);
	free(x->path);
	free(x);
}

int
index_destroy(const char *path, struct err *e)
{
	rocksdb_options_t *o = rocksdb_options_create();
	char *err = NULL;

	/* It takes only files that are RocksDB's, whatever ${path} is. */
	rocksdb_destroy_db(o, path, &err);
	rocksdb_options_destroy(o);
	return err != NULL ? refused(path, err, e) : 0;
}
