/* SPDX-License-Identifier: Apache-2.0 */
/* header: the first cluster of a qcow2 image, decoded.  Pure. */
#ifndef AGENT_QCOW2_HEADER_H
#define AGENT_QCOW2_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* Names of fields, bits and limits are those of QEMU's docs/interop/qcow2. */
#define QCOW2_MAGIC "QFI\xfb"
enum {
	QCOW2_MAGIC_LEN = 4,
	QCOW2_V2_HEADER_LEN = 72,
	QCOW2_V3_HEADER_LEN = 104,
	QCOW2_CLUSTER_BITS_MIN = 9,
	QCOW2_CLUSTER_BITS_MAX = 21,
	QCOW2_CLUSTER_MAX = 1 << QCOW2_CLUSTER_BITS_MAX,
	QCOW2_L1_MAX = 32 << 20, /* bytes */
	QCOW2_REFTABLE_MAX = 8 << 20,
	QCOW2_NAME_MAX = 1023, /* of a backing or data file */
	QCOW2_FORMAT_MAX = 15, /* of a backing format's name */
	QCOW2_SUBCLUSTERS = 32,
	QCOW2_EXTENDED_L2_BITS_MIN = 14,
	QCOW2_BITMAPS_EXT_LEN = 24
};

enum qcow2_incompatible {
	QCOW2_INCOMPAT_DIRTY = 1 << 0, /* refcounts may be wrong; unused here */
	QCOW2_INCOMPAT_CORRUPT = 1 << 1,
	QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
	QCOW2_INCOMPAT_COMPRESSION = 1 << 3,
	QCOW2_INCOMPAT_EXTENDED_L2 = 1 << 4,
	QCOW2_INCOMPAT_KNOWN = (1 << 5) - 1
};

/* Whoever writes to the image and does not know what it means clears it. */
enum qcow2_autoclear { QCOW2_AUTOCLEAR_BITMAPS = 1 << 0 };

enum qcow2_compression { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

enum qcow2_extension {
	QCOW2_EXT_END = 0,
	QCOW2_EXT_BITMAPS = 0x23852875,
	QCOW2_EXT_DATA_FILE = 0x44415441,
	QCOW2_EXT_FEATURES = 0x6803f857
};
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acaU

/* Where the persistent bitmaps are listed: unchecked, see bitmaps.h. */
struct qcow2_bitmaps_at {
	bool present;
	bool kept; /* all who wrote to the image saw to them */
	uint32_t n;
	uint64_t dir_len; /* 0: the extension is not what it should be */
	uint64_t dir_offset;
};

struct qcow2_header {
	uint32_t version; /* 2 or 3 */
	uint32_t cluster_bits;
	uint32_t l2_bits; /* log2 of the entries of one L2 table */
	uint64_t size;    /* bytes a guest sees */
	uint64_t l1_offset;
	uint32_t l1_entries; /* as many as ${size} needs, not all there are */
	bool extended_l2;
	bool data_file;
	bool dirty; /* perhaps open for writing */
	enum qcow2_compression compression;
	char backing[QCOW2_NAME_MAX + 1];          /* "": none */
	char backing_format[QCOW2_FORMAT_MAX + 1]; /* "": not told */
	char data_file_name[QCOW2_NAME_MAX + 1];   /* "": not told */
	struct qcow2_bitmaps_at bitmaps;
};

/**
 * qcow2_header_decode(data, len, h, e): decode the first cluster, or as much
 * of it as the file has; ${len} may be more.  The texts of errors lack the
 * file's name.  ERR_CORRUPT (not qcow2, or fields out of bounds), ERR_UNSUP
 * (encrypted, unknown version or feature: by its name if the image tells it),
 * ERR_LIMIT (larger than QEMU itself allows).
 */
int qcow2_header_decode(
    const uint8_t *data, size_t len, struct qcow2_header *h, struct err *e);

#endif
