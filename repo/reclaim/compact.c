/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pack goes in steps, each of them durable before the next (rule 12): its
 * live records are copied and the copies synced; the index names the copies;
 * the index says that the pack is dead; it is unlinked; the index forgets it.
 * Whatever ends between two steps, the next start or pass goes on from there.
 *
 * Records keep the order in which their backups wrote them.
 */
#include "repo/reclaim/compact.h"

#include <stdlib.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"
#include "proto/base/log.h"
#include "repo/store/store_impl.h"

enum {
	MOVE_LOT = 1024,
	MOVE_BYTES = 32 << 20,
	RETIRE_MIN = 1 << 20, /* an open pack is not worth less */
	SHORT_PART = 10,      /* of the volume that shall be free */
	SHORT_PERCENT = 95    /* that may live in what is rewritten then */
};

static const uint32_t MANY = UINT32_MAX; /* no pack has that number */

struct compacting {
	struct store *s;
	const struct compact_options *o;
	struct compact_result *out;
	const struct pack_info *pack; /* being rewritten */
	struct ledger_move *moves;
	unsigned n;
	uint64_t bytes; /* in the lot */
	uint64_t tombs; /* bytes of tombstones that are still needed */
	bool carry;     /* copy those */
	bool lost;      /* one that may be needed cannot be read */
	/* Where manifests lie, of whatever backup: see tombstone_needed. */
	struct idmap manifests; /* uint32_t: a pack, or MANY */
	bool listed;            /* those of all packs are in it */
	bool stopped;
	struct buf payload;
};

struct list {
	struct pack_info *pack;
	size_t n;
	bool (*wanted)(const struct pack_info *info, unsigned percent);
	unsigned percent;
};

static uint64_t
size_of(const struct pack_info *info)
{
	return info->known;
}

static bool
is_dead(const struct pack_info *info, unsigned percent)
{
	(void)percent;
	/* Of a meta pair, entries may name either; both are looked at when
	 * the first is forgotten. */
	return info->live == 0 &&
	    (info->state == PACK_SEALED || info->state == PACK_POISONED);
}

static bool
is_sparse(const struct pack_info *info, unsigned percent)
{
	return info->live > 0 && info->state == PACK_SEALED &&
	    (uint64_t)info->live * 100 < size_of(info) * percent;
}

static bool
is_open_and_sparse(const struct pack_info *info, unsigned percent)
{
	return info->state == PACK_OPEN && size_of(info) >= RETIRE_MIN &&
	    (uint64_t)info->live * 100 < size_of(info) * percent;
}

static void
see_pack(void *arg, const struct pack_info *info)
{
	struct list *l = arg;

	if (!l->wanted(info, l->percent))
		return;
	if ((l->n & (l->n - 1)) == 0)
		l->pack = xrealloc(
		    l->pack, (l->n != 0 ? 2 * l->n : 1) * sizeof(*l->pack));
	l->pack[l->n++] = *info;
}

static struct list
list_packs(struct store *s, unsigned percent,
    bool (*wanted)(const struct pack_info *info, unsigned percent))
{
	struct list l = { .wanted = wanted, .percent = percent };

	packs_each(s->packs, see_pack, &l);
	return l;
}

static int
move_lot(struct compacting *c)
{
	int rc = 0;

	fault_pass(FAULT_MOVE_ENTRIES);
	if (c->n > 0)
		rc = ledger_move(c->s->ledger, c->moves, c->n);
	c->out->copied += c->bytes;
	if (!c->o->pace(c->o->arg, c->bytes))
		c->stopped = true;
	c->n = 0;
	c->bytes = 0;
	return rc;
}

/* Of a manifest's copy in ${pack}, the first of two twins. */
static void
note_manifest(struct compacting *c, const struct id *id, uint32_t pack)
{
	bool fresh;
	uint32_t *at = idmap_add(&c->manifests, id, &fresh);

	*at = fresh || *at == pack ? pack : MANY;
}

