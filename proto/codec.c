/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/codec.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "proto/base/buf.h"

struct codec {
	int level;
	ZSTD_CCtx *pack;   /* made when first used */
	ZSTD_DCtx *unpack; /* made when first used */
};

struct codec *
codec_new(int level)
{
	struct codec *c = xcalloc(1, sizeof(*c));

	c->level = level;
	return c;
}

void
codec_level(struct codec *c, int level)
{
	c->level = level;
}

uint8_t
codec_pack(
    struct codec *c, const void *in, size_t len, void *out, size_t *outlen)
{
	size_t room = len - len / 32, n;

	if (c->level == 0 || len < 64)
		return CODEC_PLAIN;
	if (c->pack == NULL) {
		c->pack = ZSTD_createCCtx();
		if (c->pack == NULL)
			abort();
	}
	/* With too little room zstd gives up: just what is wanted. */
	n = ZSTD_compressCCtx(c->pack, out, room, in, len, c->level);
	if (ZSTD_isError(n))
		return CODEC_PLAIN;
	*outlen = n;
	return CODEC_ZSTD;
}

int
codec_unpack(struct codec *c, uint8_t codec, const void *in, size_t len,
    void *out, size_t rawlen)
{
	size_t n;

	switch (codec) {
	case CODEC_PLAIN:
		if (len != rawlen)
			return ERR_CORRUPT;
		memcpy(out, in, len);
		return 0;
	case CODEC_ZSTD:
		if (c->unpack == NULL) {
			c->unpack = ZSTD_createDCtx();
			if (c->unpack == NULL)
				abort();
		}
		n = ZSTD_decompressDCtx(c->unpack, out, rawlen, in, len);
		if (ZSTD_isError(n) || n != rawlen)
			return ERR_CORRUPT;
		return 0;
	default: return ERR_UNSUP;
	}
}

void
codec_free(struct codec *c)
{
	if (c == NULL)
		return;
	ZSTD_freeCCtx(c->pack);
	ZSTD_freeDCtx(c->unpack);
	free(c);
}
