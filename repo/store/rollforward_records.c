/* SPDX-License-Identifier: Apache-2.0 */
/* What a start puts: chunks, nodes, manifests; and what it drops. */
#include "repo/store/rollforward_impl.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/fault.h"
#include "proto/base/log.h"

enum { LOT = 4096 };

int
roll_flush(struct roll *r)
{
	int rc;

	fault_pass(FAULT_START_LOT);
	roll_write_live(r);
	rc = index_batch_write(r->batch, false);
	fault_pass(FAULT_START_LOT_WRITTEN);
	index_batch_free(r->batch);
	r->batch = index_batch_new(r->index);
	idmap_fini(&r->lot);
	if (rc != 0)
		return err_set(r->e, rc, "the index cannot be written");
	return 0;
}

/* Is ${id} there, in the index or in this lot?  0, ERR_NOENT, ERR_SYS. */
int
roll_present(struct roll *r, const struct id *id)
{
	struct index_entry x;

	if (r->lot.n > 0 && idmap_find(&r->lot, id) != NULL)
		return 0;
	return index_get(r->index, id, &x);
}

static int
put(struct roll *r, const struct id *id, const struct index_entry *op)
{
	bool fresh;

	idmap_add(&r->lot, id, &fresh);
	index_batch_merge(r->batch, id, op);
	index_batch_dying(r->batch, r->stamp, id);
	roll_live(r, &op->place, 1);
	return r->lot.n >= LOT ? roll_flush(r) : 0;
}

static int
put_chunk(struct roll *r, const struct record *rec, const struct place *place)
{
	struct index_entry op = {
		.place = *place, .kind = RECORD_CHUNK, .stamp = r->stamp
	};
	int rc = roll_present(r, &rec->id);

	if (rc != ERR_NOENT)
		return rc == 0 ? 0
			       : err_set(r->e, rc, "the index cannot be read");
	if (rec->raw_len != r->format->chunk_size)
		op.flags = INDEX_TAIL;
	r->unique_raw += rec->raw_len;
	r->nchunks++;
	return put(r, &rec->id, &op);
}

static int
keep_node(struct roll *r, const struct record *rec, const struct place *place,
    const uint8_t *payload)
{
	struct tail_node *n;

	if ((r->nnodes & (r->nnodes - 1)) == 0)
		r->node = xrealloc(r->node,
		    (r->nnodes != 0 ? 2 * r->nnodes : 1) * sizeof(*r->node));
	n = &r->node[r->nnodes];
	n->node = xmalloc(sizeof(*n->node));
	if (node_parse(payload, rec->stored_len, n->node, NULL) != 0) {
		free(n->node);
		return 0; /* no node of ours: dead bytes */
	}
	n->id = rec->id;
	n->place = *place;
	r->nnodes++;
	return 0;
}

static int
see_record(void *arg, const struct record *rec, const struct place *place,
    const uint8_t *payload, bool sound)
{
	struct roll *r = arg;
	struct tail_manifest *m;
	bool fresh;

	if (!sound)
		return 0; /* torn by the crash, so nothing relies on it */
	switch (rec->kind) {
	case RECORD_CHUNK: return put_chunk(r, rec, place);
	case RECORD_NODE: return keep_node(r, rec, place, payload);
	case RECORD_MANIFEST:
		r->manifest = xrealloc(
		    r->manifest, (r->nmanifests + 1) * sizeof(*r->manifest));
		m = &r->manifest[r->nmanifests++];
		*m = (struct tail_manifest){ .id = rec->id, .place = *place };
		buf_add(&m->payload, payload, rec->stored_len);
		return 0;
	case RECORD_TOMBSTONE: idmap_add(&r->tombs, &rec->id, &fresh); return 0;
	default: return 0;
	}
}

int
roll_scan(struct roll *r)
{
	for (size_t i = 0; i < r->npacks; i++) {
		struct tail_pack *p = &r->pack[i];
		struct pack_scan scan;
		int rc;

		if (!p->scan)
			continue;
		fault_pass(FAULT_START_SCAN);
		rc = pack_scan(r->packs, p->info.number, p->info.known,
		    PACK_SCAN_PAYLOAD, see_record, r, &scan);
		if (rc != 0)
			return r->e->code != 0
			    ? rc
			    : err_set(r->e, rc, "pack %08x cannot be read",
				  p->info.number);
		p->sealed = scan.sealed;
		p->end = scan.end;
	}
	return roll_flush(r);
}

static int
by_level(const void *a, const void *b)
{
	const struct tail_node *x = a, *y = b;

	return (int)x->node->level - (int)y->node->level;
}

/* Children that the index lacks: a node that the crash left behind. */
static int
is_orphan(struct roll *r, const struct node *n, bool *orphan)
{
	struct index_entry entry[NODE_FANOUT];
	int rc;

	rc = index_get_many(r->index, n->child, n->n, entry);
	*orphan = false;
	for (unsigned i = 0; rc == 0 && i < n->n; i++)
		if (!id_is_hole(&n->child[i]) && entry[i].place.pack == 0)
			*orphan = true;
	return rc;
}

