/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cutting_volume: a real volume whose power can be cut.
 *
 * It knows what was written to packs, made, removed and renamed and not synced
 * since.  At the cut a random part of that is lost: writes are dropped, or torn
 * at a sector, files are gone, or back.  The index is not behind it: that one
 * is written with its log synced, so it may know more than the packs had time
 * for, never less; real file systems and both together are replay.sh's.
 */
#ifndef TESTS_CRASH_CUTTING_VOLUME_H
#define TESTS_CRASH_CUTTING_VOLUME_H

#include <pthread.h>
#include <stdint.h>

#include "repo/store/volume.h"

struct cut_file;

struct cutting {
	pthread_mutex_t mu; /* taken over each change; kept by the cut */
	struct cut_file *files;
	char packs[128];
	uint64_t random;
};

/** cutting_init(c, repo, unsynced, seed): for the repository in that folder.
 * ${unsynced} is a file to which cutting_save wrote what an earlier process
 * had not synced when it was killed; it need not be there. */
void cutting_init(
    struct cutting *c, const char *repo, const char *unsynced, unsigned seed);

/** cutting_wrap(c, inner): for store_options.wrap. */
struct volume *cutting_wrap(void *c, struct volume *inner);

/** cutting_cut(c): for fault_on_cut: change the files.  cutting_save(c, file):
 * only note what is not synced.  No thread changes a pack from here on. */
void cutting_cut(void *c);
void cutting_save(struct cutting *c, const char *file);

#endif
