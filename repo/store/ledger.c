/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes' side of the ledger: sessions, look-ups, puts, commits. */
#include "repo/store/ledger.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/base/cond.h"
#include "proto/base/io.h"
#include "proto/base/log.h"
#include "proto/name.h"
#include "repo/store/ledger_impl.h"

enum { WRITERS_IDLE_MAX = 8 };

struct batch *
batch_new(uint64_t number)
{
	struct batch *b = xcalloc(1, sizeof(*b));

	b->number = number;
	idmap_init(&b->ops, sizeof(struct pending));
	idmap_init(&b->notes, sizeof(struct read_note));
	return b;
}

void
batch_free(struct batch *b)
{
	struct pending *p;
	size_t at = 0;

	while ((p = idmap_next(&b->ops, &at, NULL)) != NULL)
		free(p->children);
	idmap_fini(&b->notes);
	idmap_fini(&b->ops);
	free(b);
}

void
gate_init(pthread_rwlock_t *gate)
{
	pthread_rwlockattr_t a;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(
	    &a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(gate, &a);
	pthread_rwlockattr_destroy(&a);
}

struct ledger *
ledger_new(struct index *x, struct pack_set *p, unsigned batch_ms)
{
	struct ledger *l = xcalloc(1, sizeof(*l));

	l->index = x;
	l->packs = p;
	l->batch_ms = batch_ms != 0 ? batch_ms : LEDGER_BATCH_MS;
	gate_init(&l->gate);
	pthread_mutex_init(&l->mu, NULL);
	cond_init(&l->work);
	pthread_cond_init(&l->space, NULL);
	pthread_cond_init(&l->done, NULL);
	return l;
}

/* How long the thread may still wait before it closes the batch.  mu held. */
static uint64_t
due_ms(const struct ledger *l)
{
	const struct batch *b = l->open;
	uint64_t age;

	if (l->stopping || b->urgent || b->bytes >= LEDGER_BATCH_BYTES ||
	    b->ops.n >= LEDGER_PENDING_MAX / 2)
		return 0;
	if (b->opened_ms == 0)
		return UINT64_MAX;
	age = now_ms() - b->opened_ms;
	return age >= l->batch_ms ? 0 : l->batch_ms - age;
}

static void *
ledger_main(void *arg)
{
	struct ledger *l = arg;
	bool last = false;

	while (!last) {
		uint64_t wait;

		pthread_mutex_lock(&l->mu);
		while ((wait = due_ms(l)) != 0) {
			if (wait == UINT64_MAX) {
				pthread_cond_wait(&l->work, &l->mu);
				continue;
			}
			cond_wait_until(&l->work, &l->mu, now_ms() + wait);
		}
		last = l->stopping;
		if (last)
			for (struct ledger_writer *w = l->writers; w != NULL;
			     w = w->next) {
				pack_finish(w->w);
				w->finished = true;
			}
		pthread_mutex_unlock(&l->mu);
		ledger_close(l);
	}
	return NULL;
}

static int
count_damaged(void *arg, const struct id *id)
{
	uint64_t *n = arg;

	(void)id;
	++*n;
	return 0;
}

int
ledger_start(struct ledger *l)
{
	int rc;

	if (index_number(l->index, INDEX_PUBLISHED, &l->published) != 0 ||
	    index_number(l->index, INDEX_SEQUENCE, &l->sequence) != 0 ||
	    index_number(l->index, INDEX_UNIQUE_RAW, &l->unique_raw) != 0 ||
	    index_damaged_each(l->index, count_damaged, &l->damage.n) != 0)
		return ERR_SYS;
	/* Whoever remembers what was damaged begins with 0. */
	l->damage.found = l->damage.changed = 1;
	rc = ledger_grant(l);
	if (rc != 0)
		return rc;
	l->open = batch_new(l->published + 1);
	errno = pthread_create(&l->thread, NULL, ledger_main, l);
	if (errno != 0)
		return log_sys("ledger: start its thread");
	l->started = true;
	return 0;
}

/* mu is held. */
static void
sessions_end(struct ledger *l, const struct err *why)
{
	for (unsigned i = 0; i < LEDGER_SESSIONS_MAX; i++)
		if (l->session[i] != NULL && l->session[i]->over.code == 0)
			l->session[i]->over = *why;
}

void
ledger_stop(struct ledger *l)
{
	struct err why;

	if (!l->started)
		return;
	err_set(&why, ERR_CLOSED, "the daemon is stopping");
	pthread_mutex_lock(&l->mu);
	sessions_end(l, &why);
	l->stopping = true;
	pthread_cond_broadcast(&l->work);
	pthread_cond_broadcast(&l->space);
	pthread_mutex_unlock(&l->mu);
	pthread_join(l->thread, NULL);
	l->started = false;
}

void
ledger_free(struct ledger *l)
{
	if (l == NULL)
		return;
	assert(!l->started);
	while (l->writers != NULL) {
		struct ledger_writer *w = l->writers;

		l->writers = w->next;
		pack_writer_free(w->w);
		free(w);
	}
	if (l->open != NULL)
		batch_free(l->open);
	pthread_cond_destroy(&l->done);
	pthread_cond_destroy(&l->space);
	pthread_cond_destroy(&l->work);
	pthread_mutex_destroy(&l->mu);
	pthread_rwlock_destroy(&l->gate);
	free(l);
}

struct ledger_writer *
ledger_writer_new(struct ledger *l, enum pack_type type, uint32_t domain)
{
	struct ledger_writer *w = xcalloc(1, sizeof(*w));

	w->w = pack_writer_new(l->packs, type, domain);
	w->domain = domain;
	w->meta = type == PACK_META;
	w->next = l->writers;
	l->writers = w;
	return w;
}

struct ledger_writer *
ledger_meta(struct ledger *l)
{
	if (l->meta == NULL || l->meta->bad || l->meta->finished)
		l->meta = ledger_writer_new(l, PACK_META, 0);
	return l->meta;
}

uint64_t
ledger_horizon_locked(const struct ledger *l)
{
	uint64_t h = l->published + 1;

	for (unsigned i = 0; i < LEDGER_SESSIONS_MAX; i++)
		if (l->session[i] != NULL && l->session[i]->start < h)
			h = l->session[i]->start;
	return h;
}

void
ledger_touch(struct ledger *l)
{
	if (l->open->opened_ms == 0)
		l->open->opened_ms = now_ms();
}

/* A data pack for a session: an idle one of the domain, or a new one.  mu is
 * held. */
static struct ledger_writer *
writer_take(struct ledger *l, uint32_t domain)
{
	struct ledger_writer *w;

	for (w = l->writers; w != NULL; w = w->next)
		if (!w->meta && !w->busy && !w->finished && !w->bad &&
		    w->domain == domain)
			break;
	if (w == NULL)
		w = ledger_writer_new(l, PACK_DATA, domain);
	w->busy = true;
	return w;
}

/* mu is held. */
static void
writer_release(struct ledger *l, struct ledger_writer *gone)
{
	unsigned idle = 0;

	gone->busy = false;
	for (struct ledger_writer *w = l->writers; w != NULL; w = w->next)
		if (!w->meta && !w->busy && !w->finished)
			idle++;
	if (idle > WRITERS_IDLE_MAX) {
		pack_finish(gone->w);
		gone->finished = true;
	}
}

int
ledger_begin(struct ledger *l, uint32_t domain, struct ledger_session **out,
    struct err *e)
{
	struct ledger_session *s;
	unsigned slot;

	pthread_mutex_lock(&l->mu);
	if (l->stopping) {
		pthread_mutex_unlock(&l->mu);
		return err_set(e, ERR_CLOSED, "the daemon is stopping");
	}
	/* A slot's bit may still stand in unpublished operations. */
	for (slot = 0; slot < LEDGER_SESSIONS_MAX; slot++)
		if (l->session[slot] == NULL &&
		    l->slot_free_after[slot] <= l->published)
			break;
	if (slot == LEDGER_SESSIONS_MAX) {
		pthread_mutex_unlock(&l->mu);
		return err_set(e, ERR_LIMIT,
		    "%d backups run already; try again when one has ended",
		    LEDGER_SESSIONS_MAX);
	}
	s = xcalloc(1, sizeof(*s));
	s->l = l;
	s->slot = slot;
	s->start = s->answers = l->published + 1;
	s->data = writer_take(l, domain);
	l->session[slot] = s;
	pthread_mutex_unlock(&l->mu);
	*out = s;
	return 0;
}

void
ledger_end(struct ledger_session *s)
{
	struct ledger *l;

	if (s == NULL)
		return;
	l = s->l;
	pthread_mutex_lock(&l->mu);
	l->session[s->slot] = NULL;
	if (l->open->ops.n > 0)
		l->slot_free_after[s->slot] = l->open->number;
	else if (l->closing != NULL)
		l->slot_free_after[s->slot] = l->closing->number;
	writer_release(l, s->data);
	pthread_mutex_unlock(&l->mu);
	free(s);
}

uint64_t
ledger_published(struct ledger *l)
{
	uint64_t published;

	pthread_mutex_lock(&l->mu);
	published = l->published;
	pthread_mutex_unlock(&l->mu);
	return published;
}

/* mu is held. */
static bool
find_own(const struct ledger_session *s, const struct batch *b,
    const struct id *id, uint8_t kind, uint8_t level, struct ledger_found *out)
{
	const struct pending *p;

	if (b == NULL)
		return false;
	p = idmap_find(&b->ops, id);
	if (p == NULL || (p->by & (uint64_t)1 << s->slot) == 0 ||
	    p->kind != kind || p->level != level)
		return false;
	*out = (struct ledger_found){
		.have = true, .flags = p->flags, .place = p->place
	};
	return true;
}

/* Rule 2, for a published entry. */
static void
judge(uint64_t start, const struct index_entry *x, uint8_t kind, uint8_t level,
    struct ledger_found *out)
{
	if (!index_present(x) || x->kind != kind || x->level != level)
		return;
	out->flags = x->flags;
	out->place = x->place;
	out->damaged = (x->flags & INDEX_DAMAGED) != 0;
	out->have = !out->damaged && (x->refs > 0 || x->stamp >= start);
}

int
ledger_find(struct ledger_session *s, uint8_t kind, uint8_t level,
    const struct id *ids, unsigned n, struct ledger_found *out, struct err *e)
{
	struct ledger *l = s->l;
	struct id ask[NODE_FANOUT];
	struct index_entry entry[NODE_FANOUT];
	unsigned where[NODE_FANOUT], nask = 0;
	uint64_t start;
	int rc;

	assert(n <= NODE_FANOUT);
	pthread_mutex_lock(&l->mu);
	start = s->answers;
	if (s->over.code != 0) {
		*e = s->over;
		pthread_mutex_unlock(&l->mu);
		return e->code;
	}
	for (unsigned i = 0; i < n; i++) {
		out[i] = (struct ledger_found){ .have = false };
		if (find_own(s, l->open, &ids[i], kind, level, &out[i]) ||
		    find_own(s, l->closing, &ids[i], kind, level, &out[i]))
			continue;
		ask[nask] = ids[i];
		where[nask++] = i;
	}
	pthread_mutex_unlock(&l->mu);
	/* A batch leaves pending only after the index has it, so what was in
	 * neither batch above and is published meanwhile is seen here. */
	if (nask == 0)
		return 0;
	rc = index_get_many(l->index, ask, nask, entry);
	if (rc != 0)
		return err_set(e, rc, "the index cannot be read");
	for (unsigned i = 0; i < nask; i++)
		judge(start, &entry[i], kind, level, &out[where[i]]);
	return 0;
}

/* Waits for room in the open batch; done before the gate is taken, since the
 * thread needs the gate to make room. */
static int
wait_for_space(struct ledger_session *s, struct err *e)
{
	struct ledger *l = s->l;
	int rc;

	pthread_mutex_lock(&l->mu);
	while (s->over.code == 0 && l->open->ops.n >= LEDGER_PENDING_MAX)
		pthread_cond_wait(&l->space, &l->mu);
	rc = s->over.code;
	if (rc != 0)
		*e = s->over;
	pthread_mutex_unlock(&l->mu);
	return rc;
}

static void
queue(struct ledger_session *s, const struct ledger_put *put,
    const struct place *place)
{
	struct ledger *l = s->l;
	struct batch *b = l->open;
	struct pending *p;
	bool fresh;

	p = idmap_add(&b->ops, &put->record->id, &fresh);
	if (fresh) {
		p->place = *place;
		p->kind = put->record->kind;
		p->level = put->level;
		p->flags = put->flags;
		if (put->node != NULL) {
			p->nchildren = put->node->n;
			p->children = xmalloc(put->node->n * sizeof(struct id));
			memcpy(p->children, put->node->child,
			    put->node->n * sizeof(struct id));
		}
	}
	p->by |= (uint64_t)1 << s->slot;
	b->bytes += place->stored_len;
	if (b->opened_ms == 0) {
		b->opened_ms = now_ms();
		pthread_cond_signal(&l->work);
	} else if (b->bytes >= LEDGER_BATCH_BYTES ||
	    b->ops.n >= LEDGER_PENDING_MAX / 2) {
		pthread_cond_signal(&l->work);
	}
}

static void
say_failed_append(struct ledger *l, int rc, struct err *e)
{
	char free_text[16], kept_text[16];
	uint64_t avail, reserve;

	if (rc == ERR_NOSPC && packs_room(l->packs, &avail, &reserve) == 0)
		err_set(e, rc,
		    "the repository is full: %s are free on its volume and %s "
		    "of that are kept for deletes: free space there, or delete "
		    "backups",
		    size_print(avail, free_text),
		    size_print(reserve, kept_text));
	else
		err_set(e, rc,
		    "the repository could not write to a pack; see its log");
}

int
ledger_put(struct ledger_session *s, const struct ledger_put *p,
    uint64_t *stored, struct err *e)
{
	struct ledger *l = s->l;
	struct ledger_writer *w;
	struct place place;
	int rc;

	rc = wait_for_space(s, e);
	if (rc != 0)
		return rc;
	pthread_rwlock_rdlock(&l->gate);
	pthread_mutex_lock(&l->mu);
	w = s->data;
	if (p->record->kind != RECORD_CHUNK) {
		w = ledger_meta(l);
	}
	pthread_mutex_unlock(&l->mu);
	rc = pack_append(w->w, p->record, p->payload, &place);
	if (rc != 0) {
		if (rc == ERR_SYS)
			w->bad = true;
		say_failed_append(l, rc, e);
		goto out;
	}
	pthread_mutex_lock(&l->mu);
	if (s->over.code != 0) {
		*e = s->over;
		rc = e->code;
	} else {
		queue(s, p, &place);
		*stored = RECORD_HEADER_LEN + (uint64_t)place.stored_len;
	}
	pthread_mutex_unlock(&l->mu);
out:
	pthread_rwlock_unlock(&l->gate);
	return rc;
}

void
ledger_status(struct ledger *l, struct ledger_status *out)
{
	pthread_mutex_lock(&l->mu);
	*out = (struct ledger_status){ .published = l->published,
		.unique_raw = l->unique_raw };
	for (unsigned i = 0; i < LEDGER_SESSIONS_MAX; i++)
		out->nsessions += l->session[i] != NULL;
	pthread_mutex_unlock(&l->mu);
}

int
ledger_waiting_ms(struct ledger *l, uint64_t *ms)
{
	uint64_t since;

	if (pthread_mutex_trylock(&l->mu) != 0)
		return ERR_BUSY;
	since = l->closing != NULL ? l->closing->opened_ms : l->open->opened_ms;
	pthread_mutex_unlock(&l->mu);
	*ms = since != 0 ? now_ms() - since : 0;
	return 0;
}

void
ledger_damage(struct ledger *l, struct ledger_damage *out)
{
	pthread_mutex_lock(&l->mu);
	*out = l->damage;
	pthread_mutex_unlock(&l->mu);
}
