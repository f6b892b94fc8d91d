/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram: the memory and the devices' state of a running guest, saved at the same
 * instant as its disks, and loaded into a new QEMU.  agent/DESIGN.md, "RAM".
 *
 * A save:   ram_plan; guest_view_begin with ram_frozen, ram_frozen_after and
 * the plan as their argument; ram_finish; ram_inputs; ram_close.
 * A load:   the volumes as files in a folder, named as the volumes are; for
 * RAM_SHARED the memory's files are the mem-path of the backends named in
 * the facts (share=on, or off to leave the files as they are); QEMU started
 * with the same machine and devices and "-incoming defer"; ram_load; cont.
 *
 * The files of a save are nameless: nothing is left by a run that was killed.
 */
#ifndef AGENT_RAM_RAM_H
#define AGENT_RAM_RAM_H

#include "agent/guest/guest.h"
#include "agent/source/source.h"

struct ram;

enum {
	RAM_BACKENDS_MAX = 16,
	RAM_INPUTS_MAX = RAM_BACKENDS_MAX + 2, /* state, facts */
	RAM_THREADS_MAX = 4
};

enum ram_method {
	RAM_AUTO,
	/* Its files are read past QEMU (x-ignore-shared). */
	RAM_SHARED,
	/* QEMU writes it while the guest runs on (background-snapshot). */
	RAM_SNAPSHOT,
	/* QEMU writes it to its place in a file, the guest stands still. */
	RAM_MAPPED,
	/* QEMU writes one stream, the guest stands still. */
	RAM_STREAM
};

struct ram_options {
	const char *scratch_dir;
	uint64_t scratch_max;   /* bytes that the memory may take there */
	enum ram_method method; /* RAM_AUTO: what holds the guest least */
	unsigned threads;       /* 0: as processors, RAM_THREADS_MAX at most */
};

/* What a backup gets: in order "ram0", ..., "state", "ram-facts". */
struct ram_input {
	char name[NAME_PART_MAX + 1];
	const char *kind; /* "ram", "state" */
	struct source *source;
};

/**
 * ram_plan(g, o, out, e): find out how this guest's memory can be saved, and
 * prepare it while the guest runs.  Changes migration settings of QEMU, which
 * ram_finish and ram_close put back (ram_release, after a crash).
 * ERR_UNSUP (the method, or any), ERR_NOSPC, ERR_BUSY (it is migrating),
 * ERR_SYS.
 */
int ram_plan(struct guest *g, const struct ram_options *o, struct ram **out,
    struct err *e);

/** ram_method(r): how; its name for a person is ram_method_name(). */
enum ram_method ram_method(const struct ram *r);
const char *ram_method_name(enum ram_method m);

/**
 * ram_frozen(g, r, e): a guest_frozen_fn before the disks' point in time.
 * Afterwards the disks may be inactive.
 * ram_frozen_after(g, r, e): one for after it.  The guest may run then,
 * and QEMU may go on writing: nobody must cancel its migration.
 */
int ram_frozen(struct guest *g, void *r, struct err *e);
int ram_frozen_after(struct guest *g, void *r, struct err *e);

/**
 * ram_finish(r, e): the guest runs again; wait for what QEMU still writes, put
 * its settings back, lay the pages out.  ERR_SYS, ERR_TIMEOUT, ERR_NOSPC.
 */
int ram_finish(struct ram *r, struct err *e);

/** ram_inputs(r, in): what to back up, at most RAM_INPUTS_MAX; returns how
 * many.  The sources are the caller's and outlive ${r}.  After ram_finish. */
unsigned ram_inputs(struct ram *r, struct ram_input *in);

/** ram_close(r): also in the midst of things; before guest_close.  NULL:
 * nothing. */
void ram_close(struct ram *r);

/**
 * ram_release(g, e): if a killed run left its migration settings in this
 * QEMU, put back those from before.  Returns 0 or ERR_SYS; *found: it had.
 */
int ram_release(struct guest *g, bool *found, struct err *e);

struct ram_facts; /* facts.h */

/**
 * ram_load(g, facts, dir, e): ${g} was started with "-incoming defer" and
 * waits: feed it the files of folder ${dir}.  It is paused afterwards.
 * ERR_UNSUP, ERR_CORRUPT, ERR_NOENT (a file), ERR_TIMEOUT, ERR_SYS.
 */
int ram_load(struct guest *g, const struct ram_facts *facts, const char *dir,
    struct err *e);

#endif
