/* SPDX-License-Identifier: Apache-2.0 */
/* Counting every reference anew. */
#include "repo/store/fsck_impl.h"

#include <stdlib.h>

/* The way from a root down to what is being counted. */
struct walk {
	struct fsck *f;
	const char *backup;
	const struct manifest_volume *v;
	bool hit;
};

/*
 * In a rebuild it keeps its place in the index, as damaged (rule 21): who puts
 * it again heals it, and the references that there are count for it.
 */
static int
walk_missing(struct walk *w, const struct id *id, const struct index_entry *x,
    int level, uint64_t slice)
{
	struct index_entry op = { .place = x->place,
		.refs = 1,
		.kind = level < 0 ? RECORD_CHUNK : RECORD_NODE,
		.level = level < 0 ? 0 : (uint8_t)level,
		.flags = INDEX_DAMAGED | (level < 0 ? 0 : INDEX_UNCOUNTED) };
	char name[17];

	w->f->out->missing++;
	w->hit = true;
	fsck_tell(w->f, "%s, volume %s, from byte %llu on: %s is lost",
	    w->backup, w->v->name,
	    (unsigned long long)slice * w->f->format.chunk_size,
	    fsck_short_id(id, name));
	if (w->f->index != NULL)
		return 0;
	if (op.place.pack == 0)
		op.place.pack = INDEX_PACK_LOST;
	return fsck_merge(w->f, id, &op);
}

/* Counts one reference to ${id}; its children's only the first time. */
static int
walk_down(struct walk *w, const struct id *id, int level, uint64_t slice)
{
	struct fsck *f = w->f;
	struct index_entry op = { .refs = 1 }, x;
	struct node *n;
	int rc;

	if (id_is_hole(id))
		return 0;
	rc = fsck_get(f, id, &x);
	if (rc == ERR_NOENT)
		return walk_missing(
		    w, id, &(struct index_entry){ .refs = 0 }, level, slice);
	if (rc != 0)
		return rc;
	if (level < 0 && (x.flags & INDEX_DAMAGED) != 0)
		return walk_missing(w, id, &x, level, slice);
	if (level < 0 || (x.flags & FSCK_COUNTED) != 0)
		return fsck_merge(f, id, &op);
	n = xmalloc(sizeof(*n));
	if (pack_read(f->packs, &x.place, RECORD_NODE, id, &f->payload) != 0 ||
	    node_parse(f->payload.data, f->payload.len, n, NULL) != 0 ||
	    n->level != level) {
		rc = walk_missing(w, id, &x, level, slice);
		goto out;
	}
	op.place = x.place;
	op.kind = RECORD_NODE;
	op.level = n->level;
	op.flags = FSCK_COUNTED | (n->tail ? INDEX_TAIL : 0);
	rc = fsck_merge(f, id, &op);
	for (unsigned i = 0; rc == 0 && i < n->n; i++)
		rc = walk_down(w, &n->child[i], level - 1,
		    slice +
			i * (level > 0 ? node_span((unsigned)level - 1) : 1));
out:
	free(n);
	return rc;
}

static int
walk_backup(struct fsck *f, const struct manifest *m)
{
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2];
	struct walk w = { .f = f, .backup = manifest_name(m, name) };
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->nvolumes; i++) {
		const struct manifest_volume *v = &m->volume[i];
		uint64_t nslices = chunk_nslices(v->size, f->format.chunk_size);

		w.v = v;
		if (nslices > 0)
			rc = walk_down(
			    &w, &v->root, (int)node_root_level(nslices), 0);
	}
	f->out->backups++;
	f->out->hit_backups += w.hit;
	if (m->seq > f->sequence)
		f->sequence = m->seq;
	return rc;
}

static int
walk_backups(struct fsck *f)
{
	struct manifest *m = xmalloc(sizeof(*m));
	const struct id *id;
	struct kept *k;
	size_t at = 0;
	int rc = 0;

	while (rc == 0 && (k = idmap_next(&f->backups, &at, &id)) != NULL) {
		if (f->tombs.n > 0 && f->index == NULL &&
		    idmap_find(&f->tombs, id) != NULL)
			continue;
		if (k->data == NULL ||
		    manifest_parse(k->data, k->len, m, NULL) != 0) {
			f->out->missing++;
			f->out->hit_backups++;
			fsck_tell(f,
			    "the manifest in pack %08x at %u cannot be "
			    "read: that backup is lost",
			    k->place.pack, k->place.off);
			continue;
		}
		pack_counts_add(&f->live, &k->place, 1);
		rc = walk_backup(f, m);
	}
	free(m);
	if (rc != 0)
		return rc;
	return fsck_flush(f);
}

/* A node that no backup reaches holds its children until it is reclaimed. */
static int
count_garbage(void *arg, const struct id *id, const struct index_entry *x)
{
	struct fsck *f = arg;
	struct index_entry counted, op = { .refs = 1 };
	struct node *n;
	int rc;

	if (x->kind != RECORD_NODE)
		return 0;
	rc = fsck_get(f, id, &counted);
	if (rc == ERR_SYS || (rc == 0 && (counted.flags & FSCK_COUNTED) != 0))
		return rc;
	n = xmalloc(sizeof(*n));
	if (pack_read(f->packs, &x->place, RECORD_NODE, id, &f->payload) == 0 &&
	    node_parse(f->payload.data, f->payload.len, n, NULL) == 0) {
		for (unsigned i = 0; rc != ERR_SYS && i < n->n; i++)
			if (!id_is_hole(&n->child[i]))
				rc = fsck_merge(f, &n->child[i], &op);
	}
	free(n);
	return rc == ERR_SYS ? rc : 0;
}

int
fsck_count(struct fsck *f)
{
	int rc = walk_backups(f);

	if (rc != 0 || f->index == NULL)
		return rc;
	rc = index_each(f->index, count_garbage, f);
	if (rc != 0)
		return f->e->code != 0
		    ? rc
		    : err_set(f->e, rc, "the index cannot be read");
	return fsck_flush(f);
}
