/* SPDX-License-Identifier: Apache-2.0 */
/* What requests do in a batch: commits, deletes, and the reclaimer's work. */
#include "repo/store/ledger_closing.h"

#include <stdlib.h>
#include <time.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

/* A root that is to be referenced is there, in this batch or before it. */
static int
root_present(struct closing *c, const struct id *root)
{
	const struct change *ch = idmap_find(&c->changes, root);
	struct index_entry cur;
	int rc;

	if (ch != NULL && ch->op.place.pack != 0)
		return 0;
	rc = index_get(c->l->index, root, &cur);
	if (rc == ERR_NOENT || (rc == 0 && (cur.flags & INDEX_DAMAGED) != 0))
		return ERR_MISSING;
	return rc;
}

static struct ledger_writer *
meta_writer(struct ledger *l)
{
	struct ledger_writer *w;

	pthread_mutex_lock(&l->mu);
	w = ledger_meta(l);
	pthread_mutex_unlock(&l->mu);
	return w;
}

/* Appends to the meta packs; the reserve is for this. */
static int
append_meta(
    struct closing *c, struct record *r, const void *payload, struct place *out)
{
	struct ledger_writer *meta = meta_writer(c->l);
	int rc = pack_append_reserved(meta->w, r, payload, out);

	meta->touched = true;
	if (rc != 0)
		out->pack = 0;
	if (rc == ERR_SYS)
		meta->bad = true;
	return rc;
}

/*
 * Every writer that took part of a commit, be it bad by now: a lane's append
 * may have spoiled it since, and the next record went to another.
 */
static int
sync_touched(struct ledger *l)
{
	struct ledger_writer **touched;
	unsigned n = 0;
	int rc;

	pthread_mutex_lock(&l->mu);
	for (struct ledger_writer *w = l->writers; w != NULL; w = w->next)
		n += w->touched;
	touched = xcalloc(n, sizeof(struct ledger_writer *));
	n = 0;
	for (struct ledger_writer *w = l->writers; w != NULL; w = w->next)
		if (w->touched)
			touched[n++] = w;
	pthread_mutex_unlock(&l->mu);
	for (unsigned i = 0; i < n; i++)
		touched[i]->touched = false;
	rc = ledger_sync_writers(touched, n);
	free(touched);
	return rc;
}

static int
roots_check(struct closing *c, const struct manifest *m, struct err *e)
{
	for (unsigned i = 0; i < m->nvolumes; i++) {
		int rc;

		if (id_is_hole(&m->volume[i].root))
			continue;
		rc = root_present(c, &m->volume[i].root);
		if (rc == ERR_SYS)
			ledger_fatal("the index cannot be read");
		if (rc != 0)
			return err_set(e, rc,
			    "the root of volume %s is not in the repository",
			    m->volume[i].name);
	}
	return 0;
}

static int
manifest_append(struct closing *c, struct request *k)
{
	struct ledger *l = c->l;
	struct record r = { .kind = RECORD_MANIFEST };
	uint64_t now = (uint64_t)time(NULL);
	struct manifest *m = k->m;
	int rc;

	rc = roots_check(c, m, &k->why);
	if (rc != 0)
		return rc;
	random_bytes(m->id, sizeof(m->id));
	m->seq = ++l->sequence;
	if (!m->imported && m->time < now)
		m->time = now;
	manifest_print(m, &k->payload);
	memcpy(r.id.b, m->id, sizeof(m->id));
	r.raw_len = r.stored_len = (uint32_t)k->payload.len;
	fault_pass(FAULT_MANIFEST_APPEND);
	rc = append_meta(c, &r, k->payload.data, &k->place);
	if (rc == 0)
		return 0;
	return err_set(&k->why, rc,
	    rc == ERR_NOSPC
		? "the repository is full: free space on its volume"
		: "the manifest could not be written; see the daemon's log");
}

/* By an earlier request of this batch that was not refused: hidden only
 * (${held}), or let go. */
static bool
dropped_here(
    const struct closing *c, const uint8_t id[BACKUP_ID_LEN], bool held)
{
	for (const struct request *k = c->b->requests; k != NULL; k = k->next) {
		if (k->kind != REQUEST_COMMIT || k->why.code != 0)
			continue;
		for (unsigned i = 0; i < k->ndrops; i++)
			if (k->drops[i].m != NULL &&
			    k->drops[i].drop.held == held &&
			    memcmp(k->drops[i].drop.id, id, BACKUP_ID_LEN) == 0)
				return true;
	}
	return false;
}

