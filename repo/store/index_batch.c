/* SPDX-License-Identifier: Apache-2.0 */
/* Changing the index. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "repo/store/index_private.h"

struct index_batch {
	struct index *x;
	rocksdb_writebatch_t *wb;
	bool written;
};

struct index_batch *
index_batch_new(struct index *x)
{
	struct index_batch *b = xcalloc(1, sizeof(*b));

	b->x = x;
	b->wb = rocksdb_writebatch_create();
	return b;
}

static void
put(struct index_batch *b, enum index_cf cf, const uint8_t *key, size_t key_len,
    const uint8_t *value, size_t len)
{
	rocksdb_writebatch_put_cf(b->wb, b->x->cf[cf], (const char *)key,
	    key_len, (const char *)value, len);
}

static void
drop(struct index_batch *b, enum index_cf cf, const uint8_t *key, size_t len)
{
	rocksdb_writebatch_delete_cf(
	    b->wb, b->x->cf[cf], (const char *)key, len);
}

void
index_batch_merge(
    struct index_batch *b, const struct id *id, const struct index_entry *op)
{
	uint8_t value[INDEX_ENTRY_LEN];

	size_t len = index_entry_print(op, value);

	rocksdb_writebatch_merge_cf(b->wb, b->x->cf[CF_ENTRIES],
	    (const char *)id->b, ID_LEN, (const char *)value, len);
}

void
index_batch_remove(struct index_batch *b, const struct id *id)
{
	drop(b, CF_ENTRIES, id->b, ID_LEN);
}

/* Stamps in order of value: the reclaimer reads from the oldest on. */
static void
dying_key(uint64_t stamp, const struct id *id, uint8_t *key)
{
	put_be64(key, stamp);
	memcpy(key + 8, id->b, ID_LEN);
}

void
index_batch_dying(struct index_batch *b, uint64_t stamp, const struct id *id)
{
	uint8_t key[INDEX_DYING_LEN];

	dying_key(stamp, id, key);
	put(b, CF_DYING, key, sizeof(key), key, 0);
}

void
index_batch_undying(struct index_batch *b, uint64_t stamp, const struct id *id)
{
	uint8_t key[INDEX_DYING_LEN];

	dying_key(stamp, id, key);
	drop(b, CF_DYING, key, sizeof(key));
}

void
index_batch_damaged(struct index_batch *b, const struct id *id, bool damaged)
{
	uint8_t key[INDEX_DAMAGED_LEN] = { 'd' };

	memcpy(key + 1, id->b, ID_LEN);
	if (damaged)
		put(b, CF_DEFAULT, key, sizeof(key), key, 0);
	else
		drop(b, CF_DEFAULT, key, sizeof(key));
}

void
index_batch_pack(struct index_batch *b, const struct pack_info *info)
{
	uint8_t key[4], value[INDEX_PACK_LEN] = { 0 };

	put_be32(key, info->number);
	put_le32(value, info->mirror);
	put_le32(value + 4, info->domain);
	put_le64(value + 8, info->tag);
	put_le64(value + 16, info->known);
	put_le64(value + 36, info->durable);
	put_le64(value + 24, (uint64_t)info->live);
	value[32] = (uint8_t)info->type;
	value[33] = (uint8_t)info->state;
	put(b, CF_PACKS, key, sizeof(key), value, sizeof(value));
}

void
index_batch_pack_remove(struct index_batch *b, uint32_t number)
{
	uint8_t key[4];

	put_be32(key, number);
	drop(b, CF_PACKS, key, sizeof(key));
}

void
index_place_print(const struct place *p, uint8_t *out)
{
	memset(out, 0, INDEX_PLACE_LEN);
	put_le32(out, p->pack);
	put_le32(out + 4, p->off);
	put_le32(out + 8, p->stored_len);
	put_le32(out + 12, p->raw_len);
	out[16] = p->codec;
}

void
index_batch_backup(struct index_batch *b, const struct index_backup *backup)
{
	struct buf value = { 0 };

	index_place_print(&backup->place, buf_extend(&value, INDEX_PLACE_LEN));
	value.data[17] = backup->hidden;
	buf_add(&value, backup->manifest, backup->len);
	put(b, CF_BACKUPS, backup->id.b, ID_LEN, value.data, value.len);
	buf_fini(&value);
}

void
index_batch_backup_remove(struct index_batch *b, const struct id *id)
{
	drop(b, CF_BACKUPS, id->b, ID_LEN);
}

void
index_batch_number(struct index_batch *b, enum index_number which, uint64_t v)
{
	uint8_t key[INDEX_NUMBER_KEY_LEN], value[8];

	index_number_key(which, key);
	put_le64(value, v);
	put(b, CF_DEFAULT, key, sizeof(key), value, sizeof(value));
}

void
index_batch_uuid(struct index_batch *b, const uint8_t uuid[16])
{
	put(b, CF_DEFAULT, (const uint8_t *)"u", 1, uuid, 16);
}

int
index_batch_write(struct index_batch *b, bool sync)
{
	struct index *x = b->x;
	char *err = NULL;

	assert(!b->written);
	b->written = true;
	if (fault_fails(FAULT_INDEX_WRITE))
		return log_sys("index %s: write", x->path);
	rocksdb_write(x->db, sync ? x->write_sync : x->write, b->wb, &err);
	fault_pass(FAULT_INDEX_WRITTEN);
	return err != NULL ? index_failed(x, "write", err) : 0;
}

void
index_batch_free(struct index_batch *b)
{
	if (b == NULL)
		return;
	rocksdb_writebatch_destroy(b->wb);
	free(b);
}
