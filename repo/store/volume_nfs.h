/* SPDX-License-Identifier: Apache-2.0 */
/* volume_nfs: what the files of a volume on an NFS export share. */
#ifndef REPO_STORE_VOLUME_NFS_H
#define REPO_STORE_VOLUME_NFS_H

#include <pthread.h>

#include "proto/nfs/nfs3_file.h"
#include "repo/store/lease.h"
#include "repo/store/volume_names.h"

enum {
	FOLDERS_KEPT = 256,
	OPEN_BUCKETS = 1024,
	SPACE_MS = 1000 /* what the server said of its space counts so long */
};

/* One that was looked up. */
struct folder {
	char name[VOLUME_FOLDER_LEN];
	struct nfs3_fh fh;
};

/*
 * A pack that somebody has open.  All who do share it, as what is written and
 * not yet on the server's disk is seen through it alone.
 */
struct pack {
	struct pack *next;
	struct nfs3_file *file;
	uint32_t number;
	unsigned refs; /* guarded by the volume's mu, as is all below */
	uint64_t reserved;
	uint64_t end; /* of what was written */
};

struct nfs_volume {
	struct volume v;
	struct nfs3 *n;
	struct lease *lease;
	pthread_mutex_t mu;
	struct folder folder[FOLDERS_KEPT]; /* guarded by mu, as is the rest */
	uint64_t asked_ms;
	uint64_t avail, total; /* as of then */
	uint64_t promised;     /* reserved and not written yet */
	struct pack *open[OPEN_BUCKETS];
};

struct nfs_pack {
	struct volume_file f;
	struct nfs_volume *x;
	struct pack *p;
};

extern const struct volume_file_ops nfs_pack_ops;

/** nfs_known(what, number, rc): ${rc} as the volume's callers know it; logged
 * where it says too much for them. */
int nfs_known(const char *what, uint32_t number, int rc);

/** nfs_pack_gone(x, number): the server answers, and has no such pack. */
bool nfs_pack_gone(struct nfs_volume *x, uint32_t number);

/** nfs_volume_space(x, avail, total, promised): as of a moment ago: this is
 * asked for often.  ${promised}: of what is free, reserved and not written. */
int nfs_volume_space(
    struct nfs_volume *x, uint64_t *avail, uint64_t *total, uint64_t *promised);

#endif