/* A delete is decided here and nowhere else: the manifest stands (rule 4). */
static int
drop_check(struct closing *c, struct drop_work *d, struct err *e)
{
	struct id id = { { 0 } };
	int rc;

	memcpy(id.b, d->drop.id, sizeof(d->drop.id));
	rc = index_backup_get(c->l->index, &id, &d->backup, &d->data);
	if (rc == ERR_SYS)
		ledger_fatal("the index cannot be read");
	if (rc == 0 && dropped_here(c, d->drop.id, true))
		d->backup.hidden = true;
	if (rc != 0 || d->backup.hidden != d->drop.hidden ||
	    dropped_here(c, d->drop.id, false))
		return err_set(e, ERR_NOENT, "that backup is not there");
	d->m = xmalloc(sizeof(*d->m));
	if (manifest_parse(d->backup.manifest, d->backup.len, d->m, e) != 0)
		return ERR_CORRUPT;
	return 0;
}

/*
 * A tombstone names the packs that hold its manifest now, so that it can go
 * when they are gone (rule 15).
 */
static int
tombstone_append(struct closing *c, const uint8_t id[BACKUP_ID_LEN],
    uint32_t pack, struct place *out)
{
	struct record r = { .kind = RECORD_TOMBSTONE,
		.raw_len = RECORD_TOMBSTONE_LEN,
		.stored_len = RECORD_TOMBSTONE_LEN };
	uint8_t payload[RECORD_TOMBSTONE_LEN];
	struct pack_info info = { .mirror = 0 };

	packs_get(c->l->packs, pack, &info);
	put_le32(payload, pack);
	put_le32(payload + 4, info.mirror);
	memcpy(r.id.b, id, BACKUP_ID_LEN);
	fault_pass(FAULT_TOMBSTONE_APPEND);
	return append_meta(c, &r, payload, out);
}

static void
commit_one(struct closing *c, struct request *k)
{
	unsigned i;
	int rc;

	if (k->session != NULL) {
		pthread_mutex_lock(&c->l->mu);
		k->why = k->session->over;
		pthread_mutex_unlock(&c->l->mu);
		if (k->why.code != 0)
			return;
	}
	for (i = 0; i < k->ndrops; i++)
		if (drop_check(c, &k->drops[i], &k->why) != 0)
			return;
	if (k->m != NULL && manifest_append(c, k) != 0)
		return;
	for (i = 0; i < k->ndrops; i++) {
		struct drop_work *d = &k->drops[i];

		if (d->drop.hidden)
			continue; /* it has one */
		rc = tombstone_append(
		    c, d->drop.id, d->backup.place.pack, &d->tombstone);
		if (rc == 0)
			continue;
		err_set(&k->why, rc,
		    "the repository has no room for a tombstone: free some "
		    "space on its volume");
		/* What was appended must not be believed by a later start:
		 * tombstones of backups that stand on. */
		if (k->place.pack != 0 || i > 0)
			ledger_fatal("a commit could not be written whole");
		return;
	}
}

int
closing_commit(struct closing *c)
{
	bool any = false;
	int rc;

	for (struct request *k = c->b->requests; k != NULL; k = k->next) {
		if (k->kind != REQUEST_COMMIT)
			continue;
		commit_one(c, k);
		any = true;
	}
	if (!any)
		return 0;
	fault_pass(FAULT_COMMIT_SYNC);
	rc = sync_touched(c->l);
	fault_pass(FAULT_COMMIT_SYNCED);
	return rc;
}

/* Rule 10: a manifest that may be on disk though its commit failed would come
 * back at the next start; a durable tombstone keeps it away.  A tombstone that
 * may be on disk though its delete failed cannot be taken back at all. */
void
closing_bury(struct closing *c)
{
	for (struct request *k = c->b->requests; k != NULL; k = k->next) {
		struct place place;

		if (k->kind != REQUEST_COMMIT)
			continue;
		for (unsigned i = 0; i < k->ndrops; i++)
			if (k->drops[i].tombstone.pack != 0)
				ledger_fatal("a delete is half written");
		if (k->place.pack == 0)
			continue;
		if (tombstone_append(c, k->m->id, k->place.pack, &place) != 0)
			ledger_fatal("a failed commit could not be undone");
	}
	if (sync_touched(c->l) != 0)
		ledger_fatal("a failed commit could not be undone");
}

static void
add_roots(struct closing *c, const struct manifest *m)
{
	for (unsigned i = 0; i < m->nvolumes; i++)
		if (!id_is_hole(&m->volume[i].root))
			closing_change(c, &m->volume[i].root)->op.refs++;
}

