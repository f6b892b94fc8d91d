/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/store/fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/bytes.h"
#include "proto/base/log.h"
#include "repo/store/idmap.h"
#include "repo/store/store_impl.h"

enum {
	COUNTED =
	    0x80, /* flag in the scratch index: its children are counted */
	LOT = 1 << 16,
	SAY_MAX = 100, /* lines; the rest is counted */
	BLOCK_CACHE = 32 << 20,
	MEMTABLES = 64 << 20
};

/* A manifest that stands: value in an idmap. */
struct kept {
	struct place place;
	uint8_t *data;
	uint32_t len;
};

struct fsck {
	const struct fsck_options *o;
	const char *dir;
	void (*say)(void *arg, const char *line);
	void *arg;
	struct fsck_report *out;
	struct err *e;

	struct store_format format;
	int dirfd;
	int lockfd;
	struct volume *volume;
	struct pack_set *packs;
	struct index *index;   /* the real one; NULL in a rebuild */
	struct index *scratch; /* counted anew */
	char *index_path;
	char *scratch_path;

	struct pack_info *pack;
	size_t npacks;
	struct idmap backups; /* struct kept */
	struct idmap tombs;
	struct idmap lot;  /* struct index_entry: operands not yet written */
	struct idmap live; /* int64_t by pack number */
	struct buf payload;
	uint64_t seen; /* entries whose record was met */
	uint64_t sequence;
	uint64_t unique_raw;
	uint64_t lines;
	struct index_batch *batch; /* of settle */
	unsigned nbatch;
};

bool
fsck_clean(const struct fsck_report *r)
{
	return r->damaged + r->no_record + r->wrong_refs + r->missing +
	    r->wrong_live + r->hit_backups ==
	    0;
}

