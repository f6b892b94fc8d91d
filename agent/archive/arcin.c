/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/arcin.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/archive/gunzip.h"
#include "agent/pipeline/interrupt.h"
#include "proto/base/buf.h"

enum { READ_BLOCK = 256 << 10 };

struct arcin {
	struct archive *ar;
	struct gunzip *input;
	char *what;
	bool began;    /* it had a member */
	bool standing; /* at one */
	struct arcin_member member;
	/* What libarchive gave last, and how far it was used. */
	const uint8_t *block;
	uint64_t block_off;
	size_t block_len;
	bool ended;  /* there is no more of the member */
	uint64_t at; /* all before was read */
};

int
arcin_fail(const struct arcin *a, int code, struct err *e, const char *fmt, ...)
{
	char why[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (a->standing)
		return err_set(e, code, "%.120s: %.120s: %s", a->what,
		    a->member.name, why);
	return err_set(e, code, "%.120s: %s", a->what, why);
}

/* What libarchive says of its input. */
static int
broken(const struct arcin *a, struct err *e)
{
	const char *why = archive_error_string(a->ar);

	if (gunzip_unread(a->input))
		return arcin_fail(a, interrupt_pending() ? ERR_CLOSED : ERR_SYS,
		    e, "it cannot be read: %s", gunzip_error(a->input));
	return arcin_fail(a, ERR_INVAL, e, "it is damaged or cut off: %s",
	    why != NULL ? why : gunzip_error(a->input));
}

static la_ssize_t
read_input(struct archive *ar, void *arg, const void **data)
{
	struct arcin *a = arg;
	ssize_t n = gunzip_read(a->input, data);

	if (n < 0)
		archive_set_error(ar, EIO, "%s", gunzip_error(a->input));
	return n;
}

int
arcin_open(int fd, const char *what, struct arcin **out, struct err *e)
{
	struct arcin *a = xcalloc(1, sizeof(*a));
	int rc;

	*out = NULL;
	a->what = xstrdup(what);
	a->ar = archive_read_new();
	if (a->ar == NULL) {
		free(a->what);
		free(a);
		return err_set(e, ERR_SYS, "libarchive: no memory");
	}
	/* No format whose members can be links into others, or programs that
	 * libarchive would run. */
	archive_read_support_format_tar(a->ar);
	archive_read_support_format_gnutar(a->ar);
	archive_read_support_format_zip_streamable(a->ar);
	archive_read_support_filter_zstd(a->ar);
	archive_read_support_filter_gzip(a->ar);
	archive_read_support_filter_xz(a->ar);
	a->input = gunzip_new(fd);
	rc = archive_read_open(a->ar, a, NULL, read_input, NULL);
	if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN)
		*out = a;
	if (*out != NULL)
		return 0;
	rc = gunzip_unread(a->input) ? broken(a, e) : 0;
	arcin_close(a);
	return rc;
}

void
arcin_close(struct arcin *a)
{
	if (a == NULL)
		return;
	archive_read_free(a->ar);
	gunzip_free(a->input);
	free(a->what);
	free(a);
}

const struct arcin_member *
arcin_member(const struct arcin *a)
{
	return a->standing ? &a->member : NULL;
}

bool
arcin_began(const struct arcin *a)
{
	return a->began;
}

static bool
name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > ARCIN_NAME_MAX || s[0] == '/')
		return false;
	for (const char *p = s; *p != 0; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
	for (const char *p = s; p != NULL; p = strchr(p, '/')) {
		p += *p == '/';
		if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == 0))
			return false;
	}
	return true;
}

/* What its map of holes leaves of ${size}. */
static uint64_t
data_of(struct archive_entry *entry, uint64_t size)
{
	la_int64_t off, len;
	uint64_t sum = 0;

	if (archive_entry_sparse_reset(entry) == 0)
		return size;
	while (archive_entry_sparse_next(entry, &off, &len) == ARCHIVE_OK)
		if (len > 0)
			sum += (uint64_t)len;
	return sum < size ? sum : size;
}

static int
take_entry(struct arcin *a, struct archive_entry *entry, struct err *e)
{
	const char *name = archive_entry_pathname(entry);

	a->standing = false;
	if (name == NULL || !name_ok(name))
		return arcin_fail(a, ERR_INVAL, e,
		    "a member has a name that leads out of it, or is none");
	if (archive_entry_hardlink(entry) != NULL ||
	    archive_entry_filetype(entry) != AE_IFREG)
		return arcin_fail(a, ERR_INVAL, e,
		    "%.200s: is no plain file: links and devices are not "
		    "taken",
		    name);
	memset(&a->member, 0, sizeof(a->member));
	memcpy(a->member.name, name, strlen(name) + 1);
	a->member.has_size =
	    archive_entry_size_is_set(entry) && archive_entry_size(entry) >= 0;
	if (a->member.has_size)
		a->member.size = (uint64_t)archive_entry_size(entry);
	a->member.data = data_of(entry, a->member.size);
	if (archive_entry_mtime_is_set(entry) &&
	    archive_entry_mtime(entry) >= (time_t)ARCIN_MTIME_MIN)
		a->member.mtime = (uint64_t)archive_entry_mtime(entry);
	a->standing = true;
	a->block = NULL;
	a->block_off = 0;
	a->block_len = 0;
	a->ended = false;
	a->at = 0;
	return 0;
}

/*
 * What fills the last block, so that who sends it is not cut short, and so that
 * a checksum behind all of it is seen.
 */
static int
read_end(struct arcin *a, struct err *e)
{
	const void *data;
	ssize_t n;

	do
		n = gunzip_read(a->input, &data);
	while (n > 0);
	return n == 0 ? ERR_NOENT : broken(a, e);
}

