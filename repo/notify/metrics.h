/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: what is measured, as Prometheus reads it.  Pure. */
#ifndef REPO_NOTIFY_METRICS_H
#define REPO_NOTIFY_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/name.h"
#include "repo/notify/events.h"

enum { METRICS_VMS_MAX = 5000, METRICS_JOB_KINDS_MAX = 8 };

struct metrics_vm {
	char name[VM_NAME_MAX + 1];
	uint64_t backups;
	uint64_t last; /* seconds since 1970 */
	uint64_t size; /* bytes of the last one's volumes */
};

struct metrics_jobs {
	const char *kind;
	uint64_t running;                 /* now */
	uint64_t done, failed, cancelled; /* since the start */
};

struct metrics {
	const char *version;
	uint64_t since; /* seconds since 1970: the start of the daemon */

	/* What the repository holds. */
	uint64_t backups, vms, incomplete;
	uint64_t logical, unique, live, stored; /* bytes */
	uint64_t packs, index_bytes, index_entries;
	uint64_t avail, total; /* bytes of the volume */

	/* What goes on. */
	struct metrics_jobs jobs[METRICS_JOB_KINDS_MAX];
	unsigned njobs;
	uint64_t jobs_queued;
	uint64_t bytes_in, bytes_out; /* of all lanes, since the start */
	uint64_t lanes, agents, batches;

	uint64_t dead, freed, copied; /* bytes; the last two since the start */
	bool reclaim_stopped;         /* paused or held */
	bool scrub_running, scrub_paused;
	uint64_t scrub_finished; /* seconds since 1970; 0: never */
	uint64_t scrub_read, scrub_total, scrub_found, scrub_healed;
	uint64_t damaged; /* chunks and nodes */

	uint64_t audit_lines;
	int64_t clock_ahead; /* seconds */
	struct events_counts events;
	uint64_t hook_runs, hook_failures;
	bool healthy;

	const struct metrics_vm *vm; /* NULL: not told */
	size_t nvm;                  /* at most METRICS_VMS_MAX */
};

/** metrics_print(m, out): append all, in the text format, version 0.0.4. */
void metrics_print(const struct metrics *m, struct buf *out);

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

#endif
