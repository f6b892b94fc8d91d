/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one lane of a restore does: it loads leaves and reads parts of windows
 * as they come.  Nothing is written that is not what the tree names.
 */
#include "agent/pipeline/restore_lane.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pipeline/hot.h"
#include "agent/pipeline/path.h"
#include "proto/base/io.h"
#include "proto/codec.h"
#include "proto/msg.h"

enum {
	READS_MAX = 2, /* under way: while one comes the next is prepared */
	TREES_MAX = HOT_MAX - READS_MAX - 2
};

/* One READ under way. */
struct rread {
	struct restore_window *w; /* NULL: none */
	uint32_t ndata;           /* that came */
	bool alone;               /* of what no part had */
};

/* A group of leaves that is being loaded. */
struct load {
	struct restore_window *w; /* NULL: none */
	unsigned next, end;       /* leaves of the window, to be asked for */
	unsigned left;            /* under way */
};

struct receiver {
	struct restore *r;
	struct job *job;
	struct hot hot;
	struct hasher *hasher;
	struct codec *codec;
	uint8_t *raw;     /* one chunk, unpacked */
	uint64_t counted; /* of the lane's traffic, in the job's counter */
	struct rread read[READS_MAX];
	unsigned nreads;
	struct load load;
	bool ended; /* there is no more to do */
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
    const struct id *id, struct restore_window *w, struct err *e)
{
	struct msg_tree m = { .volume = s->r->volume[volume].number,
		.level = (uint8_t)level,
		.index = index };
	struct hot_ask *a = hot_ask(&s->hot, MSG_TREE_NODE);

	a->volume = volume;
	a->level = level;
	a->index = index;
	a->id = *id;
	a->ptr = w;
	msg_tree_print(lane_begin(wire(s), MSG_TREE, a->request), &m);
	return lane_end(wire(s), e);
}

static int
got_node(struct receiver *s, const struct hot_ask *a, const struct frame *f,
    struct err *e)
{
	const struct restore_volume *v = &s->r->volume[a->volume];
	struct restore_window *w = a->ptr;
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
	if (w == NULL) {
		path_put(s->path, a->index, &n);
		return 0;
	}
	w->leaf[a->index - w->first] = xmalloc(sizeof(n));
	*w->leaf[a->index - w->first] = n;
	s->load.left--;
	return 0;
}

/* *slice: by the window's first. */
static int
check_slice(struct receiver *s, const struct hot_ask *a,
    const struct msg_data *m, unsigned *slice, struct err *e)
{
	const struct rread *r = a->ptr;
	const struct restore_volume *v = &s->r->volume[a->volume];

	if (m->slice < a->index || m->slice - a->index >= a->n)
		return err_set(e, ERR_PROTO,
		    "the daemon sent slice %llu, which was not asked for",
		    (unsigned long long)m->slice);
	*slice = (unsigned)(m->slice - r->w->first * NODE_FANOUT);
	if (window_child(r->w, *slice) == NULL)
		return err_set(e, ERR_PROTO, "the daemon sent bytes of a hole");
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
	struct rread *r = a->ptr;
	const uint8_t *raw;
	struct msg_data m;
	unsigned slice = 0;
	int rc;

	rc = msg_data_parse(f->payload, f->len, &m, e);
	if (rc != 0)
		return rc;
	rate_take(&s->job->rate, f->len, &s->job->stop);
	rc = check_slice(s, a, &m, &slice, e);
	if (rc == 0)
		rc = unpack(s, &m, window_child(r->w, slice), &raw, e);
	if (rc != 0)
		return at_slice(s, a->volume, m.slice, e);
	if (++r->ndata > a->n) {
		err_set(e, ERR_PROTO, "more chunks than were asked for");
		return at_slice(s, a->volume, m.slice, e);
	}
	/* It moved between two parts and is in both. */
	if (!window_take(r->w, slice))
		return 0;
	rc = sink_write(s->r->volume[a->volume].sink, raw, m.raw_len,
	    m.slice * s->r->chunk_size, e);
	if (rc != 0)
		return err_prefix(e, "disk %s", s->r->volume[a->volume].name);
	atomic_fetch_add(&r->w->data, m.raw_len);
	counters_add(&s->job->count.read, m.raw_len);
	counters_add(&s->job->count.done, m.raw_len);
	return 0;
}

static int
ask_slices(struct receiver *s, struct restore_window *w, uint64_t slice,
    uint32_t n, unsigned part, unsigned nparts, bool alone, struct err *e)
{
	struct msg_read m = { .volume = s->r->volume[w->volume].number,
		.part = (uint8_t)part,
		.nparts = (uint8_t)nparts,
		.slice = slice,
		.n = n };
	struct rread *r = s->read;
	struct hot_ask *a = hot_ask(&s->hot, MSG_READ_DONE);

	assert(s->nreads < READS_MAX);
	while (r->w != NULL)
		r++;
	*r = (struct rread){ .w = w, .alone = alone };
	s->nreads++;
	a->volume = w->volume;
	a->index = slice;
	a->n = n;
	a->ptr = r;
	msg_read_print(lane_begin(wire(s), MSG_READ, a->request), &m);
	return lane_end(wire(s), e);
}

static int pump(struct receiver *s, struct err *e);

/* All parts came.  What moved in the packs meanwhile may be in none of them:
 * that is asked for by itself. */