static void tell(struct fsck *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
tell(struct fsck *f, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (++f->lines > SAY_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	f->say(f->arg,
	    f->lines < SAY_MAX ? line
			       : "... and more; the totals count them all");
}

static const char *
short_id(const struct id *id, char out[17])
{
	snprintf(out, 17, "%016llx", (unsigned long long)get_be64(id->b));
	return out;
}

/* The scratch index is written in lots; reads look here first. */
static int
lot_flush(struct fsck *f)
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

static int
lot_merge(struct fsck *f, const struct id *id, const struct index_entry *op)
{
	bool fresh;

	index_merge(idmap_add(&f->lot, id, &fresh), op);
	return f->lot.n >= LOT ? lot_flush(f) : 0;
}

static int
lot_get(struct fsck *f, const struct id *id, struct index_entry *out)
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

static int64_t *
live_of(struct fsck *f, uint32_t pack)
{
	struct id key = { { 0 } };
	bool fresh;

	put_le32(key.b, pack);
	key.b[ID_LEN - 1] = 1;
	return idmap_add(&f->live, &key, &fresh);
}

static void
live_add(struct fsck *f, const struct place *p)
{
	*live_of(f, p->pack) += RECORD_HEADER_LEN + (int64_t)p->stored_len;
}

/* Does the index name this record?  Then it has been met. */
static int
meet(struct fsck *f, const struct record *r, const struct place *p, bool sound)
{
	struct index_entry x;
	char name[17];
	int rc = index_get(f->index, &r->id, &x);

	if (rc == ERR_NOENT)
		return 0;
	if (rc != 0)
		return err_set(f->e, rc, "the index cannot be read");
	if (x.place.pack != p->pack || x.place.off != p->off)
		return 0;
	if (x.kind != r->kind || x.place.stored_len != r->stored_len ||
	    x.place.raw_len != r->raw_len)
		return 0; /* no_record will count it */
	f->seen++;
	if (!sound) {
		f->out->damaged++;
		tell(f, "record %s in pack %08x at %u is damaged",
		    short_id(&r->id, name), p->pack, p->off);
	}
	return 0;
}

static int
see_record(void *arg, const struct record *r, const struct place *p,
    const uint8_t *payload, bool sound)
{
	struct fsck *f = arg;
	struct index_entry op = { .place = *p, .kind = r->kind };
	struct kept *k;
	bool fresh;
	int rc;

	f->out->records++;
	switch (r->kind) {
	case RECORD_CHUNK:
	case RECORD_NODE:
		if (f->index != NULL && (rc = meet(f, r, p, sound)) != 0)
			return rc;
		if (!sound) {
			f->out->damaged += f->index == NULL;
			return 0;
		}
		if (r->kind == RECORD_CHUNK &&
		    r->raw_len != f->format.chunk_size)
			op.flags = INDEX_TAIL;
		return lot_merge(f, &r->id, &op);
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
		tell(f, "pack %08x has no valid header and is left alone",
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
by_number_down(const void *a, const void *b)
{
	const struct pack_info *x = a, *y = b;

	return x->number > y->number ? -1 : x->number < y->number;
}

/* From the highest number down: of two copies the older stays in the scratch
 * index, as the first of a meta pair does. */
static int
scan_packs(struct fsck *f)
{
	int rc = 0;

	if (f->npacks > 0)
		qsort(f->pack, f->npacks, sizeof(*f->pack), by_number_down);
	for (size_t i = 0; rc == 0 && i < f->npacks; i++) {
		struct pack_info *p = &f->pack[i];
		struct pack_scan scan;

		f->out->packs++;
		rc = pack_scan(f->packs, p->number, 0,
		    f->o->data || p->state == PACK_POISONED ? PACK_SCAN_PAYLOAD
							    : 0,
		    see_record, f, &scan);
		if (rc == ERR_NOENT || rc == ERR_CORRUPT) {
			tell(f, "pack %08x is %s", p->number,
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
			tell(f,
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
	return lot_flush(f);
}

static int
see_backup(void *arg, const struct id *id, const struct place *place,
    const void *data, size_t len)
{
	struct fsck *f = arg;
	struct kept *k;
	bool fresh;

	k = idmap_add(&f->backups, id, &fresh);
	k->place = *place;
	k->len = (uint32_t)len;
	k->data = memcpy(xmalloc(len), data, len);
	if (pack_read(f->packs, place, RECORD_MANIFEST, id, &f->payload) != 0 ||
	    f->payload.len != len || memcmp(f->payload.data, data, len) != 0) {
		f->out->damaged++;
		tell(f, "the manifest of a backup is not in pack %08x at %u",
		    place->pack, place->off);
	}
	return 0;
}

/* The way from a root down to what is being counted. */
struct walk {
	struct fsck *f;
	const char *backup;
	const struct manifest_volume *v;
	bool hit;
};

static void
walk_missing(struct walk *w, const struct id *id, uint64_t slice)
{
	char name[17];

	w->f->out->missing++;
	w->hit = true;
	tell(w->f, "%s, volume %s, from byte %llu on: %s is lost", w->backup,
	    w->v->name, (unsigned long long)slice * w->f->format.chunk_size,
	    short_id(id, name));
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
	rc = lot_get(f, id, &x);
	if (rc == ERR_NOENT) {
		walk_missing(w, id, slice);
		return 0;
	}
	if (rc != 0)
		return rc;
	if (level < 0 || (x.flags & COUNTED) != 0)
		return lot_merge(f, id, &op);
	n = xmalloc(sizeof(*n));
	if (pack_read(f->packs, &x.place, RECORD_NODE, id, &f->payload) != 0 ||
	    node_parse(f->payload.data, f->payload.len, n, NULL) != 0 ||
	    n->level != level) {
		walk_missing(w, id, slice);
		goto out;
	}
	op.place = x.place;
	op.kind = RECORD_NODE;
	op.level = n->level;
	op.flags = COUNTED | (n->tail ? INDEX_TAIL : 0);
	rc = lot_merge(f, id, &op);
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
			tell(f,
			    "the manifest in pack %08x at %u cannot be "
			    "read: that backup is lost",
			    k->place.pack, k->place.off);
			continue;
		}
		live_add(f, &k->place);
		rc = walk_backup(f, m);
	}
	free(m);
	if (rc != 0)
		return rc;
	return lot_flush(f);
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
	rc = lot_get(f, id, &counted);
	if (rc == ERR_SYS || (rc == 0 && (counted.flags & COUNTED) != 0))
		return rc;
	n = xmalloc(sizeof(*n));
	if (pack_read(f->packs, &x->place, RECORD_NODE, id, &f->payload) == 0 &&
	    node_parse(f->payload.data, f->payload.len, n, NULL) == 0) {
		for (unsigned i = 0; rc != ERR_SYS && i < n->n; i++)
			if (!id_is_hole(&n->child[i]))
				rc = lot_merge(f, &n->child[i], &op);
	}
	free(n);
	return rc == ERR_SYS ? rc : 0;
}

static int
compare_entry(void *arg, const struct id *id, const struct index_entry *x)
{
	struct fsck *f = arg;
	struct index_entry counted;
	char name[17];
	int rc;

	f->out->entries++;
	live_add(f, &x->place);
	rc = index_get(f->scratch, id, &counted);
	if (rc == ERR_SYS)
		return err_set(f->e, rc, "%s cannot be read", f->scratch_path);
	if (rc == ERR_NOENT)
		counted.refs = 0;
	if (counted.refs != x->refs) {
		f->out->wrong_refs++;
		tell(f, "%s has %lld references, the index says %lld",
		    short_id(id, name), (long long)counted.refs,
		    (long long)x->refs);
	}
	return 0;
}

static int
compare_counted(void *arg, const struct id *id, const struct index_entry *x)
{
	struct fsck *f = arg;
	struct index_entry real;
	char name[17];
	int rc;

	if (x->refs == 0)
		return 0;
	rc = index_get(f->index, id, &real);
	if (rc == ERR_SYS)
		return err_set(f->e, rc, "the index cannot be read");
	if (rc == ERR_NOENT) {
		f->out->missing++;
		tell(f, "%s has %lld references and is not in the index",
		    short_id(id, name), (long long)x->refs);
	}
	return 0;
}

static int
compare(struct fsck *f)
{
	int rc;

	if ((rc = index_each(f->index, count_garbage, f)) != 0 ||
	    (rc = lot_flush(f)) != 0 ||
	    (rc = index_each(f->index, compare_entry, f)) != 0 ||
	    (rc = index_each(f->scratch, compare_counted, f)) != 0)
		return f->e->code != 0
		    ? rc
		    : err_set(f->e, rc, "the index cannot be read");
	if (f->out->entries > f->seen) {
		f->out->no_record = f->out->entries - f->seen;
		tell(f, "%llu entries of the index point at no valid record",
		    (unsigned long long)f->out->no_record);
	}
	for (size_t i = 0; i < f->npacks; i++) {
		int64_t live = *live_of(f, f->pack[i].number);

		if (live == f->pack[i].live)
			continue;
		f->out->wrong_live++;
		tell(f, "pack %08x has %lld live bytes, the index says %lld",
		    f->pack[i].number, (long long)live,
		    (long long)f->pack[i].live);
	}
	return 0;
}

/* What no manifest reaches is dead bytes (rule 17). */
static int
batch_flush(struct fsck *f)
{
	int rc = index_batch_write(f->batch, false);

	index_batch_free(f->batch);
	f->batch = index_batch_new(f->scratch);
	f->nbatch = 0;
	return rc;
}

static int
settle_entry(void *arg, const struct id *id, const struct index_entry *x)
{
	struct fsck *f = arg;
	struct index_entry op = { .clear = COUNTED };

	if (x->refs == 0) {
		index_batch_remove(f->batch, id);
	} else {
		f->out->entries++;
		live_add(f, &x->place);
		if (x->kind == RECORD_CHUNK) {
			f->unique_raw += x->place.raw_len;
			return 0;
		}
		index_batch_merge(f->batch, id, &op);
	}
	if (++f->nbatch < LOT)
		return 0;
	return batch_flush(f);
}

static int
settle(struct fsck *f)
{
	struct index_batch *b;
	const struct id *id;
	uint32_t greatest = 0;
	struct kept *k;
	size_t at = 0;
	int rc;

	f->batch = index_batch_new(f->scratch);
	rc = index_each(f->scratch, settle_entry, f);
	if (rc == 0)
		rc = batch_flush(f);
	index_batch_free(f->batch);
	if (rc != 0)
		return err_set(f->e, rc, "%s cannot be read", f->scratch_path);
	b = index_batch_new(f->scratch);
	for (size_t i = 0; i < f->npacks; i++) {
		f->pack[i].live = *live_of(f, f->pack[i].number);
		index_batch_pack(b, &f->pack[i]);
		if (f->pack[i].number > greatest)
			greatest = f->pack[i].number;
	}
	while ((k = idmap_next(&f->backups, &at, &id)) != NULL)
		if (k->data != NULL &&
		    (f->tombs.n == 0 || idmap_find(&f->tombs, id) == NULL))
			index_batch_backup(b, id, &k->place, k->data, k->len);
	index_batch_uuid(b, f->format.uuid);
	index_batch_number(b, INDEX_PUBLISHED, 1);
	/* Numbers of packs that are gone were given too: jump far. */
	index_batch_number(b, INDEX_NUMBERS_END, (uint64_t)greatest + 65536);
	index_batch_number(b, INDEX_SEQUENCE, f->sequence);
	index_batch_number(b, INDEX_UNIQUE_RAW, f->unique_raw);
	rc = index_batch_write(b, true);
	index_batch_free(b);
	if (rc != 0)
		return err_set(
		    f->e, rc, "%s cannot be written", f->scratch_path);
	return 0;
}

/* The new index in place of the old.  A kill between the two renames leaves no
 * index at all, and the next start says what to do. */
static int
put_in_place(struct fsck *f)
{
	char *old = xasprintf("%s.old", f->index_path);
	int rc;

	rc = index_destroy(old, f->e);
	if (rc != 0)
		goto out;
	if (rename(f->index_path, old) == -1 && errno != ENOENT) {
		rc = err_set(f->e, ERR_SYS, "%s: rename: %s", f->index_path,
		    strerror(errno));
		goto out;
	}
	if (rename(f->scratch_path, f->index_path) == -1) {
		rc = err_set(f->e, ERR_SYS, "%s: rename: %s", f->scratch_path,
		    strerror(errno));
		goto out;
	}
	if (fsync(f->dirfd) == -1) {
		rc = err_set(
		    f->e, ERR_SYS, "%s: sync: %s", f->dir, strerror(errno));
		goto out;
	}
	rc = index_destroy(old, f->e);
out:
	free(old);
	return rc;
}

static int
run(struct fsck *f)
{
	struct index_options xo = { .block_cache = BLOCK_CACHE,
		.memtables = MEMTABLES,
		.create = true };
	struct index_options ro = { .block_cache = BLOCK_CACHE,
		.memtables = MEMTABLES,
		.read_only = true };
	int rc;

	rc = index_destroy(f->scratch_path, f->e);
	if (rc != 0)
		return rc;
	if (!f->o->rebuild) {
		rc = index_open(f->index_path, &ro, &f->index, f->e);
		if (rc != 0)
			return rc == ERR_NOENT
			    ? err_set(f->e, ERR_CORRUPT,
				  "%s has no index: run `backstay fsck "
				  "--rebuild-index`",
				  f->dir)
			    : rc;
	}
	rc = index_open(f->scratch_path, &xo, &f->scratch, f->e);
	if (rc != 0)
		goto close_index;
	if (f->index != NULL) {
		if ((rc = index_packs_each(f->index, see_listed, f)) != 0 ||
		    (rc = index_backups_each(f->index, see_backup, f)) != 0)
			err_set(f->e, rc, "the index cannot be read");
	} else if ((rc = volume_each(f->volume, see_present, f)) != 0) {
		err_set(f->e, rc, "the packs cannot be listed");
	}
	if (rc == 0)
		rc = scan_packs(f);
	if (rc == 0)
		rc = walk_backups(f);
	if (rc == 0)
		rc = f->o->rebuild ? settle(f) : compare(f);
	index_close(f->scratch);
	if (rc == 0 && f->o->rebuild)
		rc = put_in_place(f);
close_index:
	index_close(f->index);
	index_destroy(f->scratch_path, NULL);
	return rc;
}

int
fsck(const char *dir, const struct fsck_options *o,
    void (*say)(void *arg, const char *line), void *arg,
    struct fsck_report *out, struct err *e)
{
	struct fsck f = {
		.o = o, .dir = dir, .say = say, .arg = arg, .out = out, .e = e
	};
	struct pack_options po = { .hash = HASH_SHA256,
		.data_limit = PACK_DATA_LIMIT };
	struct kept *k;
	size_t at = 0;
	int rc;

	*out = (struct fsck_report){ 0 };
	e->code = 0;
	rc = store_format_read(dir, &f.format, e);
	if (rc != 0)
		return rc;
	f.dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f.dirfd == -1)
		return err_set(e, ERR_SYS, "%s: %s", dir, strerror(errno));
	rc = store_lock(dir, f.dirfd, &f.lockfd, e);
	if (rc != 0)
		goto close_dir;
	rc = volume_dir_open(f.dirfd, &f.volume, e);
	if (rc != 0)
		goto close_lock;
	memcpy(po.uuid, f.format.uuid, sizeof(po.uuid));
	po.chunk_size = f.format.chunk_size;
	f.packs = packs_new(f.volume, &po);
	f.index_path =
	    o->index != NULL ? xstrdup(o->index) : xasprintf("%s/index", dir);
	f.scratch_path = xasprintf("%s.fsck", f.index_path);
	idmap_init(&f.backups, sizeof(struct kept));
	idmap_init(&f.tombs, sizeof(uint64_t));
	idmap_init(&f.lot, sizeof(struct index_entry));
	idmap_init(&f.live, sizeof(int64_t));
	rc = run(&f);
	while ((k = idmap_next(&f.backups, &at, NULL)) != NULL)
		free(k->data);
	idmap_fini(&f.live);
	idmap_fini(&f.lot);
	idmap_fini(&f.tombs);
	idmap_fini(&f.backups);
	buf_fini(&f.payload);
	free(f.scratch_path);
	free(f.index_path);
	free(f.pack);
	packs_free(f.packs);
	volume_close(f.volume);
close_lock:
	close(f.lockfd);
close_dir:
	close(f.dirfd);
	return rc;
}
