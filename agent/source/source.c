/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/source.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "agent/qcow2/header.h"
#include "agent/source/source_kinds.h"
#include "proto/base/log.h"
#include "proto/nfs/nfs3.h"

enum format { FORMAT_PROBE, FORMAT_RAW, FORMAT_QCOW2 };

static const struct {
	const char *prefix;
	enum format format;
} prefixes[] = {
	{ "raw:", FORMAT_RAW },
	{ "qcow2:", FORMAT_QCOW2 },
};

static const char *
split_spec(const char *spec, enum format *format)
{
	*format = FORMAT_PROBE;
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t n = strlen(prefixes[i].prefix);

		if (strncmp(spec, prefixes[i].prefix, n) == 0) {
			*format = prefixes[i].format;
			return spec + n;
		}
	}
	return spec;
}

const char *
source_path(const char *spec)
{
	enum format format;

	return split_spec(spec, &format);
}

static void
say_unlocked(const char *url)
{
	static atomic_bool said;

	if (!atomic_exchange(&said, true))
		log_info("%.*s: over NFS there is no lock that keeps QEMU off: "
			 "make sure that nothing writes to it",
		    (int)strcspn(url, "?"), url);
}

/* ${qcow2}: it is of that kind.  ${name}: for messages, or NULL. */
static int
open_any(const char *spec, const char *name, struct source **out, bool *qcow2,
    struct err *e)
{
	uint8_t magic[QCOW2_MAGIC_LEN];
	struct imgfile *f;
	enum format format;
	const char *path;
	bool probed;
	int rc;

	path = split_spec(spec, &format);
	if (*path == 0)
		return err_set(e, ERR_INVAL,
		    "source \"%s\": no path; say PATH, raw:PATH or qcow2:PATH",
		    spec);
	if (strstr(path, "://") != NULL && !nfs3_is_url(path))
		return err_set(e, ERR_UNSUP,
		    "source \"%s\": no such kind of source; say PATH, raw:PATH "
		    "or qcow2:PATH, or nfs://HOST/EXPORT/PATH for PATH",
		    spec);
	rc = imgfile_open(path, &f, e);
	if (rc != 0)
		return rc;
	if (name != NULL)
		imgfile_call(f, name);
	probed = format == FORMAT_PROBE;
	if (probed) {
		rc = imgfile_read(f, magic, sizeof(magic), 0, e);
		if (rc != 0) {
			imgfile_close(f);
			return rc;
		}
		format = memcmp(magic, QCOW2_MAGIC, sizeof(magic)) == 0
		    ? FORMAT_QCOW2
		    : FORMAT_RAW;
	}
	*qcow2 = format == FORMAT_QCOW2;
	if (*qcow2)
		rc = source_qcow2_open(f, !probed, out, e);
	else
		*out = source_raw_new(f);
	if (rc == 0 && nfs3_is_url(path))
		say_unlocked(path);
	return rc;
}

int
source_open(const char *spec, struct source **out, struct err *e)
{
	bool qcow2;

	return open_any(spec, NULL, out, &qcow2, e);
}

int
source_open_as(
    const char *spec, const char *name, struct source **out, struct err *e)
{
	bool qcow2;

	return open_any(spec, name, out, &qcow2, e);
}

int
source_open_bitmap(const char *spec, const char *bitmap, struct source **out,
    char *why, size_t len, struct err *e)
{
	bool qcow2;
	int rc;

	snprintf(why, len, "%s", "");
	rc = open_any(spec, NULL, out, &qcow2, e);
	if (rc != 0)
		return rc;
	if (qcow2)
		source_qcow2_bitmap(*out, bitmap, why, len);
	else
		snprintf(why, len, "the image is raw, which has no bitmaps");
	return 0;
}

/* Nothing outside the volume reaches a kind, and no overflow of the sum. */
static int
inside(const struct source *s, uint64_t len, uint64_t off, struct err *e)
{
	if (off > s->size || len > s->size - off)
		return err_set(e, ERR_INVAL,
		    "read of %llu bytes at %llu: beyond the volume's end",
		    (unsigned long long)len, (unsigned long long)off);
	return 0;
}

int
source_read(
    struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	int rc = inside(s, len, off, e);

	if (rc != 0 || len == 0)
		return rc;
	return s->ops->read(s, data, len, off, e);
}

int
source_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	int rc = inside(s, 1, off, e);

	if (rc != 0)
		return rc;
	return s->ops->map(s, off, len, hole, e);
}

int
source_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	int rc = inside(s, 1, off, e);

	if (rc != 0)
		return rc;
	if (s->ops->clean != NULL)
		return s->ops->clean(s, off, len, clean, e);
	*len = s->size - off;
	*clean = false;
	return 0;
}

int
source_still(struct source *s, struct err *e)
{
	return s->ops->still != NULL ? s->ops->still(s, e) : 0;
}

void
source_close(struct source *s)
{
	if (s != NULL)
		s->ops->close(s);
}
