/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/own_source.h"

#include <stdlib.h>
#include <string.h>

#include "agent/archive/qstream.h"
#include "proto/base/buf.h"

enum { PIECE = 64 << 10 };

struct own {
	struct arcin *a;
	struct head *h;
	unsigned at; /* members before were read; this one may be open */
	bool open;
	struct digest *digest;
	struct qstream *q; /* of a qcow2 */
	uint64_t done;     /* bytes of another one */
};

struct own_source {
	struct source s;
	struct own *o;
	unsigned k;
};

static struct head_member *
member(struct own *o)
{
	return &o->h->member[o->at];
}

static int
open_member(struct own *o, struct err *e)
{
	const struct head_member *m = member(o);
	const struct manifest_volume *v = &o->h->manifest.volume[m->volume];
	const struct arcin_member *is;
	int rc;

	rc = arcin_next(o->a, e);
	if (rc == ERR_NOENT)
		return arcin_fail(
		    o->a, ERR_INVAL, e, "it ends before %.120s", m->name);
	if (rc != 0)
		return rc;
	is = arcin_member(o->a);
	if (strcmp(is->name, m->name) != 0)
		return arcin_fail(o->a, ERR_INVAL, e,
		    "%.120s was to come here, as %s says", m->name, HEAD_FIRST);
	if (is->has_size && is->size != m->size)
		return arcin_fail(o->a, ERR_INVAL, e,
		    "it has not the size that %s says", HEAD_FIRST);
	o->digest = digest_new();
	o->open = true;
	o->done = 0;
	if (m->form == HEAD_QCOW2)
		return qstream_open(o->a, o->digest, v->size, &o->q, e);
	return 0;
}

/* What is left of it goes into its checksum. */
static int
read_rest(struct own *o, struct err *e)
{
	const struct head_member *m = member(o);
	uint8_t piece[PIECE];
	int rc = 0;

	if (o->q != NULL)
		return qstream_end(o->q, e);
	while (rc == 0 && m->form == HEAD_FILE && o->done < m->size) {
		size_t n = m->size - o->done < PIECE
		    ? (size_t)(m->size - o->done)
		    : PIECE;

		rc = arcin_read(o->a, piece, n, o->done, e);
		digest_add(o->digest, piece, n);
		o->done += n;
	}
	return rc != 0 ? rc : arcin_drain(o->a, e);
}

static int
close_member(struct own *o, struct err *e)
{
	const struct arcin_member *is;
	int rc = read_rest(o, e);

	if (rc != 0)
		return rc;
	is = arcin_member(o->a);
	if (is->has_size && is->size != member(o)->size)
		return arcin_fail(o->a, ERR_INVAL, e,
		    "it has not the size that %s says", HEAD_FIRST);
	digest_text(o->digest, member(o)->sum);
	digest_free(o->digest);
	o->digest = NULL;
	qstream_free(o->q);
	o->q = NULL;
	o->open = false;
	o->at++;
	return 0;
}

/* To member ${k}; those before are done with. */
static int
go_to(struct own *o, unsigned k, struct err *e)
{
	int rc = 0;

	if (o->at > k)
		return arcin_fail(o->a, ERR_INVAL, e,
		    "a disk of it was to be read twice: the repository has "
		    "lost a part of what it had; run the import again");
	while (rc == 0 && (o->at < k || !o->open))
		rc = o->open ? close_member(o, e) : open_member(o, e);
	return rc;
}

static int
own_read(struct source *s, void *data, size_t len, uint64_t off, struct err *e)
{
	struct own_source *w = (struct own_source *)s;
	struct own *o = w->o;
	bool none = false;
	int rc = go_to(o, w->k, e);

	if (rc != 0)
		return rc;
	if (o->q != NULL) {
		rc = qstream_read(o->q, data, len, off, &none, e);
		if (rc == 0 && none && member(o)->overlay)
			rc = arcin_fail(o->a, ERR_INVAL, e,
			    "what it builds on is damaged in the repository: "
			    "run backstay verify, and import the whole of it");
		return rc;
	}
	rc = arcin_read(o->a, data, len, off, e);
	if (rc != 0)
		return rc;
	if (member(o)->form == HEAD_RAW)
		digest_blocks(o->digest, off, data, len);
	else
		digest_add(o->digest, data, len);
	o->done = off + len;
	return 0;
}

