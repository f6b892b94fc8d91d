/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/arcout.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base/buf.h"

enum { BLOCK = 64 << 10, ZEROES = 1 << 20, NOTHING = 1 << 30 };

struct arcout {
	struct archive *ar;
	enum arcout_kind kind;
	arcout_sink *sink;
	void *arg;
	struct err err; /* of the sink */
	uint64_t left;  /* of the member */
	bool holes;     /* the member has a map of them */
	bool finished;
	void *zeroes;  /* ZEROES bytes, when needed */
	void *nothing; /* NOTHING bytes that nobody touches, likewise */
};

bool
arcout_kind(const char *name, enum arcout_kind *out)
{
	static const char *const names[] = { "tar", "tar.zst", "tar.gz",
		"tar.xz", "zip" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0) {
			*out = (enum arcout_kind)i;
			return true;
		}
	return false;
}

static la_ssize_t
put(struct archive *ar, void *arg, const void *data, size_t len)
{
	struct arcout *o = arg;

	if (o->err.code != 0 || o->sink(o->arg, data, len, &o->err) != 0) {
		archive_set_error(ar, EIO, "%s", o->err.text);
		return ARCHIVE_FATAL;
	}
	return (la_ssize_t)len;
}

/* What the sink said comes first. */
static int
check(struct arcout *o, la_ssize_t rc, struct err *e)
{
	const char *why;

	if (o->err.code != 0) {
		*e = o->err;
		return o->err.code;
	}
	if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN || rc > 0)
		return 0;
	why = archive_error_string(o->ar);
	return err_set(e, ERR_SYS, "the archive cannot be written: %.200s",
	    why != NULL ? why : "no reason is known");
}

static int
set_kind(struct arcout *o)
{
	int rc = ARCHIVE_OK;

	switch (o->kind) {
	case ARCOUT_TAR_ZST: rc = archive_write_add_filter_zstd(o->ar); break;
	case ARCOUT_TAR_GZ: rc = archive_write_add_filter_gzip(o->ar); break;
	case ARCOUT_TAR_XZ: rc = archive_write_add_filter_xz(o->ar); break;
	case ARCOUT_ZIP:
		rc = archive_write_set_format_zip(o->ar);
		if (rc == ARCHIVE_OK)
			rc = archive_write_set_format_option(
			    o->ar, "zip", "compression-level", "3");
		return rc;
	case ARCOUT_USTAR: return archive_write_set_format_ustar(o->ar);
	case ARCOUT_GNUTAR: return archive_write_set_format_gnutar(o->ar);
	case ARCOUT_TAR: break;
	}
	/* Without a compression of its own it would run a program. */
	if (rc != ARCHIVE_OK)
		return rc;
	/* xz's own default takes 94 MiB, and hours. */
	if (o->kind == ARCOUT_TAR_XZ)
		archive_write_set_filter_option(
		    o->ar, "xz", "compression-level", "1");
	if (o->kind == ARCOUT_TAR_GZ)
		archive_write_set_filter_option(
		    o->ar, "gzip", "compression-level", "3");
	/* Extensions only where they are needed: plain readers take more. */
	return archive_write_set_format_pax_restricted(o->ar);
}

int
arcout_open(enum arcout_kind kind, arcout_sink *sink, void *arg,
    struct arcout **out, struct err *e)
{
	struct arcout *o = xcalloc(1, sizeof(*o));
	int rc;

	o->kind = kind;
	o->sink = sink;
	o->arg = arg;
	o->ar = archive_write_new();
	if (o->ar == NULL) {
		free(o);
		return err_set(e, ERR_SYS, "libarchive: no memory");
	}
	if (set_kind(o) != ARCHIVE_OK) {
		rc = err_set(e, ERR_UNSUP,
		    "this libarchive cannot compress so: choose another "
		    "--archive");
		goto err_free;
	}
	archive_write_set_bytes_per_block(o->ar, BLOCK);
	archive_write_set_bytes_in_last_block(o->ar, 1);
	rc = check(o, archive_write_open(o->ar, o, NULL, put, NULL), e);
	if (rc != 0)
		goto err_free;
	*out = o;
	return 0;
err_free:
	arcout_free(o);
	return rc;
}

