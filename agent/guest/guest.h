/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest: a virtual machine of this host, behind one interface for libvirt and
 * for plain QEMU.  All calls from one thread, but for guest_watch.
 *
 * Whatever Backstay makes in a guest has a name that begins with "backstay-",
 * so that guest_release finds what a killed run left.
 */
#ifndef AGENT_GUEST_GUEST_H
#define AGENT_GUEST_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/json.h"
#include "proto/manifest.h"

struct guest;

enum guest_state { GUEST_OFF, GUEST_RUNNING, GUEST_PAUSED };

enum guest_quiesce { QUIESCE_AUTO, QUIESCE_REQUIRE, QUIESCE_NO };

enum {
	CHECKPOINT_TAG_LEN = 16, /* hex digits */
	CHECKPOINT_NAME_MAX = 48 /* "backstay-REPO8-TAG" and a zero byte */
};

/** guest_bitmap_name(out, repo, tag): "backstay-REPO8-TAG". */
void guest_bitmap_name(
    char out[CHECKPOINT_NAME_MAX], const char *repo, const char *tag);

/* A disk of the guest.  Owned by the guest; constant while it is open. */
struct guest_disk {
	char name[NAME_PART_MAX + 1]; /* "vda"; as it is called in backups */
	uint64_t size;                /* bytes that the guest sees */
	const char *format;           /* of its image: "qcow2", "raw" */
	char *path;                   /* of its image, or NULL: none known */
	bool cdrom;                   /* a seed or installation medium */
	bool readonly;
};

/* A file that belongs to the VM, small: NVRAM, TPM state. */
struct guest_file {
	char name[NAME_PART_MAX + 1]; /* as a volume is called: "nvram" */
	char kind[16];                /* "nvram", "tpm" */
	char *path;
};

/** guest_open_libvirt(uri, domain, out, e): ${uri} NULL: libvirt's default.
 * ERR_NOENT (no such domain), ERR_DENIED, ERR_SYS, ERR_UNSUP. */
int guest_open_libvirt(
    const char *uri, const char *domain, struct guest **out, struct err *e);

/** guest_open_qmp(socket, ga, out, e): a QEMU with a QMP socket; ${ga}: the
 * socket of its guest agent, or NULL.  ERR_NOENT, ERR_BUSY (somebody else
 * talks to it), ERR_DENIED, ERR_UNSUP (too old), ERR_SYS. */
int guest_open_qmp(
    const char *socket, const char *ga, struct guest **out, struct err *e);

/** guest_close(g): ends a view, if any, as one that failed.  NULL: nothing. */
void guest_close(struct guest *g);

enum guest_state guest_state(const struct guest *g);

/** guest_disks(g, &n), guest_files(g, &n): the guest's. */
const struct guest_disk *guest_disks(const struct guest *g, unsigned *n);
const struct guest_file *guest_files(const struct guest *g, unsigned *n);

/** guest_note(g): what of the machine could not be found, for a person; "". */
const char *guest_note(const struct guest *g);

/** guest_definition(g, &format): text from which the machine can be made
 * again: a domain's XML ("libvirt-xml"), or QEMU's command line as a JSON array
 * ("qemu-args").  The guest's. */
const char *guest_definition(const struct guest *g, const char **format);

/** guest_pid(g): of its QEMU, or 0 where it cannot be told. */
int guest_pid(const struct guest *g);

/**
 * guest_lock(g, e): nobody else on this host backs the guest up until it is
 * closed, or this process ends however it ends.  ERR_BUSY, ERR_SYS.
 */
int guest_lock(struct guest *g, struct err *e);

/**
 * guest_release(g, repo, keep, what, len, e): let go of all that killed runs
 * left: jobs, exports, scratch nodes and files, frozen file systems, and
 * those bitmaps of repository ${repo} (8 hex digits) that are not of
 * checkpoint tag ${keep} (NULL: of none).  With the lock.  ${what}: what was
 * found, for a person; empty if nothing.  ERR_SYS.
 */
