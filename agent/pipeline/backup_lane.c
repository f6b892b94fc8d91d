/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one lane of a backup does.  Two windows take turns: while the bytes of
 * one are compressed and sent, the question about the other is under way; and
 * the parent's leaves are asked for some leaves ahead.  So no round trip is
 * waited for where the network is not the limit.
 */
#include "agent/pipeline/backup_sender.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD_BYTES = 64 << 20 }; /* what the leaves ahead may cover together */

static const struct id hole;

static struct leaf *
free_leaf(struct sender *s)
{
	unsigned i = 0;

	while (s->leaf[i].used) {
		i++;
		assert(i < LEAVES_MAX);
	}
	return &s->leaf[i];
}

static void
count_holes(struct sender *s, unsigned volume, uint64_t leaf, uint64_t n)
{
	uint64_t len = leaf_bytes(s->b, volume, leaf, n);

	tree_add_holes(s->b->volume[volume].tree, leaf, n);
	counters_add(&s->job->count.holes, len);
	counters_add(&s->job->count.done, len);
}

/* Leaves that are as in the parent go to the tree at once, with all behind. */
static int
pass_trusted(struct sender *s, unsigned volume, uint64_t index, bool *passed,
    struct err *e)
{
	uint64_t n, first;
	int rc;

	*passed = false;
	rc = trust_leaves(s->b, volume, index, &n, e);
	if (rc != 0 || n == 0)
		return rc;
	*passed = true;
	n = cursor_skip(&s->b->cursor, volume, index + n, &first);
	/* In one piece they make larger subtrees. */
	if (n > 0 && first == index + 1)
		return sender_trust(s, volume, index, n + 1, e);
	rc = sender_trust(s, volume, index, 1, e);
	return rc != 0 ? rc : sender_trust(s, volume, first, n, e);
}

/* So do leaves that are holes. */
static int
pass_holes(struct sender *s, unsigned volume, uint64_t index, bool *passed,
    struct err *e)
{
	uint64_t n, first;
	int rc;

	*passed = false;
	rc = leaf_hole_run(s->b, volume, index, &n, e);
	if (rc != 0 || n == 0)
		return rc;
	*passed = true;
	n = cursor_skip(&s->b->cursor, volume, index + n, &first);
	count_holes(s, volume, index, 1);
	if (n > 0)
		count_holes(s, volume, first, n);
	return sender_ready(s, volume, e);
}

static int
ask_parent(struct sender *s, struct leaf *l, struct err *e)
{
	struct msg_tree m = {
		.volume = (uint16_t)l->volume, .level = 0, .index = l->index
	};
	struct hot_ask *a;
	int rc;

	rc = sender_room(s, e);
	if (rc != 0)
		return rc;
	a = hot_ask(&s->hot, MSG_TREE_NODE);
	a->volume = l->volume;
	a->index = l->index;
	a->ptr = l;
	l->parent_state = PARENT_ASKED;
	msg_tree_print(lane_begin(sender_lane(s), MSG_TREE, a->request), &m);
	return lane_end(sender_lane(s), e);
}

static int
add_ahead(struct sender *s, unsigned volume, uint64_t index,
    const struct probe *p, struct err *e)
{
	const struct backup_volume *v = &s->b->volume[volume];
	struct leaf *l = free_leaf(s);

	leaf_init(l, s->b, volume, index);
	if (p != NULL) {
		l->probe = true;
		memcpy(l->sample, p->sample, sizeof(l->sample));
	}
	s->ahead[s->nahead++] = l;
	if (index < v->parent_nleaves)
		return ask_parent(s, l, e);
	if (v->trusted)
		l->parent_state = PARENT_KNOWN; /* all of it is a hole */
	return 0;
}

static void
add_holes(struct sender *s, const struct probe *p)
{
	struct leaf *l = free_leaf(s);

	leaf_init(l, s->b, p->volume, p->index);
	l->probe = true;
	l->nholes = p->nholes;
	l->parent_state = PARENT_KNOWN;
	s->ahead[s->nahead++] = l;
}

