/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one lane of a restore does: leaves are fetched some ahead, and of those
 * that are there slices are read, two windows at a time.  Nothing is written
 * that is not what the tree names.
 */
#include "agent/pipeline/restore_lane.h"

#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/hot.h"
#include "agent/pipeline/path.h"
#include "proto/base/io.h"
#include "proto/codec.h"
#include "proto/msg.h"

enum {
	LEAVES_MAX = 4,                /* in work at a time */
	READ_WINDOW = 8 << 20,         /* bytes of slices in one READ */
	READS_BYTES = 2 * READ_WINDOW, /* under way */
};

struct rleaf {
	bool used;
	bool known; /* ${node} is there */
	unsigned volume;
	uint64_t index;
	uint64_t first;  /* slice */
	unsigned n;      /* slices within the volume */
	unsigned next;   /* slice to be read next */
	unsigned nreads; /* under way */
	uint8_t got[NODE_FANOUT / 8];
	uint64_t data; /* bytes written */
	struct id id;
	struct node node;
};

struct receiver {
	struct restore *r;
	struct job *job;
	struct hot hot;
	struct hasher *hasher;
	struct codec *codec;
	uint8_t *raw;     /* one chunk, unpacked */
	uint64_t counted; /* of the lane's traffic, in the job's counter */
	struct rleaf leaf[LEAVES_MAX];
	unsigned nleaves;
	uint64_t asked; /* bytes of READs under way */
	bool exhausted; /* the cursor is */
	unsigned path_volume;
	struct path *path;
};

static struct lane *
wire(struct receiver *s)
{
	return s->hot.lane;
}

static int
at_slice(struct receiver *s, unsigned volume, uint64_t slice, struct err *e)
{
	return err_prefix(e, "disk %s at byte %llu", s->r->volume[volume].name,
	    (unsigned long long)(slice * s->r->chunk_size));
}

/* Bytes of the volume below ${n} leaves. */
static uint64_t
bytes_below(
    const struct receiver *s, unsigned volume, uint64_t leaf, uint64_t n)
{
	uint64_t span = (uint64_t)s->r->chunk_size * NODE_FANOUT;
	uint64_t size = s->r->volume[volume].size;
	uint64_t from = leaf * span, to = (leaf + n) * span;

	return n == 0 ? 0 : (to < size ? to : size) - from;
}

static void
count_holes(struct receiver *s, uint64_t len)
{
	counters_add(&s->job->count.holes, len);
	counters_add(&s->job->count.done, len);
}

static int
ask_tree(struct receiver *s, unsigned volume, unsigned level, uint64_t index,
    const struct id *id, struct rleaf *l, struct err *e)
{
	struct msg_tree m = { .volume = s->r->volume[volume].number,
		.level = (uint8_t)level,
		.index = index };
	struct hot_ask *a = hot_ask(&s->hot, MSG_TREE_NODE);

	a->volume = volume;
	a->level = level;
	a->index = index;
	a->id = *id;
	a->ptr = l;
	msg_tree_print(lane_begin(wire(s), MSG_TREE, a->request), &m);
	return lane_end(wire(s), e);
}

static int
got_node(struct receiver *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	const struct restore_volume *v = &s->r->volume[a->volume];
	struct rleaf *l = a->ptr;
	struct node n;
	int rc;

	if (f->type == MSG_ERROR)
		rc = hot_error(&s->hot, f, e);
	else
		rc = path_verify(s->hasher, f->payload, f->len, v->nslices,
		    a->level, a->index, &a->id, &n, e);
	if (rc != 0)
		return at_slice(
		    s, a->volume, a->index * node_span(a->level), e);
	if (l == NULL) {
		path_put(s->path, a->index, &n);
	} else {
		l->node = n;
		l->known = true;
	}
	return 0;
}

static int
check_slice(struct receiver *s, const struct hot_ask *a,
    const struct msg_data *m, struct err *e)
{
	const struct rleaf *l = a->ptr;
	const struct restore_volume *v = &s->r->volume[l->volume];
	uint64_t i = m->slice - l->first;

	if (m->slice < a->index || m->slice - a->index >= a->n)
		return err_set(e, ERR_PROTO,
		    "the daemon sent slice %llu, which was not asked for",
		    (unsigned long long)m->slice);
	if (id_is_hole(&l->node.child[i]))
		return err_set(e, ERR_PROTO, "the daemon sent bytes of a hole");
	if ((l->got[i / 8] & 1u << i % 8) != 0)
		return err_set(e, ERR_PROTO, "the daemon sent it twice");
	if (m->raw_len != chunk_len(v->size, s->r->chunk_size, m->slice))
		return err_set(e, ERR_CORRUPT, "a chunk of %u bytes",
		    (unsigned)m->raw_len);
	return 0;
}