/* Copies one record, and remembers to move its entry. */
static int
copy(struct compacting *c, const struct record *r, const struct place *from)
{
	struct record again = *r;
	struct place to;
	int rc;

	rc = pack_read(c->s->packs, from, r->kind, &r->id, &c->payload);
	if (rc == ERR_CORRUPT || rc == ERR_NOENT) {
		/* Damage: the pack stays for as long as it is named. */
		log_error("pack %08x at %u: damaged, not moved", from->pack,
		    from->off);
		if (r->kind == RECORD_CHUNK || r->kind == RECORD_NODE)
			ledger_damaged(c->s->ledger, &r->id, from);
		c->lost = c->lost || r->kind == RECORD_TOMBSTONE;
		return 0;
	}
	if (rc != 0)
		return rc;
	if (r->kind == RECORD_MANIFEST)
		fault_pass(FAULT_MOVE_MANIFEST);
	fault_pass(FAULT_MOVE_COPY);
	rc = ledger_copy(
	    c->s->ledger, c->pack->domain, &again, c->payload.data, &to);
	if (rc != 0)
		return rc;
	fault_pass(FAULT_MOVE_COPIED);
	if (r->kind == RECORD_MANIFEST)
		note_manifest(c, &r->id, to.pack);
	c->bytes += RECORD_HEADER_LEN + r->stored_len;
	c->moves[c->n++] = (struct ledger_move){
		.id = r->id, .kind = r->kind, .from = *from, .to = to
	};
	if (c->n == MOVE_LOT || c->bytes >= MOVE_BYTES)
		return move_lot(c);
	return 0;
}

static int
see_manifest(void *arg, const struct record *r, const struct place *at,
    const uint8_t *payload, bool sound)
{
	struct compacting *c = arg;
	struct pack_info info;
	uint32_t pack = at->pack;

	(void)payload;
	(void)sound;
	if (r->kind != RECORD_MANIFEST)
		return 0;
	if (packs_get(c->s->packs, pack, &info) == 0 && info.mirror != 0 &&
	    info.mirror < pack)
		pack = info.mirror;
	note_manifest(c, &r->id, pack);
	return 0;
}

static bool
is_meta(const struct pack_info *info, unsigned percent)
{
	(void)percent;
	return info->type == PACK_META && info->state != PACK_DEAD;
}

/* Reads the footers of all meta packs, of both twins: one may be alone. */
static int
list_manifests(struct compacting *c)
{
	struct list l = list_packs(c->s, 0, is_meta);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < l.n; i++) {
		struct pack_scan out;

		rc = pack_scan(
		    c->s->packs, l.pack[i].number, 0, 0, see_manifest, c, &out);
		if (rc == ERR_NOENT)
			rc = 0; /* it went meanwhile */
	}
	free(l.pack);
	c->listed = rc == 0;
	return rc;
}

/* A tombstone's payload names a pack that is there, and is not going. */
static bool
names_a_pack(struct compacting *c)
{
	struct pack_info info;

	for (unsigned i = 0; i < 2; i++) {
		uint32_t pack = get_le32(c->payload.data + 4 * i);

		if (pack != 0 && pack != c->pack->number &&
		    pack != c->pack->mirror &&
		    packs_get(c->s->packs, pack, &info) == 0)
			return true;
	}
	return false;
}

/*
 * A tombstone keeps a manifest away that some pack may still hold (rule 15).
 * Those that it names are a quick answer; but copies lie elsewhere too, if the
 * manifest was moved, or was about to be moved when it was deleted or the
 * daemon ended: so it goes only when no pack but the one that is going has it.
 */
static int
tombstone_needed(struct compacting *c, const struct record *r,
    const struct place *at, bool *needed)
{
	const uint32_t *found;
	bool readable;
	int rc;

	*needed = true;
	rc = pack_read(c->s->packs, at, r->kind, &r->id, &c->payload);
	if (rc == ERR_SYS)
		return rc;
	readable = rc == 0 && c->payload.len == RECORD_TOMBSTONE_LEN;
	if (readable && names_a_pack(c))
		return 0;
	rc = c->listed ? 0 : list_manifests(c);
	if (rc == ERR_SYS)
		return rc;
	/* If not all could be listed, what cannot be read may hold it. */
	if (rc == 0) {
		found = c->manifests.n > 0 ? idmap_find(&c->manifests, &r->id)
					   : NULL;
		*needed = found != NULL && *found != c->pack->number &&
		    *found != c->pack->mirror;
	}
	if (*needed && !readable)
		c->lost = true;
	return 0;
}