static int
own_map(
    struct source *s, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	struct own_source *w = (struct own_source *)s;
	struct own *o = w->o;
	enum qstream_kind kind;
	int rc = go_to(o, w->k, e);

	if (rc != 0)
		return rc;
	*hole = false;
	*len = s->size - off;
	if (o->q != NULL) {
		rc = qstream_map(o->q, off, len, &kind, e);
		*hole = rc == 0 &&
		    (kind == QSTREAM_ZERO ||
			(kind == QSTREAM_NONE && !member(o)->overlay));
	} else if (member(o)->form == HEAD_RAW) {
		rc = arcin_map(o->a, off, len, hole, e);
		if (rc == 0 && *len > s->size - off)
			*len = s->size - off;
	}
	return rc;
}

static int
own_clean(
    struct source *s, uint64_t off, uint64_t *len, bool *clean, struct err *e)
{
	struct own_source *w = (struct own_source *)s;
	enum qstream_kind kind = QSTREAM_NONE;
	int rc = go_to(w->o, w->k, e);

	if (rc == 0)
		rc = qstream_map(w->o->q, off, len, &kind, e);
	*clean = rc == 0 && kind == QSTREAM_NONE;
	return rc;
}

static void
own_close(struct source *s)
{
	free(s);
}

static const struct source_ops whole_ops = {
	.read = own_read, .map = own_map, .close = own_close
};
static const struct source_ops overlay_ops = {
	.read = own_read, .map = own_map, .clean = own_clean, .close = own_close
};

struct own *
own_new(struct arcin *a, struct head *h)
{
	struct own *o = xcalloc(1, sizeof(*o));

	o->a = a;
	o->h = h;
	return o;
}

struct source *
own_source(struct own *o, unsigned k)
{
	const struct head_member *m = &o->h->member[k];
	const struct manifest_volume *v = &o->h->manifest.volume[m->volume];
	struct own_source *w = xcalloc(1, sizeof(*w));

	w->s.ops = m->overlay ? &overlay_ops : &whole_ops;
	w->s.size = v->size;
	w->s.format = v->format;
	w->s.cluster_size = v->cluster_size;
	w->o = o;
	w->k = k;
	return &w->s;
}

static bool
is_last(const char *name)
{
	const char *slash = strrchr(name, '/');

	return strcmp(slash != NULL ? slash + 1 : name, HEAD_LAST) == 0;
}

int
own_end(struct own *o, struct err *e)
{
	struct buf text = { 0 };
	int rc = 0;

	while (rc == 0 && o->at < o->h->n)
		rc = o->open ? close_member(o, e) : open_member(o, e);
	if (rc == 0)
		rc = arcin_next(o->a, e);
	if (rc == ERR_NOENT || (rc == 0 && !is_last(arcin_member(o->a)->name)))
		return arcin_fail(o->a, ERR_INVAL, e,
		    "it is cut off: %s with the checksums is missing",
		    HEAD_LAST);
	if (rc == 0)
		rc = arcin_text(o->a, HEAD_LEN_MAX, &text, e);
	if (rc == 0 && head_last_check(o->h, text.data, text.len, e) != 0)
		rc = arcin_fail(o->a, ERR_INVAL, e, "%s", e->text);
	if (rc == 0) {
		/* Its end has checksums, too. */
		rc = arcin_next(o->a, e);
		if (rc == 0)
			rc = arcin_fail(o->a, ERR_INVAL, e,
			    "comes behind %s, which export writes last",
			    HEAD_LAST);
		else if (rc == ERR_NOENT)
			rc = 0;
	}
	buf_fini(&text);
	return rc;
}

void
own_free(struct own *o)
{
	if (o == NULL)
		return;
	digest_free(o->digest);
	qstream_free(o->q);
	free(o);
}
