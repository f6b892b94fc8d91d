/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger's thread: one batch from open to published.
 *
 * swap       lanes go on in the next batch
 * sync       every pack that this batch names is durable          (rule 10)
 * resolve    each put against the index: new, there, or damaged  (rules 3, 5,
 * 6) commit     manifests appended, their pack synced               (rule 10)
 * write      one index batch, synced                             (rules 9, 12)
 * publish    readers see it, waiting commits are told
 *
 * Every batch is written with the WAL synced: what is published is durable.
 */
#include "repo/store/ledger_closing.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "proto/base/log.h"

enum {
	GRANT = 1024,    /* pack numbers at a time */
	GRANT_LOW = 256, /* extend when fewer are left */
	GET_MANY = 1024
};

_Noreturn void
ledger_fatal(const char *what)
{
	log_error("%s; the daemon ends, so that its next start can find out "
		  "what is on disk",
	    what);
	_exit(1);
}

/* Of the packs that the reclaimer wants, those that no session has. */
static void
retire(struct ledger *l)
{
	for (struct ledger_writer *w = l->writers; w != NULL; w = w->next) {
		uint32_t pack = pack_current(w->w);

		if (w->finished || (w->busy && !w->copies) || pack == 0)
			continue;
		for (unsigned i = 0; i < l->nretire; i++) {
			if (l->retire[i] != pack)
				continue;
			pack_finish(w->w);
			w->finished = true;
			w->busy = false;
		}
	}
	l->retire = NULL;
}

/* As they were asked: a later one may build on an earlier. */
static void
in_order(struct batch *b)
{
	struct request *first = NULL;

	while (b->requests != NULL) {
		struct request *k = b->requests;

		b->requests = k->next;
		k->next = first;
		first = k;
	}
	b->requests = first;
}

static void
swap(struct closing *c)
{
	struct ledger *l = c->l;
	struct ledger_writer *w;
	unsigned n = 0;

	pthread_rwlock_wrlock(&l->gate);
	pthread_mutex_lock(&l->mu);
	c->b = l->open;
	l->closing = c->b;
	in_order(c->b);
	l->open = batch_new(c->b->number + 1);
	if (l->retire != NULL)
		retire(l);
	for (w = l->writers; w != NULL; w = w->next)
		n++;
	c->writers = xcalloc(n + 1, sizeof(struct ledger_writer *));
	for (w = l->writers; w != NULL; w = w->next) {
		pack_mark(w->w);
		w->sealing = w->finished;
		c->writers[c->nwriters++] = w;
	}
	pthread_cond_broadcast(&l->space);
	pthread_mutex_unlock(&l->mu);
	pthread_rwlock_unlock(&l->gate);
}

struct sync_job {
	struct ledger_writer *w;
	pthread_t thread;
	bool threaded;
	int rc;
};

static void *
sync_main(void *arg)
{
	struct sync_job *j = arg;

	if (j->w->poisoned)
		j->rc = 0;
	else
		j->rc = j->w->bad ? ERR_SYS : pack_sync(j->w->w);
	return NULL;
}

