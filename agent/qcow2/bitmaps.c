/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/bitmaps.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/bytes.h"

/* An entry of the directory; extra data and the name follow. */
enum {
	AT_TABLE_OFFSET = 0,
	AT_TABLE_ENTRIES = 8,
	AT_FLAGS = 12,
	AT_TYPE = 16,
	AT_GRANULARITY_BITS = 17,
	AT_NAME_LEN = 18,
	AT_EXTRA_LEN = 20,
	ENTRY_LEN = 24
};

enum entry_flags {
	FLAG_IN_USE = 1 << 0,
	FLAG_AUTO = 1 << 1,
	FLAG_EXTRA_COMPATIBLE = 1 << 2,
	FLAGS_KNOWN = (1 << 3) - 1
};

enum { TYPE_DIRTY = 1 };

#define TABLE_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define TABLE_ALL_ONES UINT64_C(1)

enum {
	TABLE_PIECE = 4096, /* bytes of the table looked at at a time */
	PIECE = 512,        /* bytes of a bitmap; never across a cluster */
	/*
	 * How many pieces one answer covers at most: with 64 KiB a bit 16 GiB
	 * of the disk, and much more where whole clusters are alike.
	 */
	LOOK = 64
};

/* Constant after open. */
struct bitmap {
	struct qcow2 *q;
	uint64_t table; /* offset in the file */
	uint32_t nentries;
	uint32_t bits; /* log2 of the granularity */
};

/* Where the reason goes, for a person. */
struct why {
	char *text;
	size_t len;
};

static bool no(struct why *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static bool
no(struct why *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text, w->len, fmt, ap);
	va_end(ap);
	return false;
}

/* ${len} bytes at ${off} must be in the file: past its end is not "clean". */
static bool
fetch(struct qcow2 *q, void *data, size_t len, uint64_t off, struct why *w)
{
	struct err e;

	if (off > q->file->size || len > q->file->size - off) {
		no(w, "the image's bitmaps reach beyond its end");
		return false;
	}
	if (imgfile_read(q->file, data, len, off, &e) != 0) {
		no(w, "the image's bitmaps cannot be read");
		return false;
	}
	return true;
}

/* One entry of the directory, as far as it is of interest. */
struct entry {
	uint8_t raw[ENTRY_LEN];
	uint64_t len; /* all of it in the directory */
	bool named;   /* it is the one that is looked for */
};

static bool
get_entry(struct qcow2 *q, uint64_t off, uint64_t left, const char *name,
    struct entry *t, struct why *w)
{
	uint8_t text[BITMAPS_NAME_MAX];
	size_t name_len;
	uint32_t extra;

	if (left < ENTRY_LEN)
		return no(w, "the image's list of bitmaps is damaged");
	if (!fetch(q, t->raw, ENTRY_LEN, off, w))
		return false;
	name_len = get_be32(t->raw + AT_NAME_LEN - 2) & 0xffff;
	extra = get_be32(t->raw + AT_EXTRA_LEN);
	t->len = (ENTRY_LEN + (uint64_t)extra + name_len + 7) / 8 * 8;
	if (name_len == 0 || name_len > BITMAPS_NAME_MAX || t->len > left)
		return no(w, "the image's list of bitmaps is damaged");
	t->named = name_len == strlen(name);
	if (t->named && !fetch(q, text, name_len, off + ENTRY_LEN + extra, w))
		return false;
	t->named = t->named && memcmp(text, name, name_len) == 0;
	return true;
}

