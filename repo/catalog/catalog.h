/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog: all backups of a repository, in memory.  Filled from the store's
 * manifests at start, kept up by commits.  Any thread.
 *
 * What is found is copied out, so nobody holds a lock or a pointer.
 */
#ifndef REPO_CATALOG_CATALOG_H
#define REPO_CATALOG_CATALOG_H

#include <stdint.h>

#include "proto/base/err.h"
#include "proto/manifest.h"
#include "proto/name.h"

struct catalog;

struct catalog *catalog_new(void);
void catalog_free(struct catalog *c);

/** catalog_add(c, m): ${m} is copied.  ERR_EXIST: that id is there already. */
int catalog_add(struct catalog *c, const struct manifest *m);

/** catalog_find(c, ref, out, e): the backup that a person named.  ERR_NOENT,
 * with the nearest that there is. */
int catalog_find(struct catalog *c, const struct backup_ref *ref,
    struct manifest *out, struct err *e);

/** catalog_find_id(c, vm, id, out): that very backup still stands.
 * catalog_newest(c, vm, out): the one with the highest sequence.  ERR_NOENT. */
int catalog_find_id(struct catalog *c, const char *vm,
    const uint8_t id[BACKUP_ID_LEN], struct manifest *out);
int catalog_newest(struct catalog *c, const char *vm, struct manifest *out);

/** catalog_next_time(c, vm, now): the time of a new backup: ${now}, or later
 * where needed to give each backup of the VM a name of its own. */
uint64_t catalog_next_time(struct catalog *c, const char *vm, uint64_t now);

/* Where a listing is: all up to that backup was told.  Zeroed: nothing yet. */
struct catalog_cursor {
	char vm[VM_NAME_MAX + 1];
	uint64_t seq;
};

/**
 * catalog_next(c, cur, out): the backup after ${cur}, by VM and sequence, and
 * ${cur} moved to it.  A sequence of UINT64_MAX goes past the rest of a VM.
 * ERR_NOENT at the end.
 */
int catalog_next(
    struct catalog *c, struct catalog_cursor *cur, struct manifest *out);

/**
 * catalog_hold(c, vm, id): a running job builds on that backup: a delete may
 * hide it, but must not drop its roots before the last catalog_release, which
 * returns true if the backup was hidden meanwhile.  ERR_NOENT.
 * catalog_hide(c, vm, id): it is deleted: no look-up finds it any more.
 */
int catalog_hold(
    struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN]);
bool catalog_release(
    struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN]);
int catalog_hide(
    struct catalog *c, const char *vm, const uint8_t id[BACKUP_ID_LEN]);

struct catalog_totals {
	uint64_t nbackups;
	uint64_t nvms;    /* with a backup */
	uint64_t logical; /* bytes of all volumes of all backups */
};
void catalog_totals(struct catalog *c, struct catalog_totals *out);

/** manifest_size(m): bytes of all its volumes. */
uint64_t manifest_size(const struct manifest *m);

#endif
