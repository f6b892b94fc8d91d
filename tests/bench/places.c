/* SPDX-License-Identifier: Apache-2.0 */
/*
 * places: where in the packs the records of a VM's newest backup lie.
 *
 *   places REPO VM
 *
 * A line each, in the order of the tree: "chunk VOLUME SLICE PACK OFFSET LEN"
 * or "node VOLUME LEVEL PACK OFFSET LEN"; LEN is with the record's header.  No
 * daemon may run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/store/store_impl.h"

struct newest {
	const char *vm;
	struct manifest m;
	bool found;
};

static void
see(void *arg, const struct manifest *m)
{
	struct newest *n = arg;

	if (strcmp(m->vm, n->vm) == 0 && !m->incomplete &&
	    (!n->found || m->seq > n->m.seq)) {
		n->m = *m;
		n->found = true;
	}
}

static void
die(const char *what)
{
	fprintf(stderr, "places: %s\n", what);
	exit(1);
}

static void
line(const char *what, unsigned volume, uint64_t number, const struct place *p)
{
	printf("%s %u %" PRIu64 " %" PRIu32 " %" PRIu32 " %u\n", what, volume,
	    number, p->pack, p->off, p->stored_len + RECORD_HEADER_LEN);
}

/* The subtree under ${id}, whose first slice is ${slice}. */
static void
walk(struct store *s, struct store_lane *l, unsigned volume,
    const struct id *id, unsigned level, uint64_t slice)
{
	struct err e = { 0 };
	struct index_entry x;
	struct node *n;

	if (id_is_hole(id))
		return;
	n = xmalloc(sizeof(*n));
	if (index_get(s->index, id, &x) != 0)
		die("a node is not in the index");
	line("node", volume, level, &x.place);
	if (store_read_node(s, l, id, level, n, &e) != 0)
		die(e.text);
	for (unsigned i = 0; i < n->n; i++) {
		if (level > 0) {
			walk(s, l, volume, &n->child[i], level - 1,
			    slice + i * node_span(level - 1));
		} else if (!id_is_hole(&n->child[i])) {
			if (index_get(s->index, &n->child[i], &x) != 0)
				die("a chunk is not in the index");
			line("chunk", volume, slice + i, &x.place);
		}
	}
	free(n);
}

int
main(int argc, char **argv)
{
	static const struct store_options o;
	struct newest n = { .vm = argc == 3 ? argv[2] : "" };
	struct err e = { 0 };
	struct store_lane *l;
	struct store *s;

	if (argc != 3) {
		fprintf(stderr, "usage: places REPO VM\n");
		return 2;
	}
	if (store_open(argv[1], &o, see, &n, &s, &e) != 0)
		die(e.text);
	if (!n.found)
		die("no backup of that VM");
	l = store_lane_new(s, NULL);
	for (unsigned v = 0; v < n.m.nvolumes; v++) {
		const struct manifest_volume *mv = &n.m.volume[v];
		uint64_t nslices =
		    chunk_nslices(mv->size, store_format(s)->chunk_size);

		if (nslices > 0)
			walk(s, l, v, &mv->root, node_root_level(nslices), 0);
	}
	store_lane_free(l);
	store_close(s);
	return 0;
}