/* The whole list is looked through: the name must be there once. */
static bool
find(struct qcow2 *q, const char *name, struct entry *out, struct why *w)
{
	const struct qcow2_bitmaps_at *at = &q->h.bitmaps;
	uint64_t off = at->dir_offset, left = at->dir_len;
	struct entry t = { .named = false };
	bool found = false;

	if (!at->present)
		return no(w, "the image has no bitmaps");
	if (!at->kept)
		return no(w,
		    "the image was written by a program that does not know "
		    "of bitmaps");
	if (left == 0 || left > BITMAPS_DIR_MAX || at->n > BITMAPS_MAX ||
	    off == 0 || off > INT64_MAX)
		return no(w, "the image's list of bitmaps is damaged");
	for (uint32_t i = 0; i < at->n; i++) {
		if (!get_entry(q, off, left, name, &t, w))
			return false;
		if (t.named && found)
			return no(w, "the image has two bitmaps of that name");
		if (t.named) {
			*out = t;
			found = true;
		}
		off += t.len;
		left -= t.len;
	}
	if (left != 0)
		return no(w, "the image's list of bitmaps is damaged");
	if (!found)
		return no(w, "the image has no such bitmap");
	return true;
}

/* How many bits, and so how many clusters, the disk needs. */
static uint64_t
clusters_needed(const struct qcow2_header *h, uint32_t bits)
{
	uint64_t n = h->size >> bits;

	if ((h->size & ((UINT64_C(1) << bits) - 1)) != 0)
		n++; /* the last one is short */
	n = n / 8 + (n % 8 != 0);
	return (n >> h->cluster_bits) +
	    ((n & ((UINT64_C(1) << h->cluster_bits) - 1)) != 0);
}

/* What the entry itself says. */
static bool
judge(struct qcow2 *q, const struct entry *t, struct bitmap *b, struct why *w)
{
	const struct qcow2_header *h = &q->h;
	uint32_t flags = get_be32(t->raw + AT_FLAGS);
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	if ((flags & ~(uint32_t)FLAGS_KNOWN) != 0 ||
	    t->raw[AT_TYPE] != TYPE_DIRTY)
		return no(w, "the bitmap is of a kind that is not known");
	if (get_be32(t->raw + AT_EXTRA_LEN) != 0 &&
	    (flags & FLAG_EXTRA_COMPATIBLE) == 0)
		return no(w, "the bitmap is of a kind that is not known");
	if ((flags & FLAG_IN_USE) != 0)
		return no(w,
		    "the bitmap was not saved: QEMU, or its host, did not end "
		    "in good order");
	if ((flags & FLAG_AUTO) == 0)
		return no(w, "the bitmap does not record");
	if (h->data_file)
		return no(w,
		    "the image's data lies in another file, which can be "
		    "written without the bitmap");
	b->q = q;
	b->table = get_be64(t->raw + AT_TABLE_OFFSET);
	b->nentries = get_be32(t->raw + AT_TABLE_ENTRIES);
	b->bits = t->raw[AT_GRANULARITY_BITS];
	if (b->bits < BITMAPS_GRANULARITY_BITS_MIN ||
	    b->bits > BITMAPS_GRANULARITY_BITS_MAX)
		return no(w, "the bitmap's granularity is out of bounds");
	if (b->nentries > BITMAPS_DATA_MAX / cluster)
		return no(w, "the bitmap is too large");
	if (b->nentries != clusters_needed(h, b->bits))
		return no(w, "the bitmap is of a disk of another size");
	if (b->table == 0 || b->table % cluster != 0)
		return no(w, "the bitmap's table is damaged");
	return true;
}

/* Of the table: is it one that there may be, of clusters in the file? */
static bool
entry_ok(const struct bitmap *b, uint64_t entry)
{
	uint64_t cluster = UINT64_C(1) << b->q->h.cluster_bits;
	uint64_t off = entry & TABLE_OFFSET_MASK;

	if ((entry & ~(TABLE_OFFSET_MASK | TABLE_ALL_ONES)) != 0)
		return false;
	if (off == 0)
		return true;
	return (entry & TABLE_ALL_ONES) == 0 && off % cluster == 0 &&
	    off <= b->q->file->size && cluster <= b->q->file->size - off;
}

