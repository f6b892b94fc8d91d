/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the index. */
#include "repo/store/index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/log.h"
#include "repo/store/index_private.h"

enum {
	GET_LOT = 256, /* ids asked for at a time: bounds the stack */
	/* Of so many lots one puts into the cache what it read.  Ids are
	 * random: where the cache holds a part of the blocks only, to put each
	 * of them in and another out costs more than to read it from the page
	 * cache, and the cache holds no better ones for it.  What is often
	 * asked for gets in nevertheless; filters always do. */
	FILL_EVERY = 8
};

static int
bad_value(const struct index *x, const char *what)
{
	log_error("index %s: %s makes no sense: rebuild it with 'backstay "
		  "fsck --rebuild-index'",
	    x->path, what);
	return ERR_SYS;
}

int
index_get(struct index *x, const struct id *id, struct index_entry *e)
{
	rocksdb_pinnableslice_t *v;
	const char *data;
	char *err = NULL;
	size_t len;
	int rc;

	memset(e, 0, sizeof(*e));
	v = rocksdb_get_pinned_cf(x->db, x->read, x->cf[CF_ENTRIES],
	    (const char *)id->b, ID_LEN, &err);
	if (err != NULL)
		return index_failed(x, "read", err);
	if (v == NULL)
		return ERR_NOENT;
	data = rocksdb_pinnableslice_value(v, &len);
	rc = index_entry_parse((const uint8_t *)data, len, e);
	rocksdb_pinnableslice_destroy(v);
	if (rc != 0)
		return bad_value(x, "an entry");
	return index_present(e) ? 0 : ERR_NOENT;
}

static int
get_lot(
    struct index *x, const struct id *ids, size_t n, struct index_entry *out)
{
	rocksdb_pinnableslice_t *v[GET_LOT];
	const char *keys[GET_LOT] = { NULL };
	size_t lens[GET_LOT] = { 0 };
	char *errs[GET_LOT];
	const rocksdb_readoptions_t *ro = x->read_past;
	unsigned lot =
	    atomic_fetch_add_explicit(&x->lots, 1, memory_order_relaxed);
	int rc = 0;

	if (lot % FILL_EVERY == 0)
		ro = x->read;
	for (size_t i = 0; i < n; i++) {
		keys[i] = (const char *)ids[i].b;
		lens[i] = ID_LEN;
	}
	rocksdb_batched_multi_get_cf(
	    x->db, ro, x->cf[CF_ENTRIES], n, keys, lens, v, errs, false);
	for (size_t i = 0; i < n; i++) {
		const char *data;
		size_t len;

		memset(&out[i], 0, sizeof(out[i]));
		if (errs[i] != NULL)
			rc = index_failed(x, "read", errs[i]);
		if (v[i] == NULL)
			continue;
		data = rocksdb_pinnableslice_value(v[i], &len);
		if (index_entry_parse((const uint8_t *)data, len, &out[i]) != 0)
			rc = bad_value(x, "an entry");
		else if (!index_present(&out[i]))
			out[i].place.pack = 0;
		rocksdb_pinnableslice_destroy(v[i]);
	}
	return rc;
}

int
index_get_many(
    struct index *x, const struct id *ids, size_t n, struct index_entry *out)
{
	for (size_t i = 0; i < n; i += GET_LOT) {
		size_t lot = n - i < GET_LOT ? n - i : GET_LOT;
		int rc = get_lot(x, ids + i, lot, out + i);

		if (rc != 0)
			return rc;
	}
	return 0;
}

/* A column family in order of its keys; from ${from} if that is not NULL. */
static int
each(struct index *x, enum index_cf cf, const uint8_t *from, size_t from_len,
    int (*visit)(void *arg, const uint8_t *key, size_t key_len,
	const uint8_t *value, size_t len),
    void *arg)
{
	rocksdb_readoptions_t *ro = rocksdb_readoptions_create();
	rocksdb_iterator_t *it;
	char *err = NULL;
	int rc = 0;

	/* One pass over everything must not empty the cache. */
	rocksdb_readoptions_set_fill_cache(ro, 0);
	rocksdb_readoptions_set_readahead_size(ro, 1 << 20);
	it = rocksdb_create_iterator_cf(x->db, ro, x->cf[cf]);
	if (from != NULL)
		rocksdb_iter_seek(it, (const char *)from, from_len);
	else
		rocksdb_iter_seek_to_first(it);
	while (rc == 0 && rocksdb_iter_valid(it)) {
		size_t key_len, len;
		const char *key = rocksdb_iter_key(it, &key_len);
		const char *value = rocksdb_iter_value(it, &len);

		rc = visit(arg, (const uint8_t *)key, key_len,
		    (const uint8_t *)value, len);
		if (rc == 0)
			rocksdb_iter_next(it);
	}
	if (rc == 0) {
		rocksdb_iter_get_error(it, &err);
		if (err != NULL)
			rc = index_failed(x, "read", err);
	}
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(ro);
	return rc;
}

