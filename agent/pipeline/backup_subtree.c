/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is trusted to be as in the parent is taken from its tree, by the ids of
 * the largest subtrees that lie in it whole.  Their ids are in the nodes above,
 * two for each level at most, all asked for at once.
 */
#include <assert.h>
#include <string.h>

#include "agent/pipeline/backup_sender.h"
#include "proto/base/log.h"

/* Some siblings: children of one node, or the root. */
struct group {
	unsigned volume;
	unsigned level;
	uint64_t first;
	uint64_t n;
};

/* The leaves below node ${index} of ${level}. */
static uint64_t
first_leaf(unsigned level, uint64_t index)
{
	return index * (node_span(level) / NODE_FANOUT);
}

static uint64_t
leaves_below(const struct tree *t, unsigned level, uint64_t index, uint64_t n)
{
	uint64_t all = n * (node_span(level) / NODE_FANOUT);
	uint64_t left = tree_nleaves(t) - first_leaf(level, index);

	return all < left ? all : left;
}

/* It may be none any more. */
static void
push_hole(struct backup *b, unsigned volume, unsigned level, uint64_t index)
{
	struct probe p = { .volume = volume,
		.index = first_leaf(level, index),
		.nholes =
		    leaves_below(b->volume[volume].tree, level, index, 1) };

	probes_push(&b->probes, &p);
}

static void
take_one(struct sender *s, unsigned volume, unsigned level, uint64_t index,
    const struct id *id, bool tail)
{
	struct probe p = { .volume = volume, .level = level, .index = index };
	struct tree *t = s->b->volume[volume].tree;
	uint64_t len = leaf_bytes(s->b, volume, first_leaf(level, index),
	    leaves_below(t, level, index, 1));

	tree_add_subtree(t, level, index, id, tail);
	counters_add(
	    id_is_hole(id) ? &s->job->count.holes : &s->job->count.unchanged,
	    len);
	counters_add(&s->job->count.done, len);
	if (s->b->trust.below == 0)
		return;
	if (id_is_hole(id))
		push_hole(s->b, volume, level, index);
	else if (level > 0 || trust_sample(s->b, volume, index, p.sample))
		probes_push(&s->b->probes, &p);
}

/* ${up}: the parent's node above them; n is 0 for a hole. */
static void
take_group(struct sender *s, const struct group *g, const struct node *up)
{
	const struct backup_volume *v = &s->b->volume[g->volume];
	uint64_t last = tree_nnodes(v->tree, g->level) - 1;
	bool tail = up->tail && v->source->size % s->b->chunk_size != 0;

	for (uint64_t i = g->first; i < g->first + g->n; i++) {
		const struct id *id = &up->child[i % NODE_FANOUT];

		/* The short last slice is below the last child of all. */
		take_one(s, g->volume, g->level, i, id,
		    i == last && tail && !id_is_hole(id));
	}
}

static int
ask_group(struct sender *s, const struct group *g, struct err *e)
{
	static const struct node none;
	const struct backup_volume *v = &s->b->volume[g->volume];
	struct msg_tree m = { .volume = (uint16_t)g->volume,
		.level = (uint8_t)(g->level + 1),
		.index = g->first / NODE_FANOUT };
	struct hot_ask *a;
	int rc;

	if (g->level == tree_root_level(v->tree)) {
		take_one(s, g->volume, g->level, 0, &v->parent_root, false);
		return 0;
	}
	if (id_is_hole(&v->parent_root)) {
		take_group(s, g, &none);
		return 0;
	}
	if (s->has_told && s->told_volume == g->volume &&
	    s->told.level == m.level && s->told_index == m.index) {
		take_group(s, g, &s->told);
		return 0;
	}
	rc = sender_room(s, e);
	if (rc != 0)
		return rc;
	a = hot_ask(&s->hot, MSG_TREE_NODE);
	a->volume = g->volume;
	a->level = m.level;
	a->index = m.index;
	a->first = (uint32_t)(g->first % NODE_FANOUT);
	a->n = (uint32_t)g->n;
	msg_tree_print(lane_begin(sender_lane(s), MSG_TREE, a->request), &m);
	return lane_end(sender_lane(s), e);
}

/* Nodes from ${first} to ${end} of a level, none of which is the root. */
static int
ask_siblings(struct sender *s, unsigned volume, unsigned level, uint64_t first,
    uint64_t end, struct err *e)
{
	int rc = 0;

	while (rc == 0 && first < end) {
		uint64_t stop = (first / NODE_FANOUT + 1) * NODE_FANOUT;
		struct group g = { volume, level, first, 0 };

		g.n = (stop < end ? stop : end) - first;
		first += g.n;
		rc = ask_group(s, &g, e);
	}
	return rc;
}

