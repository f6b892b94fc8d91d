/* SPDX-License-Identifier: Apache-2.0 */
/* record: the bytes of packs: headers, records, footers.  Pure.  FORMAT.md 3.
 */
#ifndef REPO_STORE_RECORD_H
#define REPO_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/chunk.h"

enum record_kind {
	RECORD_CHUNK = 1,
	RECORD_NODE = 2,      /* payload: the node's body (PROTOCOL.md 4) */
	RECORD_MANIFEST = 3,  /* id: the backup's random id, then zeroes */
	RECORD_TOMBSTONE = 4, /* id: that of the manifest it ends */
	RECORD_SETTINGS = 5,  /* a copy of a small file; reserved */
	RECORD_FOOTER = 15    /* payload: the pack's list of records */
};

enum {
	RECORD_HEADER_LEN = 64,
	RECORD_STORED_MAX = CHUNK_SIZE_MAX + 4096, /* not of a footer */
	RECORD_MANIFEST_MAX = 1 << 20,
	RECORD_TOMBSTONE_LEN = 8, /* the packs that hold its manifest */
	PACK_HEADER_LEN = 128,
	PACK_TRAILER_LEN = 32,
	PACK_ENTRY_LEN = 48,
	PACK_ENTRIES_MAX = 1 << 20, /* records of a pack: bounds its footer */
	PACK_OFF_MAX = 0x7fffffff
};

/* One record, without its payload. */
struct record {
	uint8_t kind;
	uint8_t codec;
	uint16_t flags; /* none is known yet: 0 */
	uint32_t raw_len;
	uint32_t stored_len;
	struct id id;
	uint32_t payload_crc;
};

struct record_disk { /* FORMAT.md 3.2 */
	uint8_t magic[4];
	uint8_t kind;
	uint8_t codec;
	uint8_t flags[2];
	uint8_t tag[8];
	uint8_t raw_len[4];
	uint8_t stored_len[4];
	uint8_t id[32];
	uint8_t payload_crc[4];
	uint8_t header_crc[4]; /* of all before it */
};
_Static_assert(
    sizeof(struct record_disk) == RECORD_HEADER_LEN, "FORMAT.md 3.2");

/**
 * record_print(r, tag, out): encode.  record_parse(in, tag, out): decode and
 * check magic, header CRC, tag and lengths.  0; ERR_CORRUPT (no record of this
 * pack here); ERR_UNSUP (unknown kind, codec or flags: skip it by its length).
 */
void record_print(const struct record *r, uint64_t tag, uint8_t *out);
int record_parse(const uint8_t *in, uint64_t tag, struct record *out);

/* What tells one pack from another; constant for its life. */
enum pack_type { PACK_DATA = 1, PACK_META = 2 };

struct pack_header {
	enum pack_type type;
	uint32_t number;
	uint32_t mirror; /* meta: the number of its twin; data: 0 */
	uint32_t chunk_size;
	uint8_t hash;
	uint32_t domain; /* whose ids: 0 the repository's */
	uint64_t tag;
	uint8_t uuid[16];
};

/** pack_header_parse: 0; ERR_CORRUPT; ERR_UNSUP (newer version or features).
 * The text of ${e} lacks the pack's name. */
void pack_header_print(const struct pack_header *h, uint8_t *out);
int pack_header_parse(
    const uint8_t *in, struct pack_header *out, struct err *e);

/* One line of a footer: enough to rebuild an index entry. */
struct pack_entry {
	struct id id;
	uint8_t kind;
	uint8_t codec;
	uint16_t flags;
	uint32_t off;
	uint32_t raw_len;
	uint32_t stored_len;
};

/** pack_entry_parse: 0; ERR_CORRUPT; ERR_UNSUP: an entry to skip. */
void pack_entry_print(const struct pack_entry *p, uint8_t *out);
int pack_entry_parse(const uint8_t *in, struct pack_entry *out);

/* The last PACK_TRAILER_LEN bytes of a sealed pack: where the footer lies. */
struct pack_trailer {
	uint64_t footer_off; /* of the footer's record header */
	uint32_t count;
	uint64_t tag;
};

/** pack_trailer_parse: 0; ERR_CORRUPT; ERR_UNSUP.  The tag is the caller's to
 * compare, and that the footer's end is the trailer. */
void pack_trailer_print(const struct pack_trailer *t, uint8_t *out);
int pack_trailer_parse(const uint8_t *in, struct pack_trailer *out);

#endif
