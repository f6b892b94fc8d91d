/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image/vmdk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "proto/base/buf.h"
#include "proto/base/bytes.h"

/* Offsets of the header's fields, all little-endian. */
enum {
	AT_VERSION = 4,
	AT_FLAGS = 8,
	AT_CAPACITY = 12,
	AT_GRAIN = 20,
	AT_DESCRIPTOR = 28,
	AT_DESCRIPTOR_LEN = 36,
	AT_PER_TABLE = 44,
	AT_DIRECTORY = 56,
	AT_LINE_ENDS = 73,
	AT_COMPRESSION = 77
};
enum {
	FLAG_LINE_ENDS = 1,
	FLAG_ZEROED = 1 << 2,
	FLAG_COMPRESSED = 1 << 16,
	FLAG_MARKERS = 1 << 17,
	DEFLATE = 1
};
enum {
	VERSION_MAX = 3,
	MARKER = 12,
	MARK_FOOTER = 3,
	/* Its marker, itself, and the end of the stream. */
	FOOTER_LEN = 3 * VMDK_SECTOR,
	TABLE_LEN = VMDK_PER_TABLE * 4,
	ENTRY_ZEROED = 1
};
#define AT_THE_END UINT64_MAX

struct vmdk {
	struct imgfile *f;
	struct vmdk_header h;
	uint8_t *directory; /* as it is in the file */
};

static int
damaged(struct err *e, const char *what)
{
	return err_set(e, ERR_INVAL, "damaged VMDK: %s", what);
}

static int
geometry(const uint8_t *data, struct vmdk_header *h, struct err *e)
{
	uint64_t capacity = get_le64(data + AT_CAPACITY);
	uint64_t grain = get_le64(data + AT_GRAIN), span;

	if (grain < VMDK_GRAIN_MIN / VMDK_SECTOR ||
	    grain > VMDK_GRAIN_MAX / VMDK_SECTOR || (grain & (grain - 1)) != 0)
		return damaged(e, "the size of its grains");
	if (get_le32(data + AT_PER_TABLE) != VMDK_PER_TABLE)
		return damaged(e, "the size of its tables");
	if (capacity == 0)
		return damaged(e, "a disk of no size");
	span = grain * VMDK_PER_TABLE;
	if (capacity > (uint64_t)VMDK_TABLES_MAX * span)
		return err_set(e, ERR_LIMIT,
		    "a VMDK of more than %d tables, which no disk needs",
		    VMDK_TABLES_MAX);
	h->grain = (uint32_t)grain * VMDK_SECTOR;
	h->size = capacity * VMDK_SECTOR;
	h->ntables = (uint32_t)((capacity + span - 1) / span);
	return 0;
}

/* Where something lies: in bytes, and not beyond what a file can have. */
static int
place(const uint8_t *data, uint64_t *out, struct err *e)
{
	uint64_t sectors = get_le64(data);

	if (sectors > INT64_MAX / VMDK_SECTOR)
		return damaged(e, "a place beyond all files");
	*out = sectors * VMDK_SECTOR;
	return 0;
}

int
vmdk_header_decode(const uint8_t *data, struct vmdk_header *h, struct err *e)
{
	uint32_t flags = get_le32(data + AT_FLAGS);
	uint32_t version = get_le32(data + AT_VERSION);
	uint64_t len = get_le64(data + AT_DESCRIPTOR_LEN);
	int rc;

	memset(h, 0, sizeof(*h));
	if (memcmp(data, VMDK_MAGIC, VMDK_MAGIC_LEN) != 0)
		return damaged(e, "no header");
	if (version == 0 || version > VERSION_MAX)
		return err_set(
		    e, ERR_UNSUP, "unknown version %u of VMDK", version);
	if ((flags & FLAG_COMPRESSED) == 0 || (flags & FLAG_MARKERS) == 0 ||
	    get_le16(data + AT_COMPRESSION) != DEFLATE)
		return err_set(e, ERR_UNSUP,
		    "a VMDK that is not streamOptimized: make it one, or "
		    "qcow2, "
		    "with qemu-img convert");
	if ((flags & FLAG_LINE_ENDS) != 0 &&
	    memcmp(data + AT_LINE_ENDS, "\n \r\n", 4) != 0)
		return damaged(e, "it was sent as if it were a text");
	h->zeroed = (flags & FLAG_ZEROED) != 0;
	rc = geometry(data, h, e);
	if (rc == 0)
		rc = place(data + AT_DESCRIPTOR, &h->descriptor, e);
	if (rc != 0)
		return rc;
	if (len > VMDK_DESCRIPTOR_MAX / VMDK_SECTOR)
		return err_set(
		    e, ERR_LIMIT, "a VMDK with a descriptor of that size");
	h->descriptor_len = (uint32_t)len * VMDK_SECTOR;
	if (get_le64(data + AT_DIRECTORY) == AT_THE_END)
		return 0;
	rc = place(data + AT_DIRECTORY, &h->directory, e);
	return rc == 0 && h->directory == 0 ? damaged(e, "no directory") : rc;
}

