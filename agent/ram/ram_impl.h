/* SPDX-License-Identifier: Apache-2.0 */
/* ram_impl: a save under way; only for agent/ram. */
#ifndef AGENT_RAM_RAM_IMPL_H
#define AGENT_RAM_RAM_IMPL_H

#include "agent/ram/backends.h"
#include "agent/ram/facts.h"
#include "agent/ram/ramstream.h"

struct ram {
	struct guest *guest;
	struct ram_options o;
	enum ram_method method;
	bool clone; /* SHARED: the files' blocks can be shared */
	bool set;   /* QEMU's settings are ours */
	bool begun; /* SNAPSHOT: QEMU writes it */
	bool finished;
	unsigned version; /* of QEMU: major * 100 + minor */
	uint64_t size;    /* of all memory */
	struct ram_backends backends;
	int copy[RAM_BACKENDS_MAX]; /* SHARED: what was saved, or -1 */
	int stream;                 /* what QEMU writes, or -1 */
	int state;                  /* RAM_FORM_PLACED: the rest, or -1 */
	struct ramstream *pages;    /* RAM_FORM_PLACED, or NULL */
	struct ram_facts facts;
};

/** ram_caps(r, c): what its method wants of migrate_setup. */
struct migrate_caps;
void ram_caps(const struct ram *r, struct migrate_caps *c);

/** ram_source_fd(fd): an open file as a source, which takes it over: *fd is -1
 * afterwards. */
struct source *ram_source_fd(int *fd);

#endif
