/* SPDX-License-Identifier: Apache-2.0 */
/* export: a whole backup, or what changed since another one, as one archive.
 * Main thread only. */
#ifndef AGENT_ARCHIVE_EXPORT_H
#define AGENT_ARCHIVE_EXPORT_H

#include "agent/archive/arcout.h"
#include "agent/pipeline/job.h"
#include "proto/manifest.h"

enum export_format { EXPORT_QCOW2, EXPORT_RAW, EXPORT_OVA };

struct export_options {
	struct job_options job;
	const char *backup; /* VM@... */
	const char *since;  /* only what changed since it: VM@...; or NULL */
	const char *to;     /* a path, or "-" */
	enum arcout_kind kind;
	enum export_format format; /* of disks; EXPORT_OVA: all of it */
	unsigned nvolumes;         /* 0: all */
	const char *const *volume;
	bool force; /* may replace what is there */
	bool quiet;
};

struct export_result {
	struct manifest manifest;
	bool chosen[MANIFEST_VOLUMES_MAX]; /* which of its volumes are in it */
	uint64_t size;                     /* of those */
	uint64_t written;                  /* bytes of the archive */
	struct manifest_stats stats;
};

/**
 * export_run(o, out, e): the file appears under its name when all of it is
 * verified and synced; what went to "-" has no end where it fails.  ERR_NOENT
 * lists the volumes that there are; ERR_CORRUPT: damage in the store;
 * ERR_EXIST, and as job_open and job_run.
 */
int export_run(
    const struct export_options *o, struct export_result *out, struct err *e);

#endif
