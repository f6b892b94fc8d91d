/* SPDX-License-Identifier: Apache-2.0 */
/* Putting: what a lane may add to the store, and how it is checked. */
#include <assert.h>
#include <stdlib.h>

#include "proto/base/bytes.h"
#include "proto/base/fault.h"
#include "proto/base/io.h"
#include "repo/store/joined.h"

int
store_begin(
    struct store *s, uint32_t domain, struct store_session **out, struct err *e)
{
	struct store_session *x = xcalloc(1, sizeof(*x));
	int rc;

	x->store = s;
	x->domain = domain;
	rc = ledger_begin(s->ledger, domain, &x->ledger, e);
	if (rc != 0) {
		free(x);
		return rc;
	}
	gate_init(&x->gate);
	pthread_mutex_init(&x->mu, NULL);
	idmap_init(&x->frontier, sizeof(struct frontier_id));
	idmap_init(&x->lacking, sizeof(uint64_t));
	x->checkpoint_ms = now_ms();
	*out = x;
	return 0;
}

void
store_end(struct store_session *x)
{
	if (x == NULL)
		return;
	ledger_end(x->ledger);
	idmap_fini(&x->lacking);
	idmap_fini(&x->frontier);
	pthread_mutex_destroy(&x->mu);
	pthread_rwlock_destroy(&x->gate);
	free(x);
}

struct store_lane *
store_lane_new(struct store *s, const uint8_t *key)
{
	struct store_lane *l = xcalloc(1, sizeof(*l));

	l->hasher = hasher_new(key);
	l->codec = codec_new(0);
	l->raw = aligned_new(s->format.chunk_size);
	return l;
}

void
store_lane_free(struct store_lane *l)
{
	if (l == NULL)
		return;
	hasher_free(l->hasher);
	codec_free(l->codec);
	buf_fini(&l->payload);
	free(l->raw);
	joined_free(l);
	free(l->group);
	free(l);
}

/* mu is held. */
static int
frontier_add(struct store_session *x, const struct id *id, uint8_t kind,
    uint8_t level, bool tail, struct err *e)
{
	struct frontier_id *f;
	bool fresh;

	if (x->frontier.n >= FRONTIER_MAX &&
	    idmap_find(&x->frontier, id) == NULL)
		return err_set(e, ERR_LIMIT,
		    "more than %d chunks and nodes that no node holds",
		    FRONTIER_MAX);
	f = idmap_add(&x->frontier, id, &fresh);
	*f = (struct frontier_id){ .kind = kind, .level = level, .tail = tail };
	return 0;
}

/*
 * What the session may rely on: what the ledger says, and what stands in the
 * frontier, which is protected by the session's start until an incomplete
 * manifest holds it.  The gate is held.
 */
static int
find(struct store_session *x, uint8_t kind, uint8_t level, const struct id *ids,
    unsigned n, struct ledger_found *found, struct err *e)
{
	int rc = ledger_find(x->ledger, kind, level, ids, n, found, e);

	if (rc != 0)
		return rc;
	pthread_mutex_lock(&x->mu);
	for (unsigned i = 0; i < n; i++) {
		const struct frontier_id *f;

		/* What is damaged has to be put again (rule 21). */
		if (found[i].have || found[i].damaged)
			continue;
		f = idmap_find(&x->frontier, &ids[i]);
		if (f == NULL || f->kind != kind || f->level != level)
			continue;
		found[i].have = true;
		found[i].flags = f->tail ? INDEX_TAIL : 0;
	}
	pthread_mutex_unlock(&x->mu);
	return 0;
}

/*
 * Most chunks are put right after a query said that they are not there: until
 * the next batch is published the index would say so again, and is not asked.
 * mu is held.
 */
static void
lacking_add(struct store_session *x, const struct id *id, uint64_t published)
{
	uint64_t *as_of;
	bool fresh;

	if (x->lacking.n >= LACKING_MAX)
		idmap_fini(&x->lacking);
	as_of = idmap_add(&x->lacking, id, &fresh);
	*as_of = published;
}

/* Once: who puts it again, or on another lane, finds what was put. */
static bool
lacking_take(struct store_session *x, const struct id *id)
{
	uint64_t published = ledger_published(x->store->ledger);
	const uint64_t *as_of;
	bool lacking;

	pthread_mutex_lock(&x->mu);
	as_of = idmap_find(&x->lacking, id);
	lacking = as_of != NULL && *as_of == published;
	idmap_remove(&x->lacking, id);
	pthread_mutex_unlock(&x->mu);
	return lacking;
}

