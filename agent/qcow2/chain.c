/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/chain.h"

#include <stdlib.h>
#include <string.h>

#include "agent/qcow2/names.h"
#include "agent/qcow2/reader.h"
#include "proto/base/buf.h"

/* One image of a chain; the last one may be raw. */
struct layer {
	struct imgfile *file;
	uint64_t size;
	bool raw;
	struct qcow2 q; /* unless raw */
};

struct chain {
	struct metacache *cache;
	chain_place *place; /* or NULL: where the images themselves say */
	void *place_arg;
	size_t depth;
	struct layer *layers[CHAIN_DEPTH_MAX];
};

/* The guest's bytes are at most this much looked at for one answer. */
enum { MAP_WINDOW = 8 << 20 };

static void
layer_close(struct layer *l)
{
	if (!l->raw && l->q.data != l->file)
		imgfile_close(l->q.data);
	imgfile_close(l->file);
	free(l);
}

void
chain_close(struct chain *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->depth; i++)
		layer_close(c->layers[i]);
	metacache_free(c->cache);
	free(c);
}

const struct qcow2_header *
chain_header(const struct chain *c)
{
	return &c->layers[0]->q.h;
}

struct qcow2 *
chain_top(struct chain *c)
{
	return &c->layers[0]->q;
}

static int
refuse_loop(struct chain *c, const struct imgfile *f, struct err *e)
{
	for (size_t i = 0; i < c->depth; i++)
		if (imgfile_same(c->layers[i]->file, f))
			return err_set(e, ERR_CORRUPT,
			    "%s: its backing files refer to each other in a "
			    "loop",
			    f->path);
	return 0;
}

static int
open_data_file(struct layer *l, struct err *e)
{
	char *path;
	int rc;

	rc = names_resolve(
	    l->file->path, l->q.h.data_file_name, "data file", &path, e);
	if (rc != 0)
		return rc;
	rc = imgfile_open(path, &l->q.data, e);
	if (rc != 0)
		l->q.data = l->file; /* nothing more to close */
	free(path);
	return rc;
}

/* Put ${f}, which is taken over, beneath the others. */
static int
add_layer(
    struct chain *c, struct imgfile *f, bool raw, bool follow, struct err *e)
{
	struct layer *l = xcalloc(1, sizeof(*l));
	int rc;

	l->file = f;
	l->raw = raw;
	l->size = f->size;
	l->q.data = f;
	rc = refuse_loop(c, f, e);
	if (rc != 0 || raw)
		goto out;
	rc = qcow2_open(&l->q, f, c->cache, e);
	if (rc != 0)
		goto out;
	l->size = l->q.h.size;
	if (l->q.h.dirty && f->nfs != NULL) {
		rc = err_set(e, ERR_BUSY,
		    "%s: is marked as open for writing: stop the guest that "
		    "uses it; if none does, qemu-img check -r all",
		    f->path);
		goto out;
	}
	if (!follow && (l->q.h.backing[0] != 0 || l->q.h.data_file)) {
		rc = err_set(e, ERR_INVAL,
		    "%s: names another file (%s), and a guest could have "
		    "written that name: if the image is yours, say qcow2:PATH",
		    f->path,
		    l->q.h.backing[0] != 0 ? l->q.h.backing
					   : l->q.h.data_file_name);
		goto out;
	}
	if (l->q.h.data_file)
		rc = c->place == NULL ? open_data_file(l, e)
				      : err_set(e, ERR_UNSUP,
					    "%s: keeps its data in another "
					    "file, which is not taken here",
					    f->path);
out:
	if (rc != 0)
		layer_close(l);
	else
		c->layers[c->depth++] = l;
	return rc;
}

static int
find_backing(struct chain *c, const struct layer *above, char **path, bool *raw,
    struct err *e)
{
	const struct qcow2_header *h = &above->q.h;
	const char *image = above->file->path;
	const char *format = h->backing_format;
	int rc;

	if (c->place != NULL && format[0] == 0)
		format = "qcow2";
	rc = names_format(image, format, raw, e);
	if (rc == 0 && c->place != NULL && *raw)
		rc = err_set(e, ERR_UNSUP,
		    "%s: its backing file is raw, which is not taken here",
		    image);
	if (rc != 0)
		return rc;
	if (c->place != NULL)
		return c->place(c->place_arg, image, h->backing, path, e);
	return names_resolve(image, h->backing, "backing file", path, e);
}

/* Open what the lowest image so far stands on. */
static int
add_backing(struct chain *c, struct err *e)
{
	struct layer *above = c->layers[c->depth - 1];
	struct imgfile *f;
	char *path;
	bool raw;
	int rc;

	if (c->depth == CHAIN_DEPTH_MAX)
		return err_set(e, ERR_LIMIT,
		    "%s: more than %d images on each other: commit or rebase "
		    "some",
		    above->file->path, CHAIN_DEPTH_MAX);
	rc = find_backing(c, above, &path, &raw, e);
	if (rc != 0)
		return rc;
	rc = imgfile_open(path, &f, e);
	free(path);
	if (rc != 0) {
		if (e != NULL)
			err_prefix(e, "backing file of %s", above->file->path);
		return rc;
	}
	return add_layer(c, f, raw, true, e);
}

