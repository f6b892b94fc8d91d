/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/reclaim/verify.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "repo/store/idmap.h"

enum { VERIFY_SEEN_MAX = 1 << 20 /* 64 MB of nodes */ };

struct verify {
	struct store *s;
	struct verify_options o;
	struct idmap whole; /* nodes with all that is below them */

	/* Of the backup in work. */
	struct store_lane *lane;
	struct hasher *hasher;
	struct codec *codec;
	uint8_t *raw;
	const struct manifest *m;
	unsigned volume;
	uint64_t nslices;
	uint64_t run, nrun; /* damaged slices not told yet */
	uint64_t ndamaged;
	uint64_t read; /* bytes since go_on was called */
	const struct node *leaf;
	struct err *e;
};

struct verify *
verify_new(struct store *s, const struct verify_options *o)
{
	struct verify *v = xcalloc(1, sizeof(*v));

	v->s = s;
	v->o = *o;
	idmap_init(&v->whole, 1);
	v->codec = codec_new(0);
	v->raw = xmalloc(store_format(s)->chunk_size);
	return v;
}

void
verify_free(struct verify *v)
{
	if (v == NULL)
		return;
	free(v->raw);
	codec_free(v->codec);
	idmap_fini(&v->whole);
	free(v);
}

static void
tell_run(struct verify *v)
{
	if (v->nrun > 0)
		v->o.damaged(v->o.arg, v->m, v->volume, v->run, v->nrun);
	v->nrun = 0;
}

static void
is_damaged(struct verify *v, uint64_t slice, uint64_t n)
{
	if (n > v->nslices - slice)
		n = v->nslices - slice;
	v->ndamaged++;
	if (v->nrun > 0 && v->run + v->nrun == slice) {
		v->nrun += n;
		return;
	}
	tell_run(v);
	v->run = slice;
	v->nrun = n;
}

static bool
is_damage(int rc)
{
	return rc == ERR_CORRUPT || rc == ERR_NOENT;
}

/* The bytes of that many slices. */
static uint64_t
bytes_of(const struct verify *v, uint64_t slice, uint64_t n)
{
	uint64_t size = v->m->volume[v->volume].size;
	uint64_t from = slice * v->m->chunk_size;
	uint64_t to = (slice + n) * v->m->chunk_size;

	return (to < size ? to : size) - from;
}

static int
done(struct verify *v, uint64_t slice, uint64_t n)
{
	uint64_t read = v->read;

	if (n > v->nslices - slice)
		n = v->nslices - slice;
	v->read = 0;
	if (!v->o.go_on(v->o.arg, bytes_of(v, slice, n), read))
		return err_set(v->e, ERR_CLOSED, "stopped");
	return 0;
}

/* Its record is sound; is it the chunk that the leaf names? */
static int
see_chunk(void *arg, uint64_t slice, uint8_t codec, uint32_t raw_len,
    const uint8_t *data, size_t len, struct err *e)
{
	struct verify *v = arg;
	const struct manifest_volume *vol = &v->m->volume[v->volume];
	const struct id *want = &v->leaf->child[slice % NODE_FANOUT];
	struct id id;

	v->read += len;
	if (raw_len == chunk_len(vol->size, v->m->chunk_size, slice) &&
	    codec_unpack(v->codec, codec, data, len, v->raw, raw_len) == 0) {
		hasher_chunk(v->hasher, v->raw, raw_len, &id);
		if (id_equal(&id, want))
			return 0;
	}
	store_suspect(v->s, want);
	return err_set(e, ERR_CORRUPT, "a chunk is not what was stored");
}

/* All at once, in the order of the packs; one by one where that fails. */
static int
read_leaf(struct verify *v, const struct node *leaf, uint64_t slice)
{
	const struct manifest_volume *vol = &v->m->volume[v->volume];
	uint64_t left = v->nslices - slice;
	uint32_t n = left < leaf->n ? (uint32_t)left : leaf->n;
	struct err e = { 0 };
	int rc;

	v->leaf = leaf;
	rc = store_read_slices(
	    v->s, v->lane, &vol->root, vol->size, slice, n, see_chunk, v, &e);
	for (uint32_t i = 0; is_damage(rc) && i < n; i++) {
		int one;

		if (id_is_hole(&leaf->child[i]))
			continue;
		one = store_read_slices(v->s, v->lane, &vol->root, vol->size,
		    slice + i, 1, see_chunk, v, &e);
		if (is_damage(one))
			is_damaged(v, slice + i, 1);
		else if (one != 0)
			rc = one;
	}
	if (rc == 0 || is_damage(rc))
		return 0;
	*v->e = e;
	return rc;
}

static int
go_down(struct verify *v, const struct id *id, unsigned level, uint64_t index)
{
	const struct manifest_volume *vol = &v->m->volume[v->volume];
	uint64_t span = node_span(level), slice = index * span;
	uint64_t before = v->ndamaged;
	struct node *n;
	bool fresh;
	int rc;

	if (slice >= v->nslices)
		return 0;
	if (id_is_hole(id) ||
	    (v->whole.n > 0 && idmap_find(&v->whole, id) != NULL))
		return done(v, slice, span);
	n = xmalloc(sizeof(*n));
	rc = store_tree_node(
	    v->s, v->lane, &vol->root, vol->size, level, index, n, v->e);
	if (is_damage(rc)) {
		is_damaged(v, slice, span);
		rc = done(v, slice, span);
		goto out;
	}
	if (rc == 0 && level == 0) {
		rc = read_leaf(v, n, slice);
		if (rc == 0)
			rc = done(v, slice, span);
	}
	for (unsigned i = 0; rc == 0 && level > 0 && i < NODE_FANOUT; i++)
		rc = go_down(
		    v, &n->child[i], level - 1, index * NODE_FANOUT + i);
	if (rc == 0 && v->ndamaged == before && v->whole.n < VERIFY_SEEN_MAX)
		idmap_add(&v->whole, id, &fresh);
out:
	free(n);
	return rc;
}

int
verify_backup(struct verify *v, const uint8_t *key, const struct manifest *m,
    struct err *e)
{
	int rc = 0;

	v->m = m;
	v->e = e;
	v->lane = store_lane_new(v->s, key);
	v->hasher = hasher_new(key);
	for (unsigned i = 0; rc == 0 && i < m->nvolumes; i++) {
		const struct manifest_volume *vol = &m->volume[i];

		v->volume = i;
		v->nslices = chunk_nslices(vol->size, m->chunk_size);
		if (v->nslices > 0)
			rc = go_down(
			    v, &vol->root, node_root_level(v->nslices), 0);
		tell_run(v);
	}
	hasher_free(v->hasher);
	store_lane_free(v->lane);
	return rc;
}
