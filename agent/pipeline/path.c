/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pipeline/path.h"

#include <assert.h>
#include <string.h>

#include "proto/base/io.h"

enum { FANOUT_BITS = 7 };

void
path_init(struct path *p, const struct id *root, uint64_t nslices)
{
	assert(nslices > 0);
	p->nslices = nslices;
	p->root_level = node_root_level(nslices);
	p->root = *root;
	for (unsigned i = 0; i <= NODE_LEVEL_MAX; i++)
		p->at[i].valid = false;
}

enum path_step
path_step(const struct path *p, uint64_t leaf, unsigned *level, uint64_t *index,
    struct id *id)
{
	*id = p->root;
	*level = p->root_level;
	for (;;) {
		const struct path_node *at = &p->at[*level];

		*index = leaf >> FANOUT_BITS * *level;
		if (id_is_hole(id))
			return PATH_HOLE;
		if (*level == 0)
			return PATH_LEAF;
		/* What is at a place of one tree never changes. */
		if (!at->valid || at->index != *index)
			return PATH_FETCH;
		--*level;
		*id = at->node
			  .child[(leaf >> FANOUT_BITS * *level) % NODE_FANOUT];
	}
}

void
path_put(struct path *p, uint64_t index, const struct node *n)
{
	struct path_node *at = &p->at[n->level];

	assert(n->level > 0);
	at->valid = true;
	at->index = index;
	at->node = *n;
}

int
path_verify(struct hasher *h, const uint8_t *body, size_t len, uint64_t nslices,
    unsigned level, uint64_t index, const struct id *id, struct node *out,
    struct err *e)
{
	char want[2 * ID_LEN + 1];
	uint64_t first = index * node_span(level), below;
	struct id is;

	hasher_node(h, body, len, &is);
	if (!id_equal(&is, id))
		return err_set(e, ERR_CORRUPT,
		    "node %llu of level %u is not the one that the backup "
		    "names (%s)",
		    (unsigned long long)index, level, hex(id->b, ID_LEN, want));
	if (node_parse(body, len, out, e) != 0) {
		e->code = ERR_CORRUPT;
		return err_prefix(e, "node %s", hex(id->b, ID_LEN, want));
	}
	/* Children beyond the volume's end would never be looked at. */
	below = level == 0 ? 1 : node_span(level - 1);
	if (out->level != level || first >= nslices ||
	    (uint64_t)(out->n - 1) * below >= nslices - first)
		return err_set(e, ERR_CORRUPT,
		    "node %s does not fit its place (node %llu of level %u)",
		    hex(id->b, ID_LEN, want), (unsigned long long)index, level);
	return 0;
}
