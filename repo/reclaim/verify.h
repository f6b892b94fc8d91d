/* SPDX-License-Identifier: Apache-2.0 */
/* verify: read backups back, every chunk and node, and say what is damaged. */
#ifndef REPO_RECLAIM_VERIFY_H
#define REPO_RECLAIM_VERIFY_H

#include "repo/store/store.h"

struct verify_options {
	/* A run of damaged slices; runs come in order. */
	void (*damaged)(void *arg, const struct manifest *m, unsigned volume,
	    uint64_t slice, uint64_t n);
	/* So many more bytes of the volumes are done, holes included, of which
	 * ${read} were read.  false: stop. */
	bool (*go_on)(void *arg, uint64_t done, uint64_t read);
	void *arg;
};

/* Remembers what it found whole, so that what backups share is read once. */
struct verify;

/** verify_new(s, o): one thread's. */
struct verify *verify_new(struct store *s, const struct verify_options *o);
void verify_free(struct verify *v);

/**
 * verify_backup(v, key, m, e): ${key} is that of its domain, or NULL.  What is
 * damaged is told, and flagged in the store.  0, whatever was found;
 * ERR_CLOSED: told to stop; ERR_SYS.
 */
int verify_backup(struct verify *v, const uint8_t *key,
    const struct manifest *m, struct err *e);

#endif