/* All writers at once: on hard disks the syncs then share their seeks. */
int
ledger_sync_writers(struct ledger_writer **w, unsigned n)
{
	struct sync_job *jobs = xcalloc(n + 1, sizeof(*jobs));
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		jobs[i].w = w[i];
		jobs[i].threaded = i + 1 < n && pack_unsynced(w[i]->w) > 0 &&
		    pthread_create(
			&jobs[i].thread, NULL, sync_main, &jobs[i]) == 0;
		if (!jobs[i].threaded)
			sync_main(&jobs[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		if (jobs[i].threaded)
			pthread_join(jobs[i].thread, NULL);
		if (jobs[i].rc != 0) {
			w[i]->bad = true;
			rc = jobs[i].rc;
		}
	}
	free(jobs);
	return rc;
}

struct change *
closing_change(struct closing *c, const struct id *id)
{
	bool fresh;

	return idmap_add(&c->changes, id, &fresh);
}

void
closing_flag(struct closing *c, const struct id *id, bool damaged)
{
	index_batch_damaged(c->ib, id, damaged);
	if (damaged)
		c->nflagged++;
	else
		c->nhealed++;
}

void
closing_unref(struct closing *c, const struct id *id)
{
	struct change *ch = closing_change(c, id);

	ch->op.refs--;
	ch->op.stamp = c->b->number;
	ch->dying = true;
}

/* One put against what the index holds. */
static void
resolve_put(struct closing *c, const struct id *id, const struct pending *p,
    const struct index_entry *cur)
{
	struct change *ch = closing_change(c, id);

	ch->op.stamp = c->b->number;
	ch->refs_before = cur->refs;
	if (index_present(cur) && (cur->flags & INDEX_DAMAGED) == 0)
		return; /* there and sound: the new copy is dead bytes */
	if (!index_present(cur) && cur->refs != 0) {
		/* A count without a place: rule 9 says it cannot be. */
		log_error("the index counts references to a chunk it does not "
			  "have; stop the daemon and run backstay fsck");
		index_batch_remove(c->ib, id);
		index_batch_number(c->ib, INDEX_NEEDS_FSCK, 1);
	}
	ch->op.place = p->place;
	ch->op.kind = p->kind;
	ch->op.level = p->level;
	ch->op.flags = p->flags;
	pack_counts_add(&c->live, &p->place, 1);
	if (index_present(cur)) {
		/* Healed; its children are counted already, but where a
		 * rebuild could not tell them. */
		ch->op.clear = INDEX_DAMAGED | INDEX_UNCOUNTED;
		closing_flag(c, id, false);
		pack_counts_add(&c->live, &cur->place, -1);
		if (p->kind == RECORD_CHUNK)
			c->unique_raw +=
			    (int64_t)p->place.raw_len - cur->place.raw_len;
		if ((cur->flags & INDEX_UNCOUNTED) == 0)
			return;
	} else {
		ch->fresh = true;
		ch->refs_before = 0;
		if (p->kind == RECORD_CHUNK)
			c->unique_raw += p->place.raw_len;
	}
	/* The table may move: ${ch} is not used from here on. */
	for (unsigned i = 0; i < p->nchildren; i++)
		if (!id_is_hole(&p->children[i]))
			closing_change(c, &p->children[i])->op.refs++;
}

static int
by_id(const void *a, const void *b)
{
	return memcmp(a, b, ID_LEN);
}

/* In order of ids, so that the index is read and written in its own order. */
static int
resolve(struct closing *c)
{
	size_t n = c->b->ops.n, at = 0, i = 0;
	struct id *ids = xmalloc(n * sizeof(*ids));
	struct index_entry *cur = xmalloc(GET_MANY * sizeof(*cur));
	const struct id *id;
	int rc = 0;

	while (idmap_next(&c->b->ops, &at, &id) != NULL)
		ids[i++] = *id;
	qsort(ids, n, sizeof(*ids), by_id);
	for (i = 0; i < n; i += GET_MANY) {
		size_t lot = n - i < GET_MANY ? n - i : GET_MANY;

		rc = index_get_many(c->l->index, ids + i, lot, cur);
		if (rc != 0)
			break;
		for (size_t k = 0; k < lot; k++)
			resolve_put(c, &ids[i + k],
			    idmap_find(&c->b->ops, &ids[i + k]), &cur[k]);
	}
	free(cur);
	free(ids);
	return rc;
}

static void
write_changes(struct closing *c)
{
	const struct id *id;
	struct change *ch;
	size_t at = 0;

	while ((ch = idmap_next(&c->changes, &at, &id)) != NULL) {
		index_batch_merge(c->ib, id, &ch->op);
		/* Whatever was stamped and has no reference may be due for
		 * removal one day (rule 19). */
		if (ch->dying ||
		    (ch->op.stamp != 0 && ch->refs_before + ch->op.refs == 0))
			index_batch_dying(c->ib, c->b->number, id);
	}
}

/* A pack as this batch leaves it. */
static void
write_pack(void *arg, const struct pack_info *changed)
{
	struct closing *c = arg;
	struct pack_info info = *changed, was;
	int64_t *live = pack_counts_at(&c->live, info.number);

	info.live = *live;
	if (packs_get(c->l->packs, info.number, &was) == 0) {
		info.live += was.live;
		/* What a writer had to tell may be older than its end. */
		if (was.state == PACK_DEAD)
			info.state = PACK_DEAD;
	}
	*live = 0; /* counted */
	packs_update(c->l->packs, &info);
	index_batch_pack(c->ib, &info);
}

static void
write_packs(struct closing *c)
{
	int64_t *live;
	uint32_t pack;
	size_t at = 0;

	/* The manifests' pack may be newer than the swap: all writers now. */
	pthread_mutex_lock(&c->l->mu);
	for (struct ledger_writer *w = c->l->writers; w != NULL; w = w->next)
		pack_synced(w->w, write_pack, c);
	pthread_mutex_unlock(&c->l->mu);
	while ((live = pack_counts_next(&c->live, &at, &pack)) != NULL) {
		struct pack_info info;

		if (*live != 0 && packs_get(c->l->packs, pack, &info) == 0)
			write_pack(c, &info);
	}
}

int
ledger_grant(struct ledger *l)
{
	struct index_batch *ib;
	uint64_t end;
	int rc;

	if (index_number(l->index, INDEX_NUMBERS_END, &end) != 0)
		return ERR_SYS;
	l->numbers_end = end + GRANT;
	ib = index_batch_new(l->index);
	index_batch_number(ib, INDEX_NUMBERS_END, l->numbers_end);
	fault_pass(FAULT_LEDGER_GRANT);
	rc = index_batch_write(ib, true);
	index_batch_free(ib);
	if (rc == 0)
		packs_number_from(
		    l->packs, (uint32_t)end, (uint32_t)l->numbers_end);
	return rc;
}

static void
write_batch(struct closing *c)
{
	struct ledger *l = c->l;
	bool grant = packs_numbers_left(l->packs) < GRANT_LOW;

	write_changes(c);
	write_packs(c);
	index_batch_number(c->ib, INDEX_PUBLISHED, c->b->number);
	index_batch_number(c->ib, INDEX_SEQUENCE, l->sequence);
	index_batch_number(c->ib, INDEX_UNIQUE_RAW,
	    (uint64_t)((int64_t)l->unique_raw + c->unique_raw));
	if (grant)
		index_batch_number(
		    c->ib, INDEX_NUMBERS_END, l->numbers_end + GRANT);
	fault_pass(FAULT_BATCH_WRITE);
	if (index_batch_write(c->ib, true) != 0)
		ledger_fatal("the index could not be written");
	if (grant) {
		l->numbers_end += GRANT;
		packs_number_from(l->packs, 0, (uint32_t)l->numbers_end);
	}
}

/* Writers that are done with, once their last infos are in the index. */
static void
writers_sweep(struct ledger *l)
{
	struct ledger_writer **at = &l->writers;

	while (*at != NULL) {
		struct ledger_writer *w = *at;

		if ((w->sealing || w->poisoned) && !w->busy) {
			if (w == l->meta)
				l->meta = NULL;
			*at = w->next;
			pack_writer_free(w->w);
			free(w);
		} else {
			at = &w->next;
		}
	}
}

static void
requests_tell(struct ledger *l, struct batch *b)
{
	for (struct request *k = b->requests, *next; k != NULL; k = next) {
		next = k->next; /* gone as soon as its owner runs */
		k->done = true;
	}
	b->requests = NULL;
	pthread_cond_broadcast(&l->done);
}

static void
publish(struct closing *c)
{
	struct ledger *l = c->l;

	pthread_mutex_lock(&l->mu);
	l->published = c->b->number;
	l->unique_raw = (uint64_t)((int64_t)l->unique_raw + c->unique_raw);
	l->damage.n += c->nflagged - c->nhealed;
	l->damage.found += c->nflagged > 0;
	l->damage.changed += c->nflagged + c->nhealed > 0;
	l->closing = NULL;
	requests_tell(l, c->b);
	writers_sweep(l);
	pthread_mutex_unlock(&l->mu);
}

/*
 * Rule 14: after a failed sync nobody knows what is on disk.  All that is
 * pending is thrown away as after a crash, every session ends, the pack is
 * condemned.  What was published stands.
 */
static void
throw_away(struct closing *c, int code)
{
	struct ledger *l = c->l;
	struct batch *fresh;
	struct err why;

	err_set(&why, code,
	    "the repository could not make its data durable (%s); see the "
	    "daemon's log",
	    code == ERR_NOSPC ? "its volume is full" : "a sync failed");
	log_error("a sync failed: %zu pending records are thrown away, all "
		  "running backups end",
	    c->b->ops.n + l->open->ops.n);
	closing_bury(c);
	/* The gate: nobody is between appending and queueing. */
	pthread_rwlock_wrlock(&l->gate);
	pthread_mutex_lock(&l->mu);
	for (unsigned i = 0; i < LEDGER_SESSIONS_MAX; i++) {
		if (l->session[i] != NULL && l->session[i]->over.code == 0)
			l->session[i]->over = why;
		l->slot_free_after[i] = 0;
	}
	for (struct ledger_writer *w = l->writers; w != NULL; w = w->next)
		if (w->bad && !w->poisoned) {
			if (pack_poison(w->w) != 0)
				ledger_fatal(
				    "a pack whose sync failed could not be "
				    "renamed");
			w->poisoned = true;
		}
	for (struct request *k = c->b->requests; k != NULL; k = k->next)
		if (k->why.code == 0)
			k->why = why;
	for (struct request *k = l->open->requests; k != NULL; k = k->next)
		k->why = why;
	l->closing = NULL;
	requests_tell(l, c->b);
	requests_tell(l, l->open);
	fresh = batch_new(l->open->number + 1);
	batch_free(l->open);
	l->open = fresh;
	/* Have the poisoned packs' infos written soon. */
	fresh->opened_ms = now_ms();
	pthread_cond_broadcast(&l->space);
	pthread_mutex_unlock(&l->mu);
	pthread_rwlock_unlock(&l->gate);
}

void
ledger_close(struct ledger *l)
{
	struct closing c = { .l = l };
	int rc;

	swap(&c);
	fault_pass(FAULT_BATCH_SWAPPED);
	idmap_init(&c.changes, sizeof(struct change));
	pack_counts_init(&c.live);
	c.ib = index_batch_new(l->index);
	rc = ledger_sync_writers(c.writers, c.nwriters);
	if (rc == 0) {
		fault_pass(FAULT_BATCH_SYNCED);
		if (resolve(&c) != 0)
			ledger_fatal("the index cannot be read");
		rc = closing_commit(&c);
	}
	if (rc == 0) {
		closing_apply(&c);
		write_batch(&c);
		fault_pass(FAULT_BATCH_PUBLISH);
		publish(&c);
		fault_pass(FAULT_BATCH_PUBLISHED);
	} else {
		fault_pass(FAULT_SYNC_FAILED);
		throw_away(&c, rc);
	}
	index_batch_free(c.ib);
	pack_counts_fini(&c.live);
	idmap_fini(&c.changes);
	free(c.writers);
	batch_free(c.b);
}
