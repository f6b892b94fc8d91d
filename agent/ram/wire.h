/* SPDX-License-Identifier: Apache-2.0 */
/* wire: the marks in QEMU's migration stream; numbers are big-endian. */
#ifndef AGENT_RAM_WIRE_H
#define AGENT_RAM_WIRE_H

#define QEMU_MAGIC 0x5145564dU /* "QEVM" */

enum {
	QEMU_VERSION = 3,
	/* Kinds of sections. */
	QEMU_START = 1, /* u32 id, name, u32 instance, u32 version */
	QEMU_PART = 2,  /* u32 id */
	QEMU_END = 3,   /* u32 id */
	QEMU_FULL = 4,
	QEMU_SUBSECTION = 5,    /* name, u32 version */
	QEMU_CONFIGURATION = 7, /* u32 length, machine type */
	QEMU_COMMAND = 8,       /* u16 command, u16 length */
	QEMU_FOOTER = 0x7e,     /* u32 id */
	QEMU_SWITCHOVER = 11,   /* a command without data, from QEMU 10 on */
	/* In the lower bits of a page's address, u64. */
	QEMU_PAGE_ZERO = 0x02, /* one byte, 0 */
	QEMU_PAGE_SIZES = 0x04,
	QEMU_PAGE_DATA = 0x08,
	QEMU_PAGE_EOS = 0x10,
	QEMU_PAGE_SAME = 0x20, /* of the block of the page before */
	QEMU_PAGE_FLUSH = 0x200,
	QEMU_PAGE_FLAGS = 0xfff,
	QEMU_RAM_VERSION = 4
};

#endif
