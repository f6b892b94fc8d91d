/* SPDX-License-Identifier: Apache-2.0 */
/* chunk: ids of chunks and nodes, and how a volume is cut.  PROTOCOL.md 3. */
#ifndef PROTO_CHUNK_H
#define PROTO_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	ID_LEN = 32,
	CHUNK_SIZE_MIN = 64 << 10,
	CHUNK_SIZE_DEFAULT = 64 << 10,
	CHUNK_SIZE_MAX = 4 << 20,
	HASH_KEY_LEN = 32,
	HASH_SHA256 = 1 /* the only hash of format 1 */
};

/* Largest volume: leaves room for sums of offsets and lengths. */
#define VOLUME_SIZE_MAX ((uint64_t)1 << 60)

struct id {
	uint8_t b[ID_LEN];
};

static inline bool
id_equal(const struct id *a, const struct id *b)
{
	return memcmp(a->b, b->b, ID_LEN) == 0;
}

/* The all-zero id stands for a hole: a slice or a subtree of only zeroes. */
static inline bool
id_is_hole(const struct id *a)
{
	static const struct id zero;

	return id_equal(a, &zero);
}

/** chunk_size_ok(size): a power of two from CHUNK_SIZE_MIN to _MAX. */
bool chunk_size_ok(uint64_t size);

/** chunk_nslices(size, chunk): how many slices a volume of ${size} has. */
uint64_t chunk_nslices(uint64_t size, uint32_t chunk_size);

/** chunk_len(size, chunk, i): length of slice ${i}; only the last is short. */
uint32_t chunk_len(uint64_t size, uint32_t chunk_size, uint64_t slice);

/*
 * Makes ids.  A chunk's id is SHA-256, a node's SHA-512/256: two functions, so
 * nothing that a guest writes on its disk can have the id of a node.  With a
 * key both are HMACs: ids of one namespace then mean nothing in another.
 */
struct hasher;

/** hasher_new(key): HASH_KEY_LEN bytes, or NULL for plain.  One thread. */
struct hasher *hasher_new(const uint8_t *key);
void hasher_chunk(
    struct hasher *h, const void *data, size_t len, struct id *out);
void hasher_node(
    struct hasher *h, const void *body, size_t len, struct id *out);
void hasher_free(struct hasher *h);

#endif