/* The bytes of a chunk, if they are those that ${id} names. */
static int
unpack(struct receiver *s, const struct msg_data *m, const struct id *id,
    const uint8_t **raw, struct err *e)
{
	char want[2 * ID_LEN + 1];
	struct id is;
	int rc = 0;

	*raw = s->raw;
	if (m->codec == CODEC_PLAIN && m->len == m->raw_len)
		*raw = m->data; /* no need to copy it */
	else
		rc = codec_unpack(
		    s->codec, m->codec, m->data, m->len, s->raw, m->raw_len);
	if (rc == ERR_UNSUP)
		return err_set(e, rc,
		    "chunk %s is encoded in a way (%u) that this agent does "
		    "not know: update it",
		    hex(id->b, ID_LEN, want), m->codec);
	if (rc == 0)
		hasher_chunk(s->hasher, *raw, m->raw_len, &is);
	if (rc != 0 || !id_equal(&is, id))
		return err_set(e, ERR_CORRUPT,
		    "the bytes that came are not those of chunk %s: run "
		    "backstay verify on the NAS",
		    hex(id->b, ID_LEN, want));
	return 0;
}

static int
got_data(struct receiver *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	struct rleaf *l = a->ptr;
	const uint8_t *raw;
	struct msg_data m;
	uint64_t i;
	int rc;

	rc = msg_data_parse(f->payload, f->len, &m, e);
	if (rc != 0)
		return rc;
	rate_take(&s->job->rate, f->len, &s->job->stop);
	rc = check_slice(s, a, &m, e);
	if (rc != 0)
		return at_slice(s, a->volume, m.slice, e);
	i = m.slice - l->first;
	rc = unpack(s, &m, &l->node.child[i], &raw, e);
	if (rc != 0)
		return at_slice(s, a->volume, m.slice, e);
	rc = sink_write(s->r->volume[l->volume].sink, raw, m.raw_len,
	    m.slice * s->r->chunk_size, e);
	if (rc != 0)
		return err_prefix(e, "disk %s", s->r->volume[l->volume].name);
	l->got[i / 8] |= (uint8_t)(1u << i % 8);
	l->data += m.raw_len;
	counters_add(&s->job->count.read, m.raw_len);
	counters_add(&s->job->count.done, m.raw_len);
	return 0;
}

/* A leaf of which all slices came. */
static void
end_leaf(struct receiver *s, struct rleaf *l)
{
	count_holes(s, bytes_below(s, l->volume, l->index, 1) - l->data);
	l->used = false;
	s->nleaves--;
}

static int
got_read_done(struct receiver *s, const struct hot_ask *a,
    const struct frame *f, struct err *e)
{
	struct rleaf *l = a->ptr;
	unsigned first = (unsigned)(a->index - l->first);
	uint32_t ndata, want = 0;
	int rc;

	if (f->type == MSG_ERROR) {
		/* It names the slice, which may be any of them. */
		hot_error(&s->hot, f, e);
		return err_prefix(e, "disk %s", s->r->volume[a->volume].name);
	}
	rc = msg_read_done_parse(f->payload, f->len, &ndata, e);
	if (rc != 0)
		return rc;
	for (unsigned i = first; i < first + a->n; i++) {
		if (id_is_hole(&l->node.child[i]))
			continue;
		want++;
		if ((l->got[i / 8] & 1u << i % 8) == 0) {
			err_set(e, ERR_PROTO, "the daemon did not send it");
			return at_slice(s, a->volume, l->first + i, e);
		}
	}
	if (ndata != want) {
		err_set(e, ERR_PROTO, "%u chunks were sent and %u are needed",
		    (unsigned)ndata, (unsigned)want);
		return at_slice(s, a->volume, a->index, e);
	}
	s->asked -= (uint64_t)a->n * s->r->chunk_size;
	l->nreads--;
	if (l->next == l->n && l->nreads == 0)
		end_leaf(s, l);
	return 0;
}

static int
pump(struct receiver *s, struct err *e)
{
	struct hot_ask a;
	struct frame f;
	int rc;

	rc = hot_recv(&s->hot, &a, &f, e);
	if (rc != 0)
		return rc;
	if (a.want == MSG_TREE_NODE)
		return got_node(s, &a, &f, e);
	if (f.type == MSG_DATA)
		return got_data(s, &a, &f, e);
	return got_read_done(s, &a, &f, e);
}

/*
 * Find leaf ${index}'s id; *hole: it and others are below a hole and done
 * with.
 */
static int
find_leaf(struct receiver *s, unsigned volume, uint64_t index, struct id *id,
    bool *is_hole, struct err *e)
{
	const struct restore_volume *v = &s->r->volume[volume];
	uint64_t node, end, first, n;
	enum path_step step;
	unsigned level;
	int rc;

	if (s->path_volume != volume) {
		path_init(s->path, &v->root, v->nslices);
		s->path_volume = volume;
	}
	for (;;) {
		step = path_step(s->path, index, &level, &node, id);
		if (step != PATH_FETCH)
			break;
		rc = ask_tree(s, volume, level, node, id, NULL, e);
		if (rc != 0)
			return rc;
		/* Once in 128 leaves; what else is under way goes on. */
		while (!s->path->at[level].valid ||
		    s->path->at[level].index != node) {
			rc = pump(s, e);
			if (rc != 0)
				return rc;
		}
	}
	*is_hole = step == PATH_HOLE;
	if (!*is_hole)
		return 0;
	end = (node + 1) * (node_span(level) / NODE_FANOUT);
	if (end > s->r->cursor.nleaves[volume])
		end = s->r->cursor.nleaves[volume];
	n = cursor_skip(&s->r->cursor, volume, end, &first);
	count_holes(s, bytes_below(s, volume, index, 1));
	count_holes(s, bytes_below(s, volume, first, n));
	return 0;
}

