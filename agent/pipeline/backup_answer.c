/* SPDX-License-Identifier: Apache-2.0 */
/* What each answer means to a lane of a backup. */
#include "agent/pipeline/backup_sender.h"

#include <assert.h>
#include <string.h>

#include "proto/base/log.h"

enum { ATTEMPTS = 3 };

int
sender_node_failed(struct sender *s, unsigned volume, unsigned level,
    uint64_t index, struct err *e)
{
	uint64_t off = index * node_span(level) * s->b->chunk_size;

	return err_prefix(e, "disk %s at byte %llu", s->b->volume[volume].name,
	    (unsigned long long)off);
}

static int
node_failed(struct sender *s, const struct hot_ask *a, struct err *e)
{
	return sender_node_failed(s, a->volume, a->level, a->index, e);
}

int
sender_node(struct sender *s, unsigned volume, uint64_t index,
    const struct node *n, unsigned attempt, struct err *e)
{
	struct hot_ask *a = hot_ask(&s->hot, MSG_NODE_DONE);
	uint8_t body[NODE_LEN_MAX];
	size_t len = node_print(n, body);

	a->volume = volume;
	a->level = n->level;
	a->index = index;
	a->tail = n->tail;
	a->attempt = attempt;
	hasher_node(s->hasher, body, len, &a->id);
	return lane_send(sender_lane(s), MSG_NODE, a->request, body, len, e);
}

int
sender_ready(struct sender *s, unsigned volume, struct err *e)
{
	struct tree_ready r;
	int rc = 0;

	while (rc == 0 && hot_room(&s->hot) > 0 &&
	    tree_take(s->b->volume[volume].tree, &r))
		rc = sender_node(s, volume, r.index, &r.node, 0, e);
	return rc;
}

static int
got_parent(struct sender *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	struct leaf *l = a->ptr;
	int rc;

	if (f->type == MSG_ERROR) {
		rc = hot_error(&s->hot, f, e);
		/* Damage there: what it cannot tell is sent anew. */
		if (rc != ERR_CORRUPT && rc != ERR_NOENT)
			return node_failed(s, a, e);
		log_info("disk %s: a part of the backup before cannot be "
			 "read and is sent again: %s",
		    s->b->volume[a->volume].name, e->text);
		l->parent_state = PARENT_NONE;
		return 0;
	}
	l->parent_state = PARENT_KNOWN;
	if (f->len == 0)
		return 0; /* a hole: all zero, as it was made */
	rc = node_parse(f->payload, f->len, &l->parent, e);
	if (rc == 0 && l->parent.level != 0)
		rc = err_set(e, ERR_PROTO, "the parent's leaf is of level %u",
		    l->parent.level);
	if (rc != 0)
		return node_failed(s, a, e);
	hasher_node(s->hasher, f->payload, f->len, &l->parent_id);
	return 0;
}

static int
got_have(struct sender *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	struct window *w = a->ptr;

	if (f->type == MSG_ERROR)
		return hot_error(&s->hot, f, e);
	w->waiting = false;
	return msg_have_parse(f->payload, f->len, a->n, &w->have, e);
}

static int
got_put_done(struct sender *s, const struct frame *f, struct err *e)
{
	struct msg_put_done m;
	int rc;

	if (f->type == MSG_ERROR)
		return hot_error(&s->hot, f, e);
	rc = msg_put_done_parse(f->payload, f->len, &m, e);
	if (rc == 0)
		counters_add(&s->job->count.stored, m.stored);
	return rc;
}

static int
send_again(struct sender *s, const struct hot_ask *a,
    const struct msg_node_done *m, struct err *e)
{
	struct redo *r;

	if (a->level > 0 && s->b->trust.used) {
		/* It may be what was taken unread: nothing is, then. */
		trust_lose(&s->b->trust, TRUST_GONE, a->volume,
		    a->index * node_span(a->level));
		return 0;
	}
	if (a->level > 0 || a->attempt + 1 == ATTEMPTS) {
		err_set(e, ERR_MISSING,
		    "the store lost parts of it while the backup ran; run the "
		    "backup again, and backstay verify on the NAS");
		return node_failed(s, a, e);
	}
	assert(s->nredo < HOT_MAX + 2);
	r = &s->redo[s->nredo++];
	r->volume = a->volume;
	r->index = a->index;
	r->attempt = a->attempt + 1;
	memcpy(r->force, m->missing, sizeof(r->force));
	return 0;
}

static int
got_node_done(struct sender *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	struct tree *t = s->b->volume[a->volume].tree;
	struct msg_node_done m;
	int rc;

	if (f->type == MSG_ERROR) {
		hot_error(&s->hot, f, e);
		return node_failed(s, a, e);
	}
	rc = msg_node_done_parse(f->payload, f->len, &m, e);
	if (rc != 0)
		return rc;
	if (!m.taken)
		return send_again(s, a, &m, e);
	if (a->level == 0)
		tree_add_leaf(t, a->index, &a->id, a->tail);
	else
		tree_add_node(t, a->level, a->index, &a->id);
	return sender_ready(s, a->volume, e);
}

int
sender_pump(struct sender *s, struct err *e)
{
	struct hot_ask a;
	struct frame f;
	int rc;

	rc = hot_recv(&s->hot, &a, &f, e);
	if (rc != 0)
		return rc;
	switch (a.want) {
	case MSG_TREE_NODE:
		return a.level == 0 ? got_parent(s, &a, &f, e)
				    : sender_told(s, &a, &f, e);
	case MSG_HAVE: return got_have(s, &a, &f, e);
	case MSG_PUT_DONE: return got_put_done(s, &f, e);
	default: return got_node_done(s, &a, &f, e);
	}
}

int
sender_room(struct sender *s, struct err *e)
{
	int rc = 0;

	while (rc == 0 && hot_room(&s->hot) == 0)
		rc = sender_pump(s, e);
	return rc;
}
