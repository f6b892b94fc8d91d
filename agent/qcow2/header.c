/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/header.h"

#include <string.h>

#include "proto/base/bytes.h"

/* Offsets of the fields, all big-endian. */
enum {
	AT_VERSION = 4,
	AT_BACKING_OFFSET = 8,
	AT_BACKING_LEN = 16,
	AT_CLUSTER_BITS = 20,
	AT_SIZE = 24,
	AT_CRYPT = 32,
	AT_L1_ENTRIES = 36,
	AT_L1_OFFSET = 40,
	AT_INCOMPATIBLE = 72,
	AT_AUTOCLEAR = 88,
	AT_REFCOUNT_ORDER = 96,
	AT_HEADER_LEN = 100,
	AT_COMPRESSION = 104
};

enum { REFCOUNT_ORDER_MAX = 6, FEATURE_LEN = 48, FEATURE_NAME_LEN = 46 };

/* What is known of the first cluster while it is decoded. */
struct first {
	const uint8_t *data;
	size_t len;        /* what there is of the cluster */
	size_t header_len; /* extensions begin here */
	uint64_t incompatible;
};

static int
bad(struct err *e, const char *what)
{
	return err_set(e, ERR_CORRUPT,
	    "damaged qcow2 header: %s; see what qemu-img check says", what);
}

/* A name of ${len} bytes at ${p}, which must be text without NULs. */
static int
copy_name(char *out, const uint8_t *p, size_t len, struct err *e)
{
	if (memchr(p, 0, len) != NULL)
		return bad(e, "a file name holds a NUL");
	memcpy(out, p, len);
	out[len] = 0;
	return 0;
}

/* Damage here is no damage of the disk: it is told when a bitmap is wanted. */
static void
bitmaps_at(struct qcow2_bitmaps_at *b, const uint8_t *p, size_t len)
{
	b->present = true;
	if (len != QCOW2_BITMAPS_EXT_LEN || get_be32(p + 4) != 0)
		return;
	b->n = get_be32(p);
	b->dir_len = get_be64(p + 8);
	b->dir_offset = get_be64(p + 16);
}

static int
one_extension(struct qcow2_header *h, uint32_t type, const uint8_t *p,
    size_t len, struct err *e)
{
	switch (type) {
	case QCOW2_EXT_BACKING_FORMAT:
		if (len > QCOW2_FORMAT_MAX)
			return bad(e, "the backing format's name is too long");
		return copy_name(h->backing_format, p, len, e);
	case QCOW2_EXT_DATA_FILE:
		if (len > QCOW2_NAME_MAX)
			return bad(e, "the data file's name is too long");
		return copy_name(h->data_file_name, p, len, e);
	case QCOW2_EXT_BITMAPS: bitmaps_at(&h->bitmaps, p, len); return 0;
	default: return 0; /* all others may be ignored by their definition */
	}
}

/* The lowest of the incompatible ${bits} by the name the image gives it. */
static int
unknown_feature(uint64_t bits, const uint8_t *names, size_t len, struct err *e)
{
	int bit = __builtin_ctzll(bits);

	for (; len >= FEATURE_LEN; names += FEATURE_LEN, len -= FEATURE_LEN)
		if (names[0] == 0 && names[1] == bit)
			return err_set(e, ERR_UNSUP,
			    "needs the qcow2 feature \"%.*s\" (incompatible "
			    "bit %d), which is unknown here: convert it with "
			    "qemu-img convert",
			    FEATURE_NAME_LEN, (const char *)names + 2, bit);
	return err_set(e, ERR_UNSUP,
	    "needs an unknown qcow2 feature (incompatible bit %d): convert it "
	    "with qemu-img convert",
	    bit);
}

/*
 * The extensions lie between the header and the backing name.  Features are
 * judged here because their names are one of the extensions.
 */
static int
extensions(
    const struct first *f, size_t end, struct qcow2_header *h, struct err *e)
{
	struct rd r = rd_over(f->data + f->header_len, end - f->header_len);
	uint64_t unknown = f->incompatible & ~(uint64_t)QCOW2_INCOMPAT_KNOWN;
	const uint8_t *names = NULL;
	size_t names_len = 0;

	while (r.left >= 8) {
		uint32_t type = get_be32(rd_bytes(&r, 4));
		uint32_t len = get_be32(rd_bytes(&r, 4));
		const uint8_t *p = rd_bytes(&r, len);
		int rc;

		if (type == QCOW2_EXT_END)
			break;
		if (p == NULL)
			return bad(e, "an extension reaches out of it");
		if (type == QCOW2_EXT_FEATURES) {
			names = p;
			names_len = len;
		}
		rc = one_extension(h, type, p, len, e);
		if (rc != 0)
			return rc;
		if (rd_bytes(&r, -len & 7) == NULL) /* padded to 8 */
			break;
	}
	if (unknown != 0)
		return unknown_feature(unknown, names, names_len, e);
	return 0;
}

static int
backing_name(
    const struct first *f, size_t *end, struct qcow2_header *h, struct err *e)
{
	uint64_t off = get_be64(f->data + AT_BACKING_OFFSET);
	uint32_t len = get_be32(f->data + AT_BACKING_LEN);

	*end = f->len;
	if (off == 0)
		return 0;
	if (len > QCOW2_NAME_MAX)
		return bad(e, "the backing file's name is too long");
	if (off < f->header_len || off > f->len || len > f->len - off)
		return bad(e, "the backing file's name lies out of bounds");
	*end = (size_t)off;
	return copy_name(h->backing, f->data + off, len, e);
}

