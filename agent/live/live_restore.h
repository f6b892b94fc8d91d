/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live_restore: make a virtual machine of a backup again on this host and let
 * it run: its disks, what belongs to it, its definition, and its memory if
 * that was saved.
 */
#ifndef AGENT_LIVE_LIVE_RESTORE_H
#define AGENT_LIVE_LIVE_RESTORE_H

#include "agent/live/notes.h"
#include "agent/pipeline/restore.h"

/* A place that was chosen for a disk. */
struct live_target {
	const char *name;
	const char *path;
	const char *format; /* or NULL: as the machine has it */
};

struct live_restore_options {
	struct job_options job;
	const char *backup; /* VM@... */
	const char *clone;  /* the new machine's name, or NULL: the old one */
	const char *dir; /* of disks that nobody chose; NULL: where they were */
	unsigned ntargets;
	const struct live_target *target;
	const char *uri;     /* of libvirt, or NULL: its default */
	const char *qmp;     /* monitor of a plain QEMU, or NULL: as it was */
	const char *program; /* QEMU to run, or NULL: as it was */
	const char *ram_dir; /* or NULL: beside the disks */
	const char *save;    /* write this image for libvirt, start nothing */
	bool ram_shared;     /* its memory in a file that others may map */
	bool no_ram;         /* switch it on, whatever was saved */
	bool paused;
	bool force;
	bool quiet;
};

struct live_restore_result {
	struct restore_result restore;
	const char *kind;      /* "libvirt" or "qemu" */
	char name[256];        /* of the machine */
	int pid;               /* 0: not known, or not started */
	char *qmp;             /* the caller's, or NULL */
	const char *ram;       /* the form that was loaded, or NULL */
	uint64_t restore_ms;   /* until all files were there */
	uint64_t start_ms;     /* from then until it ran */
	char notes[NOTES_MAX]; /* lines for a person */
};

/**
 * live_restore_run(o, out, e): the whole of it.  If it fails, nothing that was
 * started runs on and no file of ours is left but disks that are whole.
 * ERR_EXIST (files, or a machine of that name), ERR_BUSY (it runs), ERR_NOENT,
 * ERR_UNSUP (what the backup has cannot be made into a machine here),
 * ERR_INVAL; as restore_run, ram_load.
 */
int live_restore_run(const struct live_restore_options *o,
    struct live_restore_result *out, struct err *e);

#endif
