/* SPDX-License-Identifier: Apache-2.0 */
/* What was counted, against the index or in its place. */
#include "repo/store/fsck_impl.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/fault.h"

static int
compare_entry(void *arg, const struct id *id, const struct index_entry *x)
{
	struct fsck *f = arg;
	struct index_entry counted;
	char name[17];
	int rc;

	f->out->entries++;
	pack_counts_add(&f->live, &x->place, 1);
	rc = index_get(f->scratch, id, &counted);
	if (rc == ERR_SYS)
		return err_set(f->e, rc, "%s cannot be read", f->scratch_path);
	if (rc == ERR_NOENT)
		counted.refs = 0;
	if (counted.refs != x->refs) {
		f->out->wrong_refs++;
		fsck_tell(f, "%s has %lld references, the index says %lld",
		    fsck_short_id(id, name), (long long)counted.refs,
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
		fsck_tell(f, "%s has %lld references and is not in the index",
		    fsck_short_id(id, name), (long long)x->refs);
	}
	return 0;
}

int
fsck_compare(struct fsck *f)
{
	int rc;

	if ((rc = index_each(f->index, compare_entry, f)) != 0 ||
	    (rc = index_each(f->scratch, compare_counted, f)) != 0)
		return f->e->code != 0
		    ? rc
		    : err_set(f->e, rc, "the index cannot be read");
	if (f->out->entries > f->seen) {
		f->out->no_record = f->out->entries - f->seen;
		fsck_tell(f,
		    "%llu entries of the index point at no valid record",
		    (unsigned long long)f->out->no_record);
	}
	for (size_t i = 0; i < f->npacks; i++) {
		int64_t live = *pack_counts_at(&f->live, f->pack[i].number);

		if (live == f->pack[i].live)
			continue;
		f->out->wrong_live++;
		fsck_tell(f,
		    "pack %08x has %lld live bytes, the index says %lld",
		    f->pack[i].number, (long long)live,
		    (long long)f->pack[i].live);
	}
	return 0;
}

static int
batch_flush(struct fsck *f)
{
	int rc = index_batch_write(f->batch, false);

	index_batch_free(f->batch);
	f->batch = index_batch_new(f->scratch);
	f->nbatch = 0;
	return rc;
}

/* What no manifest reaches is dead bytes (rule 17). */
static int
settle_entry(void *arg, const struct id *id, const struct index_entry *x)
{
	struct fsck *f = arg;
	struct index_entry op = { .clear = FSCK_COUNTED };

	if (x->refs == 0) {
		index_batch_remove(f->batch, id);
	} else {
		f->out->entries++;
		pack_counts_add(&f->live, &x->place, 1);
		if ((x->flags & INDEX_DAMAGED) != 0)
			index_batch_damaged(f->batch, id, true);
		if (x->kind == RECORD_CHUNK) {
			f->unique_raw += x->place.raw_len;
			return 0;
		}
		index_batch_merge(f->batch, id, &op);
	}
	if (++f->nbatch < FSCK_LOT)
		return 0;
	return batch_flush(f);
}

int
fsck_settle(struct fsck *f)
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
		f->pack[i].live = *pack_counts_at(&f->live, f->pack[i].number);
		index_batch_pack(b, &f->pack[i]);
		if (f->pack[i].number > greatest)
			greatest = f->pack[i].number;
	}
	while ((k = idmap_next(&f->backups, &at, &id)) != NULL)
		if (k->data != NULL &&
		    (f->tombs.n == 0 || idmap_find(&f->tombs, id) == NULL))
			index_batch_backup(b,
			    &(struct index_backup){ .id = *id,
				.place = k->place,
				.manifest = k->data,
				.len = k->len });
	index_batch_uuid(b, f->format.uuid);
	index_batch_number(b, INDEX_PUBLISHED, 1);
	/* Numbers of packs that are gone were given too: jump far. */
	index_batch_number(b, INDEX_NUMBERS_END, (uint64_t)greatest + 65536);
	index_batch_number(b, INDEX_SEQUENCE, f->sequence);
	index_batch_number(b, INDEX_UNIQUE_RAW, f->unique_raw);
	fault_pass(FAULT_REBUILD_SETTLE);
	rc = index_batch_write(b, true);
	index_batch_free(b);
	if (rc != 0)
		return err_set(
		    f->e, rc, "%s cannot be written", f->scratch_path);
	return 0;
}