static int
open_all(struct chain *c, struct imgfile *f, bool follow, struct chain **out,
    struct err *e)
{
	const struct layer *last;
	int rc;

	c->cache = metacache_new();
	rc = add_layer(c, f, false, follow, e);
	while (rc == 0) {
		last = c->layers[c->depth - 1];
		if (last->raw || last->q.h.backing[0] == 0)
			break;
		rc = add_backing(c, e);
	}
	if (rc != 0) {
		chain_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

int
chain_open(struct imgfile *f, bool follow, struct chain **out, struct err *e)
{
	return open_all(xcalloc(1, sizeof(struct chain)), f, follow, out, e);
}

int
chain_open_by(struct imgfile *f, chain_place *place, void *arg,
    struct chain **out, struct err *e)
{
	struct chain *c = xcalloc(1, sizeof(*c));

	c->place = place;
	c->place_arg = arg;
	return open_all(c, f, true, out, e);
}

int
chain_still(struct chain *c, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < c->depth && rc == 0; i++) {
		struct layer *l = c->layers[i];

		rc = imgfile_still(l->file, e);
		if (rc == 0 && !l->raw && l->q.data != l->file)
			rc = imgfile_still(l->q.data, e);
	}
	return rc;
}

/* Where some of the guest's bytes come from. */
struct piece {
	struct layer *layer; /* NULL: zeroes */
	struct qcow2_extent x;
};

/* What the chain has at ${off}, for at most ${len} bytes of the disk. */
static int
find(
    struct chain *c, uint64_t off, uint64_t len, struct piece *p, struct err *e)
{
	for (size_t i = 0; i < c->depth; i++) {
		struct layer *l = c->layers[i];
		int rc;

		if (off >= l->size)
			break; /* beyond a shorter backing image are zeroes */
		if (len > l->size - off)
			len = l->size - off;
		p->layer = l;
		if (l->raw) {
			p->x = (struct qcow2_extent){
				.kind = QCOW2_DATA, .host = off, .len = len
			};
			return 0;
		}
		rc = qcow2_map(&l->q, off, len, &p->x, e);
		if (rc != 0)
			return rc;
		if (p->x.kind == QCOW2_ZERO)
			p->layer = NULL;
		if (p->x.kind != QCOW2_UNALLOCATED)
			return 0;
		len = p->x.len;
	}
	p->layer = NULL;
	p->x = (struct qcow2_extent){ .kind = QCOW2_ZERO, .len = len };
	return 0;
}

static struct imgfile *
data_of(struct layer *l)
{
	return l->raw ? l->file : l->q.data;
}

int
chain_read(struct chain *c, void *data, size_t len, uint64_t off, struct err *e)
{
	uint8_t *out = data;
	struct piece p;

	while (len > 0) {
		size_t n;
		int rc = find(c, off, len, &p, e);

		if (rc != 0)
			return rc;
		n = (size_t)p.x.len;
		if (p.layer == NULL)
			memset(out, 0, n);
		else if (p.x.kind == QCOW2_COMPRESSED)
			rc = qcow2_unpack(&p.layer->q, &p.x, out, n, e);
		else
			rc =
			    imgfile_read(data_of(p.layer), out, n, p.x.host, e);
		if (rc != 0)
			return rc;
		out += n;
		off += n;
		len -= n;
	}
	return 0;
}

/* As find, but only whether it is a hole; holes of the host's files count. */
static int
find_hole(
    struct chain *c, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	struct piece p;
	struct imgfile *f;
	int rc;

	rc = find(c, off, *len, &p, e);
	if (rc != 0)
		return rc;
	*len = p.x.len;
	*hole = p.layer == NULL;
	if (*hole || p.x.kind == QCOW2_COMPRESSED)
		return 0;
	f = data_of(p.layer);
	if (p.x.host < f->size)
		*len = imgfile_map(f, p.x.host, p.x.len, hole);
	return 0;
}

int
chain_map(
    struct chain *c, uint64_t off, uint64_t *len, bool *hole, struct err *e)
{
	uint64_t left = c->layers[0]->size - off, total = 0, n;
	bool h;

	while (left > 0 && total < MAP_WINDOW) {
		int rc;

		n = left < MAP_WINDOW - total ? left : MAP_WINDOW - total;
		rc = find_hole(c, off + total, &n, &h, e);
		if (rc != 0)
			return rc;
		if (total == 0)
			*hole = h;
		else if (h != *hole)
			break;
		total += n;
		left -= n;
	}
	/* Only where all so far was a hole a farther look is worth its time. */
	if (*hole && total == MAP_WINDOW && left > 0) {
		int rc = find_hole(c, off + total, &left, &h, e);

		if (rc != 0)
			return rc;
		if (h)
			total += left;
	}
	*len = total;
	return 0;
}