static bool
check_table(const struct bitmap *b, struct why *w)
{
	uint8_t piece[TABLE_PIECE];
	uint64_t left = (uint64_t)b->nentries * 8, off = b->table;

	for (size_t n; left > 0; left -= n, off += n) {
		n = left < sizeof(piece) ? (size_t)left : sizeof(piece);
		if (!fetch(b->q, piece, n, off, w))
			return false;
		for (size_t i = 0; i < n; i += 8)
			if (!entry_ok(b, get_be64(piece + i)))
				return no(w, "the bitmap's table is damaged");
	}
	return true;
}

struct bitmap *
bitmaps_open(struct qcow2 *q, const char *name, char *why, size_t len)
{
	struct why w = { .text = why, .len = len };
	struct bitmap *b = xcalloc(1, sizeof(*b));
	struct entry t = { .named = false };

	if (find(q, name, &t, &w) && judge(q, &t, b, &w) && check_table(b, &w))
		return b;
	free(b);
	return NULL;
}

void
bitmaps_close(struct bitmap *b)
{
	free(b);
}

uint64_t
bitmaps_granularity(const struct bitmap *b)
{
	return UINT64_C(1) << b->bits;
}

/* How many bits from ${i} to ${end} are as the one at ${i}. */
static unsigned
alike(const uint8_t *data, unsigned i, unsigned end)
{
	bool first = (data[i / 8] >> i % 8 & 1) != 0;
	uint8_t all = first ? 0xff : 0;
	unsigned from = i;

	while (i < end) {
		if (i % 8 == 0 && data[i / 8] == all && end - i >= 8)
			i += 8;
		else if ((data[i / 8] >> i % 8 & 1) == first)
			i++;
		else
			break;
	}
	return i - from;
}

/* Whether bit ${bit} is set, and how many, ${n} > 0, are seen to be as it. */
static int
look(struct bitmap *b, uint64_t bit, uint64_t *n, bool *set, struct err *e)
{
	struct qcow2 *q = b->q;
	uint32_t shift = q->h.cluster_bits + 3; /* bits of a cluster */
	uint64_t inner = bit & ((UINT64_C(1) << shift) - 1);
	uint8_t raw[8], piece[PIECE];
	unsigned at = (unsigned)(inner % (PIECE * 8));
	uint64_t entry;
	int rc;

	rc = metacache_read(q->cache, q->file, raw, sizeof(raw),
	    b->table + (bit >> shift) * 8, e);
	if (rc != 0)
		return rc;
	entry = get_be64(raw);
	if (!entry_ok(b, entry)) /* it was, as it was opened */
		return err_set(e, ERR_CORRUPT,
		    "%s: a bitmap's table changed while it was read",
		    q->file->path);
	if ((entry & TABLE_OFFSET_MASK) == 0) {
		*set = (entry & TABLE_ALL_ONES) != 0;
		*n = (UINT64_C(1) << shift) - inner;
		return 0;
	}
	rc = metacache_read(q->cache, q->file, piece, sizeof(piece),
	    (entry & TABLE_OFFSET_MASK) + inner / 8 - at / 8, e);
	if (rc != 0)
		return rc;
	*set = (piece[at / 8] >> at % 8 & 1) != 0;
	*n = alike(piece, at, PIECE * 8);
	return 0;
}

int
bitmaps_clean(
    struct bitmap *b, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	uint64_t size = b->q->h.size, bit = off >> b->bits, n = 0;
	uint64_t end = ((size - 1) >> b->bits) + 1;
	bool set, first = false;

	assert(off < size);
	for (int i = 0; i < LOOK && bit < end; i++) {
		int rc = look(b, bit, &n, &set, e);

		if (rc != 0)
			return rc;
		if (i == 0)
			first = set;
		else if (set != first)
			break;
		bit += n;
	}
	*clean = !first;
	*len = (bit < end ? bit << b->bits : size) - off;
	return 0;
}
