/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a start does before anything else (STORE.md 13): the packs are the
 * truth, and may hold more than the index knows of.
 *
 * 1. Every pack of the index's table is there, with its tag and at least its
 *    known length; otherwise index and packs are of different days.
 * 2. Unsealed and unknown packs are synced: what is in memory only, after a
 *    kill, must not be named by the index either.
 * 3. What they hold beyond that is put: chunks, then nodes from the leaves up,
 *    then manifests without a tombstone; then tombstones are applied.
 * 4. They are sealed at their last valid record and never written again.
 *
 * All of it may be repeated: a put of what is there changes nothing, each lot
 * takes along what it adds to its packs' live bytes, and the packs' known
 * lengths move only in the last batch.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "repo/store/idmap.h"
#include "repo/store/store_impl.h"

enum { LOT = 4096 };

struct tail_pack {
	struct pack_info info;
	bool listed; /* the index's table has it */
	bool present;
	bool poisoned; /* by its name */
	bool scan;
	bool sealed;
	uint64_t end;
	int64_t live; /* what this start adds */
};

struct tail_node {
	struct id id;
	struct place place;
	struct node *node;
};

struct tail_manifest {
	struct id id;
	struct place place;
	struct buf payload;
};

struct roll {
	struct index *index;
	struct volume *volume;
	struct pack_set *packs;
	const struct store_format *format;
	struct err *e;

	struct tail_pack *pack; /* by number once sorted */
	size_t npacks;
	size_t nlisted; /* the first ones, sorted while packs are listed */

	struct index_batch *batch;
	struct idmap lot;     /* ids that the batch puts */
	struct idmap backups; /* manifests that the index knows */
	struct idmap tombs;
	uint64_t stamp;
	uint64_t unique_raw; /* in all */
	uint64_t sequence;

	struct tail_node *node;
	size_t nnodes;
	struct tail_manifest *manifest;
	size_t nmanifests;
	unsigned nchunks, ncommitted, ndropped, norphans;
};

static struct tail_pack *
pack_add(struct roll *r)
{
	r->pack = xrealloc(r->pack, (r->npacks + 1) * sizeof(*r->pack));
	r->pack[r->npacks] = (struct tail_pack){ .scan = false };
	return &r->pack[r->npacks++];
}

static int
by_number(const void *a, const void *b)
{
	const struct tail_pack *x = a, *y = b;

	return x->info.number < y->info.number
	    ? -1
	    : x->info.number > y->info.number;
}

static struct tail_pack *
pack_find(struct roll *r, uint32_t number)
{
	struct tail_pack key = { .info.number = number };

	return r->npacks == 0
	    ? NULL
	    : bsearch(&key, r->pack, r->nlisted, sizeof(*r->pack), by_number);
}

static void
live_add(struct roll *r, const struct place *place, int sign)
{
	struct tail_pack *p = pack_find(r, place->pack);

	if (p != NULL)
		p->live +=
		    sign * (int64_t)(RECORD_HEADER_LEN + place->stored_len);
}

static int
see_listed(void *arg, const struct pack_info *info)
{
	struct tail_pack *p = pack_add(arg);

	p->info = *info;
	p->listed = true;
	return 0;
}

static int
see_present(void *arg, const struct volume_name *name)
{
	struct roll *r = arg;
	struct tail_pack *p = pack_find(r, name->number);

	if (p == NULL) {
		p = pack_add(r);
		p->info.number = name->number;
	}
	p->present = true;
	p->poisoned = name->poisoned;
	return 0;
}

/* Its first sync failed, and then the power: the index knows that nothing was
 * ever safe in it. */
static int
forget_pack(struct roll *r, struct tail_pack *p)
{
	log_info(
	    "pack %08x was condemned empty and is left alone", p->info.number);
	index_batch_pack_remove(r->batch, p->info.number);
	p->present = false;
	return 0;
}