int
sender_trust(struct sender *s, unsigned volume, uint64_t first, uint64_t n,
    struct err *e)
{
	struct tree *t = s->b->volume[volume].tree;
	uint64_t end = first + n, up, up_end;
	unsigned level = 0;
	int rc = 0;

	for (; rc == 0 && first < end; level++) {
		uint64_t all = tree_nnodes(t, level);

		if (level == tree_root_level(t)) {
			struct group root = { volume, level, 0, 1 };

			rc = ask_group(s, &root, e);
			break;
		}
		up = first / NODE_FANOUT + (first % NODE_FANOUT != 0);
		up_end =
		    end == all ? tree_nnodes(t, level + 1) : end / NODE_FANOUT;
		if (up >= up_end) {
			rc = ask_siblings(s, volume, level, first, end, e);
			break;
		}
		rc = ask_siblings(s, volume, level, first, up * NODE_FANOUT, e);
		if (rc == 0 && end != all)
			rc = ask_siblings(
			    s, volume, level, up_end * NODE_FANOUT, end, e);
		first = up;
		end = up_end;
	}
	return rc != 0 ? rc : sender_ready(s, volume, e);
}

int
sender_open_probe(struct sender *s, const struct probe *p, struct err *e)
{
	struct msg_tree m = { .volume = (uint16_t)p->volume,
		.level = (uint8_t)p->level,
		.index = p->index };
	struct hot_ask *a;
	int rc;

	rc = sender_room(s, e);
	if (rc != 0)
		return rc;
	a = hot_ask(&s->hot, MSG_TREE_NODE);
	a->volume = p->volume;
	a->level = p->level;
	a->index = p->index;
	a->n = 0;
	msg_tree_print(lane_begin(sender_lane(s), MSG_TREE, a->request), &m);
	return lane_end(sender_lane(s), e);
}

static void
open_probe(struct sender *s, const struct hot_ask *a, const struct node *n)
{
	struct probes *all = &s->b->probes;
	struct probe p = { .volume = a->volume, .level = a->level - 1 };
	uint64_t end = tree_nnodes(s->b->volume[a->volume].tree, a->level - 1);

	/* Those behind the last are holes. */
	for (unsigned i = 0; i < NODE_FANOUT; i++) {
		p.index = a->index * NODE_FANOUT + i;
		if (p.index >= end)
			break;
		if (id_is_hole(&n->child[i]))
			push_hole(s->b, p.volume, p.level, p.index);
		else if (p.level > 0 ||
		    trust_sample(s->b, p.volume, p.index, p.sample))
			probes_push(all, &p);
	}
	probes_done(all);
}

/* Damage there: what was not read yet is read, what was taken is not good. */
static void
cannot_tell(struct sender *s, const struct hot_ask *a, const struct err *e)
{
	struct tree *t = s->b->volume[a->volume].tree;
	uint64_t index = a->index * NODE_FANOUT + a->first;

	log_info("disk %s: a part of the backup before cannot be read and is "
		 "read from the disk: %s",
	    s->b->volume[a->volume].name, e->text);
	if (a->n > 0) {
		cursor_give_back(&s->b->cursor, a->volume,
		    first_leaf(a->level - 1, index),
		    leaves_below(t, a->level - 1, index, a->n));
		return;
	}
	trust_lose(&s->b->trust, TRUST_GONE, a->volume,
	    a->index * node_span(a->level));
	probes_done(&s->b->probes);
}

int
sender_told(struct sender *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	struct group g = { .volume = a->volume,
		.level = a->level - 1,
		.first = a->index * NODE_FANOUT + a->first,
		.n = a->n };
	struct node *n = &s->told;
	int rc = 0;

	if (f->type == MSG_ERROR) {
		rc = hot_error(&s->hot, f, e);
		if (rc != ERR_CORRUPT && rc != ERR_NOENT)
			return sender_node_failed(
			    s, a->volume, a->level, a->index, e);
		cannot_tell(s, a, e);
		return 0;
	}
	s->has_told = false;
	memset(n, 0, sizeof(*n));
	n->level = (uint8_t)a->level;
	if (f->len > 0)
		rc = node_parse(f->payload, f->len, n, e);
	if (rc == 0 && n->level != a->level)
		rc = err_set(e, ERR_PROTO,
		    "the parent's node is of level %u, not %u", n->level,
		    a->level);
	if (rc != 0)
		return sender_node_failed(s, a->volume, a->level, a->index, e);
	s->has_told = true;
	s->told_volume = a->volume;
	s->told_index = a->index;
	if (a->n == 0) {
		open_probe(s, a, n);
		return 0;
	}
	take_group(s, &g, n);
	return sender_ready(s, a->volume, e);
}