static int
take_leaf(struct receiver *s, struct err *e)
{
	struct rleaf *l = s->leaf;
	unsigned volume;
	uint64_t index;
	struct id id;
	bool is_hole;
	int rc;

	if (!cursor_next(&s->r->cursor, &volume, &index)) {
		s->exhausted = true;
		return 0;
	}
	rc = find_leaf(s, volume, index, &id, &is_hole, e);
	if (rc != 0 || is_hole)
		return rc;
	while (l->used)
		l++;
	memset(l, 0, sizeof(*l));
	l->used = true;
	l->volume = volume;
	l->index = index;
	l->first = index * NODE_FANOUT;
	l->n = NODE_FANOUT;
	if (s->r->volume[volume].nslices - l->first < NODE_FANOUT)
		l->n = (unsigned)(s->r->volume[volume].nslices - l->first);
	l->id = id;
	s->nleaves++;
	return ask_tree(s, volume, 0, index, &id, l, e);
}

/* The next slices of a leaf that are worth a READ; none: it has no more. */
static unsigned
next_range(const struct receiver *s, struct rleaf *l)
{
	unsigned most = READ_WINDOW / s->r->chunk_size, n;

	while (l->next < l->n && id_is_hole(&l->node.child[l->next]))
		l->next++;
	n = l->n - l->next < most ? l->n - l->next : most;
	while (n > 0 && id_is_hole(&l->node.child[l->next + n - 1]))
		n--;
	return n;
}

static int
ask_slices(struct receiver *s, struct rleaf *l, struct err *e)
{
	struct msg_read m = { .volume = s->r->volume[l->volume].number };
	struct hot_ask *a;

	m.n = next_range(s, l);
	if (m.n == 0) {
		if (l->nreads == 0)
			end_leaf(s, l);
		return 0;
	}
	m.slice = l->first + l->next;
	a = hot_ask(&s->hot, MSG_READ_DONE);
	a->volume = l->volume;
	a->index = m.slice;
	a->n = m.n;
	a->ptr = l;
	l->next += m.n;
	l->nreads++;
	s->asked += (uint64_t)m.n * s->r->chunk_size;
	msg_read_print(lane_begin(wire(s), MSG_READ, a->request), &m);
	return lane_end(wire(s), e);
}

static int
ask_more(struct receiver *s, struct err *e)
{
	int rc;

	while (
	    s->nleaves < LEAVES_MAX && !s->exhausted && !job_stopped(s->job)) {
		rc = take_leaf(s, e);
		if (rc != 0)
			return rc;
	}
	for (unsigned i = 0; i < LEAVES_MAX; i++) {
		struct rleaf *l = &s->leaf[i];

		while (l->used && l->known && l->next < l->n &&
		    s->asked < READS_BYTES) {
			rc = ask_slices(s, l, e);
			if (rc != 0)
				return rc;
		}
	}
	return lane_flush(wire(s), e);
}

static void
count_traffic(struct receiver *s)
{
	uint64_t in, out;

	lane_traffic(wire(s), &in, &out);
	counters_add(&s->job->count.sent, in - s->counted);
	s->counted = in;
}

static int
work(struct receiver *s, struct err *e)
{
	int rc = 0;

	while (rc == 0 && !job_stopped(s->job)) {
		rc = ask_more(s, e);
		if (rc != 0 || (s->hot.n == 0 && s->exhausted))
			break;
		if (s->hot.n > 0)
			rc = pump(s, e);
		count_traffic(s);
	}
	return rc;
}

int
restore_lane(struct job_lane *l, void *arg, struct err *e)
{
	struct receiver *s = xcalloc(1, sizeof(*s));
	uint64_t out;
	int rc;

	s->r = arg;
	s->job = l->job;
	hot_init(&s->hot, l->remote.lane);
	lane_traffic(wire(s), &s->counted, &out);
	s->hasher = hasher_new(s->job->has_key ? s->job->hash_key : NULL);
	s->codec = codec_new(CODEC_LEVEL_DEFAULT);
	s->raw = xmalloc(s->r->chunk_size);
	s->path = xcalloc(1, sizeof(*s->path));
	s->path_volume = UINT32_MAX;
	rc = work(s, e);
	free(s->path);
	free(s->raw);
	codec_free(s->codec);
	hasher_free(s->hasher);
	free(s);
	return rc;
}
