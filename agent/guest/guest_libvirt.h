/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_libvirt: a domain of libvirt, as the files guest_libvirt*.c share it.
 *
 *   guest_libvirt.c          opens; the agent, processors, monitor
 *   guest_libvirt_call.c     the connection; no call waits for ever
 *   guest_libvirt_proc.c     what /proc tells of the domain's QEMU
 *   guest_libvirt_xml.c      what we read of a domain's XML
 *   guest_libvirt_check.c    checkpoints
 *   guest_libvirt_view.c     a view: files, begin, watch, end
 *   guest_libvirt_release.c  what killed runs left
 *   guest_libvirt_list.c     all domains of a host (domains.h)
 */
#ifndef AGENT_GUEST_GUEST_LIBVIRT_H
#define AGENT_GUEST_GUEST_LIBVIRT_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>

#include "agent/guest/guest_impl.h"

enum {
	LV_XML_MAX = 4 << 20,
	LV_CHECKPOINTS_MAX = 4096,
	/* Answers that need no disk and no agent. */
	LV_QUICK_MS = 30000
};

/* What a domain's XML says of a disk, beside struct guest_disk. */
struct lv_disk {
	char target[32]; /* "vda": as libvirt calls it */
	bool bitmap;     /* its format keeps bitmaps, and so does the disk */
	bool shared;     /* with other machines */
};

/*
 * A call that does not come back has its socket shut down, so that it fails.
 * One at a time.
 */
struct lv_clock {
	pthread_t thread;
	pthread_mutex_t mu; /* guards the rest */
	pthread_cond_t cond;
	uint64_t deadline; /* of the call under way; 0: none is */
	int fd;            /* a duplicate of the connection's socket, or -1 */
	bool fired;        /* the deadline passed in this call */
	bool quit;
};

/* A view, from view_files to view_end. */
struct lv_view {
	bool open;
	bool begun; /* libvirt was asked for the job */
	bool made;  /* the scratch files, by us */
	char repo[9];
	char tag[CHECKPOINT_TAG_LEN + 1];
	char old[CHECKPOINT_NAME_MAX]; /* the parent's checkpoint, or "" */
	char new[CHECKPOINT_NAME_MAX];
	char *dir;    /* of the scratch files; ours */
	char *socket; /* of the NBD server */
	uint64_t scratch_max;
	uint64_t asked; /* when libvirt was last asked for the job, now_ms */
	unsigned ndisks;
	unsigned disk[MANIFEST_VOLUMES_MAX];
	char *scratch[MANIFEST_VOLUMES_MAX];
	bool incremental[MANIFEST_VOLUMES_MAX];
};

struct lv {
	char *uri; /* or NULL */
	char uuid[VIR_UUID_STRING_BUFLEN];
	virConnectPtr conn;
	virDomainPtr dom;
	pthread_mutex_t mu; /* held for a call: the watch is another thread's */
	struct lv_clock clock;
	unsigned uid, gid; /* of QEMU */
	char *run_dir;     /* a folder that QEMU may make sockets in, or NULL */
	bool agent;        /* the domain has a channel for it */
	struct lv_disk disk[MANIFEST_VOLUMES_MAX]; /* as g->disk */
	struct lv_view view;
};

/* --- guest_libvirt.c */

/** lv_read_state(g, e): state and pid as they are now; lv_read_running(g, e):
 * the state alone.  Between lv_enter and lv_leave. */
int lv_read_running(struct guest *g, struct err *e);
int lv_read_state(struct guest *g, struct err *e);

/* --- guest_libvirt_call.c */

/** lv_connect(lv, domain, e): ${domain}: name or UUID; fills in conn, dom,
 * uuid.  lv_init before it; lv_fini after it, however it ended. */
void lv_init(struct lv *lv);
void lv_fini(struct lv *lv);
int lv_connect(struct lv *lv, const char *domain, struct err *e);

/** lv_open(lv, ms, e): as lv_enter, of a connection without a domain, which is
 * made once.  lv_init before it, lv_leave and lv_fini after it. */
