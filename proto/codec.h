/* SPDX-License-Identifier: Apache-2.0 */
/* codec: how a chunk's or record's bytes are stored and sent. */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

enum {
	CODEC_PLAIN = 0,
	CODEC_ZSTD = 1,
	CODEC_LEVEL_DEFAULT = 1,
	CODEC_LEVEL_MAX = 19
};

struct codec;

/**
 * codec_new(level): contexts for one thread.  ${level} 0 never compresses, 1
 * to CODEC_LEVEL_MAX are zstd's.
 */
struct codec *codec_new(int level);

/** codec_level(c, level): from the next chunk on. */
void codec_level(struct codec *c, int level);

/**
 * codec_pack(c, in, len, out, outlen): compress into ${out} (room for ${len}
 * bytes) where that saves at least a thirty-second, else leave ${out} alone.
 * Returns CODEC_ZSTD and sets ${outlen}, or CODEC_PLAIN: the bytes to use are
 * then ${in} itself.
 */
uint8_t codec_pack(
    struct codec *c, const void *in, size_t len, void *out, size_t *outlen);

/**
 * codec_unpack(c, codec, in, len, out, rawlen): exactly ${rawlen} bytes come
 * out, and no more are ever written.  0; ERR_UNSUP (unknown codec);
 * ERR_CORRUPT (does not decode, or to another length).
 */
int codec_unpack(struct codec *c, uint8_t codec, const void *in, size_t len,
    void *out, size_t rawlen);

void codec_free(struct codec *c);

#endif
