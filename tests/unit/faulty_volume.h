/* SPDX-License-Identifier: Apache-2.0 */
/* faulty_volume: a real volume whose calls fail when a test says so. */
#ifndef TESTS_UNIT_FAULTY_VOLUME_H
#define TESTS_UNIT_FAULTY_VOLUME_H

#include <stdatomic.h>

#include "repo/store/volume.h"

/* Failures to come: each is counted down by the call, and fires at 1. */
struct faults {
	atomic_int sync;    /* that sync fails with ERR_SYS */
	atomic_int write;   /* that write fails with ERR_SYS */
	atomic_int reserve; /* from that reserve on: ERR_NOSPC, until reset */
	atomic_int nsync;   /* how many syncs there were */
	atomic_bool hold;   /* syncs do not return */
};

/** faulty_volume_new(inner, f): ${inner} is closed with it. */
struct volume *faulty_volume_new(struct volume *inner, struct faults *f);

#endif