int
store_have(struct store_session *x, uint8_t kind, uint8_t level,
    const struct id *ids, unsigned n, uint8_t *bits, struct err *e)
{
	struct ledger_found found[NODE_FANOUT];
	struct id ask[NODE_FANOUT];
	unsigned where[NODE_FANOUT], nask = 0;
	uint64_t published;
	int rc;

	assert(n <= NODE_FANOUT);
	memset(bits, 0, (n + 7) / 8);
	for (unsigned i = 0; i < n; i++) {
		if (id_is_hole(&ids[i])) {
			bits[i / 8] |= (uint8_t)(1 << i % 8);
		} else {
			ask[nask] = ids[i];
			where[nask++] = i;
		}
	}
	if (nask == 0)
		return 0;
	pthread_rwlock_rdlock(&x->gate);
	published = ledger_published(x->store->ledger);
	rc = find(x, kind, level, ask, nask, found, e);
	fault_pass(FAULT_ANSWER);
	pthread_mutex_lock(&x->mu);
	for (unsigned k = 0; rc == 0 && k < nask; k++) {
		if (!found[k].have) {
			if (kind == RECORD_CHUNK)
				lacking_add(x, &ask[k], published);
			continue;
		}
		bits[where[k] / 8] |= (uint8_t)(1 << where[k] % 8);
		rc = frontier_add(x, &ask[k], kind, level,
		    (found[k].flags & INDEX_TAIL) != 0, e);
	}
	pthread_mutex_unlock(&x->mu);
	pthread_rwlock_unlock(&x->gate);
	return rc;
}

/* The bytes are that chunk, and a chunk that may be stored (rule 18). */
static int
chunk_check(struct store *s, struct store_lane *l, const struct store_put *p,
    struct err *e)
{
	const void *raw = l->raw;
	struct id id;

	if (p->raw_len == 0 || p->raw_len > s->format.chunk_size)
		return err_set(e, ERR_PROTO, "a chunk of %u bytes", p->raw_len);
	if (p->stored_len > p->raw_len)
		return err_set(
		    e, ERR_PROTO, "a chunk that is longer encoded than plain");
	/* Plain ones are as they come. */
	if (p->codec == CODEC_PLAIN && p->stored_len == p->raw_len)
		raw = p->data;
	else if (codec_unpack(l->codec, p->codec, p->data, p->stored_len,
		     l->raw, p->raw_len) != 0)
		return err_set(e, ERR_PROTO, "a chunk that does not decode");
	hasher_chunk(l->hasher, raw, p->raw_len, &id);
	if (!id_equal(&id, &p->id))
		return err_set(
		    e, ERR_PROTO, "a chunk whose bytes do not match its id");
	if (bytes_zero(raw, p->raw_len))
		return err_set(e, ERR_PROTO, "a chunk of zeroes is a hole");
	return 0;
}

static int
put_chunk(struct store_session *x, struct store_lane *l,
    const struct store_put *p, uint64_t *stored, struct err *e)
{
	struct record r = { .kind = RECORD_CHUNK,
		.codec = p->codec,
		.raw_len = p->raw_len,
		.stored_len = p->stored_len,
		.id = p->id };
	struct ledger_put put = { .record = &r, .payload = p->data };
	struct ledger_found found = { .have = false };
	int rc = 0;

	/* Rule 6: bytes are dropped for *have* and for nothing else. */
	if (!lacking_take(x, &p->id))
		rc = ledger_find(
		    x->ledger, RECORD_CHUNK, 0, &p->id, 1, &found, e);
	if (rc != 0)
		return rc;
	if (!found.have) {
		rc = chunk_check(x->store, l, p, e);
		if (rc != 0)
			return rc;
		if (p->raw_len != x->store->format.chunk_size)
			put.flags = INDEX_TAIL;
		rc = ledger_put(x->ledger, &put, stored, e);
		if (rc != 0)
			return rc;
		found.flags = put.flags;
	}
	pthread_mutex_lock(&x->mu);
	x->stored += *stored;
	rc = frontier_add(
	    x, &p->id, RECORD_CHUNK, 0, (found.flags & INDEX_TAIL) != 0, e);
	pthread_mutex_unlock(&x->mu);
	return rc;
}

