/* SPDX-License-Identifier: Apache-2.0 */
/* restore: write volumes of a backup to files or devices, all verified. */
#ifndef AGENT_PIPELINE_RESTORE_H
#define AGENT_PIPELINE_RESTORE_H

#include "agent/pipeline/job.h"
#include "proto/manifest.h"

struct restore_disk {
	const char *name;
	const char *path;
	const char *format; /* of sink_open */
};

struct restore_options {
	struct job_options job;
	const char *backup; /* VM@... */
	const char *onto;   /* the VM whose disks are written, or NULL */
	unsigned ndisks;
	const struct restore_disk *disk;
	bool force;
	bool quiet;
};

struct restore_result {
	struct manifest manifest;
	bool chosen[MANIFEST_VOLUMES_MAX]; /* which of its volumes */
	uint64_t size;                     /* of those */
	struct manifest_stats stats;
};

/**
 * restore_run(o, out, e): the whole of it.  No target appears before all of
 * them are verified.  ERR_NOENT lists the volumes that there are; ERR_CORRUPT:
 * damage in the store, with volume, offset and id; as sink_open, job_open and
 * job_run.
 */
int restore_run(
    const struct restore_options *o, struct restore_result *out, struct err *e);

#endif
