/* SPDX-License-Identifier: Apache-2.0 */
/* Appending.  Syncing and sealing are in pack_sync.c. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "proto/base/crc32c.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "repo/store/pack_writer.h"

enum {
	STEP_DATA = 16 << 20, /* reserved at a time */
	STEP_META = 1 << 20,
	FLUSH_STEP = 8 << 20 /* writeback is started that often */
};

struct pack_writer *
pack_writer_new(struct pack_set *s, enum pack_type type, uint32_t domain)
{
	struct pack_writer *w = xcalloc(1, sizeof(*w));

	w->set = s;
	w->type = type;
	w->domain = domain;
	w->limit = s->o.data_limit;
	if (type == PACK_META && w->limit > PACK_META_LIMIT)
		w->limit = PACK_META_LIMIT;
	w->ncopies = type == PACK_META ? 2 : 1;
	pthread_mutex_init(&w->mu, NULL);
	TAILQ_INIT(&w->full);
	return w;
}

void
open_pack_free(struct open_pack *p)
{
	if (p == NULL)
		return;
	for (int i = 0; i < 2; i++)
		volume_file_close(p->f[i]);
	buf_fini(&p->entries);
	free(p);
}

void
pack_writer_free(struct pack_writer *w)
{
	struct open_pack *p;

	if (w == NULL)
		return;
	while ((p = TAILQ_FIRST(&w->full)) != NULL) {
		TAILQ_REMOVE(&w->full, p, link);
		open_pack_free(p);
	}
	/* A pack without a record is of no use to anybody. */
	if (w->cur != NULL && w->cur->entries.len == 0)
		for (int i = 0; i < w->ncopies; i++)
			packs_remove(w->set, w->cur->info[i].number);
	open_pack_free(w->cur);
	buf_fini(&w->changed);
	pthread_mutex_destroy(&w->mu);
	free(w);
}

/* Less ${keep}. */
static uint64_t
left(uint64_t avail, uint64_t keep)
{
	return avail > keep ? avail - keep : 0;
}

/* A step ahead where there is room for one outside the reserve, else what is
 * needed; the set's ${space} is held. */
static int
take_space(
    struct pack_writer *w, struct open_pack *p, uint64_t need, uint64_t keep)
{
	uint64_t step = w->type == PACK_META ? STEP_META : STEP_DATA;
	uint64_t upto = p->reserved + step, avail = 0, total;
	uint64_t copies = (uint64_t)w->ncopies;
	int rc;

	upto = upto < w->limit ? upto : w->limit;
	rc = volume_space(w->set->v, &avail, &total);
	if (rc != 0)
		return rc;
	if (upto < need ||
	    (upto - p->reserved) * copies > left(avail, w->set->o.reserve))
		upto = need;
	for (;;) {
		rc = ERR_NOSPC;
		if ((upto - p->reserved) * copies <= left(avail, keep))
			rc = volume_reserve(p->f[0], upto);
		if (rc == 0 && w->ncopies == 2)
			rc = volume_reserve(p->f[1], upto);
		if (rc == 0)
			p->reserved = upto;
		if (rc != ERR_NOSPC || upto == need)
			return rc;
		upto = need;
	}
}

/*
 * Make room in all copies for ${need} bytes; a step ahead where there is room
 * for a step, so that it costs little.  ${keep}: bytes to leave free; writers
 * take their turns, lest together they leave less.
 */
static int
reserve(
    struct pack_writer *w, struct open_pack *p, uint64_t need, uint64_t keep)
{
	int rc;

	if (need <= p->reserved)
		return 0;
	pthread_mutex_lock(&w->set->space);
	rc = take_space(w, p, need, keep);
	pthread_mutex_unlock(&w->set->space);
	return rc;
}

static void
fill_header(const struct pack_writer *w, const struct pack_info *info,
    struct pack_header *h)
{
	*h = (struct pack_header){
		.type = w->type,
		.number = info->number,
		.mirror = info->mirror,
		.chunk_size = w->set->o.chunk_size,
		.hash = w->set->o.hash,
		.domain = w->domain,
		.tag = info->tag,
	};
	for (size_t i = 0; i < sizeof(h->uuid); i++)
		h->uuid[i] = w->set->o.uuid[i];
}

/* The files of a new pack with their headers.  Its numbers are spent also if
 * this fails. */
static int
begin(
    struct pack_writer *w, uint64_t need, uint64_t keep, struct open_pack **out)
{
	uint8_t bytes[PACK_HEADER_LEN];
	struct open_pack *p;
	uint32_t number;
	int made = 0, rc;

	rc = packs_take_numbers(w->set, (uint32_t)w->ncopies, &number);
	if (rc != 0)
		return rc;
	p = xcalloc(1, sizeof(*p));
	for (int i = 0; i < w->ncopies; i++) {
		struct pack_info *info = &p->info[i];

		info->number = number + (uint32_t)i;
		info->mirror = w->ncopies == 2 ? number + (uint32_t)(1 - i) : 0;
		info->type = w->type;
		info->state = PACK_OPEN;
		info->domain = w->domain;
		random_bytes(&info->tag, sizeof(info->tag));
	}
	for (; made < w->ncopies; made++) {
		rc =
		    volume_create(w->set->v, p->info[made].number, &p->f[made]);
		if (rc != 0)
			goto err_remove;
	}
	rc = reserve(w, p, need, keep);
	if (rc != 0)
		goto err_remove;
	for (int i = 0; i < w->ncopies; i++) {
		struct iovec iov = { .iov_base = bytes,
			.iov_len = sizeof(bytes) };
		struct pack_header h;

		fill_header(w, &p->info[i], &h);
		pack_header_print(&h, bytes);
		rc = volume_write(p->f[i], &iov, 1, 0);
		if (rc != 0)
			goto err_remove;
	}
	p->end = p->flushed = PACK_HEADER_LEN;
	for (int i = 0; i < w->ncopies; i++)
		packs_add(w->set, &p->info[i]);
	*out = p;
	return 0;
err_remove:
	for (int i = 0; i < made; i++)
		volume_remove(w->set->v, p->info[i].number);
	open_pack_free(p);
	/* A number that has a file already is the granter's mistake. */
	if (rc == ERR_EXIST) {
		log_error("pack %" PRIx32 ": is there already", number);
		rc = ERR_SYS;
	}
	return rc;
}

