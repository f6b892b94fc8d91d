/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unusual: whether a backup holds far more new data than its VM's backups do.
 * Pure.  The rule, and why: DESIGN.md 19.
 *
 * Who encrypts a guest's files changes much, of which nobody has anything, and
 * which does not compress.  So what is looked at is *new* bytes (changed, and
 * not in the store), and of these the *dense* ones: those that did not shrink.
 */
#ifndef REPO_CATALOG_UNUSUAL_H
#define REPO_CATALOG_UNUSUAL_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/manifest.h"

enum {
	UNUSUAL_WINDOW = 60, /* the last so many backups say what is usual */
	UNUSUAL_LEAST = 8    /* and fewer than these say nothing */
};

enum unusual {
	UNUSUAL_NOT,
	UNUSUAL_CHANGED,       /* a large part of the disks is new */
	UNUSUAL_INCOMPRESSIBLE /* much is new, and does not compress */
};

/* What a backup says, in bytes. */
struct unusual_facts {
	bool full; /* not compared with another: says nothing of what changes */
	bool ram;  /* compared with such alone */
	uint64_t used;    /* of the volumes, without holes */
	uint64_t changed; /* of these, not as in the backup before */
	uint64_t fresh;   /* of these, not in the store: the new ones */
	uint64_t stored;  /* what they came to in packs, at most ${fresh} */
	uint64_t dense;
};

/** unusual_facts(m, out): of a manifest. */
void unusual_facts(const struct manifest *m, struct unusual_facts *out);

/** unusual_count(size, stats, out): the same of their bytes alone; ${full} and
 * ${ram} are left to the caller. */
void unusual_count(uint64_t size, const struct manifest_stats *stats,
    struct unusual_facts *out);

/* What is usual; zero-initialise. */
struct unusual_history {
	struct unusual_facts one[UNUSUAL_WINDOW]; /* a ring */
	unsigned n;                               /* that were ever added */
};

/** unusual_add(h, f): ${f} is later than all before; one that says nothing is
 * passed over.  ${ram}: which ones are asked for. */
void unusual_add(
    struct unusual_history *h, const struct unusual_facts *f, bool ram);

/** unusual_judge(h, f, &usual): ${f} against them.  ${usual}: the median of
 * what jumped. */
enum unusual unusual_judge(const struct unusual_history *h,
    const struct unusual_facts *f, uint64_t *usual);

/** unusual_word(u): "", "changed", "incompressible". */
const char *unusual_word(enum unusual u);

#endif