int guest_release(struct guest *g, const char *repo, const char *keep,
    char *what, size_t len, struct err *e);

/*
 * Called while the guest's processors stand still and before its disks' point
 * in time is taken: saves RAM and device state.  The disks may be inactive
 * afterwards (as after a migration): guest_view_begin activates them.
 */
typedef int guest_frozen_fn(struct guest *g, void *arg, struct err *e);

struct guest_view_options {
	const char *repo;  /* 8 hex digits: of what repository and VM */
	const char *tag;   /* of the new checkpoint */
	const char *since; /* of the parent's, or NULL: none */
	enum guest_quiesce quiesce;
	const char *scratch_dir;
	uint64_t scratch_max; /* bytes that the scratch files may take */
	unsigned ndisks;      /* which, by their places in guest_disks */
	unsigned disk[MANIFEST_VOLUMES_MAX];
	guest_frozen_fn *frozen; /* or NULL: the guest need not stand still */
	/* Or NULL: called while they still stand, right after the disks' point
	 * in time.  May set the guest going: a background snapshot does. */
	guest_frozen_fn *frozen_after;
	void *frozen_arg; /* for both */
	/* Or NULL: called right after the disks' point in time; processors that
	 * stand still do so yet, and so do frozen file systems. */
	guest_frozen_fn *point;
	void *point_arg;
};

struct guest_view_disk {
	char *socket; /* of the NBD server; the view's */
	char *export;
	char *dirty; /* name of the context, "qemu:dirty-bitmap:..."; NULL: all
			of it is to be read, see ${why} */
	char why[160]; /* "": there is no parent to build on */
};

struct guest_view {
	struct guest_view_disk disk[MANIFEST_VOLUMES_MAX]; /* as in options */
	const char *consistency; /* "guest" (frozen), "crash", "ram" */
	char note[200];          /* why not frozen, with auto; or empty */
	uint64_t pause_us;       /* how long the processors stood still; 0 where
				    nobody stopped them */
};

/**
 * guest_view_begin(g, o, out, e): freeze, take the point in time, thaw; export
 * it.  The file systems are thawed and the processors go on whatever happens:
 * a guard process sees to it if this one dies.  The guest never waits for a
 * reader; its writes are copied to the scratch files.
 * ERR_INVAL, ERR_NOSPC (scratch_dir has not that much room), ERR_UNSUP,
 * ERR_TIMEOUT (QUIESCE_REQUIRE and the guest's agent does not answer), ERR_SYS.
 */
int guest_view_begin(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);

/**
 * guest_watch(g, e): may the view go on?  To be asked some times a second while
 * it is read, by any one thread: ERR_NOSPC: the scratch files are as large as
 * they may be; ERR_CLOSED: the guest has ended or its job has; 0.
 */
int guest_watch(struct guest *g, struct err *e);

/**
 * guest_view_end(g, keep, e): no reader is left.  Ends jobs and exports,
 * removes the scratch files.  ${keep}: the backup committed: the old checkpoint
 * goes; else the new one does.  Errors are also told in ${e}; the guest is let
 * go of as far as possible.
 */
int guest_view_end(struct guest *g, bool keep, struct err *e);

/**
 * guest_monitor(g, command, args, fd, out, e): a QMP command, ${args} (or NULL)
 * is used up; ${fd} (-1: none) goes along with it; ${out} (or NULL): the
 * answer's "return", the caller's.  ERR_UNSUP (no such command), ERR_SYS.
 */
int guest_monitor(struct guest *g, const char *command, json_t *args, int fd,
    json_t **out, struct err *e);

/** guest_stop(g, e), guest_cont(g, e): its processors; the guard knows. */
int guest_stop(struct guest *g, struct err *e);
int guest_cont(struct guest *g, struct err *e);

#endif