static bool
inside(const struct vmdk *v, uint64_t off, uint64_t len)
{
	return off <= v->f->size && len <= v->f->size - off;
}

static bool
is_end(const uint8_t *m)
{
	return get_le64(m) == 0 && get_le32(m + 8) == 0 &&
	    get_le32(m + MARKER) == 0;
}

/* The disk is what the header says it is; the footer adds the directory. */
static int
read_footer(struct vmdk *v, struct err *e)
{
	uint8_t data[FOOTER_LEN];
	struct vmdk_header h;
	int rc;

	if (!inside(v, 0, FOOTER_LEN + VMDK_SECTOR))
		return damaged(e, "it is cut off");
	rc = imgfile_read(v->f, data, sizeof(data), v->f->size - FOOTER_LEN, e);
	if (rc != 0)
		return rc;
	if (get_le32(data + 8) != 0 || get_le32(data + MARKER) != MARK_FOOTER ||
	    !is_end(data + (size_t)2 * VMDK_SECTOR))
		return damaged(e, "it is cut off, or has no footer at its end");
	rc = vmdk_header_decode(data + VMDK_SECTOR, &h, e);
	if (rc != 0)
		return rc;
	if (h.directory == 0 || h.size != v->h.size || h.grain != v->h.grain)
		return damaged(
		    e, "its footer says another thing than its header");
	v->h.directory = h.directory;
	v->h.zeroed = h.zeroed;
	return 0;
}

static int
read_header(struct vmdk *v, struct err *e)
{
	uint8_t data[VMDK_SECTOR];
	int rc;

	rc = imgfile_read(v->f, data, sizeof(data), 0, e);
	if (rc == 0)
		rc = vmdk_header_decode(data, &v->h, e);
	if (rc == 0 && v->h.directory == 0)
		rc = read_footer(v, e);
	return rc;
}

/* The value of a line "NAME=VALUE"; the text is cut there. */
static const char *
value_of(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncasecmp(line, name, n) != 0)
		return NULL;
	line += n;
	line += strspn(line, " \t");
	if (*line != '=')
		return NULL;
	return line + 1 + strspn(line + 1, " \t");
}

struct descriptor {
	bool stream, parent;
	unsigned extents;
	uint64_t sectors;
};

static void
take_line(struct descriptor *d, const char *line)
{
	const char *value;

	line += strspn(line, " \t");
	value = value_of(line, "createType");
	if (value != NULL)
		d->stream = strncasecmp(value, "\"streamOptimized\"", 17) == 0;
	value = value_of(line, "parentCID");
	if (value != NULL)
		d->parent |= strncasecmp(value, "ffffffff", 8) != 0;
	if (value_of(line, "parentFileNameHint") != NULL)
		d->parent = true;
	if (strncmp(line, "RW ", 3) == 0 || strncmp(line, "RDONLY ", 7) == 0 ||
	    strncmp(line, "NOACCESS ", 9) == 0) {
		const char *p = strchr(line, ' ');
		char *end;

		d->extents++;
		d->sectors = strtoull(p, &end, 10);
		if (strncmp(end, " SPARSE ", 8) != 0)
			d->extents = 2; /* of another kind: elsewhere */
	}
}

