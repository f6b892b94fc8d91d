/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/archive/walk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/io.h"
#include "proto/msg.h"

enum { FANOUT_BITS = 7, WINDOW_SLICES = WALK_WINDOW / CHUNK_SIZE_MIN };

/* Slices that are read together. */
struct window {
	unsigned from, n; /* in the region; n is 0: none */
	unsigned reads;   /* under way */
	uint8_t *data;
	bool got[WINDOW_SLICES];
};

void
walk_lane_init(struct walk_lane *w, struct lane *lane, struct job *job)
{
	hot_init(&w->hot, lane);
	w->job = job;
	w->chunk_size = job->control.chunk_size;
	w->hasher = hasher_new(job->has_key ? job->hash_key : NULL);
	w->codec = codec_new(CODEC_LEVEL_DEFAULT);
}

void
walk_lane_fini(struct walk_lane *w)
{
	codec_free(w->codec);
	hasher_free(w->hasher);
}

struct walk *
walk_new(const char *name, uint64_t size, struct walk_lane *lane,
    uint16_t number, const struct id *root)
{
	struct walk *w = xcalloc(1, sizeof(*w));
	uint64_t span;

	w->name = name;
	w->size = size;
	w->chunk_size = lane->chunk_size;
	span = (uint64_t)w->chunk_size * NODE_FANOUT;
	w->nslices = chunk_nslices(size, w->chunk_size);
	w->nleaves = w->nslices / NODE_FANOUT + (w->nslices % NODE_FANOUT != 0);
	w->per = (unsigned)(WALK_REGION / span);
	w->now.lane = lane;
	w->now.number = number;
	w->now.root = *root;
	if (w->nslices > 0)
		path_init(&w->now.path, root, w->nslices);
	return w;
}

void
walk_since(struct walk *w, struct walk_lane *lane, uint16_t number,
    const struct id *root)
{
	w->was.lane = lane;
	w->was.number = number;
	w->was.root = *root;
	if (w->nslices > 0)
		path_init(&w->was.path, root, w->nslices);
}

void
walk_free(struct walk *w)
{
	if (w == NULL)
		return;
	walk_idle(w);
	free(w);
}

void
walk_idle(struct walk *w)
{
	for (unsigned i = 0; i < 2; i++) {
		free(w->data[i]);
		w->data[i] = NULL;
	}
}

uint64_t
walk_nregions(const struct walk *w)
{
	return w->nleaves / w->per + (w->nleaves % w->per != 0);
}

uint64_t
walk_first(const struct walk *w)
{
	return w->region * w->per * NODE_FANOUT;
}

static int
at_byte(const struct walk *w, uint64_t off, struct err *e)
{
	return err_prefix(
	    e, "volume %s at byte %llu", w->name, (unsigned long long)off);
}

static int
ask_tree(struct walk_tree *t, unsigned level, uint64_t index,
    const struct id *id, struct err *e)
{
	struct msg_tree m = {
		.volume = t->number, .level = (uint8_t)level, .index = index
	};
	struct hot_ask *a = hot_ask(&t->lane->hot, MSG_TREE_NODE);
	struct lane *l = t->lane->hot.lane;

	a->level = level;
	a->index = index;
	a->id = *id;
	msg_tree_print(lane_begin(l, MSG_TREE, a->request), &m);
	return lane_end(l, e);
}

static int
take_tree(struct walk *w, struct walk_tree *t, struct hot_ask *a,
    struct node *out, struct err *e)
{
	struct frame f;
	int rc;

	rc = hot_recv(&t->lane->hot, a, &f, e);
	if (rc != 0)
		return rc;
	if (f.type == MSG_ERROR)
		rc = hot_error(&t->lane->hot, &f, e);
	else
		rc = path_verify(t->lane->hasher, f.payload, f.len, w->nslices,
		    a->level, a->index, &a->id, out, e);
	if (rc != 0)
		at_byte(w, a->index * node_span(a->level) * w->chunk_size, e);
	return rc;
}

/* The id of the child on the way to ${leaf}; *id is its parent's and is
 * replaced. */
static int
descend(struct walk *w, struct walk_tree *t, unsigned level, uint64_t leaf,
    struct id *id, struct err *e)
{
	struct path_node *at = &t->path.at[level];
	uint64_t index = leaf >> FANOUT_BITS * level;
	unsigned c = (leaf >> FANOUT_BITS * (level - 1)) % NODE_FANOUT;
	struct hot_ask a;
	struct node n;
	int rc;

	if (id_is_hole(id))
		return 0;
	if (!at->valid || at->index != index) {
		rc = ask_tree(t, level, index, id, e);
		if (rc == 0)
			rc = take_tree(w, t, &a, &n, e);
		if (rc != 0)
			return rc;
		path_put(&t->path, index, &n);
	}
	*id = at->node.child[c];
	return 0;
}

/* *skip: so many leaves from ${leaf} on are the same in both; 0: it differs,
 * and ${id} has both. */
static int
look(struct walk *w, uint64_t leaf, struct id id[2], uint64_t *skip,
    struct err *e)
{
	unsigned level = w->now.path.root_level;

