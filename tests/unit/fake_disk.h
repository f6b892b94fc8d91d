/* SPDX-License-Identifier: Apache-2.0 */
/* fake_disk: a disk of a running guest, and backups of it to the fake daemon.
 */
#ifndef TESTS_UNIT_FAKE_DISK_H
#define TESTS_UNIT_FAKE_DISK_H

#include <stdatomic.h>

#include "agent/pipeline/backup.h"
#include "agent/source/source.h"
#include "proto/chunk.h"

/*
 * A disk of which each granule was written ${gen} times; never: zeroes.  It
 * notes which were written since the last backup, and which were read.
 */
struct disk {
	struct source s;
	uint32_t gran;
	uint64_t n;
	uint64_t answer_max; /* of one source_clean */
	uint8_t *gen;
	uint8_t *dirty;
	uint8_t *seen; /* not by more than one lane at a time */
	atomic_uint_fast64_t nread;
	unsigned nclosed;
};

extern const struct source_ops disk_ops;

/** disk_new(size, gran): all zeroes.  disk_full(n, more): of ${n} slices of CS
 * bytes and ${more} bytes, all of them written. */
struct disk *disk_new(uint64_t size, uint32_t gran);
struct disk *disk_full(uint64_t n, uint64_t more);
void disk_free(struct disk *p);

/** disk_read: its source_read. */
int disk_read(
    struct source *s, void *data, size_t len, uint64_t off, struct err *e);

/** disk_forget(p): a new point in time: nothing was read or written since. */
void disk_forget(struct disk *p);

/** disk_touch(p, g, noted): write a granule. */
void disk_touch(struct disk *p, uint64_t g, bool noted);

/** disk_root(p): of the tree that one makes who reads all of it. */
struct id disk_root(struct disk *p);

/** disk_dirty(p): bytes of the slices that are not clean whole. */
uint64_t disk_dirty(const struct disk *p);

/** fake_seed(): for main: $SEED, or by the clock; says which.  fake_rnd(n):
 * below ${n}. */
void fake_seed(void);
unsigned fake_rnd(unsigned n);

/** fake_must(rc, e): the case fails with the text. */
void fake_must(int rc, const struct err *e);

/* Of the backups to come; fake_set(verify_clean) makes them anew. */
extern struct backup_options fake_options;
void fake_set(double verify_clean);

/** fake_send(p, tag, since, r, e): both steps of a backup. */
int fake_send(struct disk *p, const char *tag, const char *since,
    struct backup_result *r, struct err *e);

/** fake_first(p): the first backup, checkpoint "a"; then nothing has changed,
 * and d counts from 0.  fake_check(p): the last backup is that of the disk. */
void fake_first(struct disk *p);
void fake_check(struct disk *p);

#endif
