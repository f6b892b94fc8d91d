/* SPDX-License-Identifier: Apache-2.0 */
#include "repo/reclaim/freed.h"

#include <stdlib.h>

#include "proto/base/io.h"
#include "repo/store/idmap.h"
#include "repo/store/store_impl.h"

enum { SHARED_MAX = 4 << 20 };

struct freeing {
	struct store *s;
	struct idmap lost; /* uint64_t: references lost, of what has several */
	struct buf payload;
	uint64_t until_ms; /* 0: it may take its time */
	uint64_t bytes;
	struct err *e;
};

/* ${id} loses a reference: does it lose its last? */
static int
lose(struct freeing *f, const struct id *id, struct index_entry *x, bool *last)
{
	uint64_t *lost;
	bool fresh;
	int rc;

	*last = false;
	rc = index_get(f->s->index, id, x);
	if (rc == ERR_NOENT)
		return 0; /* damage; fsck tells of it */
	if (rc != 0)
		return err_set(f->e, rc, "the index cannot be read");
	if (x->refs == 1) {
		*last = true;
		return 0;
	}
	if (f->lost.n >= SHARED_MAX)
		return err_set(f->e, ERR_LIMIT,
		    "more than %d chunks are shared among these backups: ask "
		    "for fewer at once",
		    SHARED_MAX);
	lost = idmap_add(&f->lost, id, &fresh);
	*last = ++*lost == (uint64_t)x->refs;
	return 0;
}

/* The reclaimer may have moved it since its entry was read. */
static int
read_node(struct freeing *f, const struct id *id, struct index_entry *x,
    struct node *out)
{
	struct place was;
	int rc;

	do {
		was = x->place;
		rc = pack_read(f->s->packs, &was, RECORD_NODE, id, &f->payload);
		if (rc == 0)
			rc = node_parse(
			    f->payload.data, f->payload.len, out, NULL);
	} while (rc != 0 && index_get(f->s->index, id, x) == 0 &&
	    (x->place.pack != was.pack || x->place.off != was.off));
	if (rc == 0)
		return 0;
	return err_set(f->e, ERR_CORRUPT,
	    "a node in pack %08x at %u cannot be read", was.pack, was.off);
}

static int
lose_tree(struct freeing *f, const struct id *id, bool node)
{
	struct index_entry x;
	struct node *n;
	bool last;
	int rc;

	if (id_is_hole(id))
		return 0;
	rc = lose(f, id, &x, &last);
	if (rc != 0 || !last)
		return rc;
	f->bytes +=
	    (RECORD_HEADER_LEN + (uint64_t)x.place.stored_len) * (node ? 2 : 1);
	if (!node)
		return 0;
	if (f->until_ms != 0 && now_ms() > f->until_ms)
		return err_set(f->e, ERR_TIMEOUT, "it takes too long");
	n = xmalloc(sizeof(*n));
	rc = read_node(f, id, &x, n);
	for (unsigned i = 0; rc == 0 && i < n->n; i++)
		rc = lose_tree(f, &n->child[i], n->level > 0);
	free(n);
	return rc;
}

int
freed(struct store *s, const struct manifest *m, unsigned n, uint64_t *bytes,
    struct err *e)
{
	return freed_within(s, m, n, 0, bytes, e);
}

int
freed_within(struct store *s, const struct manifest *m, unsigned n,
    uint64_t within_ms, uint64_t *bytes, struct err *e)
{
	struct freeing f = { .s = s,
		.until_ms = within_ms != 0 ? now_ms() + within_ms : 0,
		.e = e };
	struct index_backup b;
	struct id id;
	int rc = 0;

	idmap_init(&f.lost, sizeof(uint64_t));
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		memset(&id, 0, sizeof(id));
		memcpy(id.b, m[i].id, sizeof(m[i].id));
		if (index_backup_get(s->index, &id, &b, &f.payload) == 0)
			f.bytes += 2 *
			    (RECORD_HEADER_LEN + (uint64_t)b.place.stored_len);
		for (unsigned k = 0; rc == 0 && k < m[i].nvolumes; k++)
			rc = lose_tree(&f, &m[i].volume[k].root, true);
	}
	idmap_fini(&f.lost);
	buf_fini(&f.payload);
	*bytes = f.bytes;
	return rc;
}