static int
put_node(struct roll *r, const struct tail_node *n)
{
	struct index_entry op = { .place = n->place,
		.kind = RECORD_NODE,
		.level = n->node->level,
		.flags = n->node->tail ? INDEX_TAIL : 0,
		.stamp = r->stamp };
	struct index_entry ref = { .refs = 1 };
	bool orphan = false;
	int rc = roll_present(r, &n->id);

	if (rc == ERR_NOENT)
		rc = is_orphan(r, n->node, &orphan);
	else if (rc == 0)
		return 0;
	if (rc != 0)
		return err_set(r->e, rc, "the index cannot be read");
	if (orphan) {
		r->norphans++;
		return 0;
	}
	/* Before the node itself, which may close the lot. */
	for (unsigned i = 0; i < n->node->n; i++)
		if (!id_is_hole(&n->node->child[i]))
			index_batch_merge(r->batch, &n->node->child[i], &ref);
	return put(r, &n->id, &op);
}

int
roll_nodes(struct roll *r)
{
	int rc;

	if (r->nnodes > 0)
		qsort(r->node, r->nnodes, sizeof(*r->node), by_level);
	for (size_t i = 0; i < r->nnodes; i++) {
		/* A level's presence is asked of the index. */
		if (i > 0 &&
		    r->node[i].node->level != r->node[i - 1].node->level &&
		    (rc = roll_flush(r)) != 0)
			return rc;
		rc = put_node(r, &r->node[i]);
		if (rc != 0)
			return rc;
	}
	return roll_flush(r);
}

static int
count_roots(struct roll *r, const struct manifest *m, int sign)
{
	struct index_entry op = { .refs = sign };

	if (sign < 0)
		op.stamp = r->stamp;
	for (unsigned i = 0; i < m->nvolumes; i++) {
		const struct id *root = &m->volume[i].root;
		int rc;

		if (id_is_hole(root))
			continue;
		rc = roll_present(r, root);
		if (rc != 0)
			return err_set(r->e, rc == ERR_NOENT ? ERR_CORRUPT : rc,
			    "a committed backup lacks its volume %s. Run "
			    "`backstay fsck --rebuild-index`",
			    m->volume[i].name);
		index_batch_merge(r->batch, root, &op);
		if (sign < 0)
			index_batch_dying(r->batch, r->stamp, root);
	}
	return 0;
}

static int
see_tombstone(void *arg, const struct record *rec, const struct place *place,
    const uint8_t *payload, bool sound)
{
	struct roll *r = arg;
	bool fresh;

	(void)place;
	(void)payload;
	if (rec->kind == RECORD_TOMBSTONE && sound)
		idmap_add(&r->tombs, &rec->id, &fresh);
	return 0;
}

/*
 * A manifest in a tail that the index does not know may be one that the crash
 * kept from being published; or a copy that was made while its backup was
 * being deleted, and that tombstone may lie in any meta pack.
 */
static int
look_for_tombstones(struct roll *r)
{
	bool any = false;

	for (size_t i = 0; i < r->nmanifests; i++)
		any = any || r->backups.n == 0 ||
		    idmap_find(&r->backups, &r->manifest[i].id) == NULL;
	for (size_t i = 0; any && i < r->npacks; i++) {
		struct tail_pack *p = &r->pack[i];
		struct pack_scan scan;
		int rc;

		if (!p->present || p->info.type != PACK_META)
			continue;
		rc = pack_scan(
		    r->packs, p->info.number, 0, 0, see_tombstone, r, &scan);
		if (rc != 0 && rc != ERR_CORRUPT)
			return err_set(r->e, rc, "pack %08x cannot be read",
			    p->info.number);
	}
	return 0;
}

/* Deleted since, or hidden when it was and nobody builds on it any more. */
static int
see_backup(void *arg, const struct index_backup *b)
{
	struct roll *r = arg;
	struct manifest *m;
	bool fresh;
	int rc;

	idmap_add(&r->backups, &b->id, &fresh);
	if (!b->hidden &&
	    (r->tombs.n == 0 || idmap_find(&r->tombs, &b->id) == NULL))
		return 0;
	m = xmalloc(sizeof(*m));
	rc = manifest_parse(b->manifest, b->len, m, r->e);
	if (rc == 0)
		rc = count_roots(r, m, -1);
	if (rc == 0) {
		index_batch_backup_remove(r->batch, &b->id);
		roll_live(r, &b->place, -1);
	}
	r->ndropped++;
	free(m);
	return rc;
}

static int
put_manifest(struct roll *r, struct tail_manifest *t)
{
	struct manifest *m;
	bool fresh;
	int rc;

	if ((r->tombs.n > 0 && idmap_find(&r->tombs, &t->id) != NULL) ||
	    (r->backups.n > 0 && idmap_find(&r->backups, &t->id) != NULL))
		return 0;
	idmap_add(&r->backups, &t->id, &fresh); /* its twin comes too */
	m = xmalloc(sizeof(*m));
	rc = manifest_parse(t->payload.data, t->payload.len, m, r->e);
	if (rc == 0)
		rc = count_roots(r, m, 1);
	if (rc == 0) {
		index_batch_backup(r->batch,
		    &(struct index_backup){ .id = t->id,
			.place = t->place,
			.manifest = t->payload.data,
			.len = t->payload.len });
		roll_live(r, &t->place, 1);
		if (m->seq > r->sequence)
			r->sequence = m->seq;
		r->ncommitted++;
	}
	free(m);
	return rc;
}

int
roll_manifests(struct roll *r)
{
	int rc = index_backups_each(r->index, see_backup, r);

	if (rc != 0)
		return r->e->code != 0
		    ? rc
		    : err_set(r->e, rc, "the index cannot be read");
	rc = look_for_tombstones(r);
	for (size_t i = 0; rc == 0 && i < r->nmanifests; i++)
		rc = put_manifest(r, &r->manifest[i]);
	return rc;
}