static int
check_descriptor(const struct vmdk *v, char *text, struct err *e)
{
	struct descriptor d = { .extents = 0 };
	uint64_t sectors = v->h.size / VMDK_SECTOR;
	char *save = NULL;

	for (char *line = strtok_r(text, "\r\n", &save); line != NULL;
	     line = strtok_r(NULL, "\r\n", &save))
		take_line(&d, line);
	if (!d.stream)
		return err_set(e, ERR_UNSUP,
		    "a VMDK that is not streamOptimized: make it one, or "
		    "qcow2, "
		    "with qemu-img convert");
	if (d.parent)
		return err_set(e, ERR_UNSUP,
		    "a VMDK that builds on another one: make one of both with "
		    "qemu-img convert");
	if (d.extents != 1)
		return err_set(e, ERR_UNSUP,
		    "a VMDK that lies in several files: make it one with "
		    "qemu-img convert");
	/* Who rounds one of them up does it to a grain. */
	if (d.sectors > sectors ||
	    sectors - d.sectors >= v->h.grain / VMDK_SECTOR)
		return damaged(e,
		    "its descriptor tells of a disk of another "
		    "size");
	return 0;
}

static int
read_descriptor(struct vmdk *v, struct err *e)
{
	uint32_t len = v->h.descriptor_len;
	char *text;
	int rc;

	if (v->h.descriptor == 0 || len == 0 ||
	    !inside(v, v->h.descriptor, len))
		return damaged(e, "it has no descriptor");
	text = xcalloc(1, (size_t)len + 1);
	rc = imgfile_read(v->f, text, len, v->h.descriptor, e);
	if (rc == 0)
		rc = check_descriptor(v, text, e);
	free(text);
	return rc;
}

/* Where table ${i} lies; 0: it has none. */
static uint64_t
table_at(const struct vmdk *v, uint64_t i)
{
	return (uint64_t)get_le32(v->directory + i * 4) * VMDK_SECTOR;
}

static int
read_directory(struct vmdk *v, struct err *e)
{
	uint64_t len = (uint64_t)v->h.ntables * 4;
	int rc;

	if (!inside(v, v->h.directory, len))
		return damaged(e, "its directory lies beyond its end");
	v->directory = xcalloc(1, len);
	rc = imgfile_read(v->f, v->directory, len, v->h.directory, e);
	for (uint64_t i = 0; rc == 0 && i < v->h.ntables; i++)
		if (!inside(v, table_at(v, i), TABLE_LEN))
			rc = damaged(e, "a table lies beyond its end");
	return rc;
}

int
vmdk_open(struct imgfile *f, struct vmdk **out, struct err *e)
{
	struct vmdk *v = xcalloc(1, sizeof(*v));
	int rc;

	v->f = f;
	rc = read_header(v, e);
	if (rc == 0)
		rc = read_descriptor(v, e);
	if (rc == 0)
		rc = read_directory(v, e);
	if (rc != 0) {
		err_prefix(e, "%s", f->path);
		vmdk_close(v);
		return rc;
	}
	*out = v;
	return 0;
}

void
vmdk_close(struct vmdk *v)
{
	if (v == NULL)
		return;
	imgfile_close(v->f);
	free(v->directory);
	free(v);
}

uint64_t
vmdk_size(const struct vmdk *v)
{
	return v->h.size;
}

static int
at_byte(const struct vmdk *v, uint64_t off, struct err *e)
{
	return err_prefix(
	    e, "%s at byte %llu", v->f->path, (unsigned long long)off);
}

/* The entry of the grain at ${off}. */
static int
read_entry(struct vmdk *v, uint64_t off, uint32_t *out, struct err *e)
{
	uint64_t grain = off / v->h.grain;
	uint64_t table = table_at(v, grain / VMDK_PER_TABLE);
	uint8_t entry[4];
	int rc;

	*out = 0;
	if (table == 0)
		return 0;
	rc = imgfile_read(
	    v->f, entry, sizeof(entry), table + grain % VMDK_PER_TABLE * 4, e);
	if (rc == 0)
		*out = get_le32(entry);
	return rc;
}

static bool
is_hole(const struct vmdk *v, uint32_t entry)
{
	return entry == 0 || (entry == ENTRY_ZEROED && v->h.zeroed);
}

