/* SPDX-License-Identifier: Apache-2.0 */
/* Entries, and how changes of one are put together.  STORE.md, rule 9. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "repo/store/index_private.h"

struct index_entry_whole { /* FORMAT.md 5.2 */
	uint8_t pack[4];
	uint8_t off[4];
	uint8_t stored_len[4];
	uint8_t raw_len[4];
	uint8_t refs[8];
	uint8_t stamp[8];
	uint8_t codec;
	uint8_t kind;
	uint8_t level;
	uint8_t flags;
	uint8_t clear;
	uint8_t zero[3];
};
_Static_assert(
    sizeof(struct index_entry_whole) == INDEX_ENTRY_LEN, "FORMAT.md 5.2");

enum { MASK_LEN = INDEX_ENTRY_LEN / 8 };

/*
 * Each field on its own is an associative operation: the last place wins,
 * sums (that wrap: saturation would not be associative), the maximum, and for
 * the flags "clear, then set", which composes to one such step.
 */
void
index_merge(struct index_entry *into, const struct index_entry *op)
{
	if (op->place.pack != 0) {
		into->place = op->place;
		into->kind = op->kind;
		into->level = op->level;
	}
	into->refs = (int64_t)((uint64_t)into->refs + (uint64_t)op->refs);
	if (op->stamp > into->stamp)
		into->stamp = op->stamp;
	into->flags = (uint8_t)((into->flags & ~op->clear) | op->flags);
	into->clear |= op->clear;
}

bool
index_present(const struct index_entry *e)
{
	return e->place.pack != 0 && e->refs >= 0;
}

size_t
index_entry_print(const struct index_entry *e, uint8_t *out)
{
	uint8_t d[INDEX_ENTRY_LEN], bytes[INDEX_ENTRY_LEN];
	struct index_entry_whole w = { 0 };
	uint64_t mask = 0;
	size_t n = 0;

	put_le32(w.pack, e->place.pack);
	put_le32(w.off, e->place.off);
	put_le32(w.stored_len, e->place.stored_len);
	put_le32(w.raw_len, e->place.raw_len);
	put_le64(w.refs, (uint64_t)e->refs);
	put_le64(w.stamp, e->stamp);
	w.codec = e->place.codec;
	w.kind = e->kind;
	w.level = e->level;
	w.flags = e->flags;
	w.clear = e->clear;
	memcpy(d, &w, sizeof(d));
	for (unsigned i = 0; i < INDEX_ENTRY_LEN; i++) {
		if (d[i] == 0)
			continue;
		mask |= 1ULL << i;
		bytes[n++] = d[i];
	}
	if (MASK_LEN + n >= INDEX_ENTRY_LEN) {
		memcpy(out, d, sizeof(d));
		return sizeof(d);
	}
	for (unsigned i = 0; i < MASK_LEN; i++)
		out[i] = (uint8_t)(mask >> 8 * i);
	memcpy(out + MASK_LEN, bytes, n);
	return MASK_LEN + n;
}

/* From either form to the whole one. */
static int
unpack(const uint8_t *in, size_t len, uint8_t *d)
{
	uint64_t mask = 0;
	size_t at = MASK_LEN;

	if (len == INDEX_ENTRY_LEN) {
		memcpy(d, in, len);
		return 0;
	}
	if (len < MASK_LEN || len > INDEX_ENTRY_LEN)
		return ERR_CORRUPT;
	for (unsigned i = 0; i < MASK_LEN; i++)
		mask |= (uint64_t)in[i] << 8 * i;
	memset(d, 0, INDEX_ENTRY_LEN);
	for (; mask != 0; mask &= mask - 1) {
		if (at == len || in[at] == 0)
			return ERR_CORRUPT;
		d[__builtin_ctzll(mask)] = in[at++];
	}
	return at == len ? 0 : ERR_CORRUPT;
}

int
index_entry_parse(const uint8_t *in, size_t len, struct index_entry *out)
{
	struct index_entry_whole w;
	uint8_t d[INDEX_ENTRY_LEN];

	memset(out, 0, sizeof(*out));
	if (unpack(in, len, d) != 0)
		return ERR_CORRUPT;
	memcpy(&w, d, sizeof(w));
	if (!bytes_zero(w.zero, sizeof(w.zero)))
		return ERR_CORRUPT;
	out->place.pack = get_le32(w.pack);
	out->place.off = get_le32(w.off);
	out->place.stored_len = get_le32(w.stored_len);
	out->place.raw_len = get_le32(w.raw_len);
	out->place.codec = w.codec;
	out->refs = (int64_t)get_le64(w.refs);
	out->stamp = get_le64(w.stamp);
	out->kind = w.kind;
	out->level = w.level;
	out->flags = w.flags;
	out->clear = w.clear;
	return 0;
}

/*
 * What cannot be read must neither fail (RocksDB would refuse all writes from
 * then on) nor pass: it makes the count negative, so the entry reads as
 * missing and the index is checked.
 */
static void
apply(struct index_entry *into, const char *op, size_t len)
{
	struct index_entry e;

	if (index_entry_parse((const uint8_t *)op, len, &e) != 0) {
		memset(&e, 0, sizeof(e));
		e.refs = INT64_MIN / 4;
	}
	index_merge(into, &e);
}

static char *
result(const struct index_entry *e, unsigned char *success, size_t *len)
{
	uint8_t *out = xmalloc(INDEX_ENTRY_LEN);

	*len = index_entry_print(e, out);
	*success = 1;
	return (char *)out;
}

static char *
full_merge(void *state, const char *key, size_t key_len, const char *old,
    size_t old_len, const char *const *ops, const size_t *lens, int n,
    unsigned char *success, size_t *len)
{
	struct index_entry e = { 0 };

	(void)state;
	(void)key;
	(void)key_len;
	if (old != NULL)
		apply(&e, old, old_len);
	for (int i = 0; i < n; i++)
		apply(&e, ops[i], lens[i]);
	e.clear = 0; /* a value is no operand: there is nothing before it */
	return result(&e, success, len);
}

static char *
partial_merge(void *state, const char *key, size_t key_len,
    const char *const *ops, const size_t *lens, int n, unsigned char *success,
    size_t *len)
{
	struct index_entry e = { 0 };

	(void)state;
	(void)key;
	(void)key_len;
	for (int i = 0; i < n; i++)
		apply(&e, ops[i], lens[i]);
	return result(&e, success, len);
}

static void
delete_value(void *state, const char *value, size_t len)
{
	(void)state;
	(void)len;
	free((void *)(uintptr_t)value);
}

static void
nothing(void *state)
{
	(void)state;
}

static const char *
operator_name(void *state)
{
	(void)state;
	return "backstay.entry.1"; /* RocksDB refuses to open with another */
}

rocksdb_mergeoperator_t *
index_merge_operator(void)
{
	return rocksdb_mergeoperator_create(NULL, nothing, full_merge,
	    partial_merge, delete_value, operator_name);
}
