/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMDK of the type streamOptimized, which is what other hypervisors take
 * with an OVF.  Each grain is a zlib stream; here one of stored blocks, so
 * that all have one length and the image's size follows from which grains
 * there are: nothing is read or compressed twice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "agent/archive/form.h"
#include "proto/base/buf.h"
#include "proto/base/bytes.h"
#include "proto/base/io.h"

enum {
	SECTOR = 512,
	GRAIN = 65536,
	GRAIN_SECTORS = GRAIN / SECTOR,
	PER_TABLE = 512, /* grains */
	TABLE_SECTORS = PER_TABLE * 4 / SECTOR,
	OVERHEAD = 128, /* sectors before the first grain */
	DESCRIPTOR_SECTORS = 20,
	STORED_MAX = 65535, /* of one deflate block */
	/* zlib's header, two blocks with theirs, the checksum. */
	PACKED = 2 + 5 + STORED_MAX + 5 + (GRAIN - STORED_MAX) + 4,
	MARKER = 12,
	PACKED_SECTORS = (MARKER + PACKED + SECTOR - 1) / SECTOR
};
enum marker { MARK_END, MARK_TABLE, MARK_DIRECTORY, MARK_FOOTER };

struct form_vmdk {
	struct form f;
	char *name;
	uint64_t capacity; /* sectors */
	uint64_t ngrains, ntables;
	uint32_t *table; /* where each lies; while planning 1: it is there */
	uint64_t nplanned, nfull; /* grains, tables that are there */
	uint64_t at;              /* sectors written */
	uint64_t current; /* the table of which grains come; ntables: none */
	uint32_t grain[PER_TABLE];
	uint8_t packed[PACKED_SECTORS * SECTOR];
};

static unsigned
grains(const struct walk *w, unsigned i)
{
	uint32_t len = chunk_len(w->size, w->chunk_size, walk_first(w) + i);

	return (len + GRAIN - 1) / GRAIN;
}

static uint64_t
first_grain(const struct walk *w, unsigned i)
{
	return (walk_first(w) + i) * (w->chunk_size / GRAIN);
}

static int
vmdk_plan(struct form *f, struct err *e)
{
	struct form_vmdk *v = (struct form_vmdk *)f;
	struct walk *w = f->walk;

	(void)e;
	for (unsigned i = 0; i < w->count; i++) {
		uint64_t first = first_grain(w, i);

		if (walk_kind(w, i) != WALK_DATA)
			continue;
		v->nplanned += grains(w, i);
		for (unsigned k = 0; k < grains(w, i); k++) {
			uint32_t *t = &v->table[(first + k) / PER_TABLE];

			v->nfull += *t == 0;
			*t = 1;
		}
	}
	return 0;
}

static uint64_t
directory_sectors(const struct form_vmdk *v)
{
	return (v->ntables * 4 + SECTOR - 1) / SECTOR;
}

static int
vmdk_size(struct form *f, uint64_t *out, struct err *e)
{
	struct form_vmdk *v = (struct form_vmdk *)f;
	uint64_t sectors = OVERHEAD + v->nplanned * PACKED_SECTORS +
	    v->nfull * (1 + TABLE_SECTORS) + 1 + directory_sectors(v) + 3;

	if (sectors > UINT32_MAX)
		return err_set(e, ERR_LIMIT,
		    "volume %s: a VMDK holds less than 2 TiB of data",
		    f->walk->name);
	memset(v->table, 0, v->ntables * sizeof(*v->table));
	v->current = v->ntables;
	*out = sectors * SECTOR;
	return 0;
}

static int
put_sectors(struct form_vmdk *v, const void *data, uint64_t n, struct err *e)
{
	v->at += n;
	return member_put(v->f.member, data, n * SECTOR, e);
}

static int
put_marker(
    struct form_vmdk *v, uint64_t nsectors, enum marker type, struct err *e)
{
	uint8_t m[SECTOR] = { 0 };

