/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ramstream: QEMU's migration stream, its memory pages told apart from the
 * rest, so that pages lie at the same place in each backup, and put together
 * again.  x86 guests of QEMU 7.2 to 10; what is not understood is answered
 * with ERR_UNSUP, and the stream then has to be kept as it is.
 *
 * Streams are what a guest's QEMU says: nothing in them is trusted.
 */
#ifndef AGENT_RAM_RAMSTREAM_H
#define AGENT_RAM_RAMSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/source/source.h"
#include "proto/base/err.h"

enum {
	RAM_PAGE = 4096,
	RAM_BLOCKS_MAX = 64,
	RAM_BLOCK_ALIGN = 1 << 20,
	RAM_NAME_MAX = 255,
	RAM_HEAD_MAX = 1 << 20
};
#define RAM_SIZE_MAX ((uint64_t)1 << 44)

struct ram_block {
	char name[RAM_NAME_MAX + 1];
	uint64_t size;
	uint64_t offset; /* in the volume of the pages */
};

/* What stands where.  A state is the ${head} bytes before the first page and
 * all that follows the last one. */
struct ramstream_layout {
	uint64_t head;
	uint32_t section; /* QEMU's number of it */
	bool footer;      /* sections end with one */
	bool switchover;  /* pages end with this command */
	unsigned nblocks;
	struct ram_block block[RAM_BLOCKS_MAX];
	uint64_t size; /* of the volume of the pages */
};

struct ramstream;

/**
 * ramstream_open(fd, index, out, e): find the pages in the stream that file
 * ${fd} holds; ${index}: an empty file for notes.  Takes over both fds, also
 * when it fails.  ERR_UNSUP, ERR_CORRUPT (cut off), ERR_SYS.
 */
int ramstream_open(int fd, int index, struct ramstream **out, struct err *e);
void ramstream_close(struct ramstream *s);

const struct ramstream_layout *ramstream_layout(const struct ramstream *s);

/** ramstream_state(s, out, e): write the state to file ${out}.  ERR_SYS. */
int ramstream_state(struct ramstream *s, int out, struct err *e);

/** ramstream_source(s): the volume of the pages; takes over ${s}. */
struct source *ramstream_source(struct ramstream *s);

/** ramstream_layout_ok(l): sizes and places of blocks are possible. */
bool ramstream_layout_ok(const struct ramstream_layout *l);

/**
 * ramstream_compose(l, ram, state, out, e): write an equal stream to ${out} (a
 * pipe, or a file at its end) from the files of pages and state.
 * ERR_CORRUPT (too short), ERR_CLOSED (nobody reads), ERR_SYS.
 */
int ramstream_compose(const struct ramstream_layout *l, int ram, int state,
    int out, struct err *e);

#endif
