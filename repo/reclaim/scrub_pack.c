/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only what an entry names is of interest: dead bytes may rot.  A pack that
 * cannot tell its records is read by the entries that name it instead.
 */
#include "repo/reclaim/scrub_pack.h"

#include <stdlib.h>

#include "proto/base/log.h"
#include "proto/codec.h"
#include "repo/store/store_impl.h"

/* A visit's way to end well; no code of err.h. */
enum { ENOUGH = 1000, MOVE_LOT = 256 };

struct scrubbing {
	struct store *s;
	const struct pack_info *pack;
	const struct scrub_pack_options *o;
	struct scrub_pack_result *out;
	struct hasher *hasher;
	struct codec *codec;
	uint8_t *raw;
	struct buf payload, twin;
	struct ledger_move *moves; /* of what was copied */
	unsigned nmoves;
};

static int
pace(struct scrubbing *c, uint64_t read)
{
	return c->o->pace(c->o->arg, read) ? 0 : ERR_CLOSED;
}

static bool
names(const struct place *a, const struct place *b)
{
	return a->pack == b->pack && a->off == b->off;
}

static void
say(struct scrubbing *c, const struct place *p, const char *what)
{
	c->out->damaged++;
	log_error("scrub: pack %08x at %u: %s", p->pack, p->off, what);
}

/* A bad record counts only if it is still the one that is named. */
static int
flag(struct scrubbing *c, const struct id *id, const struct index_entry *x)
{
	struct index_entry now;
	int rc;

	rc = index_get(c->s->index, id, &now);
	if (rc != 0 || !names(&now.place, &x->place))
		return rc == ERR_SYS ? rc : 0;
	say(c, &x->place,
	    x->kind == RECORD_NODE ? "a node is damaged"
				   : "a chunk is damaged");
	ledger_damaged(c->s->ledger, id, &x->place);
	return 0;
}

/* The stored bytes are the chunk whose id that is. */
static bool
is_chunk(struct scrubbing *c, const struct id *id, const struct place *p,
    const uint8_t *data)
{
	struct id got;

	if (p->raw_len > c->s->format.chunk_size ||
	    codec_unpack(c->codec, p->codec, data, p->stored_len, c->raw,
		p->raw_len) != 0)
		return false;
	if (!c->o->hash)
		return true;
	hasher_chunk(c->hasher, c->raw, p->raw_len, &got);
	return id_equal(&got, id);
}

/* ${data}: its payload where that is known to be sound, or NULL. */
static int
check_chunk(struct scrubbing *c, const struct id *id,
    const struct index_entry *x, const uint8_t *data)
{
	int rc = 0;

	if (data == NULL) {
		rc = pack_read(
		    c->s->packs, &x->place, RECORD_CHUNK, id, &c->payload);
		data = c->payload.data;
	}
	if (rc == ERR_SYS)
		return rc;
	if (rc != 0 || !is_chunk(c, id, &x->place, data))
		return flag(c, id, x);
	if ((x->flags & INDEX_DAMAGED) != 0)
		ledger_sound(c->s->ledger, id, &x->place);
	return 0;
}

/* Both twins: how many are good; a good one's payload is in c->payload. */
static int
read_twins(struct scrubbing *c, uint8_t kind, const struct id *id,
    const struct place *p, unsigned *ngood)
{
	struct pack_info info;
	uint32_t pack[2] = { p->pack, 0 };
	int rc;

	*ngood = 0;
	if (packs_get(c->s->packs, p->pack, &info) == 0)
		pack[1] = info.mirror;
	for (unsigned i = 0; i < 2; i++) {
		struct buf *b = *ngood == 0 ? &c->payload : &c->twin;

		rc = pack[i] != 0
		    ? pack_read_one(c->s->packs, pack[i], p, kind, id, b)
		    : ERR_NOENT;
		if (rc == ERR_SYS)
			return rc;
		*ngood += rc == 0;
	}
	return pace(c, 2 * (RECORD_HEADER_LEN + (uint64_t)p->stored_len));
}

static int
move_lot(struct scrubbing *c)
{
	int rc = 0;

	if (c->nmoves > 0)
		rc = ledger_move(c->s->ledger, c->moves, c->nmoves);
	if (rc == 0)
		c->out->healed += c->nmoves;
	c->nmoves = 0;
	return rc;
}

/* A new pair of twins of what is in ${payload}. */
static int
copy_anew(struct scrubbing *c, uint8_t kind, const struct id *id,
    const struct place *from, const void *payload)
{
	struct record r = { .kind = kind,
		.codec = from->codec,
		.raw_len = from->raw_len,
		.stored_len = from->stored_len,
		.id = *id };
	struct ledger_move *m = &c->moves[c->nmoves];
	int rc;

	*m = (struct ledger_move){ .id = *id, .kind = kind, .from = *from };
	rc = ledger_copy(c->s->ledger, 0, &r, payload, &m->to);
	if (rc == 0 && ++c->nmoves == MOVE_LOT)
		rc = move_lot(c);
	return rc;
}

static int
check_node(
    struct scrubbing *c, const struct id *id, const struct index_entry *x)
{
	unsigned ngood;
	int rc;

	rc = read_twins(c, RECORD_NODE, id, &x->place, &ngood);
	if (rc != 0)
		return rc;
	if (ngood == 0)
		return flag(c, id, x);
	if (ngood == 1) {
		say(c, &x->place, "one of two copies of a node is damaged");
		return copy_anew(
		    c, RECORD_NODE, id, &x->place, c->payload.data);
	}
	if ((x->flags & INDEX_DAMAGED) != 0)
		ledger_sound(c->s->ledger, id, &x->place);
	return 0;
}

