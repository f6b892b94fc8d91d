/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/qcow2/inflate.h"

#include <zlib.h>
#include <zstd.h>

enum { WINDOW_BITS = -12 }; /* raw deflate, as QEMU writes it */

static int
inflate_zlib(const uint8_t *packed, size_t packed_len, uint8_t *out, size_t len)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)packed,
		.avail_in = (uInt)packed_len,
		.next_out = out,
		.avail_out = (uInt)len };
	int r;

	if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
		return ERR_CORRUPT;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	/* All output may be there before the stream's end has been read. */
	if ((r != Z_STREAM_END && r != Z_BUF_ERROR) || z.avail_out != 0)
		return ERR_CORRUPT;
	return 0;
}

/* In one shot, so a frame's window costs no memory of its own. */
static int
inflate_zstd(const uint8_t *packed, size_t packed_len, uint8_t *out, size_t len)
{
	size_t n = ZSTD_findFrameCompressedSize(packed, packed_len);

	if (ZSTD_isError(n))
		return ERR_CORRUPT;
	return ZSTD_decompress(out, len, packed, n) == len ? 0 : ERR_CORRUPT;
}

int
qcow2_inflate(enum qcow2_compression how, const uint8_t *packed,
    size_t packed_len, uint8_t *out, size_t len)
{
	return how == QCOW2_ZSTD ? inflate_zstd(packed, packed_len, out, len)
				 : inflate_zlib(packed, packed_len, out, len);
}