static bool
names(const struct place *p, const struct place *at)
{
	return p->pack == at->pack && p->off == at->off;
}

static int
see_record(void *arg, const struct record *r, const struct place *at,
    const uint8_t *payload, bool sound)
{
	struct compacting *c = arg;
	struct index_entry x;
	struct index_backup b;
	bool needed;
	int rc;

	(void)payload;
	(void)sound;
	if (c->stopped)
		return ERR_CLOSED;
	switch (r->kind) {
	case RECORD_TOMBSTONE:
		rc = tombstone_needed(c, r, at, &needed);
		if (rc != 0 || !needed)
			return rc;
		c->tombs += RECORD_HEADER_LEN + r->stored_len;
		return c->carry ? copy(c, r, at) : 0;
	case RECORD_MANIFEST:
		rc = index_backup_get(c->s->index, &r->id, &b, &c->payload);
		if (rc == 0 && names(&b.place, at))
			return copy(c, r, at);
		break;
	default:
		rc = index_get(c->s->index, &r->id, &x);
		if (rc == 0 && names(&x.place, at) &&
		    (x.flags & INDEX_DAMAGED) == 0)
			return copy(c, r, at);
		break;
	}
	return rc == ERR_SYS ? rc : 0;
}

static int
scan(struct compacting *c, const struct pack_info *pack)
{
	struct pack_scan out;
	int rc;

	c->pack = pack;
	c->tombs = 0;
	rc = pack_scan(c->s->packs, pack->number, 0, 0, see_record, c, &out);
	if (rc == ERR_CORRUPT || rc == ERR_NOENT) {
		log_error(
		    "pack %08x: cannot be read, left alone", pack->number);
		return 0;
	}
	return rc;
}

/* Of two twins the one that can be read; else some are lost. */
static int
scan_tombstones(struct compacting *c, const struct pack_info *pack)
{
	const uint32_t twin[2] = { pack->number, pack->mirror };
	struct pack_scan out = { .gaps = 0 };
	int rc = ERR_CORRUPT;

	c->pack = pack;
	for (unsigned i = 0; i < 2 && rc == ERR_CORRUPT; i++) {
		if (twin[i] == 0)
			continue;
		c->tombs = 0;
		rc = pack_scan(c->s->packs, twin[i], 0, 0, see_record, c, &out);
		if (rc == ERR_NOENT || (rc == 0 && out.gaps > 0))
			rc = ERR_CORRUPT;
	}
	if (rc == ERR_CORRUPT) {
		c->lost = true;
		rc = 0;
	}
	return rc;
}

/*
 * Of a dead meta pack the tombstones that are needed move on.  *gain: it may go
 * then, and is worth it.  One of which some cannot be read stays: an error may
 * pass, and a deleted backup that came back would ask for chunks that are gone.
 */
static int
carry_tombstones(struct compacting *c, const struct pack_info *pack, bool *gain)
{
	int rc;

	*gain = true;
	if (pack->type != PACK_META)
		return 0;
	c->carry = c->lost = false;
	rc = scan_tombstones(c, pack);
	*gain = c->tombs * 2 < size_of(pack);
	if (rc == 0 && !c->lost && c->tombs > 0 && *gain) {
		c->carry = true;
		rc = scan_tombstones(c, pack);
		fault_pass(FAULT_TOMBSTONE_CARRY);
		if (rc == 0)
			rc = move_lot(c);
	}
	if (rc == 0 && c->lost) {
		*gain = false;
		log_error("pack %08x: what it says was deleted cannot be read: "
			  "it stays until it can",
		    pack->number);
	}
	return rc;
}