int
arcin_next(struct arcin *a, struct err *e)
{
	struct archive_entry *entry;
	int rc;

	if (a->standing) {
		rc = arcin_drain(a, e);
		if (rc != 0)
			return rc;
	}
	a->standing = false;
	do {
		rc = archive_read_next_header(a->ar, &entry);
		if (rc == ARCHIVE_EOF)
			return a->began ? read_end(a, e) : ERR_NOENT;
		if (rc != ARCHIVE_OK && !a->began &&
		    archive_errno(a->ar) == EILSEQ)
			return ERR_UNSUP;
		if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
			return broken(a, e);
		a->began = true;
	} while (archive_entry_filetype(entry) == AE_IFDIR);
	return take_entry(a, entry, e);
}

/* The next block of the member; at its end there is none. */
static int
next_block(struct arcin *a, struct err *e)
{
	uint64_t end = a->block_off + a->block_len;
	const void *p = NULL;
	la_int64_t off = 0;
	size_t len = 0;
	int rc;

	rc = archive_read_data_block(a->ar, &p, &len, &off);
	if (rc == ARCHIVE_EOF) {
		a->ended = true;
		a->block = NULL;
		a->block_off = end;
		a->block_len = 0;
		/* The size that it says, or what came. */
		if (!a->member.has_size) {
			a->member.has_size = true;
			a->member.size = off > 0 && (uint64_t)off > end
			    ? (uint64_t)off
			    : end;
		} else if (end != a->member.size &&
		    (off < 0 || (uint64_t)off != a->member.size)) {
			return arcin_fail(a, ERR_INVAL, e,
			    "it is damaged: it is shorter than the archive "
			    "says");
		}
		return 0;
	}
	/* A warning here is of a checksum. */
	if (rc != ARCHIVE_OK)
		return broken(a, e);
	if (off < 0 || (uint64_t)off < end)
		return arcin_fail(a, ERR_INVAL, e, "its parts overlap");
	if (len > 0 && p == NULL)
		return arcin_fail(a, ERR_INVAL, e, "a part without bytes");
	a->block = p;
	a->block_off = (uint64_t)off;
	a->block_len = len;
	if (a->member.has_size &&
	    (a->block_off > a->member.size ||
		len > a->member.size - a->block_off))
		return arcin_fail(
		    a, ERR_INVAL, e, "it is longer than the archive says");
	return 0;
}

/* Until a block reaches beyond ${off}, or there are none. */
static int
reach(struct arcin *a, uint64_t off, struct err *e)
{
	int rc = 0;

	while (rc == 0 && !a->ended && a->block_off + a->block_len <= off)
		rc = next_block(a, e);
	return rc;
}

int
arcin_read(struct arcin *a, void *data, size_t len, uint64_t off, struct err *e)
{
	uint8_t *p = data;

	if (off < a->at)
		return arcin_fail(a, ERR_INVAL, e,
		    "a part of it was to be read twice, which an archive does "
		    "not allow");
	while (len > 0) {
		size_t n = len;
		int rc = reach(a, off, e);

		if (rc != 0)
			return rc;
		if (a->ended) {
			if (off >= a->member.size || len > a->member.size - off)
				return arcin_fail(
				    a, ERR_INVAL, e, "it ends too early");
			memset(p, 0, n);
		} else if (off < a->block_off) {
			if (n > a->block_off - off)
				n = (size_t)(a->block_off - off);
			memset(p, 0, n);
		} else {
			uint64_t in = off - a->block_off;

			if (n > a->block_len - in)
				n = (size_t)(a->block_len - in);
			memcpy(p, a->block + in, n);
		}
		p += n;
		off += n;
		len -= n;
	}
	a->at = off;
	return 0;
}

int
arcin_map(
    struct arcin *a, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	int rc = reach(a, a->at, e);
	uint64_t end = a->block_off + a->block_len;

	if (rc != 0)
		return rc;
	if (a->ended) {
		*hole = true;
		*len = off < a->member.size ? a->member.size - off : 0;
	} else if (off < a->block_off) {
		*hole = true;
		*len = a->block_off - off;
	} else {
		/* What comes behind it is not known yet. */
		*hole = false;
		if (off < end)
			*len = end - off;
		else if (a->member.has_size)
			*len = off < a->member.size ? a->member.size - off : 0;
		else
			*len = READ_BLOCK;
	}
	if (*len == 0)
		return arcin_fail(a, ERR_INVAL, e, "it ends too early");
	return 0;
}

int
arcin_drain(struct arcin *a, struct err *e)
{
	int rc = 0;

	while (rc == 0 && !a->ended)
		rc = next_block(a, e);
	return rc;
}

int
arcin_text(struct arcin *a, size_t max, struct buf *out, struct err *e)
{
	uint8_t piece[4096];

	out->len = 0;
	for (;;) {
		uint64_t len;
		bool hole;
		int rc;

		if (a->member.has_size && a->at == a->member.size)
			return arcin_drain(a, e);
		rc = reach(a, a->at, e);
		if (rc == 0 && a->ended && a->at == a->member.size)
			return 0;
		if (rc == 0)
			rc = arcin_map(a, a->at, &len, &hole, e);
		if (rc != 0)
			return rc;
		if (len > sizeof(piece))
			len = sizeof(piece);
		if (out->len + len > max)
			return arcin_fail(
			    a, ERR_LIMIT, e, "it has more than %zu bytes", max);
		rc = arcin_read(a, piece, (size_t)len, a->at, e);
		if (rc != 0)
			return rc;
		buf_add(out, piece, (size_t)len);
	}
}