int
store_put_chunk(struct store_session *x, struct store_lane *l,
    const struct store_put *p, uint64_t *stored, struct err *e)
{
	int rc;

	*stored = 0;
	if (id_is_hole(&p->id))
		return err_set(e, ERR_PROTO, "a chunk with the id of a hole");
	pthread_rwlock_rdlock(&x->gate);
	rc = put_chunk(x, l, p, stored, e);
	pthread_rwlock_unlock(&x->gate);
	return rc;
}

/* Rule 5: every child is there for this session; rule 18: a short slice only
 * at the very end, and the node says so. */
static int
children_check(struct store_session *x, const struct node *n,
    uint8_t missing[NODE_FANOUT / 8], struct err *e)
{
	struct ledger_found found[NODE_FANOUT];
	struct id ask[NODE_FANOUT];
	unsigned where[NODE_FANOUT], nask = 0;
	bool any_missing = false, tail = false;
	int rc;

	memset(missing, 0, NODE_FANOUT / 8);
	for (unsigned i = 0; i < n->n; i++) {
		if (id_is_hole(&n->child[i]))
			continue;
		ask[nask] = n->child[i];
		where[nask++] = i;
	}
	rc = find(x, n->level == 0 ? RECORD_CHUNK : RECORD_NODE,
	    n->level == 0 ? 0 : (uint8_t)(n->level - 1), ask, nask, found, e);
	if (rc != 0)
		return rc;
	for (unsigned k = 0; k < nask; k++) {
		if (!found[k].have) {
			missing[where[k] / 8] |= (uint8_t)(1 << where[k] % 8);
			any_missing = true;
		} else if ((found[k].flags & INDEX_TAIL) != 0) {
			if (k + 1 != nask)
				return err_set(e, ERR_PROTO,
				    "a short slice inside a volume");
			tail = true;
		}
	}
	if (any_missing)
		return err_set(e, ERR_MISSING,
		    "children of a node are not in the repository");
	if (tail != n->tail)
		return err_set(
		    e, ERR_PROTO, "a node that is wrong about its last slice");
	return 0;
}

/* Puts a node whose children were found.  The gate is held. */
static int
put_node(struct store_session *x, struct store_lane *l, const uint8_t *body,
    size_t len, const struct node *n, struct id *id, struct err *e)
{
	struct record r = { .kind = RECORD_NODE,
		.raw_len = (uint32_t)len,
		.stored_len = (uint32_t)len };
	struct ledger_put put = { .record = &r,
		.payload = body,
		.level = n->level,
		.flags = n->tail ? INDEX_TAIL : 0,
		.node = n };
	struct ledger_found found;
	uint64_t stored;
	int rc;

	hasher_node(l->hasher, body, len, &r.id);
	*id = r.id;
	rc = ledger_find(x->ledger, RECORD_NODE, n->level, &r.id, 1, &found, e);
	if (rc != 0 || found.have)
		return rc;
	return ledger_put(x->ledger, &put, &stored, e);
}

int
store_put_node(struct store_session *x, struct store_lane *l,
    const uint8_t *body, size_t len, uint8_t missing[NODE_FANOUT / 8],
    struct err *e)
{
	struct node n;
	struct id id;
	int rc;

	rc = node_parse(body, len, &n, e);
	if (rc != 0)
		return rc;
	pthread_rwlock_rdlock(&x->gate);
	if ((rc = children_check(x, &n, missing, e)) != 0 ||
	    (rc = put_node(x, l, body, len, &n, &id, e)) != 0)
		goto out;
	/* The node holds its children from here on; itself nobody does. */
	pthread_mutex_lock(&x->mu);
	for (unsigned i = 0; i < n.n; i++)
		if (!id_is_hole(&n.child[i]))
			idmap_remove(&x->frontier, &n.child[i]);
	rc = frontier_add(x, &id, RECORD_NODE, n.level, n.tail, e);
	pthread_mutex_unlock(&x->mu);
out:
	pthread_rwlock_unlock(&x->gate);
	return rc;
}

int
store_hold_node(struct store_session *x, struct store_lane *l,
    const struct node *n, struct id *id, struct err *e)
{
	uint8_t body[NODE_LEN_MAX];
	size_t len = node_print(n, body);
	int rc;

	pthread_rwlock_rdlock(&x->gate);
	rc = put_node(x, l, body, len, n, id, e);
	pthread_rwlock_unlock(&x->gate);
	return rc;
}

