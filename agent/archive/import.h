/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import: backups out of archives and images become ordinary backups of a VM.
 * Main thread only.
 *
 * Who does what: import.c looks at what there is (file, folder, "-") and hands
 * it on.  arcin (arcin.h) opens archives and is the one place that checks
 * names, types and sizes of members; nothing of an archive is ever written
 * under a name that it gives.  import_own.c takes what export wrote, whose
 * first member is backstay.json; import_foreign.c everything else.
 */
#ifndef AGENT_ARCHIVE_IMPORT_H
#define AGENT_ARCHIVE_IMPORT_H

#include "agent/archive/arcin.h"
#include "agent/pipeline/backup.h"

struct import_disk {
	char name[NAME_PART_MAX + 1];
	const char *spec; /* of source_open */
};

struct import_options {
	struct backup_options backup;   /* job, vm, quiet, ... */
	const char *from;               /* a path, or "-"; or NULL: */
	const struct import_disk *disk; /* images, as they are */
	unsigned ndisks;
	const char *definition; /* with them: .xml or .ovf; or NULL */
	const char *spool;      /* a folder for disks out of others' archives */
	uint64_t time;          /* the backup's own; 0: what it says */
};

/**
 * import_run(o, out, e): ERR_CORRUPT is never of the archive, whose damage is
 * ERR_INVAL.  ERR_UNSUP: it is nothing that can be taken; ERR_EXIST: the VM
 * has that very backup; ERR_NOENT: what an incremental one builds on is not
 * there.  Nothing is left behind where it fails.
 */
int import_run(
    const struct import_options *o, struct backup_result *out, struct err *e);

/**
 * import_own(o, a, out, e): ${a} stands at backstay.json.
 * import_foreign(o, a, out, e): ${a} stands at its first member, or is NULL:
 * what ${o} names is no archive.  Without a time in ${o} the backup has that of
 * the last change of its images.
 */
int import_own(const struct import_options *o, struct arcin *a,
    struct backup_result *out, struct err *e);
int import_foreign(const struct import_options *o, struct arcin *a,
    struct backup_result *out, struct err *e);

#endif