	put_le64(m, nsectors);
	put_le32(m + 12, type);
	return put_sectors(v, m, 1, e);
}

static int
put_header(struct form_vmdk *v, uint64_t directory, struct err *e)
{
	uint8_t h[SECTOR] = { 0 };

	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): no string */
	memcpy(h, "KDMV", 4);
	put_le32(h + 4, 3);
	put_le32(h + 8, 0x30001); /* compressed grains, markers, line ends */
	put_le64(h + 12, v->capacity);
	put_le64(h + 20, GRAIN_SECTORS);
	put_le64(h + 28, 1);
	put_le64(h + 36, DESCRIPTOR_SECTORS);
	put_le32(h + 44, PER_TABLE);
	put_le64(h + 56, directory);
	put_le64(h + 64, OVERHEAD);
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): no string */
	memcpy(h + 73, "\n \r\n", 4);
	put_le16(h + 77, 1); /* deflate */
	return put_sectors(v, h, 1, e);
}

static int
put_descriptor(struct form_vmdk *v, struct err *e)
{
	uint64_t cylinders = v->capacity / (255 * 63);
	uint8_t *text = xcalloc(1, (OVERHEAD - 1) * SECTOR);
	uint32_t cid;
	int rc;

	random_bytes(&cid, sizeof(cid));
	snprintf((char *)text, DESCRIPTOR_SECTORS * SECTOR,
	    "# Disk DescriptorFile\nversion=1\nCID=%08x\n"
	    "parentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n"
	    "# Extent description\nRW %llu SPARSE \"%s\"\n\n"
	    "# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n"
	    "ddb.adapterType = \"lsilogic\"\n"
	    "ddb.geometry.cylinders = \"%llu\"\n"
	    "ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n",
	    cid & 0x7fffffff, (unsigned long long)v->capacity, v->name,
	    (unsigned long long)(cylinders > 0 ? cylinders : 1));
	rc = put_sectors(v, text, OVERHEAD - 1, e);
	free(text);
	return rc;
}

static int
vmdk_head(struct form *f, struct err *e)
{
	struct form_vmdk *v = (struct form_vmdk *)f;
	/* Where the directory lies is said at the end. */
	int rc = put_header(v, UINT64_MAX, e);

	return rc != 0 ? rc : put_descriptor(v, e);
}

/* The table of the grains that were written last. */
static int
end_table(struct form_vmdk *v, struct err *e)
{
	uint8_t out[PER_TABLE * 4];
	int rc;

	if (v->current == v->ntables)
		return 0;
	for (unsigned i = 0; i < PER_TABLE; i++)
		put_le32(out + i * 4, v->grain[i]);
	memset(v->grain, 0, sizeof(v->grain));
	rc = put_marker(v, TABLE_SECTORS, MARK_TABLE, e);
	v->table[v->current] = (uint32_t)v->at;
	v->current = v->ntables;
	return rc != 0 ? rc : put_sectors(v, out, TABLE_SECTORS, e);
}

static int
put_grain(struct form_vmdk *v, uint64_t number, const uint8_t *data, size_t len,
    struct err *e)
{
	static const uint8_t zeroes[GRAIN];
	uint8_t *p = v->packed, *raw;
	uint32_t sum;
	int rc;