	id[0] = w->now.root;
	id[1] = w->was.root;
	for (;; level--) {
		uint64_t index = leaf >> FANOUT_BITS * level;
		int rc;

		*skip = 0;
		if (id_equal(&id[0], &id[1]))
			*skip = (index + 1) * (node_span(level) / NODE_FANOUT) -
			    leaf;
		if (*skip > 0 || level == 0)
			return 0;
		rc = descend(w, &w->now, level, leaf, &id[0], e);
		if (rc == 0)
			rc = descend(w, &w->was, level, leaf, &id[1], e);
		if (rc != 0)
			return rc;
	}
}

static int
load(struct walk *w, struct walk_tree *t, const struct id *id, unsigned n,
    struct err *e)
{
	uint64_t first = w->region * w->per;
	struct hot_ask a;
	struct node node;
	int rc = 0;

	/* There is room for all of them: nothing else is under way. */
	for (unsigned i = 0; rc == 0 && i < n; i++)
		if (t->has[i])
			rc = ask_tree(t, 0, first + i, &id[i], e);
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		if (!t->has[i])
			continue;
		rc = take_tree(w, t, &a, &node, e);
		if (rc == 0)
			t->leaf[a.index - first] = node;
	}
	return rc;
}

int
walk_next(struct walk *w, uint64_t from, struct err *e)
{
	struct id id[2], now[WALK_LEAVES], was[WALK_LEAVES];
	uint64_t leaf = from * w->per, skip, first;
	unsigned n;
	int rc;

	for (skip = 1; leaf < w->nleaves; leaf += skip) {
		rc = look(w, leaf, id, &skip, e);
		if (rc != 0)
			return rc;
		if (skip == 0)
			break;
	}
	if (leaf >= w->nleaves)
		return ERR_NOENT;
	w->region = leaf / w->per;
	first = w->region * w->per;
	n = w->nleaves - first < w->per ? (unsigned)(w->nleaves - first)
					: w->per;
	w->count = w->nslices - first * NODE_FANOUT < n * NODE_FANOUT
	    ? (unsigned)(w->nslices - first * NODE_FANOUT)
	    : n * NODE_FANOUT;
	memset(w->now.has, 0, sizeof(w->now.has));
	memset(w->was.has, 0, sizeof(w->was.has));
	memset(w->now.leaf, 0, sizeof(w->now.leaf));
	memset(w->was.leaf, 0, sizeof(w->was.leaf));
	for (; leaf < first + n; leaf += skip) {
		rc = look(w, leaf, id, &skip, e);
		if (rc != 0)
			return rc;
		if (skip > 0)
			continue;
		now[leaf - first] = id[0];
		was[leaf - first] = id[1];
		w->now.has[leaf - first] = !id_is_hole(&id[0]);
		w->was.has[leaf - first] = !id_is_hole(&id[1]);
		skip = 1;
	}
	rc = load(w, &w->now, now, n, e);
	if (rc == 0 && w->was.lane != NULL)
		rc = load(w, &w->was, was, n, e);
	return rc;
}

enum walk_kind
walk_kind(const struct walk *w, unsigned i)
{
	/* What was not loaded is all holes. */
	const struct id *now =
	    &w->now.leaf[i / NODE_FANOUT].child[i % NODE_FANOUT];
	const struct id *was =
	    &w->was.leaf[i / NODE_FANOUT].child[i % NODE_FANOUT];

	if (id_equal(now, was))
		return WALK_SAME;
	return id_is_hole(now) ? WALK_ZERO : WALK_DATA;
}

static int
ask_slices(
    struct walk *w, struct window *x, unsigned from, unsigned n, struct err *e)
{
	struct msg_read m = { .volume = w->now.number,
		.nparts = 1,
		.slice = walk_first(w) + from,
		.n = n };
	struct hot_ask *a = hot_ask(&w->now.lane->hot, MSG_READ_DONE);
	struct lane *l = w->now.lane->hot.lane;

	a->ptr = x;
	a->first = from;
	a->n = n;
	x->reads++;
	msg_read_print(lane_begin(l, MSG_READ, a->request), &m);
	return lane_end(l, e);
}

/* The next window that has data, from ${from} on; what lies between data is
 * read with it unless it has bytes that nobody wants. */
static int
ask_window(struct walk *w, struct window *x, unsigned from, struct err *e)
{
	unsigned most = WALK_WINDOW / w->chunk_size, end;
	int rc = 0;

	x->n = 0;
	memset(x->got, 0, sizeof(x->got));
	while (from < w->count && walk_kind(w, from) != WALK_DATA)
		from++;
	if (from == w->count)
		return 0;
	x->from = from;
	end = from + most < w->count ? from + most : w->count;
	x->n = end - from;
	while (rc == 0 && from < end) {
		unsigned to = from, i = from;

		for (; i < end; i++) {
			const struct node *leaf = &w->now.leaf[i / NODE_FANOUT];

			if (walk_kind(w, i) == WALK_DATA)
				to = i + 1;
			else if (!id_is_hole(&leaf->child[i % NODE_FANOUT]))
				break;
		}
		if (to > from)
			rc = ask_slices(w, x, from, to - from, e);
		for (from = i; from < end && walk_kind(w, from) != WALK_DATA;)
			from++;
	}
	return rc != 0 ? rc : lane_flush(w->now.lane->hot.lane, e);
}

