/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup: send volumes to a repository as one backup of a VM, in two steps:
 * first the VM is held and what there is to build on is known; then, the point
 * in time taken, the volumes go.  Main thread only.
 */
#ifndef AGENT_PIPELINE_BACKUP_H
#define AGENT_PIPELINE_BACKUP_H

#include "agent/pipeline/effort.h"
#include "agent/pipeline/job.h"
#include "agent/source/source.h"
#include "proto/manifest.h"

struct backup;

/* Per cent; of what is unread because it is known to be clean. */
#define BACKUP_VERIFY_CLEAN 0.5

enum { BACKUP_IMPORT_MAX = 4096 };

struct backup_options {
	struct job_options job;
	const char *vm;
	int compression;     /* 0 to CODEC_LEVEL_MAX, or EFFORT_AUTO */
	bool full;           /* do not build on the VM's latest backup */
	bool quiet;          /* no bar */
	double verify_clean; /* per cent, 0 to 100 */
	uint64_t time;       /* its own, seconds since 1970, of what is
				imported; 0: that of the commit */
	/* Of what is imported, too: */
	uint64_t agent_time; /* a note; 0: now */
	/* It is an import: where it comes from, for the audit log, at most
	 * BACKUP_IMPORT_MAX bytes; or NULL. */
	const char *import;
	/* It builds on the VM's backup of that time, whose roots the inputs
	 * name, and what sources know to be clean is as there; 0: on the
	 * newest, as usual. */
	uint64_t base;
	/* Sources are read once, forward, one volume after another: one lane,
	 * and nothing is looked at before all in front of it was read. */
	bool forward;
	/* Before the commit, when all was read: not 0 ends it; or NULL. */
	int (*last)(void *arg, struct err *e);
	void *last_arg;
};

struct backup_input {
	const char *name;
	const char *kind; /* "disk", "ram", "state", "nvram", "tpm",
			     "definition" */
	struct source *source;
	const char *path; /* of the disk on this host, or NULL */
	/* Not NULL: ${path} is not of this host; this was found there, or is
	 * "". */
	const char *identity;
	const struct id *base_root; /* in what it builds on; or NULL */
};

struct backup_result {
	char name[VM_NAME_MAX + TIME_TEXT_LEN + 2]; /* VM@TIME */
	char id[2 * BACKUP_ID_LEN + 1];
	uint64_t seq;
	uint64_t size; /* of all volumes */
	bool has_parent;
	/* Whether what sources know to be clean was to go unread. */
	bool trusted;
	/* It was wrong: so all was read, and the backup is as good as any. */
	bool condemned;
	char condemned_disk[NAME_PART_MAX + 1];
	uint64_t condemned_offset;
	/* What was read whole though its changes are known, and why; or "". */
	char whole[200];
	struct manifest_stats stats;
};

/**
 * backup_open(o, &b, e): connect, and hold the VM for a backup; ${o} and what
 * it points to stay until backup_close.  As job_open, and what the daemon says
 * (ERR_BUSY: somebody has the VM).
 */
int backup_open(
    const struct backup_options *o, struct backup **out, struct err *e);

/** backup_parent_checkpoint(b): the checkpoint of the backup that this one
 * builds on; NULL: it has none, or there is no such backup.  ${b}'s. */
const char *backup_parent_checkpoint(const struct backup *b);

/** backup_repo(b): the repository's uuid, 32 hex digits. */
const char *backup_repo(const struct backup *b);

/** backup_alive(b, e): between open and send, every now and then: the daemon
 * does not wait for ever.  What it says, or the lane. */
int backup_alive(struct backup *b, struct err *e);

/**
 * backup_send(b, in, n, consistency, checkpoint, since_used, out, e): all of
 * it; returns when the backup is durable.  The sources are closed in any case,
 * and before the daemon is asked to commit.  Once only.
 *
 * ${checkpoint}: this backup's, or NULL.  ${since_used}: the checkpoint since
 * which the sources' source_clean is told, or NULL: none.  Where that is the
 * parent's, and a volume of the name and size is in it, what is clean is taken
 * from it unread, but for a sample.
 *
 * As source_read, job_run; ERR_CORRUPT only for damage in the store;
 * ERR_TIMEOUT: see stall_timeout_s.
 */
int backup_send(struct backup *b, const struct backup_input *in, unsigned n,
    const char *consistency, const char *checkpoint, const char *since_used,
    struct backup_result *out, struct err *e);

/** backup_close(b): NULL is nothing.  Without a backup_send that returned 0
 * nothing happened. */
void backup_close(struct backup *b);

struct backup_disk {
	const char *name;
	const char *spec; /* of source_open */
};

/**
 * backup_disks(o, disk, n, out, e): the whole of it, for disks that nobody
 * writes to.  They are held before the daemon is asked.  As source_open,
 * backup_open and backup_send.
 */
int backup_disks(const struct backup_options *o, const struct backup_disk *disk,
    unsigned n, struct backup_result *out, struct err *e);

#endif