	if (v->current != number / PER_TABLE) {
		rc = end_table(v, e);
		if (rc != 0)
			return rc;
		v->current = number / PER_TABLE;
	}
	v->grain[number % PER_TABLE] = (uint32_t)v->at;
	put_le64(p, number * GRAIN_SECTORS);
	put_le32(p + 8, PACKED);
	p += MARKER;
	*p++ = 0x78;
	*p++ = 0x01;
	*p++ = 0; /* stored, more follow */
	put_le16(p, STORED_MAX);
	put_le16(p + 2, (uint16_t)~STORED_MAX);
	raw = p + 4;
	memcpy(raw, data, len < STORED_MAX ? len : STORED_MAX);
	if (len < STORED_MAX)
		memset(raw + len, 0, STORED_MAX - len);
	p = raw + STORED_MAX;
	*p++ = 1; /* stored, the last */
	put_le16(p, GRAIN - STORED_MAX);
	put_le16(p + 2, (uint16_t) ~(GRAIN - STORED_MAX));
	p[4] = len == GRAIN ? data[GRAIN - 1] : 0;
	p += 5;
	sum = (uint32_t)adler32(1, data, (uInt)len);
	sum = (uint32_t)adler32(sum, zeroes, (uInt)(GRAIN - len));
	put_be32(p, sum);
	return put_sectors(v, v->packed, PACKED_SECTORS, e);
}

static int
vmdk_slice(struct form *f, unsigned i, const uint8_t *data, uint32_t len,
    struct err *e)
{
	struct form_vmdk *v = (struct form_vmdk *)f;
	uint64_t number = first_grain(f->walk, i);
	int rc = 0;

	for (; rc == 0 && len > 0; number++) {
		uint32_t n = len < GRAIN ? len : GRAIN;

		rc = put_grain(v, number, data, n, e);
		data += n;
		len -= n;
	}
	return rc;
}

static int
vmdk_nothing(struct form *f, struct err *e)
{
	(void)f;
	(void)e;
	return 0;
}

static int
put_directory(struct form_vmdk *v, struct err *e)
{
	size_t len = (size_t)directory_sectors(v) * SECTOR;
	uint8_t *out = xcalloc(1, len + 1);
	int rc;

	for (uint64_t i = 0; i < v->ntables; i++)
		put_le32(out + i * 4, v->table[i]);
	rc = put_sectors(v, out, directory_sectors(v), e);
	free(out);
	return rc;
}

static int
vmdk_end(struct form *f, struct err *e)
{
	struct form_vmdk *v = (struct form_vmdk *)f;
	uint64_t directory;
	int rc;

	rc = end_table(v, e);
	if (rc == 0)
		rc = put_marker(v, directory_sectors(v), MARK_DIRECTORY, e);
	directory = v->at;
	if (rc == 0)
		rc = put_directory(v, e);
	if (rc == 0)
		rc = put_marker(v, 1, MARK_FOOTER, e);
	if (rc == 0)
		rc = put_header(v, directory, e);
	return rc != 0 ? rc : put_marker(v, 0, MARK_END, e);
}

static void
vmdk_free(struct form *f)
{
	struct form_vmdk *v = (struct form_vmdk *)f;

	free(v->table);
	free(v->name);
	free(v);
}

static const struct form_ops vmdk_ops = {
	.plan = vmdk_plan,
	.size = vmdk_size,
	.head = vmdk_head,
	.region = vmdk_nothing,
	.slice = vmdk_slice,
	.region_end = vmdk_nothing,
	.end = vmdk_end,
	.free = vmdk_free,
};

uint64_t
form_vmdk_capacity(uint64_t size)
{
	/* Whole grains: a little more than an odd disk has.  Nobody takes one
	 * of nothing. */
	return size > 0 ? (size + GRAIN - 1) / GRAIN * GRAIN : GRAIN;
}

struct form *
form_vmdk_new(struct walk *w, const char *name)
{
	struct form_vmdk *v = xcalloc(1, sizeof(*v));

	v->f.ops = &vmdk_ops;
	v->f.word = "vmdk";
	v->f.walk = w;
	v->name = xstrdup(name);
	v->ngrains = form_vmdk_capacity(w->size) / GRAIN;
	v->capacity = v->ngrains * GRAIN_SECTORS;
	v->ntables = (v->ngrains + PER_TABLE - 1) / PER_TABLE;
	v->table = xcalloc(v->ntables + 1, sizeof(*v->table));
	return &v->f;
}