struct each_entry {
	struct index *x;
	int (*visit)(
	    void *arg, const struct id *id, const struct index_entry *e);
	void *arg;
};

static int
visit_entry(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
    size_t len)
{
	const struct each_entry *v = arg;
	struct index_entry e;
	struct id id;

	if (key_len != ID_LEN || index_entry_parse(value, len, &e) != 0)
		return bad_value(v->x, "an entry");
	memcpy(id.b, key, ID_LEN);
	return v->visit(v->arg, &id, &e);
}

int
index_each(struct index *x,
    int (*visit)(void *arg, const struct id *id, const struct index_entry *e),
    void *arg)
{
	struct each_entry v = { .x = x, .visit = visit, .arg = arg };

	return each(x, CF_ENTRIES, NULL, 0, visit_entry, &v);
}

struct each_dying {
	struct index *x;
	uint64_t below;
	bool passed; /* the bound: ended, and well */
	int (*visit)(void *arg, uint64_t stamp, const struct id *id);
	void *arg;
};

static int
visit_dying(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
    size_t len)
{
	struct each_dying *v = arg;
	struct id id;

	(void)value;
	(void)len;
	if (key_len != INDEX_DYING_LEN)
		return bad_value(v->x, "a dying key");
	if (get_be64(key) >= v->below) {
		v->passed = true;
		return 1;
	}
	memcpy(id.b, key + 8, ID_LEN);
	return v->visit(v->arg, get_be64(key), &id);
}

int
index_dying_each(struct index *x, uint64_t from, uint64_t below,
    int (*visit)(void *arg, uint64_t stamp, const struct id *id), void *arg)
{
	struct each_dying v = {
		.x = x, .below = below, .visit = visit, .arg = arg
	};
	uint8_t key[8];
	int rc;

	put_be64(key, from);
	rc = each(x, CF_DYING, key, sizeof(key), visit_dying, &v);
	return v.passed ? 0 : rc;
}

struct each_damaged {
	struct index *x;
	bool passed; /* the last of them: ended, and well */
	int (*visit)(void *arg, const struct id *id);
	void *arg;
};

static int
visit_damaged(void *arg, const uint8_t *key, size_t key_len,
    const uint8_t *value, size_t len)
{
	struct each_damaged *v = arg;
	struct id id;

	(void)value;
	(void)len;
	if (key_len == 0 || key[0] != 'd') {
		v->passed = true;
		return 1;
	}
	if (key_len != INDEX_DAMAGED_LEN)
		return bad_value(v->x, "a damaged id");
	memcpy(id.b, key + 1, ID_LEN);
	return v->visit(v->arg, &id);
}

int
index_damaged_each(
    struct index *x, int (*visit)(void *arg, const struct id *id), void *arg)
{
	struct each_damaged v = { .x = x, .visit = visit, .arg = arg };
	const uint8_t from = 'd';
	int rc;

	rc = each(x, CF_DEFAULT, &from, 1, visit_damaged, &v);
	return v.passed ? 0 : rc;
}

struct each_pack {
	struct index *x;
	int (*visit)(void *arg, const struct pack_info *info);
	void *arg;
};

static int
visit_pack(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
    size_t len)
{
	const struct each_pack *v = arg;
	struct pack_info info;

	if (key_len != 4 || len != INDEX_PACK_LEN ||
	    (value[32] != PACK_DATA && value[32] != PACK_META) ||
	    value[33] > PACK_DEAD)
		return bad_value(v->x, "a line of the table of packs");
	info = (struct pack_info){
		.number = get_be32(key),
		.mirror = get_le32(value),
		.domain = get_le32(value + 4),
		.tag = get_le64(value + 8),
		.known = get_le64(value + 16),
		.durable = get_le64(value + 36),
		.live = (int64_t)get_le64(value + 24),
		.type = (enum pack_type)value[32],
		.state = (enum pack_state)value[33],
	};
	return v->visit(v->arg, &info);
}

int
index_packs_each(struct index *x,
    int (*visit)(void *arg, const struct pack_info *info), void *arg)
{
	struct each_pack v = { .x = x, .visit = visit, .arg = arg };

	return each(x, CF_PACKS, NULL, 0, visit_pack, &v);
}