/* Looks at one pack's size and header. */
static int
pack_look(struct roll *r, struct tail_pack *p)
{
	uint8_t head[PACK_HEADER_LEN];
	struct volume_file *f;
	struct pack_header h;
	uint64_t size;
	size_t got;
	int rc;

	rc = volume_open(r->volume, p->info.number, false, &f);
	if (rc == 0) {
		rc = volume_size(f, &size);
		if (rc == 0)
			rc = volume_read(f, head, sizeof(head), 0, &got);
		volume_file_close(f);
	}
	if (rc != 0)
		return err_set(
		    r->e, rc, "pack %08x cannot be read", p->info.number);
	rc = got == sizeof(head) ? pack_header_parse(head, &h, r->e)
				 : ERR_CORRUPT;
	if (rc == ERR_UNSUP) {
		err_prefix(r->e, "pack %08x", p->info.number);
		return rc;
	}
	if (rc == 0 &&
	    (h.number != p->info.number ||
		memcmp(h.uuid, r->format->uuid, sizeof(h.uuid)) != 0))
		rc = ERR_CORRUPT;
	if (p->listed && rc != 0 && p->info.durable == 0 && p->info.live == 0)
		return forget_pack(r, p);
	if (p->listed) {
		if (rc != 0 || h.tag != p->info.tag || size < p->info.known)
			return err_set(r->e, ERR_CORRUPT,
			    "pack %08x is not the one that the index knows: "
			    "they are of different days. Run `backstay fsck "
			    "--rebuild-index`",
			    p->info.number);
		p->scan = p->info.state == PACK_OPEN && !p->poisoned;
	} else if (rc != 0) {
		/* Begun when the power went: it holds nothing yet. */
		log_info("pack %08x has no valid header and is left alone",
		    p->info.number);
		p->present = false;
		return 0;
	} else {
		p->info.mirror = h.mirror;
		p->info.type = h.type;
		p->info.domain = h.domain;
		p->info.tag = h.tag;
		p->scan = !p->poisoned;
	}
	if (p->poisoned)
		p->info.state = PACK_POISONED;
	packs_add(r->packs, &p->info);
	return 0;
}

/* Nothing in it lives, and it was about to be unlinked (rule 12). */
static int
bury_pack(struct roll *r, struct tail_pack *p)
{
	int rc;

	fault_pass(FAULT_START_BURY);
	rc = p->present ? volume_remove(r->volume, p->info.number) : 0;

	if (rc != 0)
		return err_set(
		    r->e, rc, "pack %08x cannot be removed", p->info.number);
	index_batch_pack_remove(r->batch, p->info.number);
	p->present = false;
	return 0;
}

static void
sort_packs(struct roll *r)
{
	if (r->npacks > 0)
		qsort(r->pack, r->npacks, sizeof(*r->pack), by_number);
	r->nlisted = r->npacks;
}

