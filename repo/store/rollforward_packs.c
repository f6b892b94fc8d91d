/* SPDX-License-Identifier: Apache-2.0 */
/* A start's look at the packs, and their sealing. */
#include "repo/store/rollforward_impl.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/fault.h"
#include "proto/base/log.h"

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

struct tail_pack *
roll_pack(struct roll *r, uint32_t number)
{
	struct tail_pack key = { .info.number = number };

	return r->npacks == 0
	    ? NULL
	    : bsearch(&key, r->pack, r->nlisted, sizeof(*r->pack), by_number);
}

void
roll_live(struct roll *r, const struct place *place, int sign)
{
	struct tail_pack *p = roll_pack(r, place->pack);

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
	struct tail_pack *p = roll_pack(r, name->number);

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

int
roll_look(struct roll *r)
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
int
roll_sync(struct roll *r)
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
void
roll_write_live(struct roll *r)
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

int
roll_seal(struct roll *r, uint32_t *greatest)
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
