/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nastree: a folder that the NAS backup plugin of CloudStack wrote:
 *
 *   INSTANCE/YYYY.MM.DD.HH.MM.SS/root.VOLUME.qcow2
 *                                datadisk.VOLUME.qcow2 ...
 *                                domain-config.xml, dominfo.xml, ...
 *
 * Disks of incremental points stand on those of earlier ones, by paths beside
 * their own folder or by absolute ones of whatever mount point it was then.
 * Either is looked for in this tree and nowhere else, and no symbolic link is
 * followed below its root.  One thread.
 */
#ifndef AGENT_ARCHIVE_NASTREE_H
#define AGENT_ARCHIVE_NASTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/source/source.h"
#include "proto/manifest.h"

enum {
	NASTREE_INSTANCES_MAX = 65536,
	NASTREE_POINTS_MAX = 16384, /* of an instance */
	NASTREE_WHEN_LEN = 19,
	NASTREE_DEFINITION_MAX = 1 << 20
};

struct nastree_point {
	char when[NASTREE_WHEN_LEN + 1]; /* its folder */
	uint64_t time; /* seconds since 1970: ${when} is local time (TZ) */
};

struct nastree_instance {
	char name[256]; /* of its folder; not always one that a VM can have */
	size_t npoints;
	struct nastree_point *point; /* by time, no two alike */
};

/* What looks like a part of the tree and is not taken. */
struct nastree_skipped {
	char instance[256];
	char when[256]; /* or "": all of it */
	char why[128];
};

struct nastree {
	char *root; /* as it was named */
	size_t ninstances;
	struct nastree_instance *instance; /* by name */
	size_t nskipped;
	struct nastree_skipped *skipped;
};

/**
 * nastree_scan(root, &t, e): all instances with a point in time.  What has
 * other names is none of it; what has points in time but is a link, or
 * cannot be read, is told in t->skipped.  ERR_NOENT (no such folder,
 * or nothing of the kind is in it), ERR_DENIED, ERR_INVAL, ERR_LIMIT, ERR_SYS.
 */
int nastree_scan(const char *root, struct nastree **out, struct err *e);
void nastree_free(struct nastree *t);

struct nastree_disk {
	char name[NAME_PART_MAX + 1]; /* "root", "datadisk.VOLUME" */
	char file[256];
};

struct nastree_files {
	unsigned ndisks;
	/* The root's first, the others by name. */
	struct nastree_disk disk[MANIFEST_VOLUMES_MAX - 1];
	bool definition; /* domain-config.xml: its guest ran then */
};

/**
 * nastree_look(t, i, p, out, e): what is in a point's folder.  ERR_INVAL: it is
 * not finished, has no disk, or one of a name that cannot be; ERR_LIMIT;
 * ERR_NOENT, ERR_DENIED, ERR_SYS.
 */
int nastree_look(const struct nastree *t, const struct nastree_instance *i,
    const struct nastree_point *p, struct nastree_files *out, struct err *e);

/**
 * nastree_disk(t, i, p, disk, out, e), nastree_definition(t, i, p, out, e): to
 * be read.  As source_open; ERR_INVAL also where a disk's backing file is none
 * of the tree.
 */
int nastree_disk(const struct nastree *t, const struct nastree_instance *i,
    const struct nastree_point *p, const struct nastree_disk *disk,
    struct source **out, struct err *e);
int nastree_definition(const struct nastree *t,
    const struct nastree_instance *i, const struct nastree_point *p,
    struct source **out, struct err *e);

/** nastree_time(when, &time): "2024.12.09.13.44.05" of local time.  0 or
 * ERR_INVAL. */
int nastree_time(const char *when, uint64_t *out);

/** nastree_is_point(path): the last part of its name is that of a point. */
bool nastree_is_point(const char *path);

#endif
