/* SPDX-License-Identifier: Apache-2.0 */
/* swap_impl: what swap.c (doing it) and swap_journal.c (noting it) share. */
#ifndef AGENT_SINK_SWAP_IMPL_H
#define AGENT_SINK_SWAP_IMPL_H

#include <stdint.h>

#include "agent/sink/swap.h"
#include "proto/manifest.h"

enum { SWAP_ID_LEN = 16, SWAP_STAMP_MAX = 32 };

struct swap_disk {
	char *dir, *name;
	char *tmp, *old, *journal; /* in the folder, too */
	uint64_t new_ino;
	uint64_t old_ino; /* 0: there was none */
	int dirfd;
	char *kept;  /* where the old one is now, or NULL */
	int lock[2]; /* descriptors that hold locks, or -1 */
};

struct swap {
	uint8_t id[SWAP_ID_LEN];
	char stamp[SWAP_STAMP_MAX]; /* "": old disks go */
	unsigned n;
	struct swap_disk disk[MANIFEST_VOLUMES_MAX];
};

/** swap_new(): empty.  swap_add(w, dir, name, e): one more, with its folder
 * open.  ERR_NOENT, ERR_DENIED, ERR_SYS.  swap_free(w): closes all. */
struct swap *swap_new(void);
int swap_add(struct swap *w, const char *dir, const char *name, struct err *e);
void swap_free(struct swap *w);

/** swap_note(w, i, e): write the journal beside disk ${i}.  ERR_NOSPC, ERR_SYS.
 * swap_forget(w, i): it goes, if it is of this swap; 0, or -1 with errno. */
int swap_note(const struct swap *w, unsigned i, struct err *e);
int swap_forget(const struct swap *w, unsigned i);

/** swap_read(dirfd, journal, path, out, e): what one says; *out NULL: there is
 * none.  ERR_CORRUPT: it cannot be understood; and as swap_add. */
int swap_read(int dirfd, const char *journal, const char *path,
    struct swap **out, struct err *e);

#endif