static void
drop_roots(struct closing *c, const struct manifest *m)
{
	for (unsigned i = 0; i < m->nvolumes; i++)
		if (!id_is_hole(&m->volume[i].root))
			closing_unref(c, &m->volume[i].root);
}

static void
apply_drop(struct closing *c, struct drop_work *d)
{
	if (d->drop.held) {
		d->backup.hidden = true;
		index_batch_backup(c->ib, &d->backup);
		return;
	}
	drop_roots(c, d->m);
	index_batch_backup_remove(c->ib, &d->backup.id);
	pack_counts_add(&c->live, &d->backup.place, -1);
}

static void
apply_commit(struct closing *c, struct request *k)
{
	struct index_backup b = { .place = k->place,
		.manifest = k->payload.data,
		.len = k->payload.len };

	if (k->m != NULL) {
		memcpy(b.id.b, k->m->id, sizeof(k->m->id));
		/* New references first: an id that both hold never dies. */
		add_roots(c, k->m);
		index_batch_backup(c->ib, &b);
		pack_counts_add(&c->live, &k->place, 1);
	}
	for (unsigned i = 0; i < k->ndrops; i++)
		apply_drop(c, &k->drops[i]);
}

/* A copy may lie in a pack whose sync failed since it was made. */
static bool
copy_lost(struct closing *c, const struct place *to)
{
	struct pack_info info;

	if (packs_get(c->l->packs, to->pack, &info) != 0)
		return true;
	return info.state == PACK_POISONED &&
	    (uint64_t)to->off + RECORD_HEADER_LEN + to->stored_len >
	    info.durable;
}

static void
apply_moves(struct closing *c, struct request *k)
{
	for (unsigned i = 0; i < k->n; i++) {
		const struct ledger_move *m = &k->moves[i];
		struct index_backup b;
		struct index_entry cur;
		struct buf data = { 0 };
		struct change *ch;
		int rc;

		if (copy_lost(c, &m->to)) {
			k->nlost++;
			continue;
		}
		if (m->kind == RECORD_TOMBSTONE)
			continue; /* no entry names it */
		if (m->kind == RECORD_MANIFEST)
			rc = index_backup_get(c->l->index, &m->id, &b, &data);
		else
			rc = index_get(c->l->index, &m->id, &cur);
		if (rc == ERR_SYS)
			ledger_fatal("the index cannot be read");
		if (rc == 0 && m->kind == RECORD_MANIFEST)
			cur.place = b.place;
		ch = rc == 0 ? idmap_find(&c->changes, &m->id) : NULL;
		if (rc == 0 && m->kind == RECORD_MANIFEST &&
		    (dropped_here(c, m->id.b, false) ||
			dropped_here(c, m->id.b, true)))
			rc = ERR_NOENT;
		/* Gone, moved by somebody else, or healed in this batch. */
		if (rc != 0 || cur.place.pack != m->from.pack ||
		    cur.place.off != m->from.off ||
		    (ch != NULL && ch->op.place.pack != 0))
			goto next;
		if (m->kind == RECORD_MANIFEST) {
			b.place = m->to;
			index_batch_backup(c->ib, &b);
		} else {
			ch = closing_change(c, &m->id);
			ch->op.place = m->to;
			ch->op.kind = cur.kind;
			ch->op.level = cur.level;
			/* What was copied had been read, and well. */
			if ((cur.flags & INDEX_DAMAGED) != 0 &&
			    (cur.flags & INDEX_UNCOUNTED) == 0) {
				ch->op.clear = INDEX_DAMAGED;
				closing_flag(c, &m->id, false);
			}
		}
		pack_counts_add(&c->live, &m->from, -1);
		pack_counts_add(&c->live, &m->to, 1);
	next:
		buf_fini(&data);
	}
}

/* What reads found (rule 21). */
static void
apply_notes(struct closing *c)
{
	const struct read_note *n;
	const struct id *id;
	size_t at = 0;

	while ((n = idmap_next(&c->b->notes, &at, &id)) != NULL) {
		struct index_entry cur;
		struct change *ch;
		int rc = index_get(c->l->index, id, &cur);

		if (rc == ERR_SYS)
			ledger_fatal("the index cannot be read");
		if (rc != 0 || cur.place.pack != n->place.pack ||
		    cur.place.off != n->place.off ||
		    ((cur.flags & INDEX_DAMAGED) != 0) == !n->sound)
			continue;
		if (n->sound && (cur.flags & INDEX_UNCOUNTED) != 0)
			continue; /* only a put counts its children */
		ch = closing_change(c, id);
		if (ch->op.place.pack != 0)
			continue; /* it lies elsewhere from now on */
		if (n->sound)
			ch->op.clear |= INDEX_DAMAGED;
		else
			ch->op.flags |= INDEX_DAMAGED;
		closing_flag(c, id, !n->sound);
	}
}

