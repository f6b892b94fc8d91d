/* SPDX-License-Identifier: Apache-2.0 */
/* chain: a qcow2 image with the backing images beneath it, read as one. */
#ifndef AGENT_QCOW2_CHAIN_H
#define AGENT_QCOW2_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/image/imgfile.h"
#include "agent/qcow2/header.h"

struct chain;
struct qcow2;

enum { CHAIN_DEPTH_MAX = 64 };

/**
 * chain_open(f, follow, out, e): the chain whose top is ${f}, which is taken
 * over also on failure.  Unless ${follow}, an image that names further files
 * is refused.  All files stay open and locked.
 *
 * ERR_NOENT, ERR_DENIED, ERR_BUSY, ERR_UNSUP, ERR_CORRUPT, ERR_INVAL,
 * ERR_LIMIT, ERR_SYS.
 */
int chain_open(
    struct imgfile *f, bool follow, struct chain **out, struct err *e);

/* The path of the backing image that the image at ${image} calls ${name}; the
 * caller frees *out. */
typedef int chain_place(
    void *arg, const char *image, const char *name, char **out, struct err *e);

/**
 * chain_open_by(f, place, arg, out, e): as chain_open, but where a backing
 * image lies is for ${place} to say.  All of them are qcow2, told or not;
 * images with an external data file are refused.  And what ${place} says.
 */
int chain_open_by(struct imgfile *f, chain_place *place, void *arg,
    struct chain **out, struct err *e);
void chain_close(struct chain *c);

/** chain_header(c): of the top image. */
const struct qcow2_header *chain_header(const struct chain *c);

/** chain_top(c): the top image; the chain's. */
struct qcow2 *chain_top(struct chain *c);

/** chain_read, chain_map: as source_read and source_map. */
int chain_read(
    struct chain *c, void *data, size_t len, uint64_t off, struct err *e);
int chain_map(
    struct chain *c, uint64_t off, uint64_t *len, bool *hole, struct err *e);

/** chain_still(c, e): as imgfile_still, of all files. */
int chain_still(struct chain *c, struct err *e);

#endif