static int
got_data(struct walk *w, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	struct walk_lane *l = w->now.lane;
	struct window *x = a->ptr;
	char want[2 * ID_LEN + 1];
	const struct id *id;
	struct msg_data m;
	struct id is;
	uint64_t first = walk_first(w);
	unsigned i;
	uint8_t *to;
	int rc;

	rc = msg_data_parse(f->payload, f->len, &m, e);
	if (rc != 0)
		return rc;
	rate_take(&l->job->rate, f->len, &l->job->stop);
	if (m.slice < first + a->first || m.slice - first - a->first >= a->n)
		return err_set(e, ERR_PROTO,
		    "the daemon sent slice %llu, which was not asked for",
		    (unsigned long long)m.slice);
	i = (unsigned)(m.slice - first);
	id = &w->now.leaf[i / NODE_FANOUT].child[i % NODE_FANOUT];
	if (id_is_hole(id))
		return err_set(e, ERR_PROTO, "the daemon sent bytes of a hole");
	if (m.raw_len != chunk_len(w->size, w->chunk_size, m.slice)) {
		err_set(
		    e, ERR_CORRUPT, "a chunk of %u bytes", (unsigned)m.raw_len);
		return at_byte(w, m.slice * w->chunk_size, e);
	}
	to = x->data + (size_t)(i - x->from) * w->chunk_size;
	rc = codec_unpack(l->codec, m.codec, m.data, m.len, to, m.raw_len);
	if (rc == ERR_UNSUP)
		return err_set(e, rc,
		    "chunk %s is encoded in a way (%u) that this agent does "
		    "not know: update it",
		    hex(id->b, ID_LEN, want), m.codec);
	if (rc == 0)
		hasher_chunk(l->hasher, to, m.raw_len, &is);
	if (rc != 0 || !id_equal(&is, id)) {
		err_set(e, ERR_CORRUPT,
		    "the bytes that came are not those of chunk %s: run "
		    "backstay verify on the NAS",
		    hex(id->b, ID_LEN, want));
		return at_byte(w, m.slice * w->chunk_size, e);
	}
	x->got[i - x->from] = true;
	return 0;
}

static int
pump(struct walk *w, struct err *e)
{
	struct hot_ask a;
	struct frame f;
	int rc;

	rc = hot_recv(&w->now.lane->hot, &a, &f, e);
	if (rc != 0)
		return rc;
	if (f.type == MSG_DATA)
		return got_data(w, &a, &f, e);
	if (f.type == MSG_ERROR) {
		hot_error(&w->now.lane->hot, &f, e);
		return err_prefix(e, "volume %s", w->name);
	}
	((struct window *)a.ptr)->reads--;
	return 0;
}

/* All of it is there; what moved in the packs meanwhile is asked for alone. */
static int
complete(struct walk *w, struct window *x, struct err *e)
{
	int rc = 0;

	while (rc == 0 && x->reads > 0)
		rc = pump(w, e);
	for (unsigned i = 0; rc == 0 && i < x->n; i++) {
		if (walk_kind(w, x->from + i) != WALK_DATA || x->got[i])
			continue;
		rc = ask_slices(w, x, x->from + i, 1, e);
		while (rc == 0 && x->reads > 0)
			rc = pump(w, e);
		if (rc == 0 && !x->got[i])
			rc = err_set(e, ERR_PROTO,
			    "volume %s: the daemon did not send slice %llu",
			    w->name,
			    (unsigned long long)(walk_first(w) + x->from + i));
	}
	return rc;
}

int
walk_read(struct walk *w, walk_slice *each, void *arg, struct err *e)
{
	struct window x[2] = { { .n = 0 }, { .n = 0 } };
	unsigned turn = 0;
	int rc;

	for (unsigned i = 0; i < 2; i++) {
		if (w->data[i] == NULL)
			w->data[i] = aligned_new(WALK_WINDOW);
		x[i].data = w->data[i];
	}
	rc = ask_window(w, &x[0], 0, e);
	for (; rc == 0 && x[turn].n > 0; turn = 1 - turn) {
		struct window *now = &x[turn];

		/* The next one comes while this one is written. */
		rc = ask_window(w, &x[1 - turn], now->from + now->n, e);
		if (rc == 0)
			rc = complete(w, now, e);
		for (unsigned i = 0; rc == 0 && i < now->n; i++) {
			unsigned k = now->from + i;

			if (walk_kind(w, k) == WALK_DATA)
				rc = each(arg, k,
				    now->data + (size_t)i * w->chunk_size,
				    chunk_len(w->size, w->chunk_size,
					walk_first(w) + k),
				    e);
		}
		if (rc == 0 && job_stopped(w->now.lane->job))
			rc = err_set(e, ERR_CLOSED, "stopped");
	}
	return rc;
}
