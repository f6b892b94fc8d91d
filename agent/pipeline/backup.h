/* SPDX-License-Identifier: Apache-2.0 */
/* backup: send volumes to a repository as one backup of a VM. */
#ifndef AGENT_PIPELINE_BACKUP_H
#define AGENT_PIPELINE_BACKUP_H

#include "agent/pipeline/effort.h"
#include "agent/pipeline/job.h"
#include "proto/manifest.h"

struct backup_disk {
	const char *name;
	const char *spec; /* of source_open */
};

struct backup_options {
	struct job_options job;
	const char *vm;
	unsigned ndisks;
	const struct backup_disk *disk;
	int compression; /* 0 to CODEC_LEVEL_MAX, or EFFORT_AUTO */
	bool full;       /* do not build on the VM's latest backup */
	bool quiet;
};

struct backup_result {
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2]; /* VM@TIME */
	char id[2 * BACKUP_ID_LEN + 1];
	uint64_t seq;
	uint64_t size; /* of all volumes */
	bool has_parent;
	struct manifest_stats stats;
};

/**
 * backup_run(o, out, e): the whole of it; returns when the backup is durable.
 * As source_open, job_open and job_run; ERR_CORRUPT only for damage in the
 * store.
 */
int backup_run(
    const struct backup_options *o, struct backup_result *out, struct err *e);

#endif