/* At least ${need} bytes of a grain, and no more than it has. */
static int
unpack(const struct vmdk *v, const uint8_t *packed, size_t len, uint8_t *out,
    size_t need, struct err *e)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)packed,
		.avail_in = (uInt)len,
		.next_out = out,
		.avail_out = v->h.grain };
	int rc;

	if (inflateInit(&z) != Z_OK)
		return err_set(e, ERR_SYS, "zlib has no memory");
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	if (rc != Z_STREAM_END || v->h.grain - z.avail_out < need)
		return damaged(e, "a grain cannot be unpacked");
	return 0;
}

/* All of the grain that begins at ${off}, from sector ${entry} of the file. */
static int
read_grain(struct vmdk *v, uint64_t off, uint32_t entry, uint8_t *packed,
    uint8_t *out, struct err *e)
{
	uint64_t at = (uint64_t)entry * VMDK_SECTOR, left = v->h.size - off;
	size_t need = left < v->h.grain ? (size_t)left : v->h.grain;
	uint8_t m[MARKER];
	uint32_t len;
	int rc;

	if (!inside(v, at, MARKER))
		return damaged(e, "a grain lies beyond its end");
	rc = imgfile_read(v->f, m, sizeof(m), at, e);
	if (rc != 0)
		return rc;
	len = get_le32(m + 8);
	/* So no grain is there twice, and nothing else is taken for one. */
	if (get_le64(m) != off / VMDK_SECTOR)
		return damaged(e, "a grain that belongs elsewhere");
	if (len == 0 || len > 2 * v->h.grain || !inside(v, at + MARKER, len))
		return damaged(e, "the length of a grain");
	rc = imgfile_read(v->f, packed, len, at + MARKER, e);
	return rc != 0 ? rc : unpack(v, packed, len, out, need, e);
}

int
vmdk_read(struct vmdk *v, void *data, size_t len, uint64_t off, struct err *e)
{
	uint8_t *p = data, *packed = NULL, *grain;
	int rc = 0;

	while (rc == 0 && len > 0) {
		uint64_t in = off % v->h.grain, begin = off - in;
		size_t n = v->h.grain - (size_t)in;
		uint32_t entry;

		if (n > len)
			n = len;
		rc = read_entry(v, off, &entry, e);
		if (rc == 0 && is_hole(v, entry)) {
			memset(p, 0, n);
		} else if (rc == 0) {
			if (packed == NULL)
				packed = xmalloc((size_t)3 * v->h.grain);
			grain = packed + (size_t)2 * v->h.grain;
			rc = read_grain(v, begin, entry, packed, grain, e);
			if (rc == 0)
				memcpy(p, grain + in, n);
		}
		if (rc != 0)
			at_byte(v, begin, e);
		p += n;
		off += n;
		len -= n;
	}
	free(packed);
	return rc;
}

/* Past tables that are not there. */
static uint64_t
empty_tables(const struct vmdk *v, uint64_t off)
{
	uint64_t span = (uint64_t)v->h.grain * VMDK_PER_TABLE;
	uint64_t i = off / span;

	while (i < v->h.ntables && table_at(v, i) == 0)
		i++;
	return i < v->h.ntables ? i * span : v->h.size;
}

int
vmdk_map(struct vmdk *v, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	uint64_t first = off / v->h.grain, end;
	unsigned i = first % VMDK_PER_TABLE;
	uint8_t table[TABLE_LEN];
	int rc;

	if (table_at(v, first / VMDK_PER_TABLE) == 0) {
		*hole = true;
		*len = empty_tables(v, off) - off;
		return 0;
	}
	rc = imgfile_read(
	    v->f, table, sizeof(table), table_at(v, first / VMDK_PER_TABLE), e);
	if (rc != 0)
		return at_byte(v, off, e);
	*hole = is_hole(v, get_le32(table + (size_t)i * 4));
	for (i++; i < VMDK_PER_TABLE; i++)
		if (is_hole(v, get_le32(table + (size_t)i * 4)) != *hole)
			break;
	end = (first - first % VMDK_PER_TABLE + i) * v->h.grain;
	*len = (end < v->h.size ? end : v->h.size) - off;
	return 0;
}