/* What is compared first: if that is wrong, all else is in vain. */
static int
take_probe(struct sender *s, bool *taken, struct err *e)
{
	struct probe p;

	*taken = probes_take(&s->b->probes, &p);
	if (!*taken)
		return 0;
	if (p.nholes > 0) {
		add_holes(s, &p);
		return 0;
	}
	if (p.level > 0)
		return sender_open_probe(s, &p, e);
	return add_ahead(s, p.volume, p.index, &p, e);
}

/* Take leaves from the cursor, so that ${ahead_max} of them are ready. */
static int
look_ahead(struct sender *s, struct err *e)
{
	unsigned volume;
	uint64_t index;
	bool passed, back;
	int rc = 0;

	while (rc == 0 && s->nahead < s->ahead_max && !sender_stopped(s)) {
		rc = take_probe(s, &passed, e);
		if (rc != 0 || passed)
			continue;
		if (!cursor_next(&s->b->cursor, &volume, &index, &back))
			break;
		/* What came back could not be taken unread. */
		if (!back)
			rc = pass_trusted(s, volume, index, &passed, e);
		if (rc == 0 && !passed)
			rc = pass_holes(s, volume, index, &passed, e);
		if (rc == 0 && !passed)
			rc = add_ahead(s, volume, index, NULL, e);
	}
	return rc != 0 ? rc : lane_flush(sender_lane(s), e);
}

/* The next leaf to work on, or none for now. */
static int
next_leaf(struct sender *s, struct err *e)
{
	struct redo *r;
	struct leaf *l;
	int rc;

	rc = look_ahead(s, e);
	if (rc != 0)
		return rc;
	if (s->nredo > 0) {
		r = &s->redo[--s->nredo];
		l = free_leaf(s);
		leaf_init(l, s->b, r->volume, r->index);
		l->attempt = r->attempt;
		memcpy(l->force, r->force, sizeof(l->force));
		s->cur = l;
	} else if (s->nahead > 0) {
		s->cur = s->ahead[0];
		s->nahead--;
		memmove(
		    s->ahead, s->ahead + 1, s->nahead * sizeof(s->ahead[0]));
	}
	return 0;
}

static int
ask(struct sender *s, struct window *w, struct err *e)
{
	const struct leaf *l = w->leaf;
	/* A leaf in several windows is not known when the first is asked. */
	bool with_leaf = w->n == l->n && l->attempt == 0;
	struct id id[NODE_FANOUT];
	struct hot_ask *a;
	unsigned n = 0;
	int rc;

	for (unsigned i = 0; i < w->n; i++)
		if (w->kind[i] == SLICE_ASK)
			id[n++] = l->node.child[w->at + i];
	assert(n == w->nask);
	if (n == 0 || w->reuse)
		return 0;
	rc = sender_room(s, e);
	if (rc != 0)
		return rc;
	a = hot_ask(&s->hot, MSG_HAVE);
	a->n = n;
	a->ptr = w;
	w->waiting = true;
	msg_query_print(lane_begin(sender_lane(s), MSG_QUERY, a->request),
	    with_leaf ? &l->id : &hole, n, id);
	rc = lane_end(sender_lane(s), e);
	return rc != 0 ? rc : lane_flush(sender_lane(s), e);
}

/* Compare what is to be compared of the leaf in work, which then is done. */
static int
probe(struct sender *s, uint8_t *data, struct err *e)
{
	struct leaf *l = s->cur;
	uint64_t nread;
	int rc;

	s->cur = NULL;
	l->used = false;
	if (l->parent_state == PARENT_NONE) {
		/* It was taken, but cannot be told: it is damaged. */
		trust_lose(&s->b->trust, TRUST_GONE, l->volume, l->first);
		return 0;
	}
	rc = l->nholes > 0 ? leaf_probe_holes(s->b, l, data, &nread, e)
			   : leaf_probe(s->b, l, s->hasher, data, &nread, e);
	counters_add(&s->job->count.read, nread);
	return rc;
}

/* The next leaf to be sent, when its parent's is known; or none for now. */
static int
find_work(struct sender *s, uint8_t *data, struct err *e)
{
	int rc = 0;

	while (rc == 0 && !sender_stopped(s)) {
		if (s->cur == NULL)
			rc = next_leaf(s, e);
		if (rc != 0 || s->cur == NULL)
			break;
		while (rc == 0 && s->cur->parent_state == PARENT_ASKED)
			rc = sender_pump(s, e);
		if (rc != 0 || !s->cur->probe)
			break;
		rc = probe(s, data, e);
	}
	return rc;
}

