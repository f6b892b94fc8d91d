/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_impl: what guest.c has in common for both kinds of guest, and what
 * each kind does by itself.  Included by agent/guest alone.
 *
 * guest.c owns the order of things (freeze, stop, point in time, go on, thaw),
 * the guard, the lock and the marks; the kinds do one step each.  A step that
 * fails explains itself in ${e} and leaves what it made to view_end, which
 * copes with any state.
 */
#ifndef AGENT_GUEST_GUEST_IMPL_H
#define AGENT_GUEST_GUEST_IMPL_H

#include "agent/guest/guard.h"
#include "agent/guest/guest.h"
#include "agent/guest/mark.h"
#include "proto/base/buf.h"

/* What begins the names of all that we make in a guest. */
#define GUEST_PREFIX "backstay-"
/* The copy of the parent's bitmap that a view shows; never kept. */
#define GUEST_VIEW_BITMAP "backstay-view"

enum {
	GUEST_FILES_MAX = 16,
	GUEST_GRANULARITY = 65536,
	/* A guest's agent that does not answer a sync in time is none. */
	GUEST_AGENT_MS = 5000,
	GUEST_FREEZE_MS = 30000,
	/* Commands of QEMU that flush or wait for disks. */
	GUEST_SLOW_MS = 60000
};

/* Any of them may be called on a guest whose QEMU hangs or has ended: bounded
 * in time, ERR_TIMEOUT or ERR_CLOSED.  NULL where the kind has no such step. */
struct guest_ops {
	/* Free g->impl; a view has been ended. */
	void (*close)(struct guest *g);

	/*
	 * The file systems of the guest, by its agent.  ERR_UNSUP: there is no
	 * agent, or none that can; ERR_TIMEOUT: it does not answer; ERR_SYS.
	 * thaw of file systems that are not frozen is no error.
	 */
	int (*freeze)(struct guest *g, struct err *e);
	int (*thaw)(struct guest *g, struct err *e);

	/* The processors. */
	int (*stop)(struct guest *g, struct err *e);
	int (*cont)(struct guest *g, struct err *e);

	/* Disks that saving the RAM left inactive become active again, while
	 * the processors stand still.  Nothing where they are active. */
	int (*activate)(struct guest *g, struct err *e);

	/*
	 * A view, one step after the other.  With options.frozen: files, stop,
	 * frozen, activate, prepare, point, cont, expose; else: files, prepare,
	 * freeze, point, thaw, expose.  ${out} is zeroed before view_files; any
	 * step may fill it in; what it points to is the kind's until view_end.
	 *
	 * files: checks and makes scratch files; touches nothing in the guest.
	 * prepare: what can be made before the point in time.
	 * point: the point in time, in as short a time as possible.
	 * expose: the exports.
	 * end: undoes all of it, in any state; ${keep} as guest_view_end.
	 */
	int (*view_files)(struct guest *g, const struct guest_view_options *o,
	    struct guest_view *out, struct err *e);
	int (*view_prepare)(struct guest *g, const struct guest_view_options *o,
	    struct guest_view *out, struct err *e);
	int (*view_point)(struct guest *g, const struct guest_view_options *o,
	    struct guest_view *out, struct err *e);
	int (*view_expose)(struct guest *g, const struct guest_view_options *o,
	    struct guest_view *out, struct err *e);
	int (*view_end)(struct guest *g, bool keep, struct err *e);

	int (*watch)(struct guest *g, struct err *e);

	/*
	 * Jobs, exports, nodes that killed runs left, and bitmaps of ${repo}
	 * (NULL: none) but those of ${keep}; what was found is appended to
	 * ${what} as "a, b".  Frozen file systems, processors that stand still
	 * and files of g->mark are guest.c's.
	 */
	int (*release)(struct guest *g, const char *repo, const char *keep,
	    struct buf *what, struct err *e);

	int (*monitor)(struct guest *g, const char *command, json_t *args,
	    int fd, json_t **out, struct err *e);
};

struct guest {
	/* Set by guest_open_*, constant afterwards but for state. */
	const struct guest_ops *ops;
	void *impl;       /* the kind's */
	char ident[64];   /* of the machine on this host, fit for a file */
	json_t *how;      /* {"kind", ...}: how the guard opens it again */
	int pid;          /* of QEMU, or 0 */
	char *definition; /* or NULL */
	const char *definition_format;
	enum guest_state state;
	unsigned ndisks;
	struct guest_disk disk[MANIFEST_VOLUMES_MAX]; /* path is malloc'd */
	unsigned nfiles;
	struct guest_file file[GUEST_FILES_MAX]; /* path is malloc'd */
	char note[300];
	bool no_iothreads; /* certainly */

	/* guest.c's. */
	struct mark *mark;   /* the lock and what is to be undone, or NULL */
	struct guard *guard; /* or NULL */
	bool viewing;        /* view_files was called, view_end not yet */
	bool unclean;        /* something could not be undone */
};

/** guest_new(ops, kind): zeroed, for guest_open_*; guest_close frees it. */
struct guest *guest_new(const struct guest_ops *ops, const char *kind);

/** guest_reopen(how, out, e): what g->how of a guest says; for the guard. */
int guest_reopen(const json_t *how, struct guest **out, struct err *e);

/** guest_guarded(g, e): there is a lock and a guard stands by; before anything
 * that must be undone. */
int guest_guarded(struct guest *g, struct err *e);

/** guest_check_iothreads(g, e): ERR_UNSUP: exporting its disks would put the
 * guest at risk. */
int guest_check_iothreads(struct guest *g, struct err *e);

/**
 * guest_add_disk(g, name): the next disk, zeroed but for its name, which is
 * made of the characters of ${name} that a name may have, and unique.  NULL if
 * there are MANIFEST_VOLUMES_MAX.
 */
struct guest_disk *guest_add_disk(struct guest *g, const char *name);

/** guest_add_file(g, name, kind, path): ${path} is copied; the name becomes one
 * that a volume may have and none has yet.  Too many: said in guest_note. */
void guest_add_file(
    struct guest *g, const char *name, const char *kind, const char *path);

/** guest_add_tpm(g, dir, first): the files of an emulated TPM in ${dir}; the
 * state proper is called ${first}, or as its file is (NULL). */
void guest_add_tpm(struct guest *g, const char *dir, const char *first);

/** guest_add_note(g, fmt, ...): one more thing that guest_note tells. */
void guest_add_note(struct guest *g, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/**
 * guest_bitmap_is_old(name, repo, keep): is it a bitmap (checkpoint) of
 * repository ${repo} (NULL: of none) that is not of tag ${keep}?
 */
bool guest_bitmap_is_old(const char *name, const char *repo, const char *keep);

#endif
