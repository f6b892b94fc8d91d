/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/tree.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "proto/base/buf.h"

/* A node of which some child is not known yet, or that waits to be taken. */
struct open_node {
	struct open_node *next;
	uint64_t index;
	unsigned nknown;
	struct node node;
};

struct tree {
	uint64_t nslices; /* set before start, as are the next two */
	unsigned root_level;
	bool short_tail; /* the volume's last slice is a short one */
	pthread_mutex_t mu;
	/* All below: guarded by mu. */
	struct open_node *open[NODE_LEVEL_MAX + 1]; /* by their level */
	struct open_node *ready;
	bool tail; /* the short last slice is no hole */
	bool complete;
	struct id root;
};

static const struct id hole;

/* How many nodes level ${level} has. */
static uint64_t
nnodes(const struct tree *t, unsigned level)
{
	uint64_t span = node_span(level);

	return t->nslices / span + (t->nslices % span != 0);
}

/* How many children node ${index} of ${level} > 0 has within the volume. */
static unsigned
nchildren(const struct tree *t, unsigned level, uint64_t index)
{
	uint64_t left = nnodes(t, level - 1) - index * NODE_FANOUT;

	return left < NODE_FANOUT ? (unsigned)left : NODE_FANOUT;
}

struct tree *
tree_new(uint64_t size, uint32_t chunk_size)
{
	struct tree *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->mu, NULL);
	t->nslices = chunk_nslices(size, chunk_size);
	t->short_tail = size % chunk_size != 0;
	if (t->nslices == 0)
		t->complete = true; /* its root is the hole */
	else
		t->root_level = node_root_level(t->nslices);
	return t;
}

static void
free_list(struct open_node *o)
{
	struct open_node *next;

	for (; o != NULL; o = next) {
		next = o->next;
		free(o);
	}
}

void
tree_free(struct tree *t)
{
	if (t == NULL)
		return;
	for (unsigned i = 0; i <= NODE_LEVEL_MAX; i++)
		free_list(t->open[i]);
	free_list(t->ready);
	pthread_mutex_destroy(&t->mu);
	free(t);
}

uint64_t
tree_nleaves(const struct tree *t)
{
	return nnodes(t, 0);
}

unsigned
tree_root_level(const struct tree *t)
{
	return t->root_level;
}

uint64_t
tree_nnodes(const struct tree *t, unsigned level)
{
	return nnodes(t, level);
}

/* Where the pointer to node ${index} is; it is made if it is not there. */
static struct open_node **
find_open(struct tree *t, unsigned level, uint64_t index)
{
	struct open_node **at = &t->open[level];
	struct open_node *o;

	while (*at != NULL && (*at)->index != index)
		at = &(*at)->next;
	if (*at == NULL) {
		o = xcalloc(1, sizeof(*o)); /* so all children are holes */
		o->index = index;
		o->node.level = (uint8_t)level;
		*at = o;
	}
	return at;
}

static void add(
    struct tree *t, unsigned level, uint64_t index, const struct id *id);

/* ${n} more children of the node at ${at} are known. */
static void
now_known(struct tree *t, struct open_node **at, unsigned n)
{
	struct open_node *o = *at;
	unsigned level = o->node.level;
	uint64_t index = o->index;

	o->nknown += n;
	assert(o->nknown <= nchildren(t, level, index));
	if (o->nknown < nchildren(t, level, index))
		return;
	*at = o->next;
	node_trim(&o->node);
	if (o->node.n == 0) {
		free(o);
		add(t, level, index, &hole);
		return;
	}
	/* The right edge is complete only after the last leaf told. */
	o->node.tail = t->tail && index == nnodes(t, level) - 1;
	o->next = t->ready;
	t->ready = o;
}

static void
add(struct tree *t, unsigned level, uint64_t index, const struct id *id)
{
	struct open_node **at;
	struct id *child;

	assert(index < nnodes(t, level));
	if (level == t->root_level) {
		assert(!t->complete);
		t->root = *id;
		t->complete = true;
		return;
	}
	at = find_open(t, level + 1, index / NODE_FANOUT);
	child = &(*at)->node.child[index % NODE_FANOUT];
	assert(id_is_hole(child));
	*child = *id;
	now_known(t, at, 1);
}

/* Nodes that are all holes never come into being: they are a run above. */
static void
add_holes(struct tree *t, unsigned level, uint64_t first, uint64_t n)
{
	uint64_t end = first + n, run = 0, nrun = 0;

	if (n == 0)
		return;
	assert(end <= nnodes(t, level) && end > first);
	if (level == t->root_level) {
		add(t, level, first, &hole);
		return;
	}
	while (first < end) {
		uint64_t index = first / NODE_FANOUT;
		unsigned all = nchildren(t, level + 1, index);
		uint64_t stop = index * NODE_FANOUT + all;

		if (stop > end)
			stop = end;
		if (stop - first < all) {
			now_known(t, find_open(t, level + 1, index),
			    (unsigned)(stop - first));
			first = stop;
			continue;
		}
		/* All that follow, but for a cut one at the end. */
		run = index;
		nrun = end == nnodes(t, level) ? nnodes(t, level + 1) - index
					       : end / NODE_FANOUT - index;
		first = end == nnodes(t, level)
		    ? end
		    : end / NODE_FANOUT * NODE_FANOUT;
	}
	add_holes(t, level + 1, run, nrun);
}

void
tree_add_subtree(struct tree *t, unsigned level, uint64_t index,
    const struct id *id, bool tail)
{
	pthread_mutex_lock(&t->mu);
	if (tail) {
		assert(t->short_tail && index == nnodes(t, level) - 1);
		t->tail = true;
	}
	add(t, level, index, id);
	pthread_mutex_unlock(&t->mu);
}

void
tree_add_leaf(struct tree *t, uint64_t index, const struct id *id, bool tail)
{
	tree_add_subtree(t, 0, index, id, tail);
}

void
tree_add_holes(struct tree *t, uint64_t first, uint64_t n)
{
	pthread_mutex_lock(&t->mu);
	add_holes(t, 0, first, n);
	pthread_mutex_unlock(&t->mu);
}

void
tree_add_node(
    struct tree *t, unsigned level, uint64_t index, const struct id *id)
{
	pthread_mutex_lock(&t->mu);
	add(t, level, index, id);
	pthread_mutex_unlock(&t->mu);
}

bool
tree_take(struct tree *t, struct tree_ready *out)
{
	struct open_node *o;

	pthread_mutex_lock(&t->mu);
	o = t->ready;
	if (o != NULL)
		t->ready = o->next;
	pthread_mutex_unlock(&t->mu);
	if (o == NULL)
		return false;
	out->index = o->index;
	out->node = o->node;
	free(o);
	return true;
}

bool
tree_root(struct tree *t, struct id *out)
{
	bool complete;

	pthread_mutex_lock(&t->mu);
	complete = t->complete;
	*out = t->root;
	pthread_mutex_unlock(&t->mu);
	return complete;
}

unsigned
tree_nopen(struct tree *t)
{
	unsigned n = 0;

	pthread_mutex_lock(&t->mu);
	for (unsigned i = 0; i <= NODE_LEVEL_MAX; i++)
		for (const struct open_node *o = t->open[i]; o != NULL;
		     o = o->next)
			n++;
	for (const struct open_node *o = t->ready; o != NULL; o = o->next)
		n++;
	pthread_mutex_unlock(&t->mu);
	return n;
}
