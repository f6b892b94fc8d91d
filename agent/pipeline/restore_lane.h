/* SPDX-License-Identifier: Apache-2.0 */
/* restore_lane: what one lane of a restore does. */
#ifndef AGENT_PIPELINE_RESTORE_LANE_H
#define AGENT_PIPELINE_RESTORE_LANE_H

#include "agent/pipeline/job.h"
#include "agent/pipeline/restore_window.h"
#include "agent/sink/sink.h"
#include "proto/node.h"

/* All set before the lanes start. */
struct restore_volume {
	const char *name;
	uint16_t number; /* in the manifest */
	uint64_t size;
	uint64_t nslices;
	struct id root;
	struct sink *sink;
};

struct restore {
	struct job job;
	struct restore_windows windows;
	uint32_t chunk_size;
	unsigned nvolumes;
	struct restore_volume volume[MANIFEST_VOLUMES_MAX];
};

/** restore_lane(l, arg, e): ${arg} is the struct restore. */
int restore_lane(struct job_lane *l, void *arg, struct err *e);

#endif
