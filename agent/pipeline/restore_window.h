/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_window: a stretch of a volume that the lanes of a restore work on
 * together.  First its leaves are loaded, a group of them by a lane; then its
 * slices are read in parts, which are not stretches of the volume but of the
 * packs: so the daemon goes through each pack once, however scattered the
 * slices are in it.  While the parts of one window are read, the next is
 * loaded.
 */
#ifndef AGENT_PIPELINE_RESTORE_WINDOW_H
#define AGENT_PIPELINE_RESTORE_WINDOW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/manifest.h"
#include "proto/msg.h"
#include "proto/node.h"

enum {
	WINDOW_LEAVES = MSG_READ_MAX / NODE_FANOUT,
	WINDOW_GROUP = NODE_FANOUT, /* leaves: those of one node */
	WINDOWS = 2,
	WINDOW_PARTS_MAX = 64
};

enum window_state { WINDOW_FREE, WINDOW_LOADING, WINDOW_READY };

struct restore_window {
	/* Set when it is opened: */
	unsigned volume;
	uint64_t first; /* leaf */
	unsigned nleaves;
	/* Who loads a leaf sets it; all see it once the window is ready. */
	struct node *leaf[WINDOW_LEAVES]; /* NULL: a hole */
	_Atomic uint8_t got[MSG_READ_MAX / 8];
	_Atomic uint64_t data; /* bytes that came */

	/* Guarded by the windows' mu. */
	enum window_state state;
	unsigned next_group, groups_done;
	unsigned nparts, next_part, parts_done;
};

struct restore_windows {
	/* Set before start: */
	unsigned nvolumes;
	uint64_t nleaves[MANIFEST_VOLUMES_MAX];
	uint32_t chunk_size;
	unsigned nlanes;

	pthread_mutex_t mu;
	pthread_cond_t changed;
	unsigned volume; /* guarded by mu: where the next window opens */
	uint64_t leaf;   /* guarded by mu */
	struct restore_window window[WINDOWS];
};

/** windows_init(ws): all zero before; then the caller sets what is to be set.
 * windows_fini(ws): no lane is left. */
void windows_init(struct restore_windows *ws);
void windows_fini(struct restore_windows *ws);

enum window_task {
	WINDOW_WAIT, /* nothing for this lane now: windows_wait */
	WINDOW_LOAD, /* group ${number} of ${w} */
	WINDOW_READ, /* part ${number} of ${w} */
	WINDOW_END   /* all was handed out and done */
};

/** windows_task(ws, may_load, w, &number): the next task; loads only if
 * ${may_load}.  Any lane. */
enum window_task windows_task(struct restore_windows *ws, bool may_load,
    struct restore_window **w, unsigned *number);

/** windows_loaded(ws, w), windows_read(ws, w): a group is loaded, a part was
 * read.  True: that was all of the window: look at what came, then
 * windows_done(ws, w). */
bool windows_loaded(struct restore_windows *ws, struct restore_window *w);
bool windows_read(struct restore_windows *ws, struct restore_window *w);
void windows_done(struct restore_windows *ws, struct restore_window *w);

/** windows_wait(ws): until another lane changed something, or for a moment. */
void windows_wait(struct restore_windows *ws);

/** window_child(w, slice): the id there, by the window's first slice; or NULL:
 * a hole.  window_take(w, slice): it came; false: it came before. */
const struct id *window_child(const struct restore_window *w, unsigned slice);
bool window_take(struct restore_window *w, unsigned slice);
bool window_has(const struct restore_window *w, unsigned slice);

#endif
