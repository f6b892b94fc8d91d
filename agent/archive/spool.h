/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool: disks out of an archive of others' making, kept in files without a
 * name until they are read as what they are: nothing is left of them however
 * the process ends.  One thread, until they are opened.
 */
#ifndef AGENT_ARCHIVE_SPOOL_H
#define AGENT_ARCHIVE_SPOOL_H

#include "agent/archive/arcin.h"
#include "agent/archive/disk_name.h"
#include "agent/source/source.h"
#include "proto/manifest.h"

#define SPOOL_DIR "/var/tmp"

struct spool_file {
	char name[NAME_PART_MAX + 1];
	char member[ARCIN_NAME_MAX + 1]; /* for messages */
	int fd;
	uint64_t size;
};

struct spool {
	const char *dir;
	unsigned n;
	struct spool_file file[MANIFEST_VOLUMES_MAX];
};

/** spool_init(s, dir): ${dir} stays the caller's.  spool_fini(s): with all that
 * was kept; sources of it may live on. */
void spool_init(struct spool *s, const char *dir);
void spool_fini(struct spool *s);

/**
 * spool_member(s, a, name, e): keep the member at which ${a} stands, as
 * ${name}.  ERR_LIMIT: there are too many; ERR_INVAL: it says no size, or as
 * arcin_read; ERR_NOSPC: the folder has no room for what it says to be;
 * ERR_EXIST: one of that name is there; ERR_NOENT, ERR_DENIED, ERR_SYS.
 */
int spool_member(
    struct spool *s, struct arcin *a, const char *name, struct err *e);

/** spool_open(s, i, kind, out, e): one of them, as source_open has it of an
 * image that names no further files; DISK_NAME_RAW: whatever is in it;
 * DISK_NAME_VMDK: as source_open_vmdk. */
int spool_open(const struct spool *s, unsigned i, enum disk_name_kind kind,
    struct source **out, struct err *e);

#endif
