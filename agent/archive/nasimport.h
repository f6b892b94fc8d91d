/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nasimport: every point in time of a tree of CloudStack's NAS backup plugin
 * (nastree.h) becomes a backup of VM "[NAMESPACE/]INSTANCE" with its own time,
 * oldest first, each compared with the one before.  What is there already, by
 * its time, is passed over: so it can be stopped and run again.  Main thread.
 */
#ifndef AGENT_ARCHIVE_NASIMPORT_H
#define AGENT_ARCHIVE_NASIMPORT_H

#include "agent/pipeline/backup.h"

enum { NASIMPORT_INSTANCES_MAX = 256 };

enum nasimport_what {
	NASIMPORT_IN,
	NASIMPORT_THERE,  /* it was */
	NASIMPORT_WOULD,  /* come in: a dry run */
	NASIMPORT_PASSED, /* over: it cannot be read */
	NASIMPORT_KINDS
};

struct nasimport_point {
	enum nasimport_what what;
	const char *instance;
	const char *when; /* its folder; "": all of the instance's */
	const char *name; /* VM@TIME; "": of what can be no backup */
	unsigned ndisks;
	uint64_t size;                  /* of them, as guests see them */
	const struct backup_result *in; /* or NULL: it did not come in */
	const char *why;                /* it was passed over */
};

struct nasimport_options {
	struct backup_options backup; /* but for VM and time */
	const char *root;
	const char *name_space; /* or NULL */
	const char *vm;         /* in place of NAMESPACE/INSTANCE, or NULL */
	const char *when;       /* only that point, or NULL: all */
	const char *only[NASIMPORT_INSTANCES_MAX];
	unsigned nonly; /* 0: all */
	bool dry_run;   /* nothing is sent */
	void (*tell)(void *arg, const struct nasimport_point *p);
	void *arg;
};

struct nasimport_sum {
	uint64_t n[NASIMPORT_KINDS];
	uint64_t size;   /* of what came in, or would */
	uint64_t stored; /* of it, in the store */
};

/**
 * nasimport_run(o, sum, e): 0, also where points were passed over (sum->n
 * tells); otherwise as nastree_scan and backup_disks, and what came in before
 * stays.  ERR_NOENT: no such instance.
 */
int nasimport_run(const struct nasimport_options *o, struct nasimport_sum *sum,
    struct err *e);

#endif
