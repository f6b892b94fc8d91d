/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/record.h"

#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/codec.h"

static const uint8_t record_magic[4] = { 'B', 'S', 'R', 0xd7 };
static const uint8_t pack_magic[8] = "BSPACK\r\n";
static const uint8_t trailer_magic[4] = { 'B', 'S', 'E', 0xd7 };

enum { PACK_VERSION = 1 };

struct pack_header_disk { /* FORMAT.md 3.1 */
	uint8_t magic[8];
	uint8_t version[2];
	uint8_t len[2];
	uint8_t features[4];
	uint8_t type;
	uint8_t hash;
	uint8_t zero0[2];
	uint8_t number[4];
	uint8_t mirror[4];
	uint8_t chunk_size[4];
	uint8_t domain[4];
	uint8_t zero1[4];
	uint8_t tag[8];
	uint8_t uuid[16];
	uint8_t zero2[60];
	uint8_t crc[4]; /* of all before it */
};
_Static_assert(
    sizeof(struct pack_header_disk) == PACK_HEADER_LEN, "FORMAT.md 3.1");

struct pack_entry_disk { /* FORMAT.md 3.3 */
	uint8_t id[32];
	uint8_t off[4];
	uint8_t raw_len[4];
	uint8_t stored_len[4];
	uint8_t kind;
	uint8_t codec;
	uint8_t flags[2];
};
_Static_assert(
    sizeof(struct pack_entry_disk) == PACK_ENTRY_LEN, "FORMAT.md 3.3");

struct pack_trailer_disk { /* FORMAT.md 3.4 */
	uint8_t magic[4];
	uint8_t version[2];
	uint8_t zero[2];
	uint8_t footer_off[8];
	uint8_t count[4];
	uint8_t tag[8];
	uint8_t crc[4]; /* of all before it */
};
_Static_assert(
    sizeof(struct pack_trailer_disk) == PACK_TRAILER_LEN, "FORMAT.md 3.4");

/*
 * Lengths are checked even of what is not understood: a scan skips it by its
 * length and allocates for it.
 */
static int
check(uint8_t kind, uint8_t codec, uint16_t flags, uint32_t raw_len,
    uint32_t stored_len)
{
	uint32_t max = RECORD_STORED_MAX;

	if (kind == RECORD_FOOTER)
		max = PACK_ENTRIES_MAX * PACK_ENTRY_LEN;
	else if (kind == RECORD_MANIFEST)
		max = RECORD_MANIFEST_MAX;
	if (kind == 0 || raw_len > max || stored_len > max)
		return ERR_CORRUPT;
	if ((kind > RECORD_SETTINGS && kind != RECORD_FOOTER) || flags != 0 ||
	    (codec != CODEC_PLAIN && codec != CODEC_ZSTD))
		return ERR_UNSUP;
	return 0;
}

void
record_print(const struct record *r, uint64_t tag, uint8_t *out)
{
	struct record_disk d;

	memcpy(d.magic, record_magic, sizeof(d.magic));
	d.kind = r->kind;
	d.codec = r->codec;
	put_le16(d.flags, r->flags);
	put_le64(d.tag, tag);
	put_le32(d.raw_len, r->raw_len);
	put_le32(d.stored_len, r->stored_len);
	memcpy(d.id, r->id.b, ID_LEN);
	put_le32(d.payload_crc, r->payload_crc);
	put_le32(d.header_crc,
	    crc32c(0, &d, offsetof(struct record_disk, header_crc)));
	memcpy(out, &d, sizeof(d));
}

int
record_parse(const uint8_t *in, uint64_t tag, struct record *out)
{
	struct record_disk d;

	/* The cheap tests first: a search for the next record calls this for
	 * whatever looks like one. */
	if (memcmp(in, record_magic, sizeof(record_magic)) != 0)
		return ERR_CORRUPT;
	memcpy(&d, in, sizeof(d));
	if (get_le64(d.tag) != tag ||
	    get_le32(d.header_crc) !=
		crc32c(0, &d, offsetof(struct record_disk, header_crc)))
		return ERR_CORRUPT;
	out->kind = d.kind;
	out->codec = d.codec;
	out->flags = get_le16(d.flags);
	out->raw_len = get_le32(d.raw_len);
	out->stored_len = get_le32(d.stored_len);
	memcpy(out->id.b, d.id, ID_LEN);
	out->payload_crc = get_le32(d.payload_crc);
	return check(
	    out->kind, out->codec, out->flags, out->raw_len, out->stored_len);
}

void
pack_header_print(const struct pack_header *h, uint8_t *out)
{
	struct pack_header_disk d = { 0 };

	memcpy(d.magic, pack_magic, sizeof(d.magic));
	put_le16(d.version, PACK_VERSION);
	put_le16(d.len, PACK_HEADER_LEN);
	d.type = (uint8_t)h->type;
	d.hash = h->hash;
	put_le32(d.number, h->number);
	put_le32(d.mirror, h->mirror);
	put_le32(d.chunk_size, h->chunk_size);
	put_le32(d.domain, h->domain);
	put_le64(d.tag, h->tag);
	memcpy(d.uuid, h->uuid, sizeof(d.uuid));
	put_le32(d.crc, crc32c(0, &d, offsetof(struct pack_header_disk, crc)));
	memcpy(out, &d, sizeof(d));
}

