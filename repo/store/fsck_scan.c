/* SPDX-License-Identifier: Apache-2.0 */
/* Reading every pack into a scratch index. */
#include "repo/store/fsck_impl.h"

#include <stdlib.h>
#include <string.h>

/* The scratch index is written in lots; reads look here first. */
int
fsck_flush(struct fsck *f)
{
	struct index_batch *b = index_batch_new(f->scratch);
	const struct id *id;
	struct index_entry *op;
	size_t at = 0;
	int rc;

	while ((op = idmap_next(&f->lot, &at, &id)) != NULL)
		index_batch_merge(b, id, op);
	rc = index_batch_write(b, false);
	index_batch_free(b);
	idmap_fini(&f->lot);
	if (rc != 0)
		return err_set(
		    f->e, rc, "%s cannot be written", f->scratch_path);
	return 0;
}

int
fsck_merge(struct fsck *f, const struct id *id, const struct index_entry *op)
{
	bool fresh;

	index_merge(idmap_add(&f->lot, id, &fresh), op);
	return f->lot.n >= FSCK_LOT ? fsck_flush(f) : 0;
}

int
fsck_get(struct fsck *f, const struct id *id, struct index_entry *out)
{
	const struct index_entry *op =
	    f->lot.n > 0 ? idmap_find(&f->lot, id) : NULL;
	int rc;

	*out = (struct index_entry){ .refs = 0 };
	rc = index_get(f->scratch, id, out);
	if (rc == ERR_SYS)
		return err_set(f->e, rc, "%s cannot be read", f->scratch_path);
	if (op != NULL)
		index_merge(out, op);
	return out->place.pack != 0 ? 0 : ERR_NOENT;
}

/* Does the index name this record?  Then it has been met.  *dead: it names
 * another of that id. */
static int
meet(struct fsck *f, const struct record *r, const struct place *p, bool sound,
    bool *dead)
{
	struct index_entry x;
	char name[17];
	int rc = index_get(f->index, &r->id, &x);

	*dead = false;
	if (rc == ERR_NOENT)
		return 0;
	if (rc != 0)
		return err_set(f->e, rc, "the index cannot be read");
	*dead = x.place.pack != p->pack || x.place.off != p->off;
	if (*dead)
		return 0;
	if (x.kind != r->kind || x.place.stored_len != r->stored_len ||
	    x.place.raw_len != r->raw_len)
		return 0; /* no_record will count it */
	f->seen++;
	if (!sound) {
		f->out->damaged++;
		fsck_tell(f, "record %s in pack %08x at %u is damaged",
		    fsck_short_id(&r->id, name), p->pack, p->off);
	}
	return 0;
}

/* Of a condemned pack nobody ever relied on what is bad. */
static bool
is_condemned(struct fsck *f, uint32_t pack)
{
	struct pack_info info;

	return packs_get(f->packs, pack, &info) == 0 &&
	    info.state == PACK_POISONED;
}

static int
see_record(void *arg, const struct record *r, const struct place *p,
    const uint8_t *payload, bool sound)
{
	struct fsck *f = arg;
	struct index_entry op = { .place = *p, .kind = r->kind };
	struct kept *k;
	bool fresh, dead;
	int rc;

	f->out->records++;
	switch (r->kind) {
	case RECORD_CHUNK:
	case RECORD_NODE:
		if (f->index != NULL) {
			rc = meet(f, r, p, sound, &dead);
			if (rc != 0 || dead)
				return rc;
		}
		if (!sound) {
			f->out->damaged +=
			    f->index == NULL && !is_condemned(f, p->pack);
			return 0;
		}
		if (r->kind == RECORD_CHUNK &&
		    r->raw_len != f->format.chunk_size)
			op.flags = INDEX_TAIL;
		return fsck_merge(f, &r->id, &op);
	case RECORD_MANIFEST:
		if (f->index != NULL)
			return 0; /* the index says which stand */
		k = idmap_add(&f->backups, &r->id, &fresh);
		if (!fresh && k->data != NULL)
			return 0;
		k->place = *p;
		if (payload == NULL) {
			if (pack_read(
				f->packs, p, r->kind, &r->id, &f->payload) != 0)
				return 0;
			payload = f->payload.data;
		} else if (!sound) {
			return 0;
		}
		k->len = r->stored_len;
		k->data = memcpy(xmalloc(k->len), payload, k->len);
		return 0;
	case RECORD_TOMBSTONE: idmap_add(&f->tombs, &r->id, &fresh); return 0;
	default: return 0;
	}
}

static void
pack_add(struct fsck *f, const struct pack_info *info)
{
	if ((f->npacks & (f->npacks - 1)) == 0)
		f->pack = xrealloc(f->pack,
		    (f->npacks != 0 ? 2 * f->npacks : 1) * sizeof(*f->pack));
	f->pack[f->npacks++] = *info;
	packs_add(f->packs, info);
}

static int
see_listed(void *arg, const struct pack_info *info)
{
	/* The next start unlinks it. */
	if (info->state != PACK_DEAD)
		pack_add(arg, info);
	return 0;
}