static int
look_at_packs(struct roll *r)
{
	int rc;

	rc = index_packs_each(r->index, see_listed, r);
	if (rc != 0)
		return err_set(r->e, rc, "the index cannot be read");
	sort_packs(r);
	rc = volume_each(r->volume, see_present, r);
	if (rc != 0)
		return err_set(r->e, rc, "the packs cannot be listed");
	sort_packs(r);
	for (size_t i = 0; i < r->npacks; i++) {
		struct tail_pack *p = &r->pack[i];

		if (p->listed && p->info.state == PACK_DEAD) {
			rc = bury_pack(r, p);
			if (rc != 0)
				return rc;
			continue;
		}
		if (!p->present)
			return err_set(r->e, ERR_CORRUPT,
			    "pack %08x is missing. If it is lost, run "
			    "`backstay fsck --rebuild-index`",
			    p->info.number);
		rc = pack_look(r, p);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Before the index names anything in them (rule 10). */
static int
sync_tails(struct roll *r)
{
	for (size_t i = 0; i < r->npacks; i++) {
		struct tail_pack *p = &r->pack[i];
		struct volume_file *f;
		int rc;

		if (!p->scan)
			continue;
		fault_pass(FAULT_START_SYNC);
		rc = volume_open(r->volume, p->info.number, true, &f);
		if (rc == 0) {
			rc = volume_sync(f);
			volume_file_close(f);
		}
		if (rc != 0)
			return err_set(r->e, rc, "pack %08x cannot be synced",
			    p->info.number);
	}
	return 0;
}

/* What a lot puts counts in its packs with that lot: a start that ends after
 * it finds the ids there, and does not count them again. */
static void
write_live(struct roll *r)
{
	for (size_t i = 0; i < r->npacks; i++) {
		struct tail_pack *p = &r->pack[i];

		if (p->live == 0)
			continue;
		p->info.live += p->live;
		p->live = 0;
		packs_update(r->packs, &p->info);
		index_batch_pack(r->batch, &p->info);
	}
	index_batch_number(r->batch, INDEX_UNIQUE_RAW, r->unique_raw);
}

static int
flush(struct roll *r)
{
	int rc;

	fault_pass(FAULT_START_LOT);
	write_live(r);
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
static int
present(struct roll *r, const struct id *id)
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
	live_add(r, &op->place, 1);
	return r->lot.n >= LOT ? flush(r) : 0;
}

static int
put_chunk(struct roll *r, const struct record *rec, const struct place *place)
{
	struct index_entry op = {
		.place = *place, .kind = RECORD_CHUNK, .stamp = r->stamp
	};
	int rc = present(r, &rec->id);

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

static int
scan_tails(struct roll *r)
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
	return flush(r);
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
	int rc = present(r, &n->id);

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

static int
put_nodes(struct roll *r)
{
	int rc;

	if (r->nnodes > 0)
		qsort(r->node, r->nnodes, sizeof(*r->node), by_level);
	for (size_t i = 0; i < r->nnodes; i++) {
		/* A level's presence is asked of the index. */
		if (i > 0 &&
		    r->node[i].node->level != r->node[i - 1].node->level &&
		    (rc = flush(r)) != 0)
			return rc;
		rc = put_node(r, &r->node[i]);
		if (rc != 0)
			return rc;
	}
	return flush(r);
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
		rc = present(r, root);
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
		live_add(r, &b->place, -1);
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
		live_add(r, &t->place, 1);
		if (m->seq > r->sequence)
			r->sequence = m->seq;
		r->ncommitted++;
	}
	free(m);
	return rc;
}

static int
seal_packs(struct roll *r, uint32_t *greatest)
{
	*greatest = 0;
	for (size_t i = 0; i < r->npacks; i++) {
		struct tail_pack *p = &r->pack[i];
		int rc;

		if (p->info.number > *greatest)
			*greatest = p->info.number;
		if (!p->present || (!p->scan && !(p->poisoned && p->listed)))
			continue;
		if (p->scan) {
			fault_pass(FAULT_START_SEAL);
			rc = p->sealed
			    ? 0
			    : pack_seal_tail(r->packs, p->info.number, p->end);
			if (rc != 0 && rc != ERR_NOSPC)
				return err_set(r->e, rc,
				    "pack %08x cannot be sealed",
				    p->info.number);
			/* On a full disk it stays open for the next start. */
			p->info.state = rc == 0 ? PACK_SEALED : PACK_OPEN;
			if (p->end > p->info.known)
				p->info.known = p->end;
			if (p->end > p->info.durable)
				p->info.durable = p->end;
		}
		packs_update(r->packs, &p->info);
		index_batch_pack(r->batch, &p->info);
	}
	return 0;
}

static int
finish(struct roll *r)
{
	uint64_t numbers, n;
	uint32_t greatest;
	int rc;

	write_live(r);
	rc = seal_packs(r, &greatest);
	if (rc != 0)
		return rc;
	if (index_number(r->index, INDEX_NUMBERS_END, &numbers) != 0 ||
	    index_number(r->index, INDEX_SEQUENCE, &n) != 0)
		return err_set(r->e, ERR_SYS, "the index cannot be read");
	if (greatest >= numbers)
		index_batch_number(
		    r->batch, INDEX_NUMBERS_END, (uint64_t)greatest + 1);
	if (r->sequence > n)
		index_batch_number(r->batch, INDEX_SEQUENCE, r->sequence);
	index_batch_number(r->batch, INDEX_PUBLISHED, r->stamp);
	fault_pass(FAULT_START_FINISH);
	rc = index_batch_write(r->batch, true);
	if (rc != 0)
		return err_set(r->e, rc, "the index cannot be written");
	fault_pass(FAULT_START_DONE);
	if (r->nchunks + r->nnodes + r->nmanifests + r->tombs.n > 0)
		log_info("rolled forward: %u chunks and %zu nodes that the "
			 "index did not know (%u of them useless), %u backups "
			 "committed, %u deleted",
		    r->nchunks, r->nnodes, r->norphans, r->ncommitted,
		    r->ndropped);
	return 0;
}

int
rollforward(struct index *x, struct volume *v, struct pack_set *p,
    const struct store_format *format, struct err *e)
{
	struct roll r = {
		.index = x, .volume = v, .packs = p, .format = format, .e = e
	};
	int rc;

	e->code = 0;
	idmap_init(&r.lot, sizeof(uint64_t));
	idmap_init(&r.backups, sizeof(uint64_t));
	idmap_init(&r.tombs, sizeof(uint64_t));
	r.batch = index_batch_new(x);
	rc = index_number(x, INDEX_PUBLISHED, &r.stamp);
	if (rc == 0)
		rc = index_number(x, INDEX_UNIQUE_RAW, &r.unique_raw);
	if (rc != 0) {
		err_set(e, rc, "the index cannot be read");
		goto out;
	}
	r.stamp++;
	if ((rc = look_at_packs(&r)) != 0 || (rc = sync_tails(&r)) != 0 ||
	    (rc = scan_tails(&r)) != 0 || (rc = put_nodes(&r)) != 0)
		goto out;
	rc = index_backups_each(x, see_backup, &r);
	if (rc != 0) {
		if (e->code == 0)
			err_set(e, rc, "the index cannot be read");
		goto out;
	}
	rc = look_for_tombstones(&r);
	for (size_t i = 0; rc == 0 && i < r.nmanifests; i++)
		rc = put_manifest(&r, &r.manifest[i]);
	if (rc == 0)
		rc = finish(&r);
out:
	for (size_t i = 0; i < r.nnodes; i++)
		free(r.node[i].node);
	for (size_t i = 0; i < r.nmanifests; i++)
		buf_fini(&r.manifest[i].payload);
	free(r.node);
	free(r.manifest);
	free(r.pack);
	idmap_fini(&r.tombs);
	idmap_fini(&r.backups);
	idmap_fini(&r.lot);
	index_batch_free(r.batch);
	return rc;
}
