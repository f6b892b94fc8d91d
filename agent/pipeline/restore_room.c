/* SPDX-License-Identifier: Apache-2.0 */
/* How much a restore may write, and whether there is room for it. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "agent/image/imgfile.h"
#include "agent/pipeline/hot.h"
#include "agent/pipeline/path.h"
#include "agent/pipeline/restore_place.h"
#include "proto/msg.h"

enum {
	ROOM_NODES_MAX = 16384, /* looked at; what lies below others counts */
	ROOM_STACK_MAX = (NODE_LEVEL_MAX + 1) * NODE_FANOUT,
	ROOM_META = 2 << 20 /* of an image, beside what grows with it */
};

struct step {
	unsigned level;
	uint64_t index;
	struct id id;
};

/* The walk down one tree, one question at a time. */
struct walk {
	struct restore *r;
	const struct restore_volume *v;
	struct hot hot;
	struct hasher *hasher;
	unsigned nnodes;
	uint64_t bytes;
	unsigned n;
	struct step stack[ROOM_STACK_MAX];
};

static void
count(struct walk *w, unsigned level, uint64_t index)
{
	uint64_t span = node_span(level) * w->r->chunk_size;
	uint64_t from = index * span;

	w->bytes += w->v->size - from < span ? w->v->size - from : span;
}

static int
fetch(struct walk *w, const struct step *s, struct node *out, struct err *e)
{
	struct msg_tree m = { .volume = w->v->number,
		.level = (uint8_t)s->level,
		.index = s->index };
	struct hot_ask *a = hot_ask(&w->hot, MSG_TREE_NODE), got;
	struct frame f;
	int rc;

	msg_tree_print(lane_begin(w->hot.lane, MSG_TREE, a->request), &m);
	rc = lane_end(w->hot.lane, e);
	if (rc == 0)
		rc = lane_flush(w->hot.lane, e);
	if (rc == 0)
		rc = hot_recv(&w->hot, &got, &f, e);
	if (rc == 0 && f.type == MSG_ERROR)
		rc = hot_error(&w->hot, &f, e);
	if (rc == 0)
		rc = path_verify(w->hasher, f.payload, f.len, w->v->nslices,
		    s->level, s->index, &s->id, out, e);
	return rc != 0 ? err_prefix(e, "disk %s", w->v->name) : 0;
}

/* Leaves that are no holes are not looked into. */
static int
walk(struct walk *w, struct err *e)
{
	while (w->n > 0) {
		struct step s = w->stack[--w->n];
		struct node node = { .n = 0 };
		int rc;

		if (s.level == 0 || ++w->nnodes > ROOM_NODES_MAX) {
			count(w, s.level, s.index);
			continue;
		}
		rc = fetch(w, &s, &node, e);
		if (rc != 0)
			return rc;
		for (unsigned i = 0; i < node.n; i++) {
			struct step below = { s.level - 1,
				s.index * NODE_FANOUT + i, node.child[i] };

			if (!id_is_hole(&below.id))
				w->stack[w->n++] = below;
		}
	}
	return 0;
}

/* At most so much of the volume is no hole. */
static int
bound(struct restore *r, const struct restore_volume *v, uint64_t *out,
    struct err *e)
{
	struct walk *w;
	int rc;

	*out = 0;
	if (id_is_hole(&v->root))
		return 0;
	w = xcalloc(1, sizeof(*w));
	w->r = r;
	w->v = v;
	w->hasher = hasher_new(r->job.has_key ? r->job.hash_key : NULL);
	hot_init(&w->hot, r->job.control.lane);
	w->stack[w->n].id = v->root;
	while (node_span(w->stack[0].level) < v->nslices)
		w->stack[0].level++;
	w->n = 1;
	rc = walk(w, e);
	*out = w->bytes;
	hasher_free(w->hasher);
	free(w);
	return rc;
}

int
places_room(struct restore *r, const struct restore_result *out, struct err *e)
{
	dev_t dev[MANIFEST_VOLUMES_MAX] = { 0 };
	uint64_t need[MANIFEST_VOLUMES_MAX] = { 0 };
	int rc;

	for (unsigned i = 0; i < r->nvolumes; i++) {
		const struct restore_volume *v = &r->volume[i];
		const struct restore_place *p = &out->place[i];
		uint32_t cluster = p->volume->cluster_size;
		struct statvfs fs;
		char has[16], may[16];
		struct stat st;
		uint64_t n, room;
		unsigned k = 0;

		if (p->device)
			continue;
		rc = bound(r, v, &n, e);
		if (rc != 0)
			return rc;
		if (strcmp(p->format, "qcow2") == 0)
			n += ROOM_META +
			    n / (cluster != 0 ? cluster : 65536) * 16;
		if (fstat(v->sink->fd, &st) == -1 ||
		    fstatvfs(v->sink->fd, &fs) == -1)
			return imgfile_sys(e, p->path, "room");
		dev[i] = st.st_dev;
		while (out->place[k].device || dev[k] != st.st_dev)
			k++;
		need[k] += n;
		room = (uint64_t)fs.f_bavail * fs.f_frsize;
		if (need[k] <= room)
			continue;
		return err_set(e, ERR_NOSPC,
		    "%.160s: its file system has %s free, and up to %s may be "
		    "written beside the old disks: make room, say --disk "
		    "NAME=PATH for another place, or --force to try",
		    p->path, size_print(room, has), size_print(need[k], may));
	}
	return 0;
}