static int
remove_dead(struct compacting *c, const struct pack_info *pack)
{
	uint32_t twin[2] = { pack->number, pack->mirror };
	unsigned n = pack->mirror != 0 ? 2 : 1;
	struct pack_info info;
	bool gain;
	int rc;

	/* Its twin was looked at first and took it along, or still lives:
	 * entries name either of two. */
	if (packs_get(c->s->packs, pack->number, &info) != 0 ||
	    (pack->mirror != 0 &&
		packs_get(c->s->packs, pack->mirror, &info) == 0 &&
		!is_dead(&info, 0)))
		return 0;
	rc = carry_tombstones(c, pack, &gain);
	if (rc != 0 || !gain)
		return rc;
	fault_pass(FAULT_PACK_FORGET);
	rc = ledger_forget(c->s->ledger, twin, n);
	fault_pass(FAULT_PACK_FORGOTTEN);
	if (rc != 0 || twin[0] == 0 || twin[n - 1] == 0)
		return rc;
	for (unsigned i = 0; i < n; i++) {
		rc = packs_remove(c->s->packs, twin[i]);
		if (rc != 0 && rc != ERR_NOENT)
			return rc;
		c->out->packs++;
		c->out->freed += size_of(pack);
	}
	fault_pass(FAULT_PACK_GONE);
	return ledger_gone(c->s->ledger, twin, n);
}

static int
remove_all_dead(struct compacting *c)
{
	struct list l = list_packs(c->s, 0, is_dead);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < l.n && !c->stopped; i++)
		rc = remove_dead(c, &l.pack[i]);
	free(l.pack);
	return rc;
}

static int
emptiest_first(const void *a, const void *b)
{
	const struct pack_info *x = a, *y = b;
	uint64_t lx = (uint64_t)x->live * size_of(y);
	uint64_t ly = (uint64_t)y->live * size_of(x);

	return lx < ly ? -1 : lx > ly;
}

/* Where room is short, what is dead in packs that mostly live is needed too
 * (rule 20). */
static unsigned
share_now(struct store *s, unsigned percent)
{
	uint64_t avail, total;

	if (volume_space(s->volume, &avail, &total) != 0 ||
	    avail >= total / SHORT_PART || percent >= SHORT_PERCENT)
		return percent;
	return SHORT_PERCENT;
}

static int
rewrite_sparse(struct compacting *c, unsigned percent)
{
	struct list l = list_packs(c->s, percent, is_sparse);
	int rc = 0;

	if (l.n > 0)
		qsort(l.pack, l.n, sizeof(*l.pack), emptiest_first);
	for (size_t i = 0; rc == 0 && i < l.n && !c->stopped; i++) {
		c->carry = false; /* that is done when it is dead */
		rc = scan(c, &l.pack[i]);
		if (rc == 0)
			rc = move_lot(c);
		if (rc == 0)
			rc = remove_all_dead(c);
	}
	free(l.pack);
	return rc;
}

/* Open packs are rewritten too, once they are sealed. */
static int
retire_sparse(struct store *s, unsigned percent)
{
	struct list l = list_packs(s, percent, is_open_and_sparse);
	uint32_t *packs = xmalloc(l.n * sizeof(*packs));
	int rc = 0;

	for (size_t i = 0; i < l.n; i++)
		packs[i] = l.pack[i].number;
	if (l.n > 0)
		rc = ledger_retire(s->ledger, packs, (unsigned)l.n);
	free(packs);
	free(l.pack);
	return rc;
}

int
compact(struct store *s, const struct compact_options *o,
    struct compact_result *out)
{
	struct compacting c = { .s = s, .o = o, .out = out };
	unsigned percent = share_now(s, o->live_percent);
	int rc;

	c.moves = xmalloc(MOVE_LOT * sizeof(*c.moves));
	idmap_init(&c.manifests, sizeof(uint32_t));
	rc = retire_sparse(s, percent);
	if (rc == 0)
		rc = remove_all_dead(&c);
	if (rc == 0)
		rc = rewrite_sparse(&c, percent);
	/* Copies that a failed sync took: what they are of stays for the next
	 * pass. */
	if ((rc == ERR_CLOSED && c.stopped) || rc == ERR_MISSING)
		rc = 0;
	idmap_fini(&c.manifests);
	buf_fini(&c.payload);
	free(c.moves);
	return rc;
}

static void
add_dead(void *arg, const struct pack_info *info)
{
	uint64_t *dead = arg, live = info->live > 0 ? (uint64_t)info->live : 0;

	/* Entries name the first of two twins, which are equal. */
	if (info->type == PACK_META && info->mirror < info->number)
		return;
	if (size_of(info) > live)
		*dead +=
		    (size_of(info) - live) * (info->type == PACK_META ? 2 : 1);
}

uint64_t
compact_dead(struct store *s)
{
	uint64_t dead = 0;

	packs_each(s->packs, add_dead, &dead);
	return dead;
}