/* Read and hash the next window of work, if there is any. */
static int
fill(struct sender *s, struct window *w, struct err *e)
{
	uint64_t nread;
	int rc;

	memset(&w->have, 0, sizeof(w->have));
	rc = find_work(s, w->data, e);
	if (rc != 0 || s->cur == NULL || sender_stopped(s))
		return rc;
	rc = window_fill(w, s->b, s->cur, s->hasher, &nread, e);
	if (rc != 0)
		return rc;
	counters_add(&s->job->count.read, nread);
	if (w->last)
		s->cur = NULL;
	return ask(s, w, e);
}

/* Whether slice ${i} must be sent; *asked counts those that were asked for. */
static bool
must_send(const struct window *w, unsigned i, unsigned *asked)
{
	unsigned bit;

	if (w->kind[i] == SLICE_FORCE)
		return true;
	if (w->kind[i] != SLICE_ASK)
		return false;
	bit = (*asked)++;
	return (w->have.bits[bit / 8] & 1u << bit % 8) == 0;
}

static int
end_put(struct sender *s, size_t len, struct err *e)
{
	struct effort_clock from = effort_begin();
	int rc;

	rate_take(&s->job->rate, len, &s->job->stop);
	rc = lane_end(sender_lane(s), e);
	effort_end(&s->b->effort, from);
	codec_level(s->codec, effort_level(&s->b->effort));
	return rc;
}

static int
put_chunks(struct sender *s, struct window *w, struct err *e)
{
	struct buf *b = NULL;
	struct msg_chunk c;
	unsigned asked = 0;
	size_t len = 0, packed;
	int rc;

	for (unsigned i = 0; i < w->n; i++) {
		const uint8_t *data = w->data + (size_t)i * s->b->chunk_size;
		struct hot_ask *a;

		if (!must_send(w, i, &asked))
			continue;
		c.id = w->leaf->node.child[w->at + i];
		c.raw_len = window_slice_len(w, s->b, i);
		c.codec =
		    codec_pack(s->codec, data, c.raw_len, s->packed, &packed);
		c.data = c.codec == CODEC_PLAIN ? data : s->packed;
		c.stored_len =
		    c.codec == CODEC_PLAIN ? c.raw_len : (uint32_t)packed;
		if (b != NULL &&
		    len + MSG_CHUNK_HEADER_LEN + c.stored_len > s->put_max) {
			rc = end_put(s, len, e);
			if (rc != 0)
				return rc;
			b = NULL;
		}
		if (b == NULL) {
			if (job_stopped(s->job))
				return err_set(e, ERR_CLOSED, "stopped");
			rc = sender_room(s, e);
			if (rc != 0)
				return rc;
			a = hot_ask(&s->hot, MSG_PUT_DONE);
			b = lane_begin(sender_lane(s), MSG_PUT, a->request);
			len = 0;
		}
		msg_put_add(b, &c);
		len += MSG_CHUNK_HEADER_LEN + c.stored_len;
	}
	return b != NULL ? end_put(s, len, e) : 0;
}

static void
count_window(struct sender *s, const struct window *w)
{
	uint64_t holes = 0, unchanged = 0, there = 0, all = 0;
	unsigned asked = 0;

	if (w->leaf->attempt > 0)
		return; /* it was counted before */
	for (unsigned i = 0; i < w->n; i++) {
		uint32_t len = window_slice_len(w, s->b, i);

		all += len;
		if (w->kind[i] == SLICE_HOLE)
			holes += len;
		else if (w->kind[i] == SLICE_PARENT || w->reuse)
			unchanged += len; /* reuse: twins */
		else if (!must_send(w, i, &asked))
			there += len;
	}
	counters_add(&s->job->count.holes, holes);
	counters_add(&s->job->count.unchanged, unchanged);
	counters_add(&s->job->count.deduplicated, there);
	counters_add(&s->job->count.done, all);
}

static void
count_traffic(struct sender *s)
{
	uint64_t in, out;

	lane_traffic(sender_lane(s), &in, &out);
	counters_add(&s->job->count.sent, out - s->counted);
	s->counted = out;
}

