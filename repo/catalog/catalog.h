/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog: all backups of a repository, in memory.  Filled from the store's
 * manifests at start, kept up by commits.  Any thread.
 *
 * What is found is copied out, so nobody holds a lock or a pointer.
 */
#ifndef REPO_CATALOG_CATALOG_H
#define REPO_CATALOG_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/manifest.h"
#include "proto/name.h"

struct catalog;

struct catalog *catalog_new(void);
void catalog_free(struct catalog *c);

/** catalog_add(c, m): ${m} is copied.  ERR_EXIST: that id is there already. */
int catalog_add(struct catalog *c, const struct manifest *m);

/*
 * Incomplete backups (STORE.md 8) are kept apart: only what says so here ever
 * tells of them.
 */

/** catalog_find(c, ref, out, e): the backup that a person named.  ERR_NOENT,
 * with the nearest that there is.  catalog_find_any: or, by its time, an
 * incomplete one. */
int catalog_find(struct catalog *c, const struct backup_ref *ref,
    struct manifest *out, struct err *e);
int catalog_find_any(struct catalog *c, const struct backup_ref *ref,
    struct manifest *out, struct err *e);

/** catalog_find_id(c, vm, id, out): that very backup still stands.
 * catalog_look(c, vm, id, out): or it is incomplete, or leaves just now.
 * catalog_newest(c, vm, out): the one with the latest time.  ERR_NOENT. */
int catalog_find_id(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], struct manifest *out);
int catalog_look(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], struct manifest *out);
int catalog_newest(struct catalog *c, const char *vm, struct manifest *out);

/** catalog_next_time(c, vm, now): the time of a new backup: ${now}, or later
 * where needed to give each backup of the VM a name of its own. */
uint64_t catalog_next_time(struct catalog *c, const char *vm, uint64_t now);

/* Where a listing is: all up to that backup was told.  Zeroed: nothing yet. */
struct catalog_cursor {
	char vm[VM_NAME_MAX + 1];
	uint64_t seq;
	bool incomplete; /* of these, and of no others */
};

/**
 * catalog_next(c, cur, out): the backup after ${cur}, by VM and sequence, and
 * ${cur} moved to it.  A sequence of UINT64_MAX goes past the rest of a VM.
 * ERR_NOENT at the end.
 */
int catalog_next(
    struct catalog *c, struct catalog_cursor *cur, struct manifest *out);

/*
 * A delete hides a backup, drops it in the store, and tells how that ended.  A
 * job that builds on a backup holds it: then its roots must stay until the job
 * has let go, and the drop is done in two steps (struct store_drop).  Whoever
 * is told so by a true, and nobody else, does the second.
 *
 * catalog_hold(c, vm, id): a job builds on it.  ERR_NOENT: it is no more.
 * catalog_release(c, vm, id): not any longer.  True: it was deleted meanwhile
 * and this was the last hold: drop it again, as hidden.
 *
 * catalog_hide(c, vm, id, &held): no look-up finds it from here on, and nobody
 * can hold it.  ${held}: drop it as held.  ERR_NOENT: somebody else did it.
 * catalog_hidden(c, vm, id, done): the drop is durable; or it failed, and the
 * backup is back.  True: it was dropped as held and nobody holds it any more:
 * drop it again, as hidden.
 */
int catalog_hold(
    struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN]);
bool catalog_release(
    struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN]);
int catalog_hide(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], bool *held);
bool catalog_hidden(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], bool done);

struct catalog_totals {
	uint64_t nbackups;
	uint64_t nvms;        /* with a backup */
	uint64_t nincomplete; /* not among them */
	uint64_t logical;     /* bytes of all volumes of all backups */
};
void catalog_totals(struct catalog *c, struct catalog_totals *out);

/* A VM with a backup, at a glance. */
struct catalog_vm {
	char name[VM_NAME_MAX + 1];
	uint64_t nbackups;
	uint64_t last; /* time of the newest one */
	uint64_t size; /* and its volumes' bytes */
};

/** catalog_vms(c, out, most): how many were told, by name. */
size_t catalog_vms(struct catalog *c, struct catalog_vm *out, size_t most);

/** manifest_size(m): bytes of all its volumes. */
uint64_t manifest_size(const struct manifest *m);

#endif