int lv_open(struct lv *lv, unsigned ms, struct err *e);

/**
 * lv_enter(lv, ms, e): before calls of libvirt, which have ${ms} altogether;
 * a connection that broke before is made again.  0, or why not: no lv_leave.
 */
int lv_enter(struct lv *lv, unsigned ms, struct err *e);
void lv_leave(struct lv *lv);

/** lv_error(lv, e, fmt, ...): what libvirt says of the call that failed, as a
 * code and text; "fmt: " goes before it.  Between lv_enter and lv_leave. */
int lv_error(struct lv *lv, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --- guest_libvirt_proc.c */

/** lv_find_qemu(lv): its pid or 0; fills in uid, gid and run_dir. */
int lv_find_qemu(struct lv *lv);

/** lv_find_tpm(uuid, version): the folder of the domain's TPM state, or NULL.
 * The caller's. */
char *lv_find_tpm(const char *uuid, const char *version);

/* --- guest_libvirt_xml.c */

/** lv_xml_domain(g, live): disks (without sizes), files, channels. */
int lv_xml_domain(struct guest *g, const char *live, struct err *e);

/** lv_xml_backup(g, out): of a pull job for the view; lv_xml_checkpoint(g,
 * out): of its new checkpoint; false: none of its disks can have one. */
void lv_xml_backup(const struct guest *g, struct buf *out);
bool lv_xml_checkpoint(const struct guest *g, struct buf *out);

/** lv_xml_renewal(g, name, only, out): of a checkpoint that libvirt forgot, for
 * disk ${only} of the view, or -1: for all that are incremental. */
void lv_xml_renewal(
    const struct guest *g, const char *name, int only, struct buf *out);

/* What a job that runs was told. */
struct lv_job {
	bool ours; /* its scratch files have our names */
	char *socket;
	unsigned nscratch;
	char *scratch[MANIFEST_VOLUMES_MAX];
};

/** lv_name_is_ours(path): does the last part begin with our prefix? */
bool lv_name_is_ours(const char *path);

int lv_xml_job(const char *xml, struct lv_job *out, struct err *e);
void lv_job_fini(struct lv_job *job);

/** lv_xml_covers(xml, target): has the checkpoint a bitmap of that disk? */
bool lv_xml_covers(const char *xml, const char *target);

/* --- guest_libvirt_check.c; between lv_enter and lv_leave */

/** lv_check_parent(g, out, e): which disks of the view can build on the
 * parent's checkpoint, and why not. */
int lv_check_parent(struct guest *g, struct guest_view *out, struct err *e);

/** lv_check_delete(lv, name, e): 0 also if there is none, and if the domain is
 * off: only a running one can let go of bitmaps. */
int lv_check_delete(struct lv *lv, const char *name, struct err *e);

/** lv_check_delete_old(lv, repo, keep, &n, e): those of ${repo} but ${keep}'s
 * (NULL: none's). */
int lv_check_delete_old(struct lv *lv, const char *repo, const char *keep,
    unsigned *n, struct err *e);

/* --- guest_libvirt_view.c */

int lv_view_files(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int lv_view_prepare(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int lv_view_point(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int lv_view_expose(struct guest *g, const struct guest_view_options *o,
    struct guest_view *out, struct err *e);
int lv_view_end(struct guest *g, bool keep, struct err *e);
int lv_watch(struct guest *g, struct err *e);

/** lv_view_undo_files(lv): what view_files made, as far as it is there. */
void lv_view_undo_files(struct lv *lv);

/* --- guest_libvirt_release.c */

int lv_release(struct guest *g, const char *repo, const char *keep,
    struct buf *what, struct err *e);

/**
 * lv_job_end(lv, &found, e): the backup job of the domain, if it is ours, is
 * ended and gone, its files removed.  ERR_BUSY: it is somebody else's.
 */
int lv_job_end(struct lv *lv, bool *found, struct err *e);

#endif