static int
see_present(void *arg, const struct volume_name *name)
{
	struct fsck *f = arg;
	struct pack_info info = { .number = name->number };
	uint8_t head[PACK_HEADER_LEN];
	struct volume_file *file;
	struct pack_header h;
	size_t got = 0;
	int rc;

	rc = volume_open(f->volume, name->number, false, &file);
	if (rc == 0) {
		rc = volume_read(file, head, sizeof(head), 0, &got);
		volume_file_close(file);
	}
	if (rc == 0)
		rc = got == sizeof(head) ? pack_header_parse(head, &h, NULL)
					 : ERR_CORRUPT;
	if (rc != 0 || h.number != name->number ||
	    memcmp(h.uuid, f->format.uuid, sizeof(h.uuid)) != 0) {
		fsck_tell(f, "pack %08x has no valid header and is left alone",
		    name->number);
		return 0;
	}
	info.mirror = h.mirror;
	info.type = h.type;
	info.domain = h.domain;
	info.tag = h.tag;
	/* Of a condemned pack all that reads well is taken: what was thrown
	 * away with it has a tombstone or no manifest. */
	info.state = name->poisoned ? PACK_POISONED : PACK_OPEN;
	info.durable = PACK_OFF_MAX;
	pack_add(f, &info);
	return 0;
}

static int
see_backup(void *arg, const struct index_backup *b)
{
	struct fsck *f = arg;
	struct kept *k;
	bool fresh;

	k = idmap_add(&f->backups, &b->id, &fresh);
	k->place = b->place;
	k->len = (uint32_t)b->len;
	k->data = memcpy(xmalloc(b->len), b->manifest, b->len);
	if (pack_read(f->packs, &b->place, RECORD_MANIFEST, &b->id,
		&f->payload) != 0 ||
	    f->payload.len != b->len ||
	    memcmp(f->payload.data, b->manifest, b->len) != 0) {
		f->out->damaged++;
		fsck_tell(f,
		    "the manifest of a backup is not in pack %08x at %u",
		    b->place.pack, b->place.off);
	}
	return 0;
}

int
fsck_find_packs(struct fsck *f)
{
	int rc;

	if (f->index == NULL) {
		rc = volume_each(f->volume, see_present, f);
		return rc == 0
		    ? 0
		    : err_set(f->e, rc, "the packs cannot be listed");
	}
	if ((rc = index_packs_each(f->index, see_listed, f)) != 0 ||
	    (rc = index_backups_each(f->index, see_backup, f)) != 0)
		return err_set(f->e, rc, "the index cannot be read");
	return 0;
}

static uint32_t
first_twin(const struct pack_info *p)
{
	return p->mirror != 0 && p->mirror < p->number ? p->mirror : p->number;
}

/* Of twins the second first. */
static int
by_age(const void *a, const void *b)
{
	const struct pack_info *x = a, *y = b;
	uint32_t fx = first_twin(x), fy = first_twin(y);

	/* What a failed sync left may not be on disk: any other copy wins. */
	if ((x->state == PACK_POISONED) != (y->state == PACK_POISONED))
		return x->state == PACK_POISONED ? -1 : 1;
	if (fx != fy)
		return fx < fy ? -1 : 1;
	return x->number > y->number ? -1 : x->number < y->number;
}

/* Of several copies the newest stays in the scratch index: what was put again
 * was put because the older one is damaged; and the first of a meta pair. */
int
fsck_scan(struct fsck *f)
{
	int rc = 0;

	if (f->npacks > 0)
		qsort(f->pack, f->npacks, sizeof(*f->pack), by_age);
	for (size_t i = 0; rc == 0 && i < f->npacks; i++) {
		struct pack_info *p = &f->pack[i];
		struct pack_scan scan;

		f->out->packs++;
		rc = pack_scan(f->packs, p->number, 0,
		    f->o->data || p->state == PACK_POISONED ? PACK_SCAN_PAYLOAD
							    : 0,
		    see_record, f, &scan);
		if (rc == ERR_CORRUPT && p->durable == 0 && p->live == 0) {
			fsck_tell(f,
			    "pack %08x was condemned empty and is left alone",
			    p->number);
			rc = 0;
			continue;
		}
		if (rc == ERR_NOENT || rc == ERR_CORRUPT) {
			fsck_tell(f, "pack %08x is %s", p->number,
			    rc == ERR_NOENT ? "missing" : "damaged");
			f->out->damaged++;
			rc = 0;
			continue;
		}
		if (rc != 0)
			return f->e->code != 0
			    ? rc
			    : err_set(f->e, rc, "pack %08x cannot be read",
				  p->number);
		if (scan.gaps != 0)
			fsck_tell(f,
			    "pack %08x has %llu stretches that hold no "
			    "record",
			    p->number, (unsigned long long)scan.gaps);
		if (!f->o->rebuild)
			continue;
		p->known = p->durable = scan.end;
		if (p->state != PACK_POISONED)
			p->state = PACK_SEALED;
		if (!scan.sealed && p->state == PACK_SEALED) {
			rc = pack_seal_tail(f->packs, p->number, scan.end);
			if (rc == ERR_NOSPC) {
				p->state = PACK_OPEN;
				rc = 0;
			}
		}
		packs_update(f->packs, p);
	}
	if (rc != 0)
		return rc;
	return fsck_flush(f);
}