/* A node that the session may rely on.  It may move on the way from its place
 * to its bytes: what fails counts only if it still lies there (rule 21). */
static int
own_node(struct store_session *x, struct store_lane *l, const struct id *id,
    unsigned level, struct node *n, struct err *e)
{
	struct place tried = { 0 };
	struct ledger_found found;
	int rc = 0;

	for (;;) {
		int found_rc =
		    find(x, RECORD_NODE, (uint8_t)level, id, 1, &found, e);

		if (found_rc != 0)
			return found_rc;
		if (!found.have)
			return err_set(e, ERR_MISSING,
			    "its tree is not in the repository");
		if (found.place.pack == tried.pack &&
		    found.place.off == tried.off)
			break;
		tried = found.place;
		fault_pass(FAULT_ROOT_PLACED);
		rc = store_node_at(x->store, l, id, &tried, level, n, e);
		if (rc == 0)
			return 0;
	}
	if (rc == ERR_CORRUPT || rc == ERR_NOENT)
		ledger_damaged(x->store->ledger, id, &tried);
	return err_set(e, rc, "a node in pack %08x at %u cannot be read",
	    tried.pack, tried.off);
}

/*
 * Rule 18: the root's level follows from the volume's size, and the last slice
 * that is there lies inside it and has its right length.  All other slices are
 * whole: no node accepts a short one but at its very end.
 */
static int
root_check(struct store_session *x, struct store_lane *l,
    const struct manifest_volume *v, struct err *e)
{
	uint32_t chunk_size = x->store->format.chunk_size;
	uint64_t nslices = chunk_nslices(v->size, chunk_size), last = 0;
	struct ledger_found found;
	struct id id = v->root;
	struct node n = { .n = 1 };
	int rc;

	if (id_is_hole(&id))
		return 0;
	if (nslices == 0)
		return err_set(e, ERR_PROTO, "an empty volume with a root");
	for (int level = (int)node_root_level(nslices); level >= 0; level--) {
		rc = own_node(x, l, &id, (unsigned)level, &n, e);
		if (rc != 0)
			return rc;
		last += (uint64_t)(n.n - 1) *
		    (level == 0 ? 1 : node_span((unsigned)level - 1));
		id = n.child[n.n - 1];
	}
	rc = ledger_find(x->ledger, RECORD_CHUNK, 0, &id, 1, &found, e);
	if (rc != 0)
		return rc;
	/* Damage that came to light meanwhile is for the next backup to heal,
	 * wherever it lies. */
	if (!found.have && !found.damaged)
		return err_set(
		    e, ERR_MISSING, "its last chunk is not in the repository");
	if (last >= nslices ||
	    found.place.raw_len != chunk_len(v->size, chunk_size, last))
		return err_set(e, ERR_PROTO,
		    "its tree does not fit its size of %llu bytes",
		    (unsigned long long)v->size);
	return 0;
}

/* The ledger's form of it is the same. */
static void
drops_copy(const struct store_drop *d, unsigned n, struct ledger_drop *out)
{
	for (unsigned i = 0; i < n; i++) {
		memcpy(out[i].id, d[i].id, sizeof(out[i].id));
		out[i].held = d[i].held;
		out[i].hidden = d[i].hidden;
	}
}

int
store_commit_unchecked(struct store_session *x, struct manifest *m,
    const struct store_drop *d, unsigned n, struct err *e)
{
	struct ledger_drop *ld = xcalloc(n, sizeof(*ld));
	int rc;

	drops_copy(d, n, ld);
	m->chunk_size = x->store->format.chunk_size;
	rc = ledger_commit(x->ledger, m, ld, n, e);
	free(ld);
	return rc;
}

int
store_commit(struct store_session *x, struct store_lane *l, struct manifest *m,
    const struct store_drop *d, unsigned n, struct err *e)
{
	int rc;

	for (unsigned i = 0; i < m->nvolumes; i++) {
		rc = root_check(x, l, &m->volume[i], e);
		if (rc != 0) {
			err_prefix(e, "volume %s", m->volume[i].name);
			return rc;
		}
	}
	return store_commit_unchecked(x, m, d, n, e);
}

int
store_drop(
    struct store *s, const struct store_drop *d, unsigned n, struct err *e)
{
	struct ledger_drop *ld = xcalloc(n, sizeof(*ld));
	int rc;

	drops_copy(d, n, ld);
	rc = ledger_drop(s->ledger, ld, n, e);
	free(ld);
	return rc;
}