struct each_backup {
	struct index *x;
	int (*visit)(void *arg, const struct index_backup *b);
	void *arg;
};

void
index_place_parse(const uint8_t *in, struct place *out)
{
	out->pack = get_le32(in);
	out->off = get_le32(in + 4);
	out->stored_len = get_le32(in + 8);
	out->raw_len = get_le32(in + 12);
	out->codec = in[16];
}

static int
backup_parse(const struct index *x, const uint8_t *key, size_t key_len,
    const uint8_t *value, size_t len, struct index_backup *out)
{
	if (key_len != ID_LEN || len < INDEX_PLACE_LEN || value[17] > 1)
		return bad_value(x, "a backup");
	memcpy(out->id.b, key, ID_LEN);
	index_place_parse(value, &out->place);
	out->hidden = value[17] != 0;
	out->manifest = value + INDEX_PLACE_LEN;
	out->len = len - INDEX_PLACE_LEN;
	return 0;
}

static int
visit_backup(void *arg, const uint8_t *key, size_t key_len,
    const uint8_t *value, size_t len)
{
	const struct each_backup *v = arg;
	struct index_backup b;
	int rc = backup_parse(v->x, key, key_len, value, len, &b);

	return rc != 0 ? rc : v->visit(v->arg, &b);
}

int
index_backups_each(struct index *x,
    int (*visit)(void *arg, const struct index_backup *b), void *arg)
{
	struct each_backup v = { .x = x, .visit = visit, .arg = arg };

	return each(x, CF_BACKUPS, NULL, 0, visit_backup, &v);
}

int
index_backup_get(struct index *x, const struct id *id, struct index_backup *b,
    struct buf *data)
{
	rocksdb_pinnableslice_t *v;
	const char *value;
	char *err = NULL;
	size_t len;

	v = rocksdb_get_pinned_cf(x->db, x->read, x->cf[CF_BACKUPS],
	    (const char *)id->b, ID_LEN, &err);
	if (err != NULL)
		return index_failed(x, "read", err);
	if (v == NULL)
		return ERR_NOENT;
	value = rocksdb_pinnableslice_value(v, &len);
	data->len = 0;
	buf_add(data, value, len);
	rocksdb_pinnableslice_destroy(v);
	return backup_parse(x, id->b, ID_LEN, data->data, data->len, b);
}

void
index_number_key(unsigned which, uint8_t *key)
{
	key[0] = 'n';
	key[1] = (uint8_t)which;
}

/* A small value of exactly ${len} bytes; ERR_NOENT if it was never set. */
static int
get_small(struct index *x, const uint8_t *key, size_t key_len, uint8_t *out,
    size_t len)
{
	rocksdb_pinnableslice_t *v;
	const char *data;
	char *err = NULL;
	size_t got;
	int rc = 0;

	v = rocksdb_get_pinned_cf(x->db, x->read, x->cf[CF_DEFAULT],
	    (const char *)key, key_len, &err);
	if (err != NULL)
		return index_failed(x, "read", err);
	if (v == NULL)
		return ERR_NOENT;
	data = rocksdb_pinnableslice_value(v, &got);
	if (got == len)
		memcpy(out, data, len);
	else
		rc = bad_value(x, "a number");
	rocksdb_pinnableslice_destroy(v);
	return rc;
}

int
index_number(struct index *x, enum index_number which, uint64_t *out)
{
	uint8_t key[INDEX_NUMBER_KEY_LEN], value[8] = { 0 };
	int rc;

	index_number_key(which, key);
	rc = get_small(x, key, sizeof(key), value, sizeof(value));
	if (rc != 0 && rc != ERR_NOENT)
		return rc;
	*out = get_le64(value);
	return 0;
}

int
index_uuid_get(struct index *x, uint8_t uuid[16])
{
	return get_small(x, (const uint8_t *)"u", 1, uuid, 16);
}

int
index_size(struct index *x, struct index_size *out)
{
	struct dirent *de;
	struct stat st;
	DIR *d;

	memset(out, 0, sizeof(*out));
	if (rocksdb_property_int_cf(x->db, x->cf[CF_ENTRIES],
		"rocksdb.estimate-num-keys", &out->entries) != 0)
		out->entries = 0;
	d = opendir(x->path);
	if (d == NULL)
		return log_sys("index %s: list", x->path);
	while ((de = readdir(d)) != NULL) {
		/* Files come and go: one that went has no size. */
		if (fstatat(dirfd(d), de->d_name, &st, 0) == 0 &&
		    S_ISREG(st.st_mode))
			out->bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(d);
	return 0;
}
