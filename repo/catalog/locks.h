/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locks: who may do what to a VM's backups at the same time.
 *
 *	held \ wanted	ingest	read		restore	delete
 *	ingest		no	yes		no	yes
 *	read		yes	yes		yes	not that backup
 *	restore		no	yes		no	no
 *	delete		yes	not that backup	no	no
 *
 * Waiters are first come, first served for each VM: nobody overtakes an
 * earlier one whom he would keep waiting.  Whoever takes locks on two VMs
 * takes them in order of their names.  Any thread.
 */
#ifndef REPO_CATALOG_LOCKS_H
#define REPO_CATALOG_LOCKS_H

#include <stdint.h>

#include "proto/base/err.h"
#include "proto/manifest.h"

enum lock_mode {
	LOCK_FOR_INGEST, /* a backup, an import */
	LOCK_FOR_READ, /* of one backup: export, verify, restore to a folder */
	LOCK_FOR_RESTORE, /* writes disks */
	LOCK_FOR_DELETE,  /* of one backup, or of any of the VM's */
	LOCK_MODES
};

struct lock_request {
	const char *vm;
	enum lock_mode mode;
	const uint8_t *backup; /* BACKUP_ID_LEN bytes, or NULL: any */
	unsigned nmore;        /* further ones, right behind it */
	uint64_t job;
	const char *host; /* name of the key that asks */
	uint64_t since;   /* when the job began, seconds since 1970 */
	/* Called about every LOCK_LOOK_MS while waiting, without any lock; what
	 * is not 0 ends the wait.  Or NULL. */
	int (*look)(void *arg, struct err *e);
	void *arg;
};

enum { LOCK_LOOK_MS = 500 };

struct locks;
struct lock;

struct locks *locks_new(void);

/** locks_free(l): every lock was released. */
void locks_free(struct locks *l);

/**
 * lock_take(l, q, wait_ms, out, e): 0: do not wait; -1: for ever.  ERR_BUSY
 * says who is in the way since when; ERR_CLOSED after locks_close; or what
 * q->look said.
 */
int lock_take(struct locks *l, const struct lock_request *q, int wait_ms,
    struct lock **out, struct err *e);

/** lock_release(k): NULL is nothing. */
void lock_release(struct lock *k);

/** locks_close(l): those who wait, and all who come, get ERR_CLOSED. */
void locks_close(struct locks *l);

#endif
