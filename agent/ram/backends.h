/* SPDX-License-Identifier: Apache-2.0 */
/* backends: what a guest's memory lies in, and the files behind it. */
#ifndef AGENT_RAM_BACKENDS_H
#define AGENT_RAM_BACKENDS_H

#include "agent/ram/ram.h"

struct ram_backend {
	char id[64];
	uint64_t size;
	bool share;
	bool named; /* memory-backend-file */
	int fd;     /* of its file, for reading; -1: not found */
};

struct ram_backends {
	unsigned n;
	struct ram_backend b[RAM_BACKENDS_MAX];
};

/**
 * backends_find(g, write, out, e): ask QEMU, and open the files of shared ones
 * (for writing too, if ${write}) through /proc.  ERR_LIMIT: more than
 * RAM_BACKENDS_MAX; ERR_SYS.
 */
int backends_find(
    struct guest *g, bool write, struct ram_backends *out, struct err *e);
void backends_close(struct ram_backends *b);

/** backends_size(b): of all. */
uint64_t backends_size(const struct ram_backends *b);

#endif