/* The index has a copy of every manifest. */
static int
check_manifest(struct scrubbing *c, const struct index_backup *b)
{
	unsigned ngood;
	int rc;

	rc = read_twins(c, RECORD_MANIFEST, &b->id, &b->place, &ngood);
	if (rc != 0 || ngood == 2)
		return rc;
	say(c, &b->place,
	    ngood == 1 ? "one of two copies of a manifest is damaged"
		       : "a manifest is damaged; the index has it still");
	return copy_anew(c, RECORD_MANIFEST, &b->id, &b->place, b->manifest);
}

/* It is what a rebuild would need; compaction carries the good copy on. */
static int
check_tombstone(struct scrubbing *c, const struct id *id, const struct place *p)
{
	unsigned ngood;
	int rc;

	rc = read_twins(c, RECORD_TOMBSTONE, id, p, &ngood);
	if (rc == 0 && ngood == 0)
		say(c, p, "a tombstone is damaged: run `backstay fsck`");
	return rc;
}

static int
see_record(void *arg, const struct record *r, const struct place *at,
    const uint8_t *payload, bool sound)
{
	struct scrubbing *c = arg;
	struct index_backup b;
	struct index_entry x;
	struct buf data = { 0 };
	struct place here = *at;
	int rc;

	/* What lies behind is being written just now. */
	if (c->pack->state == PACK_OPEN && at->off >= c->pack->known)
		return ENOUGH;
	switch (r->kind) {
	case RECORD_TOMBSTONE: return check_tombstone(c, &r->id, at);
	case RECORD_MANIFEST:
		rc = index_backup_get(c->s->index, &r->id, &b, &data);
		if (rc == 0 && b.place.pack == c->pack->mirror)
			here.pack = c->pack->mirror;
		if (rc == 0 && names(&b.place, &here))
			rc = check_manifest(c, &b);
		buf_fini(&data);
		return rc == ERR_NOENT ? 0 : rc;
	default: break;
	}
	rc = index_get(c->s->index, &r->id, &x);
	if (rc == 0 && c->pack->mirror != 0 && x.place.pack == c->pack->mirror)
		here.pack = c->pack->mirror;
	if (rc == 0 && names(&x.place, &here))
		rc = r->kind == RECORD_NODE
		    ? check_node(c, &r->id, &x)
		    : check_chunk(c, &r->id, &x, sound ? payload : NULL);
	if (rc == ERR_NOENT)
		rc = 0;
	if (rc == 0 && r->kind == RECORD_CHUNK)
		rc = pace(c, RECORD_HEADER_LEN + (uint64_t)r->stored_len);
	return rc;
}

static bool
is_here(const struct scrubbing *c, const struct place *p)
{
	return p->pack == c->pack->number ||
	    (c->pack->mirror != 0 && p->pack == c->pack->mirror);
}

static int
see_entry(void *arg, const struct id *id, const struct index_entry *x)
{
	struct scrubbing *c = arg;
	int rc;

	if (!is_here(c, &x->place) || !index_present(x))
		return 0;
	if (x->kind == RECORD_NODE)
		return check_node(c, id, x);
	rc = check_chunk(c, id, x, NULL);
	return rc != 0
	    ? rc
	    : pace(c, RECORD_HEADER_LEN + (uint64_t)x->place.stored_len);
}

static int
see_backup(void *arg, const struct index_backup *b)
{
	struct scrubbing *c = arg;

	return is_here(c, &b->place) ? check_manifest(c, b) : 0;
}

static int
scan(struct scrubbing *c)
{
	/* Of twins each record is read by itself, from both. */
	int flags = PACK_SCAN_FORGET |
	    (c->pack->type == PACK_DATA ? PACK_SCAN_PAYLOAD : 0);
	struct pack_scan found;
	struct pack_info now;
	int rc;

	rc = pack_scan(
	    c->s->packs, c->pack->number, 0, flags, see_record, c, &found);
	if (rc == ENOUGH)
		return 0;
	if (rc != 0 && rc != ERR_CORRUPT && rc != ERR_NOENT && rc != ERR_UNSUP)
		return rc;
	if (rc == 0 && found.gaps == 0 &&
	    (found.sealed || c->pack->state != PACK_SEALED))
		return 0;
	if (packs_get(c->s->packs, c->pack->number, &now) != 0)
		return 0; /* reclaimed meanwhile */
	log_error("scrub: pack %08x %s", c->pack->number,
	    rc != 0 ? "cannot be read through"
		    : "has lost its list of records or a part of them");
	rc = index_each(c->s->index, see_entry, c);
	if (rc == 0 && c->pack->type == PACK_META)
		rc = index_backups_each(c->s->index, see_backup, c);
	return rc;
}

int
scrub_pack(struct store *s, const struct pack_info *info,
    const struct scrub_pack_options *o, struct scrub_pack_result *out)
{
	struct scrubbing c = { .s = s, .pack = info, .o = o, .out = out };
	int rc;

	c.hasher = hasher_new(o->key);
	c.codec = codec_new(0);
	c.raw = xmalloc(s->format.chunk_size);
	c.moves = xmalloc(MOVE_LOT * sizeof(*c.moves));
	rc = scan(&c);
	if (rc == 0)
		rc = move_lot(&c);
	free(c.moves);
	free(c.raw);
	codec_free(c.codec);
	hasher_free(c.hasher);
	buf_fini(&c.twin);
	buf_fini(&c.payload);
	return rc;
}
