/* SPDX-License-Identifier: Apache-2.0 */
/* guest_qmp: a plain QEMU; what its files share. */
#ifndef AGENT_GUEST_GUEST_QMP_H
#define AGENT_GUEST_GUEST_QMP_H

#include "agent/guest/ga.h"
#include "agent/guest/guest_impl.h"
#include "agent/guest/qmp.h"

enum {
	QMP_VERSION_MIN = 600, /* transactions of blockdev-backup etc. */
	QMP_WATCH_MS = 10000,  /* QEMU's main loop waits for disks, too */
	QMP_SETTLE_MS = 30000, /* until a job or an export has ended */
	QMP_NBD_CONNECTIONS = 128,
};

/* Names of what a view has in the guest; a disk's place in it for %u. */
#define QMP_JOB GUEST_PREFIX "job-%u"
#define QMP_EXPORT GUEST_PREFIX "export-%u"
#define QMP_SCRATCH GUEST_PREFIX "scratch-%u"
#define QMP_SCRATCH_FILE GUEST_PREFIX "file-%u"
#define QMP_FD GUEST_PREFIX "fd" /* of QEMU's fd sets: the opaque text */

struct qmp_disk {
	char *key;       /* by which it is found again: its device */
	char *node;      /* the image's node; "#..." if QEMU named it */
	bool persistent; /* it can keep bitmaps */
};

struct qmp_guest {
	struct qmp *q;
	char *ga_path; /* or NULL */
	struct ga *ga; /* from freeze to thaw, or NULL */
	struct qmp_disk disk[MANIFEST_VOLUMES_MAX]; /* as in guest.disk */

	/* The view; constant between view_expose and view_end. */
	char *socket; /* NULL: no server */
	char new_bitmap[CHECKPOINT_NAME_MAX];
	char old_bitmap[CHECKPOINT_NAME_MAX]; /* "": none */
	uint64_t scratch_max;
	unsigned nview;
	int scratch[MANIFEST_VOLUMES_MAX]; /* nview of them */
	char *export[MANIFEST_VOLUMES_MAX];
	bool merged[MANIFEST_VOLUMES_MAX]; /* it has a GUEST_VIEW_BITMAP */
	bool cbw_error; /* QEMU knows on-cbw-error for backup jobs */
	bool pointed;   /* jobs run */
};

/** guest_qmp_list(g, e): the disks; a second time: only where their nodes are
 * by now. */
int guest_qmp_list(struct guest *g, struct err *e);

/** guest_qmp_files(g): pid, definition, NVRAM, TPM, as far as they are found.
 */
void guest_qmp_files(struct guest *g);

/** guest_qmp_server(g, e): start the NBD server if it does not run.  ERR_BUSY:
 * somebody else's does. */
int guest_qmp_server(struct guest *g, struct err *e);

/** guest_qmp_undo(g, what, e): end and remove all but bitmaps that begins with
 * our prefix, and the view's own bitmaps.  ${what}: or NULL. */
int guest_qmp_undo(struct guest *g, struct buf *what, struct err *e);

/** guest_qmp_bitmaps(g, gone, arg, what, e): remove the bitmaps of which
 * ${gone} says so. */
typedef bool guest_qmp_gone_fn(const char *name, const void *arg);
int guest_qmp_bitmaps(struct guest *g, guest_qmp_gone_fn *gone, const void *arg,
    struct buf *what, struct err *e);

/* Steps of struct guest_ops. */
int guest_qmp_view_files(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int guest_qmp_view_prepare(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int guest_qmp_view_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int guest_qmp_view_expose(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int guest_qmp_view_end(struct guest *g, bool keep, struct err *e);
int guest_qmp_watch(struct guest *g, struct err *e);
int guest_qmp_release(struct guest *g, const char *repo, const char *keep,
    struct buf *what, struct err *e);

#endif
