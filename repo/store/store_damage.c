/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is damaged, and which slices of a volume that hits.
 *
 * The ids come from the index, which keeps them apart for this.  Going down a
 * tree reads every node of it, so nodes below which nothing is damaged are
 * remembered: most of a backup's are those of the one before.
 */
#include <pthread.h>
#include <stdlib.h>

#include "proto/base/io.h"
#include "repo/store/store_impl.h"

enum {
	DAMAGE_IDS_MAX = 1 << 20, /* 40 MB of them */
	DAMAGE_CLEAN_MAX = 1 << 20,
	TOO_MANY = 1000 /* a visit's way to end; no code of err.h */
};

struct damage {
	pthread_mutex_t mu;
	/* All guarded by mu. */
	uint64_t changed; /* the ledger's count when the ids were read */
	uint64_t found;   /* and when clean was begun */
	bool unknown;     /* too many, or the index could not be read */
	struct idmap ids;
	struct idmap clean; /* nodes below which nothing is damaged */
};

struct damage *
damage_new(void)
{
	struct damage *d = xcalloc(1, sizeof(*d));

	pthread_mutex_init(&d->mu, NULL);
	idmap_init(&d->ids, 1);
	idmap_init(&d->clean, 1);
	return d;
}

void
damage_free(struct damage *d)
{
	if (d == NULL)
		return;
	idmap_fini(&d->clean);
	idmap_fini(&d->ids);
	pthread_mutex_destroy(&d->mu);
	free(d);
}

static int
see_damaged(void *arg, const struct id *id)
{
	struct damage *d = arg;
	bool fresh;

	if (d->ids.n >= DAMAGE_IDS_MAX)
		return TOO_MANY;
	idmap_add(&d->ids, id, &fresh);
	return 0;
}

/* mu is held. */
static void
refresh(struct store *s, const struct ledger_damage *now)
{
	struct damage *d = s->damage;

	if (d->found != now->found) {
		idmap_fini(&d->clean);
		idmap_init(&d->clean, 1);
		d->found = now->found;
	}
	if (d->changed == now->changed)
		return;
	idmap_fini(&d->ids);
	idmap_init(&d->ids, 1);
	d->unknown = index_damaged_each(s->index, see_damaged, d) != 0;
	/* Published before it is counted: at least what was counted is seen. */
	d->changed = now->changed;
}

uint64_t
store_ndamaged(struct store *s)
{
	struct ledger_damage now;

	ledger_damage(s->ledger, &now);
	return now.n;
}

void
store_damage_settle(struct store *s)
{
	ledger_settle(s->ledger);
}

bool
store_any_damaged(struct store *s, const struct id *ids, unsigned n)
{
	struct damage *d = s->damage;
	struct ledger_damage now;
	bool any;

	ledger_damage(s->ledger, &now);
	if (now.n == 0)
		return false;
	pthread_mutex_lock(&d->mu);
	refresh(s, &now);
	any = d->unknown;
	for (unsigned i = 0; !any && i < n; i++)
		any = d->ids.n > 0 && idmap_find(&d->ids, &ids[i]) != NULL;
	pthread_mutex_unlock(&d->mu);
	return any;
}

void
store_suspect(struct store *s, const struct id *id)
{
	struct index_entry x;

	if (index_get(s->index, id, &x) == 0 && (x.flags & INDEX_DAMAGED) == 0)
		ledger_damaged(s->ledger, id, &x.place);
}

/* Going down one volume. */
struct descent {
	struct store *s;
	struct store_lane *l;
	uint64_t nslices;
	uint64_t until_ms;
	uint64_t found;    /* damage that came later is not looked for */
	uint64_t nruns;    /* told or pending */
	uint64_t first, n; /* the run that may still grow */
	store_run_visit *visit;
	void *arg;
	struct err *e;
};

static int
flush_run(struct descent *w)
{
	uint64_t n = w->n;

	w->n = 0;
	return n > 0 ? w->visit(w->arg, w->first, n) : 0;
}

static int
add_run(struct descent *w, uint64_t first, uint64_t n)
{
	int rc;

	if (n > w->nslices - first)
		n = w->nslices - first;
	w->nruns++;
	if (w->n > 0 && w->first + w->n == first) {
		w->n += n;
		return 0;
	}
	rc = flush_run(w);
	w->first = first;
	w->n = n;
	return rc;
}

enum known { DAMAGED, CLEAN, UNKNOWN };

static enum known
what_is(struct descent *w, const struct id *id, bool chunk)
{
	struct damage *d = w->s->damage;
	enum known k = chunk ? CLEAN : UNKNOWN;

	pthread_mutex_lock(&d->mu);
	if (d->ids.n > 0 && idmap_find(&d->ids, id) != NULL)
		k = DAMAGED;
	else if (d->clean.n > 0 && idmap_find(&d->clean, id) != NULL)
		k = CLEAN;
	pthread_mutex_unlock(&d->mu);
	return k;
}

static void
now_clean(struct descent *w, const struct id *id)
{
	struct damage *d = w->s->damage;
	bool fresh;

	pthread_mutex_lock(&d->mu);
	if (d->found == w->found && d->clean.n < DAMAGE_CLEAN_MAX)
		idmap_add(&d->clean, id, &fresh);
	pthread_mutex_unlock(&d->mu);
}

static int
go_down(struct descent *w, const struct id *id, int level, uint64_t first)
{
	uint64_t span = level < 0 ? 1 : node_span((unsigned)level);
	uint64_t before = w->nruns;
	struct node *n;
	int rc = 0;

	if (id_is_hole(id) || first >= w->nslices)
		return 0;
	switch (what_is(w, id, level < 0)) {
	case DAMAGED: return add_run(w, first, span);
	case CLEAN: return 0;
	case UNKNOWN: break;
	}
	if (w->until_ms != 0 && now_ms() > w->until_ms)
		return err_set(w->e, ERR_TIMEOUT,
		    "looking for what is damaged takes too long");
	n = xmalloc(sizeof(*n));
	rc = store_read_node(w->s, w->l, id, (unsigned)level, n, w->e);
	if (rc == ERR_CORRUPT || rc == ERR_NOENT) {
		rc = add_run(w, first, span);
		goto out;
	}
	for (unsigned i = 0; rc == 0 && i < n->n; i++)
		rc = go_down(w, &n->child[i], level - 1,
		    first + i * (span / NODE_FANOUT));
	if (rc == 0 && w->nruns == before)
		now_clean(w, id);
out:
	free(n);
	return rc;
}

int
store_damage(struct store *s, struct store_lane *l, const struct id *root,
    uint64_t size, uint64_t until_ms, store_run_visit *visit, void *arg,
    struct err *e)
{
	struct descent w = { .s = s,
		.l = l,
		.nslices = chunk_nslices(size, s->format.chunk_size),
		.until_ms = until_ms,
		.visit = visit,
		.arg = arg,
		.e = e };
	struct ledger_damage now;
	bool unknown;
	int rc;

	ledger_damage(s->ledger, &now);
	if (now.n == 0 || w.nslices == 0)
		return 0;
	pthread_mutex_lock(&s->damage->mu);
	refresh(s, &now);
	w.found = now.found;
	unknown = s->damage->unknown;
	pthread_mutex_unlock(&s->damage->mu);
	if (unknown)
		return err_set(e, ERR_LIMIT,
		    "too much is damaged to tell what it hits; run `backstay "
		    "fsck`");
	rc = go_down(&w, root, (int)node_root_level(w.nslices), 0);
	return rc != 0 ? rc : flush_run(&w);
}
