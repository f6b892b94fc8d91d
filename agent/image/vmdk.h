/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmdk: disk images of VMware's in the one form that OVAs have, streamOptimized
 * (Virtual Disk Format 5.0): grains that are zlib streams, each behind a marker
 * that says where it belongs; tables that say where each lies; and a footer
 * that says where the tables are, if the header does not.  Everything else,
 * and what names further files, is refused.
 */
#ifndef AGENT_IMAGE_VMDK_H
#define AGENT_IMAGE_VMDK_H

#include "agent/image/imgfile.h"

enum {
	VMDK_SECTOR = 512,
	VMDK_MAGIC_LEN = 4,
	VMDK_PER_TABLE = 512, /* grains */
	VMDK_GRAIN_MIN = 4096,
	VMDK_GRAIN_MAX = 1 << 20,
	VMDK_TABLES_MAX = 1 << 21, /* 64 TiB with grains of 64 KiB */
	VMDK_DESCRIPTOR_MAX = 64 << 10
};
#define VMDK_MAGIC "KDMV"

struct vmdk_header {
	uint64_t size;      /* bytes of the disk */
	uint32_t grain;     /* bytes */
	uint32_t ntables;   /* that the directory has */
	uint64_t directory; /* its byte in the file; 0: the footer says it */
	uint64_t descriptor;
	uint32_t descriptor_len;
	bool zeroed; /* entries can say that a grain is zeroes */
};

/**
 * vmdk_header_decode(data, h, e): VMDK_SECTOR bytes, of a header or footer.
 * Pure.  ERR_UNSUP: of another form; ERR_LIMIT; ERR_INVAL: damaged.
 */
int vmdk_header_decode(
    const uint8_t *data, struct vmdk_header *h, struct err *e);

struct vmdk;

/**
 * vmdk_open(f, out, e): takes over ${f}, also when it fails.  As
 * vmdk_header_decode and imgfile_read; a text that begins with the file's path.
 */
int vmdk_open(struct imgfile *f, struct vmdk **out, struct err *e);
void vmdk_close(struct vmdk *v);

/** vmdk_size(v): of the disk. */
uint64_t vmdk_size(const struct vmdk *v);

/** vmdk_read, vmdk_map: as source_read and source_map; ERR_INVAL where it is
 * damaged.  Any thread. */
int vmdk_read(
    struct vmdk *v, void *data, size_t len, uint64_t off, struct err *e);
int vmdk_map(
    struct vmdk *v, uint64_t off, uint64_t *len, bool *hole, struct err *e);

#endif