bool
arcout_sparse(enum arcout_kind kind)
{
	return kind <= ARCOUT_TAR_XZ;
}

int
arcout_begin(struct arcout *o, const char *name, uint64_t size, uint64_t mtime,
    const struct arcout_extent *x, size_t nx, struct err *e)
{
	struct archive_entry *entry = archive_entry_new();
	int rc;

	assert(o->left == 0);
	if (size > INT64_MAX) {
		archive_entry_free(entry);
		return err_set(
		    e, ERR_LIMIT, "%s is too large for an archive", name);
	}
	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0600);
	archive_entry_set_size(entry, (la_int64_t)size);
	archive_entry_set_mtime(entry, (time_t)mtime, 0);
	o->holes = nx > 0 && arcout_sparse(o->kind);
	for (size_t i = 0; o->holes && i < nx; i++)
		archive_entry_sparse_add_entry(
		    entry, (la_int64_t)x[i].off, (la_int64_t)x[i].len);
	rc = check(o, archive_write_header(o->ar, entry), e);
	archive_entry_free(entry);
	o->left = size;
	return rc;
}

int
arcout_data(struct arcout *o, const void *data, size_t len, struct err *e)
{
	const uint8_t *p = data;

	assert(len <= o->left);
	while (len > 0) {
		la_ssize_t n = archive_write_data(o->ar, p, len);
		int rc = check(o, n, e);

		if (rc != 0)
			return rc;
		if (n == 0)
			return err_set(e, ERR_SYS,
			    "the archive cannot be written: it takes nothing");
		p += n;
		len -= (size_t)n;
		o->left -= (uint64_t)n;
	}
	return 0;
}

/*
 * libarchive wants the bytes of holes, too, and does not look at them: so
 * these are addresses behind which nothing is.
 */
static int
skip(struct arcout *o, uint64_t len, struct err *e)
{
	int rc = 0;

	if (o->nothing == NULL) {
		o->nothing = mmap(NULL, NOTHING, PROT_READ,
		    /* cppcheck-suppress invalidFunctionArg ; -1 is no file */
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (o->nothing == MAP_FAILED) {
			o->nothing = NULL;
			return err_set(
			    e, ERR_SYS, "no room for 1 GiB of holes");
		}
	}
	while (rc == 0 && len > 0) {
		size_t n = len < NOTHING ? (size_t)len : NOTHING;

		rc = arcout_data(o, o->nothing, n, e);
		len -= n;
	}
	return rc;
}

int
arcout_hole(struct arcout *o, uint64_t len, struct err *e)
{
	int rc = 0;

	if (o->holes)
		return skip(o, len, e);
	if (o->zeroes == NULL)
		o->zeroes = xcalloc(1, ZEROES);
	while (rc == 0 && len > 0) {
		size_t n = len < ZEROES ? (size_t)len : ZEROES;

		rc = arcout_data(o, o->zeroes, n, e);
		len -= n;
	}
	return rc;
}

int
arcout_end(struct arcout *o, struct err *e)
{
	if (o->left != 0)
		return err_set(e, ERR_INVAL,
		    "%llu bytes of a member are missing: this is a mistake in "
		    "the agent",
		    (unsigned long long)o->left);
	return check(o, archive_write_finish_entry(o->ar), e);
}

int
arcout_finish(struct arcout *o, struct err *e)
{
	int rc = check(o, archive_write_close(o->ar), e);

	o->finished = rc == 0;
	return rc;
}

void
arcout_free(struct arcout *o)
{
	if (o == NULL)
		return;
	/*
	 * Nothing of the end reaches the sink.  Only where libarchive would
	 * first compress what is missing of a member, for hours, it is told
	 * not to end anything: then it leaves some memory behind.
	 */
	if (!o->finished && o->err.code == 0)
		err_set(&o->err, ERR_CLOSED, "it was given up");
	if (!o->finished && o->left > 0 && o->kind != ARCOUT_TAR &&
	    o->kind < ARCOUT_ZIP)
		archive_write_fail(o->ar);
	archive_write_free(o->ar);
	if (o->nothing != NULL)
		munmap(o->nothing, NOTHING);
	free(o->zeroes);
	free(o);
}
