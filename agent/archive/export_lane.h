/* SPDX-License-Identifier: Apache-2.0 */
/* export_lane: the thread of an export. */
#ifndef AGENT_ARCHIVE_EXPORT_LANE_H
#define AGENT_ARCHIVE_EXPORT_LANE_H

#include "agent/archive/export.h"
#include "agent/archive/export_out.h"
#include "agent/archive/form.h"
#include "agent/archive/head.h"

/* Set before the lane starts, and the lane's alone while it runs. */
struct export
{
	const struct export_options *options;
	struct job job;
	struct job *base; /* that reads what it is compared with, or NULL */
	struct manifest base_manifest;
	uint64_t base_told_ms; /* when the daemon last heard of that job */
	struct head head;
	char *definition; /* or NULL */
	struct export_out out;
	struct arcout *archive;
	struct walk_lane lane, base_lane;
	struct walk *walk[MANIFEST_VOLUMES_MAX]; /* by the head's members */
	struct form *form[MANIFEST_VOLUMES_MAX];
};

/** export_lane(l, arg, e): ${arg} is the struct export. */
int export_lane(struct job_lane *l, void *arg, struct err *e);

#endif