/* May it go?  Rule 4, over index and batch. */
static bool
is_due(struct closing *c, const struct ledger_dying *d, uint64_t horizon,
    struct index_entry *cur, bool *stale)
{
	const struct change *ch = idmap_find(&c->changes, &d->id);
	int rc;

	/* Stamped by this batch: it has a newer key. */
	*stale = ch != NULL && ch->op.stamp != 0;
	if (*stale)
		return false;
	rc = index_get(c->l->index, &d->id, cur);
	if (rc == ERR_SYS)
		ledger_fatal("the index cannot be read");
	*stale = rc != 0 || cur->stamp != d->stamp || cur->refs != 0 ||
	    (ch != NULL && ch->op.refs != 0);
	if (*stale || ch != NULL || cur->stamp >= horizon)
		return false;
	/* A node whose children cannot be told stays until it is healed. */
	return cur->kind == RECORD_CHUNK || d->nchildren > 0 ||
	    (cur->flags & INDEX_UNCOUNTED) != 0;
}

static void
remove_one(struct closing *c, const struct ledger_dying *d, uint64_t horizon,
    struct ledger_removed *out)
{
	struct index_entry cur;
	bool stale;

	if (is_due(c, d, horizon, &cur, &stale)) {
		index_batch_remove(c->ib, &d->id);
		if ((cur.flags & INDEX_DAMAGED) != 0)
			closing_flag(c, &d->id, false);
		pack_counts_add(&c->live, &cur.place, -1);
		if (cur.kind == RECORD_CHUNK)
			c->unique_raw -= cur.place.raw_len;
		for (unsigned i = 0; i < d->nchildren; i++)
			closing_unref(c, &d->children[i]);
		out->entries++;
		out->bytes += RECORD_HEADER_LEN + cur.place.stored_len;
	} else if (!stale) {
		return;
	}
	index_batch_undying(c->ib, d->stamp, &d->id);
	out->keys++;
}

static void
apply_remove(struct closing *c, struct request *k)
{
	uint64_t horizon = ledger_horizon(c->l);

	/* As the list was made: a session that ended since may have puts in
	 * the next batch that count what is on it. */
	if (horizon > k->below)
		horizon = k->below;

	for (unsigned i = 0; i < k->n; i++)
		remove_one(c, &k->dying[i], horizon, k->removed);
}

static bool
pack_dead(struct closing *c, uint32_t number, struct pack_info *info)
{
	return packs_get(c->l->packs, number, info) == 0 &&
	    (info->state == PACK_SEALED || info->state == PACK_POISONED) &&
	    info->live + *pack_counts_at(&c->live, number) == 0;
}

static void
apply_forget(struct closing *c, struct request *k)
{
	for (unsigned i = 0; i < k->n; i++) {
		struct pack_info info, twin;

		/* Entries name either of two twins. */
		if (!pack_dead(c, k->packs[i], &info) ||
		    (info.mirror != 0 &&
			packs_get(c->l->packs, info.mirror, &twin) == 0 &&
			twin.state != PACK_DEAD &&
			!pack_dead(c, info.mirror, &twin))) {
			k->packs[i] = 0;
			continue;
		}
		info.state = PACK_DEAD;
		packs_update(c->l->packs, &info);
		index_batch_pack(c->ib, &info);
	}
}

void
closing_apply(struct closing *c)
{
	static const enum request_kind order[] = { REQUEST_COMMIT, REQUEST_MOVE,
		REQUEST_REMOVE, REQUEST_FORGET, REQUEST_GONE };

	/* Removals see all references of the batch, and packs all that died. */
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct request *k = c->b->requests;

		/* Moves know better where a record lies. */
		if (order[i] == REQUEST_REMOVE)
			apply_notes(c);
		for (; k != NULL; k = k->next) {
			if (k->kind != order[i] || k->why.code != 0)
				continue;
			switch (k->kind) {
			case REQUEST_COMMIT: apply_commit(c, k); break;
			case REQUEST_MOVE: apply_moves(c, k); break;
			case REQUEST_REMOVE: apply_remove(c, k); break;
			case REQUEST_FORGET: apply_forget(c, k); break;
			case REQUEST_GONE:
				for (unsigned p = 0; p < k->n; p++)
					index_batch_pack_remove(
					    c->ib, k->packs[p]);
				break;
			case REQUEST_RETIRE:
			case REQUEST_SETTLE: break;
			}
		}
	}
}
