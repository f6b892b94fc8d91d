/* SPDX-License-Identifier: Apache-2.0 */
/*
 * belongings: the files of a machine that are no disks, NVRAM and the state of
 * a TPM, as they are at one moment.
 */
#ifndef AGENT_LIVE_BELONGINGS_H
#define AGENT_LIVE_BELONGINGS_H

#include "agent/guest/guest.h"
#include "agent/source/source.h"

enum {
	BELONGINGS_MAX = 16,
	/* Of one file; what is larger is read while the backup goes on. */
	BELONGING_MAX = 64 << 20
};

/* All zeroes at first. */
struct belongings {
	unsigned n;
	struct {
		const char *name, *kind; /* the guest's */
		struct source *source;
	} one[BELONGINGS_MAX];
	char note[300]; /* for a person, or "" */
};

/** belongings_take(g, b, e): a guest_frozen_fn; ${b} is a struct belongings.
 * As source_file_copy. */
int belongings_take(struct guest *g, void *b, struct err *e);

/** belongings_close(b): what is left of its sources. */
void belongings_close(struct belongings *b);

#endif
