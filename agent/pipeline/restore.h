/* SPDX-License-Identifier: Apache-2.0 */
/* restore: write volumes of a backup to files or devices, all verified. */
#ifndef AGENT_PIPELINE_RESTORE_H
#define AGENT_PIPELINE_RESTORE_H

#include "agent/pipeline/job.h"
#include "proto/manifest.h"

struct restore_disk {
	const char *name;
	const char *path;   /* with ${swap}: or NULL, where it was */
	const char *format; /* of sink_open; with ${swap}: or NULL, as it was */
};

struct restore_options {
	struct job_options job;
	const char *backup; /* VM@... */
	const char *onto;   /* the VM whose disks are written, or NULL */
	unsigned ndisks;
	const struct restore_disk *disk;
	bool force;
	bool quiet;
	/*
	 * The new disks are written beside those that are there and take their
	 * places when all of all is verified and synced (swap.h).  Without
	 * ${only}, or any disks, all disks of the backup; what is at places
	 * that were not named must be what was backed up.
	 */
	bool swap;
	bool only;
	bool keep_old;  /* as PATH.old-TIME */
	bool all_named; /* for another VM: places are to be named */
	bool is_new;    /* which is not there yet: they are to be empty, too */
	/* The only places that need not be named, if there are any. */
	unsigned nown;
	const char *const *own;
};

/* Where a volume went. */
struct restore_place {
	const struct manifest_volume *volume;
	const char *path, *format;
	bool named, device;
	bool was_there; /* and was replaced */
	char *kept;     /* where the old disk is now, or NULL */
};

struct restore_result {
	struct manifest manifest;
	bool chosen[MANIFEST_VOLUMES_MAX]; /* which of its volumes */
	uint64_t size;                     /* of those */
	struct manifest_stats stats;
	/* Of a swap; they point into this and the options. */
	unsigned nplaces;
	struct restore_place place[MANIFEST_VOLUMES_MAX];
};

/**
 * restore_run(o, out, e): the whole of it.  No target appears before all of
 * them are verified.  ERR_NOENT lists the volumes that there are; ERR_CORRUPT:
 * damage in the store, with volume, offset and id; ERR_EXIST: with ${swap},
 * what is there is another disk; as sink_open, job_open and job_run.
 */
int restore_run(
    const struct restore_options *o, struct restore_result *out, struct err *e);

/** restore_result_fini(r): what a swap left in it. */
void restore_result_fini(struct restore_result *r);

#endif
