/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Incomplete manifests: STORE.md 8.
 *
 * What a session stored is held by its frontier: the chunks and nodes that no
 * node of it holds yet.  An incomplete manifest is an ordinary one whose
 * volumes are those ids, one after another: for each level a volume whose tree
 * has them at that level.  So the reclaimer, fsck and a rebuild need to know
 * nothing of it.
 *
 * The order: turn, so that from then on answers are given as to a new session;
 * take the frontier; commit it; advance, so that the reclaimer may pass.  What
 * was answered before the turn is in the frontier or under a node of it; what
 * was answered after it has a reference or a stamp that the new start protects.
 */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "repo/store/store_impl.h"

enum { CHECKPOINT_BYTES = 1 << 30 };

struct held {
	struct id id;
	struct frontier_id f;
};

bool
store_checkpoint_due(struct store_session *x, bool hurry)
{
	uint64_t stored, every = x->store->checkpoint_ms;

	pthread_mutex_lock(&x->mu);
	stored = x->stored;
	pthread_mutex_unlock(&x->mu);
	if (hurry && every > CHECKPOINT_HURRY_MS)
		every = CHECKPOINT_HURRY_MS;
	/* Also if nothing was stored: its start must move on. */
	return stored >= CHECKPOINT_BYTES ||
	    now_ms() - x->checkpoint_ms >= every;
}

bool
store_checkpoint_wanted(struct store_session *x)
{
	bool wanted;

	pthread_mutex_lock(&x->mu);
	wanted = x->stored > 0;
	pthread_mutex_unlock(&x->mu);
	return wanted;
}

/* By kind, level and whether it is a tail, so that like stands with like. */
static int
by_place(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	int kx = (x->f.tail ? 512 : 0) + (x->f.kind == RECORD_NODE ? 256 : 0) +
	    x->f.level;
	int ky = (y->f.tail ? 512 : 0) + (y->f.kind == RECORD_NODE ? 256 : 0) +
	    y->f.level;

	return kx != ky ? kx - ky : memcmp(x->id.b, y->id.b, ID_LEN);
}

static struct held *
take_frontier(struct store_session *x, size_t *n, uint64_t *start)
{
	const struct frontier_id *f;
	const struct id *id;
	struct held *all;
	size_t at = 0;

	*n = 0;
	pthread_rwlock_wrlock(&x->gate);
	*start = ledger_turn(x->ledger);
	pthread_mutex_lock(&x->mu);
	x->stored = 0;
	all = xmalloc(x->frontier.n * sizeof(*all));
	while ((f = idmap_next(&x->frontier, &at, &id)) != NULL)
		all[(*n)++] = (struct held){ .id = *id, .f = *f };
	pthread_mutex_unlock(&x->mu);
	pthread_rwlock_unlock(&x->gate);
	qsort(all, *n, sizeof(*all), by_place);
	return all;
}

/* One volume over ${n} ids of one kind and level; they are used up. */
static int
hold_run(struct store_session *x, struct store_lane *l, struct held *run,
    size_t n, struct manifest *m, struct err *e)
{
	struct manifest_volume *v = &m->volume[m->nvolumes];
	bool node = run->f.kind == RECORD_NODE, tail = run->f.tail;
	uint64_t slices = n * (node ? node_span(run->f.level) : 1);
	unsigned level = node ? run->f.level + 1u : 0;

	if (m->nvolumes == MANIFEST_VOLUMES_MAX ||
	    slices > VOLUME_SIZE_MAX / x->store->format.chunk_size)
		return err_set(e, ERR_LIMIT, "too much is open at once");
	snprintf(v->name, sizeof(v->name), "part-%u", m->nvolumes);
	snprintf(v->kind, sizeof(v->kind), "part");
	v->size = slices * x->store->format.chunk_size;
	for (; n > 1 || (level == 0 && !node); level++) {
		size_t above = (n + NODE_FANOUT - 1) / NODE_FANOUT;

		for (size_t i = 0; i < above; i++) {
			struct node up = { .level = (uint8_t)level,
				.tail = tail };
			int rc;

			for (size_t k = i * NODE_FANOUT;
			     k < n && up.n < NODE_FANOUT; k++)
				up.child[up.n++] = run[k].id;
			rc = store_hold_node(x, l, &up, &run[i].id, e);
			if (rc != 0)
				return rc;
		}
		n = above;
		node = true;
	}
	v->root = run->id;
	m->nvolumes++;
	return 0;
}

int
store_checkpoint(struct store_session *x, struct store_lane *l,
    struct manifest *m, const struct store_drop *d, unsigned n, struct err *e)
{
	struct held *all;
	size_t nall, i, k;
	uint64_t start;
	int rc = 0;

	x->checkpoint_ms = now_ms();
	fault_pass(FAULT_CHECKPOINT_TURN);
	all = take_frontier(x, &nall, &start);
	if (nall == 0) {
		/* Then nothing was answered that is not held. */
		ledger_advance(x->ledger, start);
		free(all);
		return err_set(e, ERR_NOENT, "nothing is stored yet");
	}
	m->incomplete = true;
	m->nvolumes = 0;
	m->domain = x->domain;
	for (i = 0; rc == 0 && i < nall; i = k) {
		const struct frontier_id *f = &all[i].f;

		/* A short slice ends its volume: each has one of its own. */
		for (k = i + 1; k < nall && !f->tail; k++)
			if (all[k].f.kind != f->kind ||
			    all[k].f.level != f->level || all[k].f.tail)
				break;
		rc = hold_run(x, l, all + i, k - i, m, e);
	}
	free(all);
	fault_pass(FAULT_CHECKPOINT_COMMIT);
	if (rc == 0)
		rc = store_commit_unchecked(x, m, d, n, e);
	fault_pass(FAULT_CHECKPOINT_ADVANCE);
	if (rc == 0)
		ledger_advance(x->ledger, start);
	return rc;
}