/* Send what the store lacks of a window, and the leaf after the last one. */
static int
settle(struct sender *s, struct window *w, struct err *e)
{
	struct leaf *l = w->leaf;
	bool there = false;
	int rc = 0;

	while (w->waiting) {
		rc = sender_pump(s, e);
		if (rc != 0)
			return rc;
	}
	there = w->reuse || w->have.leaf;
	if (!there) {
		rc = put_chunks(s, w, e);
		if (rc != 0)
			return rc;
	}
	count_window(s, w);
	w->leaf = NULL;
	if (!w->last)
		return lane_flush(sender_lane(s), e);
	l->used = false;
	if (there || l->node.n == 0) {
		tree_add_leaf(s->b->volume[l->volume].tree, l->index, &l->id,
		    l->node.tail);
		rc = sender_ready(s, l->volume, e);
	} else {
		/* Chunks went before it on this lane: no need to wait. */
		rc = sender_room(s, e);
		if (rc == 0)
			rc = sender_node(
			    s, l->volume, l->index, &l->node, l->attempt, e);
	}
	if (rc == 0)
		rc = lane_flush(sender_lane(s), e);
	count_traffic(s);
	return rc;
}

/* All that is under way arrives, and the nodes that this completes. */
static int
drain(struct sender *s, struct err *e)
{
	int rc = 0;

	do {
		for (unsigned i = 0; rc == 0 && i < s->b->nvolumes; i++)
			rc = sender_ready(s, i, e);
		if (rc == 0 && s->hot.n > 0)
			rc = sender_pump(s, e);
	} while (rc == 0 && s->hot.n > 0 && !job_stopped(s->job));
	return rc;
}

/* Another lane may still find leaves that are to be compared. */
static bool
all_done(struct sender *s)
{
	return s->nredo == 0 && s->nahead == 0 && !cursor_left(&s->b->cursor) &&
	    !probes_wait(&s->b->probes);
}

static int
work(struct sender *s, struct err *e)
{
	unsigned turn = 0;
	int rc = 0;

	while (!sender_stopped(s)) {
		struct window *w = &s->window[turn];
		struct window *other = &s->window[1 - turn];
		bool idle = other->leaf == NULL;

		rc = fill(s, w, e);
		if (rc == 0 && !idle)
			rc = settle(s, other, e);
		if (rc == 0 && idle && w->leaf == NULL) {
			rc = drain(s, e);
			if (rc == 0 && all_done(s))
				break;
		}
		if (rc != 0)
			break;
		turn = 1 - turn;
	}
	/* The lane ends in peace: the job goes on with another. */
	while (rc == 0 && s->hot.n > 0 && !job_stopped(s->job))
		rc = sender_pump(s, e);
	count_traffic(s);
	return rc;
}

int
backup_lane(struct job_lane *l, void *arg, struct err *e)
{
	struct backup *b = arg;
	struct sender *s = xcalloc(1, sizeof(*s));
	uint64_t in;
	int rc;

	s->b = b;
	s->job = l->job;
	hot_init(&s->hot, l->remote.lane);
	lane_traffic(sender_lane(s), &in, &s->counted);
	s->hasher = hasher_new(b->job.has_key ? b->job.hash_key : NULL);
	s->codec = codec_new(effort_level(&b->effort));
	s->packed = xmalloc(b->chunk_size);
	/* So that a limited lane is never silent for long. */
	s->put_max = MSG_PUT_BYTES;
	if (s->job->rate.bytes_per_s > 0 &&
	    s->job->rate.bytes_per_s < s->put_max)
		s->put_max = (size_t)s->job->rate.bytes_per_s;
	/* Large leaves are not taken ahead: other lanes would idle. */
	s->ahead_max = AHEAD_BYTES / NODE_FANOUT / b->chunk_size;
	if (s->ahead_max > AHEAD_MAX)
		s->ahead_max = AHEAD_MAX;
	if (s->ahead_max == 0 || b->options->forward)
		s->ahead_max = 1;
	for (unsigned i = 0; i < 2; i++)
		s->window[i].data = aligned_new(BACKUP_WINDOW);
	rc = work(s, e);
	for (unsigned i = 0; i < 2; i++)
		free(s->window[i].data);
	free(s->packed);
	codec_free(s->codec);
	hasher_free(s->hasher);
	free(s);
	return rc;
}