/* The pack that takes ${len} more bytes in w->cur, with room reserved. */
static int
make_room(struct pack_writer *w, uint64_t len, uint64_t keep)
{
	struct open_pack *p = w->cur, *next = NULL;
	uint64_t count, need;
	int rc;

	if (p != NULL) {
		count = p->entries.len / PACK_ENTRY_LEN + 1;
		need = p->end + len + pack_footer_len(count);
		if (count == 1 ||
		    (need <= w->limit && count <= PACK_ENTRIES_MAX))
			return reserve(w, p, need, keep);
	}
	need = PACK_HEADER_LEN + len + pack_footer_len(1);
	rc = begin(w, need, keep, &next);
	if (rc != 0)
		return rc;
	if (p != NULL)
		TAILQ_INSERT_TAIL(&w->full, p, link);
	w->cur = next;
	return 0;
}

static int
write_copies(struct pack_writer *w, const struct record *r, const void *payload)
{
	struct open_pack *p = w->cur;
	uint8_t header[RECORD_HEADER_LEN];
	int rc;

	for (int i = 0; i < w->ncopies; i++) {
		struct iovec iov[2] = {
			{ .iov_base = header, .iov_len = sizeof(header) },
			{ .iov_base = (void *)(uintptr_t)payload,
			    .iov_len = r->stored_len },
		};

		record_print(r, p->info[i].tag, header);
		rc = volume_write(p->f[i], iov, 2, p->end);
		if (rc == ERR_NOSPC)
			log_error("pack %" PRIx32 ": no space, though it was "
				  "reserved",
			    p->info[i].number);
		if (rc != 0)
			return ERR_SYS;
	}
	return 0;
}

static void
count_in(struct pack_writer *w, const struct record *r, struct place *out)
{
	struct open_pack *p = w->cur;
	struct pack_entry e = {
		.id = r->id,
		.kind = r->kind,
		.codec = r->codec,
		.flags = r->flags,
		.off = (uint32_t)p->end,
		.raw_len = r->raw_len,
		.stored_len = r->stored_len,
	};

	pack_entry_print(&e, buf_extend(&p->entries, PACK_ENTRY_LEN));
	*out = (struct place){
		.pack = p->info[0].number,
		.off = (uint32_t)p->end,
		.stored_len = r->stored_len,
		.raw_len = r->raw_len,
		.codec = r->codec,
	};
	p->end += RECORD_HEADER_LEN + r->stored_len;
	w->unsynced += RECORD_HEADER_LEN + r->stored_len;
	if (p->end - p->flushed >= FLUSH_STEP) {
		for (int i = 0; i < w->ncopies; i++)
			volume_flush(p->f[i], p->flushed, p->end - p->flushed);
		p->flushed = p->end;
	}
}

static int
append(struct pack_writer *w, struct record *r, const void *payload,
    uint64_t keep, struct place *out)
{
	int rc;

	assert(r->stored_len <= RECORD_STORED_MAX);
	assert((r->kind == RECORD_CHUNK) == (w->type == PACK_DATA));
	r->payload_crc = crc32c(0, payload, r->stored_len);
	pthread_mutex_lock(&w->mu);
	if (w->bad)
		rc = ERR_SYS;
	else if (w->finish)
		rc = ERR_CLOSED;
	else
		rc = make_room(w, RECORD_HEADER_LEN + r->stored_len, keep);
	if (rc == 0)
		rc = write_copies(w, r, payload);
	if (rc == 0)
		count_in(w, r, out);
	else if (rc == ERR_SYS)
		w->bad = true;
	pthread_mutex_unlock(&w->mu);
	return rc;
}

int
pack_append(struct pack_writer *w, struct record *r, const void *payload,
    struct place *out)
{
	return append(w, r, payload, w->set->o.reserve, out);
}

int
pack_append_reserved(struct pack_writer *w, struct record *r,
    const void *payload, struct place *out)
{
	return append(w, r, payload, 0, out);
}

uint32_t
pack_current(struct pack_writer *w)
{
	uint32_t number;

	pthread_mutex_lock(&w->mu);
	number = w->cur != NULL ? w->cur->info[0].number : 0;
	pthread_mutex_unlock(&w->mu);
	return number;
}

void
pack_finish(struct pack_writer *w)
{
	pthread_mutex_lock(&w->mu);
	w->finish = true;
	pthread_mutex_unlock(&w->mu);
}

uint64_t
pack_unsynced(struct pack_writer *w)
{
	uint64_t n;

	pthread_mutex_lock(&w->mu);
	n = w->unsynced;
	pthread_mutex_unlock(&w->mu);
	return n;
}
