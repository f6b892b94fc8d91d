/* SPDX-License-Identifier: Apache-2.0 */
/* Making durable, sealing, condemning. */
#include <inttypes.h>
#include <string.h>

#include "proto/base/log.h"
#include "repo/store/pack_writer.h"

/* Remember for pack_synced; the newer of two infos of one pack counts. */
static void
tell(struct pack_writer *w, const struct pack_info *info)
{
	struct pack_info *all = (struct pack_info *)(void *)w->changed.data;
	size_t n = w->changed.len / sizeof(*info);

	for (size_t i = 0; i < n; i++) {
		if (all[i].number == info->number) {
			all[i] = *info;
			return;
		}
	}
	buf_add(&w->changed, info, sizeof(*info));
}

static void
settle(struct pack_writer *w, struct open_pack *p, enum pack_state state,
    uint64_t known, uint64_t durable)
{
	pthread_mutex_lock(&w->mu);
	for (int i = 0; i < w->ncopies; i++) {
		p->info[i].state = state;
		p->info[i].known = known;
		p->info[i].durable = durable;
		tell(w, &p->info[i]);
	}
	pthread_mutex_unlock(&w->mu);
}

/*
 * Footer, then one sync for all.  Nobody appends to ${p} any more.  A footer
 * that finds no space is left out: the pack is as good as one that a crash
 * left open, and is sealed at the next start.
 */
static int
seal(struct pack_writer *w, struct open_pack *p)
{
	uint64_t len =
	    p->end + pack_footer_len(p->entries.len / PACK_ENTRY_LEN);
	enum pack_state state = PACK_SEALED;
	bool bad;
	int rc;

	pthread_mutex_lock(&w->mu);
	bad = w->bad;
	pthread_mutex_unlock(&w->mu);
	for (int i = 0; i < w->ncopies; i++) {
		/* A torn last append may lie behind the end. */
		rc = bad ? volume_cut(p->f[i], p->end) : 0;
		if (rc == 0)
			rc = pack_footer_write(
			    p->f[i], p->info[i].tag, &p->entries, p->end);
		if (rc == ERR_NOSPC) {
			log_error("pack %" PRIx32 ": no space to seal it now",
			    p->info[i].number);
			state = PACK_OPEN;
			rc = volume_cut(p->f[i], p->end);
		} else if (rc == 0) {
			rc = volume_cut(p->f[i], len);
		}
		if (rc != 0)
			return rc;
	}
	for (int i = 0; i < w->ncopies; i++) {
		rc = volume_sync(p->f[i]);
		if (rc != 0)
			return rc;
	}
	if (state == PACK_OPEN)
		len = p->end;
	settle(w, p, state, len, len);
	return 0;
}

/* Durable as far as it goes now; known as far as its mark. */
static int
sync_open(struct pack_writer *w, struct open_pack *p)
{
	uint64_t end, mark;
	int rc;

	pthread_mutex_lock(&w->mu);
	end = p->end;
	mark = p->mark;
	pthread_mutex_unlock(&w->mu);
	if (end > p->synced) {
		for (int i = 0; i < w->ncopies; i++) {
			rc = volume_sync(p->f[i]);
			if (rc != 0)
				return rc;
		}
		p->synced = end;
	} else if (mark == p->info[0].known) {
		return 0;
	}
	settle(w, p, PACK_OPEN, mark, p->synced);
	return 0;
}

void
pack_mark(struct pack_writer *w)
{
	struct open_pack *p;

	pthread_mutex_lock(&w->mu);
	p = w->cur;
	if (p != NULL && w->finish && p->entries.len != 0) {
		TAILQ_INSERT_TAIL(&w->full, p, link);
		w->cur = NULL;
	} else if (p != NULL) {
		p->mark = p->end;
	}
	TAILQ_FOREACH(p, &w->full, link)
	{
		p->mark = p->end;
		p->closed = true;
	}
	pthread_mutex_unlock(&w->mu);
}

int
pack_sync(struct pack_writer *w)
{
	struct open_pack *p, *next;
	bool closed, empty;
	int rc = 0;

	pthread_mutex_lock(&w->mu);
	w->unsynced = 0;
	/* Only this thread takes a pack away, so ${p} stays good. */
	p = TAILQ_FIRST(&w->full);
	if (p == NULL)
		p = w->cur;
	while (rc == 0 && p != NULL) {
		next = p == w->cur ? NULL : TAILQ_NEXT(p, link);
		if (next == NULL && p != w->cur)
			next = w->cur;
		closed = p->closed;
		empty = p->entries.len == 0;
		pthread_mutex_unlock(&w->mu);
		if (closed)
			rc = seal(w, p);
		else if (!empty)
			rc = sync_open(w, p);
		pthread_mutex_lock(&w->mu);
		if (rc == 0 && closed) {
			TAILQ_REMOVE(&w->full, p, link);
			open_pack_free(p);
		}
		p = next;
	}
	if (rc != 0)
		w->bad = true;
	pthread_mutex_unlock(&w->mu);
	return rc;
}

void
pack_synced(struct pack_writer *w,
    void (*visit)(void *arg, const struct pack_info *info), void *arg)
{
	struct pack_info info;
	struct buf all;

	pthread_mutex_lock(&w->mu);
	all = w->changed;
	memset(&w->changed, 0, sizeof(w->changed));
	pthread_mutex_unlock(&w->mu);
	for (size_t i = 0; i < all.len; i += sizeof(info)) {
		memcpy(&info, all.data + i, sizeof(info));
		visit(arg, &info);
	}
	buf_fini(&all);
}

static int
condemn(struct pack_writer *w, struct open_pack *p)
{
	struct pack_info info;
	int rc = 0;

	settle(w, p, PACK_POISONED, p->info[0].known, p->synced);
	for (int i = 0; i < w->ncopies; i++) {
		int rc1 = volume_poison(w->set->v, p->info[i].number);

		log_error("pack %" PRIx32 ": poisoned, good up to %" PRIu64,
		    p->info[i].number, p->synced);
		if (rc == 0)
			rc = rc1;
		/* Readers must not wait for the ledger to hear of it. */
		if (packs_get(w->set, p->info[i].number, &info) == 0) {
			info.state = PACK_POISONED;
			info.durable = p->synced;
			packs_update(w->set, &info);
		}
	}
	return rc;
}

int
pack_poison(struct pack_writer *w)
{
	struct open_pack *p;
	int rc = 0, rc1;

	pthread_mutex_lock(&w->mu);
	w->bad = true;
	p = w->cur;
	if (p != NULL && p->entries.len > 0 && p->end > p->synced) {
		TAILQ_INSERT_TAIL(&w->full, p, link);
		w->cur = NULL;
	}
	pthread_mutex_unlock(&w->mu);
	while ((p = TAILQ_FIRST(&w->full)) != NULL) {
		rc1 = condemn(w, p);
		if (rc == 0)
			rc = rc1;
		TAILQ_REMOVE(&w->full, p, link);
		open_pack_free(p);
	}
	return rc;
}