static int
end_window(struct receiver *s, struct restore_window *w, struct err *e)
{
	const struct restore_volume *v = &s->r->volume[w->volume];
	uint64_t first = w->first * NODE_FANOUT, n = v->nslices - first;
	unsigned nslices = w->nleaves * NODE_FANOUT;
	int rc;

	if (n < nslices)
		nslices = (unsigned)n;
	for (unsigned i = 0; i < nslices; i++) {
		if (window_child(w, i) == NULL || window_has(w, i))
			continue;
		while (s->nreads == READS_MAX) {
			rc = pump(s, e);
			if (rc != 0)
				return rc;
		}
		rc = ask_slices(s, w, first + i, 1, 0, 1, true, e);
		while (rc == 0 && !window_has(w, i))
			rc = pump(s, e);
		if (rc != 0)
			return rc;
	}
	count_holes(s,
	    bytes_below(s, w->volume, w->first, w->nleaves) -
		atomic_load(&w->data));
	windows_done(&s->r->windows, w);
	return 0;
}

static int
got_read_done(struct receiver *s, const struct hot_ask *a,
    const struct frame *f, struct err *e)
{
	struct rread *r = a->ptr;
	struct restore_window *w = r->w;
	bool alone = r->alone;
	uint32_t ndata;
	int rc;

	if (f->type == MSG_ERROR) {
		/* It names the slice, which may be any of them. */
		hot_error(&s->hot, f, e);
		return err_prefix(e, "disk %s", s->r->volume[a->volume].name);
	}
	rc = msg_read_done_parse(f->payload, f->len, &ndata, e);
	if (rc != 0)
		return rc;
	if (ndata != r->ndata) {
		err_set(e, ERR_PROTO, "the daemon counts %u chunks, %u came",
		    (unsigned)ndata, (unsigned)r->ndata);
		return at_slice(s, a->volume, a->index, e);
	}
	r->w = NULL;
	s->nreads--;
	if (alone && ndata != 1) {
		err_set(e, ERR_PROTO, "the daemon did not send it");
		return at_slice(s, a->volume, a->index, e);
	}
	if (!alone && windows_read(&s->r->windows, w))
		return end_window(s, w, e);
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
 * Find leaf ${index}'s id; *skip: so many leaves from it on are below a hole.
 */
static int
find_leaf(struct receiver *s, unsigned volume, uint64_t index, struct id *id,
    uint64_t *skip, struct err *e)
{
	const struct restore_volume *v = &s->r->volume[volume];
	enum path_step step;
	unsigned level;
	uint64_t node;
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
	*skip = 0;
	if (step == PATH_HOLE)
		*skip = (node + 1) * (node_span(level) / NODE_FANOUT) - index;
	return 0;
}

/* Ask for the leaves of the group, as many as may be under way. */
static int
load_more(struct receiver *s, struct err *e)
{
	struct load *l = &s->load;
	struct restore_window *w = l->w;
	uint64_t skip;
	struct id id;
	int rc;

	while (
	    l->next < l->end && l->left < TREES_MAX && !job_stopped(s->job)) {
		rc = find_leaf(s, w->volume, w->first + l->next, &id, &skip, e);
		if (rc != 0)
			return rc;
		if (skip > 0) {
			l->next = skip < l->end - l->next
			    ? l->next + (unsigned)skip
			    : l->end;
			continue;
		}
		rc = ask_tree(s, w->volume, 0, w->first + l->next, &id, w, e);
		if (rc != 0)
			return rc;
		l->next++;
		l->left++;
	}
	if (l->next < l->end || l->left > 0)
		return 0;
	l->w = NULL;
	return windows_loaded(&s->r->windows, w) ? end_window(s, w, e) : 0;
}

static int
begin_task(struct receiver *s, enum window_task task, struct restore_window *w,
    unsigned number, struct err *e)
{
	const struct restore_volume *v = &s->r->volume[w->volume];
	uint64_t slice = w->first * NODE_FANOUT, n = v->nslices - slice;

	if (task == WINDOW_READ) {
		if (n > (uint64_t)w->nleaves * NODE_FANOUT)
			n = (uint64_t)w->nleaves * NODE_FANOUT;
		return ask_slices(
		    s, w, slice, (uint32_t)n, number, w->nparts, false, e);
	}
	s->load.w = w;
	s->load.next = number * WINDOW_GROUP;
	s->load.end = s->load.next + WINDOW_GROUP;
	if (s->load.end > w->nleaves)
		s->load.end = w->nleaves;
	return 0;
}

/* Take tasks, so that there is always something under way. */
static int
ask_more(struct receiver *s, struct err *e)
{
	int rc = 0;

	while (rc == 0 && s->nreads < READS_MAX && !job_stopped(s->job)) {
		enum window_task task;
		struct restore_window *w;
		unsigned number;

		task = windows_task(
		    &s->r->windows, s->load.w == NULL, &w, &number);
		s->ended = task == WINDOW_END;
		if (task == WINDOW_WAIT || task == WINDOW_END)
			break;
		rc = begin_task(s, task, w, number, e);
		if (rc == 0 && s->load.w != NULL)
			rc = load_more(s, e);
	}
	if (rc == 0 && s->load.w != NULL)
		rc = load_more(s, e);
	return rc != 0 ? rc : lane_flush(wire(s), e);
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
		if (rc != 0)
			break;
		if (s->hot.n > 0)
			rc = pump(s, e);
		else if (s->ended)
			break;
		else if (s->load.w == NULL)
			windows_wait(&s->r->windows);
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