static int
compression(const struct first *f, struct qcow2_header *h, struct err *e)
{
	bool bit = (f->incompatible & QCOW2_INCOMPAT_COMPRESSION) != 0;
	uint8_t type =
	    f->header_len > AT_COMPRESSION ? f->data[AT_COMPRESSION] : 0;

	if (bit != (type != QCOW2_ZLIB))
		return bad(e, "compression type and feature bit disagree");
	if (type != QCOW2_ZLIB && type != QCOW2_ZSTD)
		return err_set(e, ERR_UNSUP,
		    "unknown qcow2 compression type %u: convert it with "
		    "qemu-img convert",
		    type);
	h->compression = type == QCOW2_ZSTD ? QCOW2_ZSTD : QCOW2_ZLIB;
	return 0;
}

/* What only version 3 has; version 2 is as if all of it were 0. */
static int
version_3(struct first *f, struct qcow2_header *h, struct err *e)
{
	if (f->len < QCOW2_V3_HEADER_LEN)
		return bad(e, "it is cut off");
	f->header_len = get_be32(f->data + AT_HEADER_LEN);
	if (f->header_len < QCOW2_V3_HEADER_LEN || f->header_len > f->len)
		return bad(e, "its length is out of bounds");
	if (get_be32(f->data + AT_REFCOUNT_ORDER) > REFCOUNT_ORDER_MAX)
		return bad(e, "refcounts wider than 64 bits");
	f->incompatible = get_be64(f->data + AT_INCOMPATIBLE);
	h->dirty = (f->incompatible & QCOW2_INCOMPAT_DIRTY) != 0;
	h->data_file = (f->incompatible & QCOW2_INCOMPAT_DATA_FILE) != 0;
	h->bitmaps.kept =
	    (get_be64(f->data + AT_AUTOCLEAR) & QCOW2_AUTOCLEAR_BITMAPS) != 0;
	h->extended_l2 = (f->incompatible & QCOW2_INCOMPAT_EXTENDED_L2) != 0;
	if (h->extended_l2 && h->cluster_bits < QCOW2_EXTENDED_L2_BITS_MIN)
		return bad(e, "clusters too small for extended L2 entries");
	return compression(f, h, e);
}

static int
l1_table(const struct first *f, struct qcow2_header *h, struct err *e)
{
	uint32_t entries = get_be32(f->data + AT_L1_ENTRIES);
	uint32_t shift = h->cluster_bits + h->l2_bits;
	uint64_t need = h->size >> shift;

	if ((h->size & ((UINT64_C(1) << shift) - 1)) != 0)
		need++;
	if (need > QCOW2_L1_MAX / 8 || entries > QCOW2_L1_MAX / 8)
		return err_set(e, ERR_LIMIT,
		    "qcow2 L1 table of more than %d MiB, which QEMU refuses "
		    "too",
		    QCOW2_L1_MAX >> 20);
	if (entries < need)
		return bad(e, "the L1 table is too small for the disk");
	h->l1_entries = (uint32_t)need;
	h->l1_offset = get_be64(f->data + AT_L1_OFFSET);
	if ((h->l1_offset & ((UINT64_C(1) << h->cluster_bits) - 1)) != 0)
		return bad(e, "the L1 table is not aligned");
	return 0;
}

static int
crypt_method(const struct first *f, struct err *e)
{
	uint32_t method = get_be32(f->data + AT_CRYPT);

	if (method == 0)
		return 0;
	return err_set(e, ERR_UNSUP,
	    "the image is encrypted (%s): to keep the file as it is say "
	    "raw:PATH",
	    method == 1       ? "AES"
		: method == 2 ? "LUKS"
			      : "unknown method");
}

int
qcow2_header_decode(
    const uint8_t *data, size_t len, struct qcow2_header *h, struct err *e)
{
	struct first f = {
		.data = data, .len = len, .header_len = QCOW2_V2_HEADER_LEN
	};
	size_t end;
	int rc;

	memset(h, 0, sizeof(*h));
	if (len < QCOW2_V2_HEADER_LEN ||
	    memcmp(data, QCOW2_MAGIC, QCOW2_MAGIC_LEN) != 0)
		return err_set(e, ERR_CORRUPT, "is not a qcow2 image");
	h->version = get_be32(data + AT_VERSION);
	if (h->version != 2 && h->version != 3)
		return err_set(
		    e, ERR_UNSUP, "unknown qcow2 version %u", h->version);
	h->cluster_bits = get_be32(data + AT_CLUSTER_BITS);
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
	    h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return bad(e, "cluster size out of bounds");
	if (f.len > (size_t)1 << h->cluster_bits)
		f.len = (size_t)1 << h->cluster_bits;
	h->size = get_be64(data + AT_SIZE);
	if (h->size > INT64_MAX)
		return err_set(e, ERR_LIMIT, "a disk of 8 EiB or more");
	if (h->version == 3) {
		rc = version_3(&f, h, e);
		if (rc != 0)
			return rc;
	}
	h->l2_bits = h->cluster_bits - (h->extended_l2 ? 4 : 3);
	rc = backing_name(&f, &end, h, e);
	if (rc == 0)
		rc = extensions(&f, end, h, e);
	if (rc == 0)
		rc = crypt_method(&f, e);
	if (rc != 0)
		return rc;
	if ((f.incompatible & QCOW2_INCOMPAT_CORRUPT) != 0)
		return err_set(e, ERR_CORRUPT,
		    "the image is marked corrupt: repair it with qemu-img "
		    "check -r all");
	if (h->data_file && h->data_file_name[0] == 0)
		return bad(e, "an external data file without a name");
	return l1_table(&f, h, e);
}
