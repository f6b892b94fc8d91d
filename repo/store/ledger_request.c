/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of the ledger, and waited for. */
#include <stdlib.h>

#include "proto/base/log.h"
#include "repo/store/ledger_impl.h"

/* Queues ${r} in the open batch and waits until that is published or thrown
 * away.  ${urgent}: the batch closes at once; else only if nobody ingests, so
 * that reclaiming does not cut the batches of backups short. */
static int
ask(struct ledger *l, struct request *r, bool urgent)
{
	pthread_mutex_lock(&l->mu);
	if (l->stopping) {
		pthread_mutex_unlock(&l->mu);
		return err_set(&r->why, ERR_CLOSED, "the daemon is stopping");
	}
	if (r->session != NULL && r->session->over.code != 0) {
		r->why = r->session->over;
		pthread_mutex_unlock(&l->mu);
		return r->why.code;
	}
	for (unsigned i = 0; !urgent && i < LEDGER_SESSIONS_MAX; i++)
		if (l->session[i] != NULL)
			goto lazy;
	l->open->urgent = true;
lazy:
	ledger_touch(l);
	r->next = l->open->requests;
	l->open->requests = r;
	pthread_cond_signal(&l->work);
	while (!r->done)
		pthread_cond_wait(&l->done, &l->mu);
	pthread_mutex_unlock(&l->mu);
	return r->why.code;
}

static int
commit(struct ledger *l, struct ledger_session *s, struct manifest *m,
    const struct ledger_drop *d, unsigned n, struct err *e)
{
	struct request r = {
		.kind = REQUEST_COMMIT, .session = s, .m = m, .ndrops = n
	};
	int rc;

	r.drops = xcalloc(n, sizeof(*r.drops));
	for (unsigned i = 0; i < n; i++)
		r.drops[i].drop = d[i];
	rc = ask(l, &r, true);
	if (rc != 0)
		*e = r.why;
	for (unsigned i = 0; i < n; i++) {
		buf_fini(&r.drops[i].data);
		free(r.drops[i].m);
	}
	free(r.drops);
	buf_fini(&r.payload);
	return rc;
}

int
ledger_commit(struct ledger_session *s, struct manifest *m,
    const struct ledger_drop *d, unsigned n, struct err *e)
{
	struct ledger *l = s->l;
	int rc = commit(l, s, m, d, n, e);

	if (m->incomplete)
		return rc;
	pthread_mutex_lock(&l->mu);
	if (s->over.code == 0)
		err_set(&s->over, ERR_CLOSED, "the backup is over");
	pthread_mutex_unlock(&l->mu);
	return rc;
}

int
ledger_drop(
    struct ledger *l, const struct ledger_drop *d, unsigned n, struct err *e)
{
	return commit(l, NULL, NULL, d, n, e);
}

uint64_t
ledger_turn(struct ledger_session *s)
{
	struct ledger *l = s->l;
	uint64_t start;

	pthread_mutex_lock(&l->mu);
	start = s->answers = l->published + 1;
	pthread_mutex_unlock(&l->mu);
	return start;
}

void
ledger_advance(struct ledger_session *s, uint64_t start)
{
	pthread_mutex_lock(&s->l->mu);
	s->start = start;
	pthread_mutex_unlock(&s->l->mu);
}

uint64_t
ledger_horizon(struct ledger *l)
{
	uint64_t horizon;

	pthread_mutex_lock(&l->mu);
	horizon = ledger_horizon_locked(l);
	pthread_mutex_unlock(&l->mu);
	return horizon;
}

int
ledger_remove(struct ledger *l, const struct ledger_dying *d, unsigned n,
    uint64_t below, struct ledger_removed *out)
{
	struct request r = { .kind = REQUEST_REMOVE,
		.dying = d,
		.below = below,
		.n = n,
		.removed = out };

	*out = (struct ledger_removed){ 0 };
	return ask(l, &r, false);
}

int
ledger_move(struct ledger *l, const struct ledger_move *m, unsigned n)
{
	struct request r = { .kind = REQUEST_MOVE, .moves = m, .n = n };
	int rc = ask(l, &r, false);

	return rc == 0 && r.nlost > 0 ? ERR_MISSING : rc;
}

/* Nobody waits: a reader that meets many must not wait for a batch each. */
static void
note(struct ledger *l, const struct id *id, const struct place *place,
    bool sound)
{
	struct read_note *n;
	bool fresh;

	pthread_mutex_lock(&l->mu);
	/* Beyond the bound it is for the next read to find it. */
	if (!l->stopping && l->open->notes.n < LEDGER_PENDING_MAX) {
		n = idmap_add(&l->open->notes, id, &fresh);
		*n = (struct read_note){ .place = *place, .sound = sound };
		ledger_touch(l);
		pthread_cond_signal(&l->work);
	}
	pthread_mutex_unlock(&l->mu);
}

void
ledger_damaged(struct ledger *l, const struct id *id, const struct place *place)
{
	note(l, id, place, false);
}

void
ledger_sound(struct ledger *l, const struct id *id, const struct place *place)
{
	note(l, id, place, true);
}

void
ledger_settle(struct ledger *l)
{
	struct request r = { .kind = REQUEST_SETTLE };

	ask(l, &r, true);
}

int
ledger_retire(struct ledger *l, const uint32_t *packs, unsigned n)
{
	struct request r = { .kind = REQUEST_RETIRE };
	int rc;

	pthread_mutex_lock(&l->mu);
	l->retire = packs;
	l->nretire = n;
	pthread_mutex_unlock(&l->mu);
	rc = ask(l, &r, false);
	pthread_mutex_lock(&l->mu);
	l->retire = NULL;
	pthread_mutex_unlock(&l->mu);
	return rc;
}

int
ledger_forget(struct ledger *l, uint32_t *packs, unsigned n)
{
	struct request r = { .kind = REQUEST_FORGET, .packs = packs, .n = n };

	return ask(l, &r, false);
}

int
ledger_gone(struct ledger *l, const uint32_t *packs, unsigned n)
{
	uint32_t *own = xmalloc(n * sizeof(*own));
	struct request r = { .kind = REQUEST_GONE, .packs = own, .n = n };
	int rc;

	memcpy(own, packs, n * sizeof(*own));
	rc = ask(l, &r, false);
	free(own);
	return rc;
}

int
ledger_copy(struct ledger *l, uint32_t domain, struct record *r,
    const void *payload, struct place *out)
{
	struct ledger_writer *w;
	int rc;

	pthread_rwlock_rdlock(&l->gate);
	pthread_mutex_lock(&l->mu);
	if (r->kind != RECORD_CHUNK) {
		w = ledger_meta(l);
	} else {
		for (w = l->writers; w != NULL; w = w->next)
			if (w->copies && !w->finished && !w->bad &&
			    w->domain == domain)
				break;
		if (w == NULL) {
			w = ledger_writer_new(l, PACK_DATA, domain);
			w->copies = w->busy = true;
		}
	}
	pthread_mutex_unlock(&l->mu);
	rc = pack_append_reserved(w->w, r, payload, out);
	if (rc == ERR_SYS)
		w->bad = true;
	pthread_rwlock_unlock(&l->gate);
	return rc;
}