int
pack_header_parse(const uint8_t *in, struct pack_header *out, struct err *e)
{
	struct pack_header_disk d;

	memcpy(&d, in, sizeof(d));
	if (memcmp(d.magic, pack_magic, sizeof(d.magic)) != 0)
		return err_set(
		    e, ERR_CORRUPT, "it does not begin as a pack does");
	if (get_le32(d.crc) !=
	    crc32c(0, &d, offsetof(struct pack_header_disk, crc)))
		return err_set(e, ERR_CORRUPT,
		    "the checksum of the pack's header is wrong");
	if (get_le16(d.version) != PACK_VERSION)
		return err_set(e, ERR_UNSUP,
		    "the pack has format version %u, this program knows %d: "
		    "use a newer one",
		    get_le16(d.version), PACK_VERSION);
	if (get_le32(d.features) != 0)
		return err_set(e, ERR_UNSUP,
		    "the pack needs features %#x that this program does not "
		    "know: use a newer one",
		    get_le32(d.features));
	if ((d.type != PACK_DATA && d.type != PACK_META) ||
	    d.hash != HASH_SHA256)
		return err_set(e, ERR_UNSUP,
		    "pack type %u with hash %u is unknown: use a newer "
		    "program",
		    d.type, d.hash);
	out->type = d.type == PACK_DATA ? PACK_DATA : PACK_META;
	out->hash = d.hash;
	out->number = get_le32(d.number);
	out->mirror = get_le32(d.mirror);
	out->chunk_size = get_le32(d.chunk_size);
	out->domain = get_le32(d.domain);
	out->tag = get_le64(d.tag);
	memcpy(out->uuid, d.uuid, sizeof(out->uuid));
	if (get_le16(d.len) != PACK_HEADER_LEN || out->number == 0 ||
	    out->mirror == out->number ||
	    (out->type == PACK_META) != (out->mirror != 0) ||
	    !chunk_size_ok(out->chunk_size) ||
	    !bytes_zero(d.zero0, sizeof(d.zero0)) ||
	    !bytes_zero(d.zero1, sizeof(d.zero1)) ||
	    !bytes_zero(d.zero2, sizeof(d.zero2)))
		return err_set(
		    e, ERR_CORRUPT, "the pack's header contradicts itself");
	return 0;
}

void
pack_entry_print(const struct pack_entry *p, uint8_t *out)
{
	struct pack_entry_disk d;

	memcpy(d.id, p->id.b, ID_LEN);
	put_le32(d.off, p->off);
	put_le32(d.raw_len, p->raw_len);
	put_le32(d.stored_len, p->stored_len);
	d.kind = p->kind;
	d.codec = p->codec;
	put_le16(d.flags, p->flags);
	memcpy(out, &d, sizeof(d));
}

int
pack_entry_parse(const uint8_t *in, struct pack_entry *out)
{
	struct pack_entry_disk d;

	memcpy(&d, in, sizeof(d));
	memcpy(out->id.b, d.id, ID_LEN);
	out->off = get_le32(d.off);
	out->raw_len = get_le32(d.raw_len);
	out->stored_len = get_le32(d.stored_len);
	out->kind = d.kind;
	out->codec = d.codec;
	out->flags = get_le16(d.flags);
	if (out->off < PACK_HEADER_LEN || out->off > PACK_OFF_MAX ||
	    out->kind == RECORD_FOOTER)
		return ERR_CORRUPT;
	return check(
	    out->kind, out->codec, out->flags, out->raw_len, out->stored_len);
}

void
pack_trailer_print(const struct pack_trailer *t, uint8_t *out)
{
	struct pack_trailer_disk d = { 0 };

	memcpy(d.magic, trailer_magic, sizeof(d.magic));
	put_le16(d.version, PACK_VERSION);
	put_le64(d.footer_off, t->footer_off);
	put_le32(d.count, t->count);
	put_le64(d.tag, t->tag);
	put_le32(d.crc, crc32c(0, &d, offsetof(struct pack_trailer_disk, crc)));
	memcpy(out, &d, sizeof(d));
}

int
pack_trailer_parse(const uint8_t *in, struct pack_trailer *out)
{
	struct pack_trailer_disk d;

	memcpy(&d, in, sizeof(d));
	if (memcmp(d.magic, trailer_magic, sizeof(d.magic)) != 0 ||
	    get_le32(d.crc) !=
		crc32c(0, &d, offsetof(struct pack_trailer_disk, crc)))
		return ERR_CORRUPT;
	if (get_le16(d.version) != PACK_VERSION)
		return ERR_UNSUP;
	out->footer_off = get_le64(d.footer_off);
	out->count = get_le32(d.count);
	out->tag = get_le64(d.tag);
	if (!bytes_zero(d.zero, sizeof(d.zero)) ||
	    out->footer_off < PACK_HEADER_LEN ||
	    out->footer_off > PACK_OFF_MAX || out->count > PACK_ENTRIES_MAX)
		return ERR_CORRUPT;
	return 0;
}
