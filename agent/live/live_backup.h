/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_backup: back up a virtual machine of this host as it is now, running or
 * not: its disks at one point in time, what belongs to it, and its RAM.
 */
#ifndef AGENT_LIVE_LIVE_BACKUP_H
#define AGENT_LIVE_LIVE_BACKUP_H

#include "agent/guest/guest.h"
#include "agent/live/notes.h"
#include "agent/pipeline/backup.h"
#include "agent/ram/ram.h"

enum { LIVE_STALL_S = 120 };

struct live_options {
	struct backup_options backup;
	const char *domain; /* of libvirt, or NULL */
	const char *uri;    /* of libvirt, or NULL: its default */
	const char *qmp;    /* socket of a plain QEMU, or NULL */
	const char *ga;     /* socket of its guest agent, or NULL */
	unsigned nchosen;   /* disks; none: all that can be backed up */
	const char *chosen[MANIFEST_VOLUMES_MAX];
	unsigned nexcluded;
	const char *excluded[MANIFEST_VOLUMES_MAX];
	enum guest_quiesce quiesce;
	const char *scratch_dir;
	uint64_t scratch_max; /* bytes; 0: four fifths of what is free there */
	bool ram;
	enum ram_method ram_method;
};

struct live_result {
	struct backup_result backup;
	char consistency[16];
	uint64_t pause_us; /* that the processors stood still */
	const char *ram;   /* how RAM was saved, or NULL */
	/* Lines for a person: what was released, read in full, left out. */
	char notes[NOTES_MAX];
};

/**
 * live_backup_run(o, out, e): the whole of it.  Whatever happens, the guest
 * runs on and nothing is left in it when this returns.  As guest_open_*,
 * guest_view_begin, backup_open and backup_send; ERR_NOENT: no such disk.
 */
int live_backup_run(
    const struct live_options *o, struct live_result *out, struct err *e);

#endif
