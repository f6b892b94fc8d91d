/* SPDX-License-Identifier: Apache-2.0 */
/* ramstream_index: where each page lies; only for agent/ram/ramstream*.c. */
#ifndef AGENT_RAM_RAMSTREAM_INDEX_H
#define AGENT_RAM_RAMSTREAM_INDEX_H

#include "agent/ram/ramstream.h"

/* Constant once it is open. */
struct ramstream {
	int fd; /* the stream */
	uint64_t len;
	uint64_t tail; /* where the state goes on behind the pages */
	struct ramstream_layout layout;
	int index;
	uint64_t npages;
	/* Of each page of the volume, where its bytes lie in the stream; 0:
	 * zeroes, or never sent.  Mapped from ${index}. */
	uint64_t *page;
};

#endif
